"""What the service manager is told, against real datagram sockets."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.process import notify
from ngrokd.process.notify import Notifier
from tests.fair import Stopwatch

MAX_MESSAGE_BYTES = 4096  # NOTIFY_BUFFER_MAX of systemd: a longer message is ignored as a whole


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self._socket.settimeout(5)

    def heard(self) -> list[str]:
        """The next message, by its assignments."""
        return self._socket.recv(65536).decode().split("\n")

    def heard_nothing(self) -> bool:
        """There is no message waiting."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            return not self._socket.recv(65536)
        return True

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with contextlib.closing(Manager(str(tmp_path / "notify"))) as manager:
        yield manager


@pytest.fixture
def notifier(manager: Manager) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.name})


def test_each_call_is_one_message(manager: Manager, notifier: Notifier) -> None:
    notifier.ready("3 endpoints open")
    assert manager.heard() == ["READY=1", "STATUS=3 endpoints open"]
    notifier.ready()
    assert manager.heard() == ["READY=1"]
    notifier.status("waiting for an API key")
    assert manager.heard() == ["STATUS=waiting for an API key"]
    notifier.stopping("draining 2 connections", within_s=12.5)
    assert manager.heard() == [
        "STOPPING=1",
        "STATUS=draining 2 connections",
        "EXTEND_TIMEOUT_USEC=12500000",
    ]
    notifier.extend(3600)
    assert manager.heard() == ["EXTEND_TIMEOUT_USEC=3600000000"]
    notifier.extend(0)
    assert manager.heard_nothing()


def test_a_reload_is_told_with_the_time_that_notify_reload_wants(
    manager: Manager, notifier: Notifier
) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    first, second = manager.heard()
    name, _, value = second.partition("=")
    assert (first, name) == ("RELOADING=1", "MONOTONIC_USEC")
    assert before <= int(value) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_a_name_with_an_at_sign_is_an_abstract_socket() -> None:
    with contextlib.closing(Manager(f"@ngrokd-test-{secrets.token_hex(8)}")) as manager:
        Notifier({"NOTIFY_SOCKET": manager.name}).ready("up")
        assert manager.heard() == ["READY=1", "STATUS=up"]


@pytest.mark.parametrize("name", ["", "@", "vsock:2:1234", "relative/path"])
def test_without_a_socket_of_a_known_kind_nothing_is_sent(name: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "1000000"})
    notifier.ready("up")
    notifier.reloading()
    notifier.stopping("down", within_s=1)
    notifier.alive()
    assert notifier.watchdog_s is None


def test_without_the_variable_nothing_is_sent() -> None:
    Notifier({}).ready("up")


@pytest.mark.parametrize("name", ["/nowhere/notify", "/" + "x" * 200, "@nobody-listens-here"])
def test_a_manager_that_is_gone_costs_one_debug_line(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    Notifier({"NOTIFY_SOCKET": name}).ready("up")
    assert [(r.levelname, "READY=1" in r.message) for r in caplog.records] == [("DEBUG", True)]


def test_a_manager_that_does_not_read_holds_nobody_up(
    manager: Manager, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "_SEND_TIMEOUT_S", 0.05)
    queue = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    watch = Stopwatch()
    for _ in range(queue + 3):  # the last ones find the queue full
        notifier.status("busy")
    assert watch.own() < 5


@pytest.mark.parametrize("pid", ["nobody's", "ours"])
def test_the_watchdog_wants_a_call_in_half_of_its_time(manager: Manager, pid: str) -> None:
    watched = {"WATCHDOG_PID": str(os.getpid())} if pid == "ours" else {}
    environ = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "30000000", **watched}
    notifier = Notifier(environ)
    assert notifier.watchdog_s == 15.0
    notifier.alive()
    assert manager.heard() == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    "watchdog",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
    ],
    ids=str,
)
def test_a_watchdog_that_is_off_or_watches_another_process_hears_nothing(
    manager: Manager, watchdog: dict[str, str]
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.name, **watchdog})
    assert notifier.watchdog_s is None
    notifier.alive()
    assert manager.heard_nothing()


def test_our_number_is_told_only_if_systemd_started_a_wrapper_of_ours(manager: Manager) -> None:
    def heard(exec_pid: str) -> list[str]:
        Notifier({"NOTIFY_SOCKET": manager.name, "SYSTEMD_EXEC_PID": exec_pid}).ready()
        return manager.heard()

    assert heard(str(os.getppid())) == ["READY=1", f"MAINPID={os.getpid()}"]
    assert heard(str(os.getpid())) == ["READY=1"]
    assert heard("") == ["READY=1"]


@given(text=st.text(st.characters()) | st.text("\n\r\0\x85\u2028=A\ud800😀").map(lambda t: t * 50))
def test_no_status_text_can_hide_another_assignment_or_cost_the_message(text: str) -> None:
    with contextlib.closing(Manager(f"@ngrokd-test-{secrets.token_hex(8)}")) as manager:
        Notifier({"NOTIFY_SOCKET": manager.name}).ready(text)
        first, *rest = manager.heard()
    assert first == "READY=1"
    assert len(rest) <= 1
    assert all(line.startswith("STATUS=") for line in rest)
    assert sum(len(line.encode()) + 1 for line in (first, *rest)) <= MAX_MESSAGE_BYTES
    assert not any(ord(character) < 32 for line in rest for character in line)
