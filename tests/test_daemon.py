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

from ngrokd.conductor import Conductor
from ngrokd.config import Config
from ngrokd.configfile import Source
from ngrokd.control import client, following
from ngrokd.daemon import Daemon, Occasions
from ngrokd.errors import HostError, StateError
from ngrokd.messages import ApiAnswered, Follow, Message
from ngrokd.model import State, Status
from ngrokd.process.mailbox import Mailbox
from ngrokd.sandbox.cloud import Sandbox
from tests.control_room import PATIENCE_S

# Loopback needs no root; this part of it is nobody else's in the tests.
SUBNET = "127.61.0.0/16"
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
        return Daemon(
            self.config, self.source, Occasions(first_poll=on_first_poll)
        ).run()


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


def test_who_follows_is_told_of_its_life_until_its_end(house: House) -> None:
    told: list[dict[str, object]] = []

    def follow() -> None:
        for event in following.events(house.socket):
            told.append(event)
            if event["event"] == "began":
                client.request(house.socket, "rotate-cert")
            if event["event"] == "certificate_renewed":
                sigterm()

    followed = threading.Thread(target=follow)
    assert house.run(lambda status: followed.start()) == 0
    followed.join()
    assert (told[0]["state"], told[0]["endpoints"]) == (
        "ready",
        {"open": 3, "failed": 0, "skipped": 0},
    )
    words = [event["event"] for event in told]
    closed = ["endpoint_closed"] * 3
    assert words == ["began", "certificate_renewed", "state", *closed, "stopped"]
    assert (told[2]["was"], told[2]["state"]) == ("ready", "stopping")
    numbers = [event["seq"] for event in told]
    assert numbers == list(range(len(told)))


def test_who_follows_from_the_start_is_told_of_all_that_comes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, object]] = []
    asked = threading.Event()
    post = Mailbox.post

    def posted(mailbox: Mailbox, message: Message) -> None:
        post(mailbox, message)
        if isinstance(message, Follow):
            asked.set()

    def follow_first() -> None:
        followed.start()
        assert asked.wait(PATIENCE_S)

    monkeypatch.setattr(Mailbox, "post", posted)
    followed = threading.Thread(target=lambda: told.extend(following.events(house.socket)))
    daemon = Daemon(
        house.config, house.source, Occasions(follow_first, lambda status: sigterm())
    )
    assert daemon.run() == 0
    followed.join()
    assert [event["event"] for event in told] == [
        *["began", "registered"],
        *["endpoint_open"] * 3,
        *["state", "state"],
        *["endpoint_closed"] * 3,
        "stopped",
    ]
    states = [event["state"] for event in told if "state" in event]
    assert states == ["registering", "ready", "stopping"]


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


def test_answers_of_the_api_are_counted_without_a_turn_for_each(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[float] = []
    tick = Conductor.tick

    def counting(conductor: Conductor, now: float) -> float:
        turns.append(now)
        return tick(conductor, now)

    monkeypatch.setattr(Conductor, "tick", counting)
    seen: list[Status] = []

    def look(status: Status) -> None:
        seen.append(status)
        sigterm()

    daemon = Daemon(house.config, house.source, Occasions(first_poll=look))
    for _ in range(5000):
        daemon.post(ApiAnswered("299"))
    assert daemon.run() == 0
    assert dict(seen[0].api_requests)["299"] == 5000
    assert len(turns) < 500
