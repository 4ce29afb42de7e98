"""The health pages of a whole daemon: a thread that really stands still, a port that is taken."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from ngrokd import healthpages
from ngrokd.commands import Commands
from ngrokd.config import ForwardSettings, ServerSettings
from ngrokd.control import client
from ngrokd.forward.forwarder import GLANCE_S, Forwarder
from ngrokd.healthpages import HealthPages
from ngrokd.model import State, Status
from ngrokd.process import pulse
from ngrokd.sandbox.cloud import Sandbox
from tests.control_room import PATIENCE_S
from tests.fair import Stopwatch
from tests.test_daemon import House, sigterm
from tests.town import wait_until

AT_ONCE_S = 1.0  # far less than anybody may wait for the thread that is stuck
READY = Status(state=State.READY)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def get(port: int, path: str) -> tuple[int, str]:
    http = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with contextlib.closing(http):
        http.request("GET", path)
        response = http.getresponse()
        return response.status, response.read().decode()


@pytest.fixture
def forwarder() -> Iterator[Forwarder]:
    crashes: list[BaseException] = []
    made = Forwarder(ForwardSettings(warm_connections="off"), crashes.append)
    made.start()
    yield made
    made.stop()
    assert crashes == []


def nobody(message: object) -> None:
    raise AssertionError(f"nobody takes {message!r}")


def test_a_forwarding_thread_that_stands_still_is_told_at_once_until_it_goes_on(
    forwarder: Forwarder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "FORWARD_LIMIT_S", 3.0)  # it turns every second
    port, go_on = free_port(), threading.Event()

    def stand_still() -> None:
        go_on.wait(PATIENCE_S)

    pages = HealthPages(lambda: READY, forwarder)
    pages.configure(ServerSettings(health_port=port))
    try:
        assert [get(port, path)[0] for path in ("/health", "/ready")] == [200, 200]
        forwarder.when_idle(stand_still)  # called on that thread
        wait_until(lambda: get(port, "/health") == (503, "unhealthy\n"))
        watch = Stopwatch()
        assert get(port, "/ready") == (503, "not ready\n")
        assert "ngrokd_build_info" in get(port, "/metrics")[1]
        assert '"healthy": false' in get(port, "/status")[1]
        verbs = Commands(lambda: READY, forwarder, nobody, pages.verdict)
        told = verbs.report_status()
        assert (told["healthy"], told["ready"]) == (False, False)
        assert watch.own() < AT_ONCE_S
        go_on.set()
        wait_until(lambda: get(port, "/health") == (200, "healthy\n"))
        assert get(port, "/ready") == (200, "ready\n")
    finally:
        go_on.set()
        pages.stop()


def test_the_pages_wait_a_moment_for_a_forwarding_thread_that_stands_still_and_only_once(
    forwarder: Forwarder,
) -> None:
    port, go_on, stands = free_port(), threading.Event(), threading.Event()

    def stand_still() -> None:
        stands.set()
        go_on.wait(PATIENCE_S)

    pages = HealthPages(lambda: READY, forwarder)
    pages.configure(ServerSettings(health_port=port))
    try:
        forwarder.when_idle(stand_still)  # called on that thread
        assert stands.wait(PATIENCE_S)
        began = time.monotonic()
        for path in ("/metrics", "/status", "/metrics", "/status", "/health"):
            assert get(port, path)[0] == 200  # it stands for less than FORWARD_LIMIT_S
        assert time.monotonic() - began < 3 * GLANCE_S
    finally:
        go_on.set()
        pages.stop()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    cloud = Sandbox(tmp_path / "cloud")
    cloud.start()
    yield House(tmp_path, cloud, health_port=free_port())
    cloud.stop()


def test_a_main_thread_that_stands_still_is_told_and_what_is_open_is_still_ready(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "LEAST_INTERVAL_S", 0.5)
    monkeypatch.setattr(pulse, "LONGEST_NAP_S", 0.5)
    port = house.config.server.health_port
    seen: list[int] = []

    def stand_still(status: Status) -> None:  # called on the main thread
        seen.append(get(port, "/health")[0])
        wait_until(lambda: get(port, "/health")[0] == 503)
        seen.append(get(port, "/ready")[0])
        threading.Thread(target=look_again).start()

    def look_again() -> None:
        wait_until(lambda: get(port, "/health")[0] == 200)
        seen.append(200)
        sigterm()

    assert house.run(stand_still) == 0
    assert seen == [200, 200, 200]


def test_a_main_thread_that_only_waits_for_a_long_time_is_alive(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "LEAST_INTERVAL_S", 1.0)
    monkeypatch.setattr(pulse, "LONGEST_NAP_S", 1.0)
    port = house.config.server.health_port
    answers: set[int] = set()

    def watch() -> None:
        until = time.monotonic() + 3.5
        while time.monotonic() < until:
            answers.add(get(port, "/health")[0])
            threading.Event().wait(0.05)
        sigterm()

    assert house.run(lambda status: threading.Thread(target=watch).start()) == 0
    assert answers == {200}


def test_a_port_that_is_taken_is_told_in_the_status_and_had_once_it_is_free(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(healthpages, "RETRY_S", 0.2)
    port = house.config.server.health_port
    holder = socket.create_server(("127.0.0.1", port))
    problems: list[object] = []

    def told() -> list[object]:
        status = client.request(house.socket, "status")
        assert isinstance(status, dict)
        return list(status["problems"])

    def look() -> None:
        problems.extend(told())
        holder.close()
        wait_until(lambda: told() == [])
        wait_until(lambda: get(port, "/ready")[0] == 200)
        sigterm()

    assert house.run(lambda status: threading.Thread(target=look).start()) == 0
    (problem,) = problems
    assert f"health pages on 127.0.0.1:{port}: Address already in use" in str(problem)
    assert caplog.text.count("Address already in use") == 1
    assert "the health pages are served again" in caplog.text
