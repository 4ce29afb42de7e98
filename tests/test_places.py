"""Places that are closed to the user, in processes of a user without rights."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ngrokd.config import Config, ServerSettings
from ngrokd.errors import ConfigError
from ngrokd.verbs import places

NOBODY = 65534


@pytest.fixture
def own() -> Iterator[Path]:
    """A folder of an ordinary user, who this process is meanwhile."""
    with tempfile.TemporaryDirectory(prefix="user-") as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.chown(folder, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, 0)
        try:
            yield Path(folder)
        finally:
            os.setresuid(0, 0, 0)


def config(folder: Path, **more: str) -> Config:
    settings: dict[str, Any] = {
        "socket_path": str(folder / "run" / "ngrokd.sock"),
        "pid_file": str(folder / "ngrokd.pid"),
        "client_cert": str(folder / "state" / "tls.crt"),
        "client_key": str(folder / "state" / "tls.key"),
        "log_file": str(folder / "ngrokd.log"),
    }
    return Config(server=dataclasses.replace(ServerSettings(), **{**settings, **more}))


def closed(config: Config, in_background: bool = False) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        places.check(config, in_background)
    assert caught.value.faults[-1].startswith("Mend: ")
    return [fault.partition(" cannot be written by ")[0] for fault in caught.value.faults[:-1]]


def test_an_ordinary_user_is_told_every_closed_place_of_the_defaults_at_once(own: Path) -> None:
    in_front = [
        "server.client_cert: /etc/ngrokd/tls.crt",
        "server.pid_file: /var/run/ngrokd.pid",
        "server.socket_path: /var/run/ngrokd.sock",
    ]
    assert closed(Config()) == in_front
    assert closed(Config(), in_background=True) == [
        *in_front,
        "server.log_file: /var/log/ngrokd.log",
    ]


def test_places_of_ones_own_are_open_also_where_folders_are_yet_to_be_made(own: Path) -> None:
    places.check(config(own), in_background=True)
    places.check(config(own, log_file="syslog"), in_background=True)


def test_a_key_in_another_folder_is_a_place_of_its_own(own: Path) -> None:
    assert closed(config(own, client_key="/etc/tls.key")) == ["server.client_key: /etc/tls.key"]


def test_a_file_in_a_closed_folder_may_be_open(own: Path) -> None:
    log = own / "ngrokd.log"
    log.touch()
    own.chmod(0o500)
    with pytest.raises(ConfigError, match=r"server\.pid_file"):
        places.check(config(own), in_background=False)
    assert not any("log_file" in fault for fault in closed(config(own)))
    log.chmod(0o400)
    assert f"server.log_file: {log}" in closed(config(own))
    own.chmod(0o700)


def test_root_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    places.check(Config(), in_background=True)
