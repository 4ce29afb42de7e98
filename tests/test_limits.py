"""How many listeners the descriptor limit leaves room for, and how it is raised."""

from __future__ import annotations

import resource
import selectors
import sys

import pytest

from ngrokd.config import ForwardSettings
from ngrokd.errors import HostError
from ngrokd.forward.loop import Loop
from ngrokd.forward.switchboard import Switchboard
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
        ({"XPC_SERVICE_NAME": "com.ngrok.ngrokd"}, ELSEWHERE, "NumberOfFiles"),
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


def test_a_crash_leaves_no_core_which_would_hold_keys() -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        limits.leave_no_core()
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


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
