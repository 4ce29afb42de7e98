"""How many listeners the descriptor limit leaves room for, and how it is raised."""

from __future__ import annotations

import resource
import sys

import pytest

from ngrokd.process import limits

ELSEWHERE = 4711


def limited(monkeypatch: pytest.MonkeyPatch, soft: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, soft))


@pytest.mark.parametrize(
    ("soft", "listeners"),
    [(64, 32), (200, 100), (256, 128), (1024, 896), (4096, 3584), (20_000, 18_976)],
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
