"""How many listeners the descriptor limit leaves room for, and how it is raised."""

from __future__ import annotations

import resource
import selectors
import sys
from collections.abc import Sequence

import pytest

from ngrokd.config import ForwardSettings
from ngrokd.errors import HostError
from ngrokd.forward.loop import Loop
from ngrokd.forward.switchboard import Switchboard
from ngrokd.host import platforms
from ngrokd.host.command import CommandError
from ngrokd.process import limits

ELSEWHERE = 4711


def limited(monkeypatch: pytest.MonkeyPatch, soft: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, soft))


@pytest.mark.parametrize(
    ("soft", "listeners"),
    [(128, 64), (200, 100), (256, 128), (1024, 896), (4096, 3584), (20_000, 18_976)],
)
def test_listeners_leave_room_for_connections_and_for_the_daemon_itself(
    monkeypatch: pytest.MonkeyPatch, soft: int, listeners: int
) -> None:
    limited(monkeypatch, soft)
    assert limits.listeners_allowed() == listeners


def test_without_a_limit_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, resource.RLIM_INFINITY)
    assert limits.listeners_allowed() == sys.maxsize


@pytest.mark.parametrize(
    ("environ", "pid", "mend"),
    [
        ({"NOTIFY_SOCKET": "/run/x"}, ELSEWHERE, "systemctl edit ngrokd"),
        ({"SYSTEMD_EXEC_PID": str(ELSEWHERE)}, ELSEWHERE, "LimitNOFILE="),
        ({"SYSTEMD_EXEC_PID": "7"}, ELSEWHERE, "ulimit -n"),  # of the terminal that it came from
        ({"XPC_SERVICE_NAME": "com.ngrok.ngrokd"}, ELSEWHERE, "kern.maxfilesperproc=131072"),
        ({"XPC_SERVICE_NAME": "0"}, ELSEWHERE, "ulimit -n"),
        ({"RC_SVCNAME": "ngrokd"}, ELSEWHERE, "/etc/conf.d/ngrokd"),
        ({}, 1, "--ulimit nofile="),
        ({}, ELSEWHERE, "ulimit -n"),
    ],
)
def test_the_mend_fits_the_way_in_which_the_daemon_was_started(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], pid: int, mend: str
) -> None:
    limited(monkeypatch, 1024)
    text = limits.too_many(environ, pid)
    assert text.startswith("descriptor limit: 1024 open files leave room for 896 listeners. Mend:")
    assert mend in text


@pytest.mark.parametrize(
    ("soft", "asked", "told"),
    [
        (1024, 0, False),
        (1024, 448, False),
        (1024, 449, True),
        (300, 500, True),
        (resource.RLIM_INFINITY, 1_000_000, False),
    ],
)
def test_more_connections_than_descriptors_is_told(
    monkeypatch: pytest.MonkeyPatch, soft: int, asked: int, told: bool
) -> None:
    limited(monkeypatch, soft)
    text = limits.out_of_reach(asked)
    assert bool(text) is told
    if told:
        assert f"need {2 * asked + 128} open files, of which {soft} are allowed" in text


def test_with_too_few_for_the_daemon_itself_it_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limited(monkeypatch, 100)
    with pytest.raises(HostError, match="descriptor limit is 100, and ngrokd needs 128"):
        limits.raise_descriptor_limit()


@pytest.mark.parametrize("said", ["-1", "0", "", "many", "-9" * 3000, "\0"])
def test_a_number_of_files_that_is_none_asks_for_what_macos_is_sure_to_give(said: str) -> None:
    ceiling = limits._printed(("x",), lambda argv, text="": said)
    assert limits._wanted(resource.RLIM_INFINITY, ceiling) == [limits.OPEN_MAX]


def test_a_crash_leaves_no_core_which_would_hold_keys() -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        limits.leave_no_core()
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


class Xnu:
    """The limits of a process of root's on macOS: setrlimit(2) and dosetrlimit() of its kernel."""

    def __init__(self, soft: int, hard: int, per_process: int, printed: str = "") -> None:
        self.limits = (soft, hard)
        self._max_files = 2 * per_process
        self.answer = printed or f"{per_process}\n"

    def getrlimit(self, which: int) -> tuple[int, int]:
        assert which == resource.RLIMIT_NOFILE
        return self.limits

    def setrlimit(self, which: int, limits: tuple[int, int]) -> None:
        soft, hard = limits
        if soft != self.limits[0] and soft > self._max_files:  # RLIM_INFINITY is as any other
            raise ValueError("current limit exceeds maximum limit")
        assert hard == self.limits[1], "the hard limit is nobody's to lower"
        self.limits = limits

    def sysctl(self, argv: Sequence[str], text: str = "") -> str:
        assert list(argv) == ["sysctl", "-n", "kern.maxfilesperproc"]
        if self.answer == "none":
            raise CommandError("`sysctl`: unknown oid", 1)
        return self.answer


UNLIMITED = (1 << 63) - 1


@pytest.mark.parametrize(
    ("soft", "hard", "per_process", "expected"),
    [
        (256, UNLIMITED, 122_880, 122_880),  # as launchd starts it
        (256, UNLIMITED, 245_760, 131_072),
        (256, UNLIMITED, 10_240, 10_240),
        (256, 4096, 122_880, 4096),
        (256, 1_048_576, 122_880, 122_880),  # more than the kernel really gives
        (UNLIMITED, UNLIMITED, 122_880, 122_880),
        (122_880, UNLIMITED, 122_880, 122_880),
    ],
)
def test_on_macos_the_limit_is_as_high_as_the_kernel_really_goes(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    soft: int,
    hard: int,
    per_process: int,
    expected: int,
) -> None:
    caplog.set_level("DEBUG")
    kernel = Xnu(soft, hard, per_process)
    monkeypatch.setattr(resource, "RLIM_INFINITY", UNLIMITED)
    monkeypatch.setattr(resource, "getrlimit", kernel.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", kernel.setrlimit)
    limits.raise_descriptor_limit(platforms.descriptor_limit("darwin"), kernel.sysctl)
    assert kernel.limits == (expected, hard)
    assert limits.listeners_allowed() < expected
    assert caplog.messages[-1] == f"open files: up to {expected}"


@pytest.mark.parametrize("printed", ["none", "many", "0\n", "9999999999\n"])
def test_where_macos_does_not_say_it_what_is_sure_to_be_taken_is_set(
    monkeypatch: pytest.MonkeyPatch, printed: str
) -> None:
    kernel = Xnu(256, UNLIMITED, 30_000, printed)
    monkeypatch.setattr(resource, "RLIM_INFINITY", UNLIMITED)
    monkeypatch.setattr(resource, "getrlimit", kernel.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", kernel.setrlimit)
    limits.raise_descriptor_limit(platforms.descriptor_limit("darwin"), kernel.sysctl)
    assert kernel.limits == (10_240, UNLIMITED)


def test_on_linux_the_hard_limit_is_true_and_no_command_is_run() -> None:
    def unexpected(argv: Sequence[str], text: str = "") -> str:
        raise AssertionError(argv)

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits.raise_descriptor_limit(platforms.descriptor_limit("linux"), unexpected)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.parametrize("asked", [0, 40, 500])
@pytest.mark.parametrize(("soft", "listeners"), [(128, 20), (256, 128), (300, 20), (1024, 896)])
def test_connections_leave_descriptors_for_all_else_whatever_is_set(
    monkeypatch: pytest.MonkeyPatch, soft: int, listeners: int, asked: int
) -> None:
    limited(monkeypatch, soft)
    loop = Loop(selectors.DefaultSelector)
    board = Switchboard(loop, ForwardSettings(max_connections=asked))
    board.listeners = listeners
    assert 1 <= board.limit() <= (asked or soft)
    assert soft - listeners - 2 * board.limit() >= 62
    assert board.room() == board.limit()
    loop.retire()
