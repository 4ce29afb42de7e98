"""A new configuration in a running daemon: all of it or nothing, and nobody is disturbed."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator

import pytest

from tests.integration import programs
from tests.integration.netns import receive_exactly
from tests.integration.site import HEALTH_PORT, Daemon, Site

pytestmark = pytest.mark.root

OTHER_PORT = 8088


@pytest.fixture
def daemon(site: Site) -> Iterator[Daemon]:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    site.start_cloud("tcp://echo.ns:7000=127.0.0.1:7000", "http://web.ns=127.0.0.1:7000")
    yield site.start_daemon().ready()


def page(site: Site, port: int) -> int:
    """The HTTP status of /healthz there; 0 if nobody listens."""
    try:
        return int(site.network.http(port, "GET", "/healthz")[0])
    except OSError:
        return 0


def reload(daemon: Daemon) -> str:
    since = len(daemon.lines)
    daemon.send(signal.SIGHUP)
    return daemon.expect("configuration read again|the old one stays", since)


def test_saving_the_file_is_enough(site: Site, daemon: Daemon) -> None:
    site.write_config({"forward": {"connect_timeout": 7}})
    daemon.expect("the configuration was saved")
    daemon.expect("configuration read again, changed: forward.connect_timeout")


@pytest.mark.long
def test_a_mistake_that_is_saved_is_told_once_with_its_line_and_changes_nothing(
    site: Site, daemon: Daemon
) -> None:
    good = site.config.read_text()
    site.config.write_text(good.replace('"poll_interval": 1', '"poll_interval": -1'))
    daemon.expect(r"ERROR.*config.yml:\d+: bound_endpoints.poll_interval")
    site.config.write_text(good)
    daemon.expect("configuration read again, changed: nothing")
    assert len(daemon.matching("the old one stays")) == 1
    assert daemon.status()["state"] == "ready"


@pytest.mark.long
def test_the_health_pages_move_and_go_and_come(site: Site, daemon: Daemon) -> None:
    assert page(site, HEALTH_PORT) == 200

    site.write_config({"server": {"health_port": OTHER_PORT}})
    reload(daemon)
    assert (page(site, HEALTH_PORT), page(site, OTHER_PORT)) == (0, 200)

    site.write_config({"server": {"health_port": OTHER_PORT, "health_address": "0.0.0.0"}})
    reload(daemon)
    assert page(site, OTHER_PORT) == 200

    site.write_config({"server": {"health_port": 0}})
    reload(daemon)
    assert page(site, OTHER_PORT) == 0


def test_a_port_that_is_taken_refuses_the_whole_new_configuration(
    site: Site, daemon: Daemon
) -> None:
    site.keep(programs.peers(site.namespace, site.network, f"echo={OTHER_PORT}"))
    site.write_config(
        {"server": {"health_port": OTHER_PORT, "log_format": "json"}, "net": {"overrides": {}}}
    )
    line = reload(daemon)
    assert "the old one stays" in line and str(OTHER_PORT) in line
    assert not line.startswith("{")
    assert page(site, HEALTH_PORT) == 200


@pytest.mark.long
def test_the_form_of_the_log_and_its_file_change_at_once(site: Site, daemon: Daemon) -> None:
    log = site.folder / "moved.log"
    site.write_config({"server": {"log_format": "json", "log_file": str(log)}})
    daemon.send(signal.SIGHUP)
    daemon.eventually(lambda now: log.exists(), "no new log file")
    daemon.refresh()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any("configuration read again" in line["message"] for line in lines)


def test_an_override_moves_its_listener_and_connections_of_others_go_on(
    site: Site, daemon: Daemon
) -> None:
    client: socket.socket = site.network.connect("echo.ns", 7000)
    site.write_config({"net": {"overrides": {"web.ns": "127.0.0.1"}, "start_port": 9500}})
    reload(daemon)
    daemon.eventually(
        lambda _: daemon.endpoints()["http://web.ns"]["listen_interface"] == "127.0.0.1", "it stays"
    )
    daemon.wait_for("--for", "web.ns", "--timeout", 10)
    assert daemon.endpoints()["http://web.ns"]["network_port"] == 9500
    client.sendall(b"still")
    assert receive_exactly(client, 5) == b"still"
    client.close()


def test_what_needs_a_restart_is_named_and_the_rest_is_taken(site: Site, daemon: Daemon) -> None:
    site.write_config(
        {"net": {"subnet": "10.99.0.0/16"}, "forward": {"idle_timeout": 60}}
    )
    reload(daemon)
    daemon.expect("needs a restart: net.subnet")
    assert "10.107.0.2/32" in site.interface_words()
