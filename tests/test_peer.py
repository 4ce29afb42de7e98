"""Who is at the other end of the control socket, on each kernel."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from ngrokd.control import peer
from ngrokd.control.peer import credentials, pid_of


class Darwin:
    """A connection as macOS has it: getsockopt(2) at level SOL_LOCAL, <sys/ucred.h>."""

    def __init__(self, uid: int, groups: list[int], version: int = 0) -> None:
        padded = groups + [0] * (16 - len(groups))
        self._answers = {
            1: struct.pack("<IIhxx16I", version, uid, len(groups), *padded),
            2: struct.pack("<i", 4711),
        }

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert level == 0
        return self._answers[option][:size]


@pytest.fixture
def darwin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.delattr(socket, "SO_PEERCRED")
    yield Darwin


def test_macos_tells_user_groups_and_process(darwin: Any) -> None:
    found = credentials(darwin(501, [20, 80, 4]))
    assert (found.pid, found.uid, found.groups) == (4711, 501, frozenset({20, 80, 4}))
    assert pid_of(darwin(501, [20])) == 4711


def test_of_a_user_with_more_groups_than_macos_tells_the_user_database_is_asked(
    darwin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = pwd.getpwuid(os.getuid())
    known = {me.pw_name: [9999]}
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [gid, *known[name]])
    few = credentials(darwin(me.pw_uid, list(range(100, 115))))
    many = credentials(darwin(me.pw_uid, list(range(100, 116))))
    assert 9999 not in few.groups
    assert many.groups == {*range(100, 116), 9999}


@pytest.mark.parametrize(
    ("version", "groups", "cut"), [(1, [20], None), (0, [20], 10), (0, [20], 0)]
)
def test_credentials_in_an_unknown_form_let_nobody_in(
    darwin: Any, version: int, groups: list[int], cut: int
) -> None:
    conn = darwin(0, groups, version)
    conn._answers[1] = conn._answers[1][:cut]
    with pytest.raises(OSError, match="the kernel tells"):
        credentials(conn)


@pytest.mark.parametrize("size", [0, 2])
def test_a_process_that_is_told_half_is_not_told(darwin: Any, size: int) -> None:
    conn = darwin(0, [20])
    conn._answers[2] = conn._answers[2][:size]
    for ask in (credentials, pid_of):
        with pytest.raises(OSError, match="the kernel tells nothing"):
            ask(conn)


def test_without_groups_macos_gives_none(darwin: Any) -> None:
    assert credentials(darwin(501, [])).groups == frozenset()


def test_the_layout_is_that_of_a_64_bit_macos() -> None:
    assert peer._XUCRED.size == 76
