"""What a new configuration changes while running, and what it leaves for a restart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ngrokd.config import ApiSettings, Config, NetSettings, PollSettings, ServerSettings
from ngrokd.configfile import changes
from ngrokd.reload import effective, needs_restart

OLD = Config()


def test_what_can_change_while_running_does() -> None:
    new = Config(
        api=ApiSettings(key="another"),
        server=ServerSettings(log_level="debug"),
        bound_endpoints=PollSettings(poll_interval=5),
        net=NetSettings(listen_interface="0.0.0.0", start_port=9999),
    )
    assert effective(OLD, new) == new


def test_what_needs_a_restart_keeps_its_old_value() -> None:
    new = replace(
        OLD,
        server=ServerSettings(socket_path="/run/other.sock", log_level="debug"),
        net=NetSettings(subnet="10.9.0.0/16", start_port=9999),
    )
    taken = effective(OLD, new)
    assert taken.server == ServerSettings(log_level="debug")
    assert taken.net == NetSettings(start_port=9999)
    waiting = [key for key in changes(OLD, new) if needs_restart(key)]
    assert sorted(waiting) == ["net.subnet", "server.socket_path"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("net.subnet", True),
        ("server.client_key", True),
        ("server.log_level", False),
        ("forward.idle_timeout", False),
        ("ingressEndpoint", False),
        ("api.subnet", False),
    ],
)
def test_each_key_belongs_to_one_kind(key: str, expected: bool) -> None:
    assert needs_restart(key) is expected
