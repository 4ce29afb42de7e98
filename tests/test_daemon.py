"""A whole daemon in this process, against the stand-in cloud: how it starts and ends."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from ngrokd.config import Config
from ngrokd.configfile import Source
from ngrokd.control import client
from ngrokd.daemon import Daemon
from ngrokd.errors import HostError, StateError
from ngrokd.model import State, Status
from ngrokd.sandbox.cloud import Sandbox

# Loopback needs no root; this part of it is nobody else's in the tests.
SUBNET = "127.111.0.0/16"
NETWORK_PORTS_FROM = 19080


class House:
    """Where a daemon of the test keeps everything."""

    def __init__(self, folder: Path, cloud: Sandbox, health_port: int = 0) -> None:
        settings = cloud.config()
        settings["server"]["health_port"] = health_port
        settings["net"].update(
            {
                "subnet": SUBNET,
                "start_port": NETWORK_PORTS_FROM,
                "hosts_file": str(folder / "hosts"),
            }
        )
        self.hosts = folder / "hosts"
        self.hosts.write_text("127.0.0.1 localhost\n")
        self.source = Source(None, {}, settings)
        self.config: Config = self.source.load()
        self.socket = self.config.server.socket_path

    def run(self, on_first_poll: Callable[[Status], None]) -> int:
        """Until it ends; what `on_first_poll` asserts is asserted on the main thread."""
        return Daemon(self.config, self.source, on_first_poll=on_first_poll).run()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    cloud = Sandbox(tmp_path / "cloud")
    cloud.start()
    yield House(tmp_path, cloud)
    cloud.stop()


def sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_it_comes_up_publishes_and_leaves_nothing(house: House) -> None:
    seen: list[tuple[State, str]] = []

    def look(status: Status) -> None:
        seen.append((status.state, house.hosts.read_text()))
        sigterm()

    assert house.run(look) == 0
    ((state, hosts),) = seen
    assert state is State.READY
    assert "echo.sandbox" in hosts
    assert house.hosts.read_text() == "127.0.0.1 localhost\n"
    assert not Path(house.socket).exists()
    assert not [t.name for t in threading.enumerate() if t.name in ("forward", "control")]


def test_a_thread_that_dies_ends_the_daemon_with_1_and_leaves_nothing(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    def die(status: Status) -> None:
        threading.Thread(target=lambda: 1 / 0, name="doomed").start()

    assert house.run(die) == 1
    assert "thread doomed died" in caplog.text
    assert house.hosts.read_text() == "127.0.0.1 localhost\n"
    assert not Path(house.socket).exists()


def test_the_stop_verb_ends_it_like_a_signal(house: House) -> None:
    def stop(status: Status) -> None:
        threading.Thread(target=client.request, args=(house.socket, "stop")).start()

    assert house.run(stop) == 0


def test_the_same_addresses_come_back_after_a_restart(house: House) -> None:
    seen: list[dict[str, str]] = []

    def look(status: Status) -> None:
        seen.append({e.url: e.ip for e in status.endpoints})
        sigterm()

    assert house.run(look) == 0
    assert house.run(look) == 0
    assert seen[0] == seen[1] and len(seen[0]) == 3


def test_a_second_one_with_the_same_state_folder_is_refused(house: House) -> None:
    refused: list[str] = []

    def start_another(status: Status) -> None:
        server = dataclasses.replace(house.config.server, socket_path=f"{house.socket}.2")
        second = Daemon(dataclasses.replace(house.config, server=server), house.source)
        with pytest.raises(StateError) as caught:
            second.run()
        refused.append(str(caught.value))
        assert client.request(house.socket, "ping") == "pong"
        sigterm()

    assert house.run(start_another) == 0
    assert str(house.config.state_folder) in refused[0]
    assert "server.client_cert" in refused[0]


def test_a_second_one_on_the_same_socket_touches_nothing(house: House) -> None:
    refused: list[str] = []

    def start_another(status: Status) -> None:
        before = house.hosts.read_bytes()
        second = Daemon(house.config, house.source)
        with pytest.raises(HostError) as caught:
            second.run()
        refused.append(str(caught.value))
        assert house.hosts.read_bytes() == before
        assert client.request(house.socket, "ping") == "pong"
        sigterm()

    assert house.run(start_another) == 0
    assert house.socket in refused[0]
