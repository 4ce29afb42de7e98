"""What the kernel tells everybody of a listening socket: its control group."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.host import cgroups

HEADER = struct.Struct("=IHHII")
DONE, SOCKET = 3, 20


def attribute(kind: int, value: bytes) -> bytes:
    padding = b"\0" * (-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + value + padding


def message(inode: int, *attributes: bytes, kind: int = SOCKET) -> bytes:
    body = b"\0" * 68 + struct.pack("=I", inode) + b"".join(attributes)
    return HEADER.pack(16 + len(body), kind, 2, 1, 0) + body


def in_group(number: int) -> bytes:
    return attribute(21, struct.pack("=Q", number))


def group(root: Path, name: str, *pids: int) -> int:
    """A service's group, as a cgroup file system shows it; its number."""
    (root / "cgroup.controllers").touch()
    folder = root / "system.slice" / name
    folder.mkdir(parents=True)
    (folder / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    return folder.stat().st_ino


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_every_listening_socket_is_told_with_a_group(ip: str) -> None:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.create_server((ip, 0), family=family) as server:
        found = cgroups.of_listeners()
        assert str(os.fstat(server.fileno()).st_ino) in found


def test_sockets_of_an_answer_are_read_up_to_its_end() -> None:
    one = message(7, attribute(8, b"\0"), attribute(15, b"\0" * 4), in_group(1 << 40))
    other = message(8, in_group(2))
    end = HEADER.pack(20, DONE, 2, 1, 0) + b"\0" * 4
    assert list(cgroups.parse(one + other + end + message(9, in_group(3)))) == [
        ("7", 1 << 40),
        ("8", 2),
    ]


def test_a_kernel_that_tells_no_group_is_not_asked_for_more() -> None:
    assert list(cgroups.parse(message(7, attribute(8, b"\0")))) == []
    assert list(cgroups.parse(message(7, attribute(21, b"short")))) == []


@given(st.binary(max_size=200))
def test_what_is_no_answer_is_a_struct_error_or_nothing(answer: bytes) -> None:
    with contextlib.suppress(struct.error):
        list(cgroups.parse(answer))


@given(st.binary(max_size=60))
def test_damaged_attributes_are_no_group(attributes: bytes) -> None:
    for inode, number in cgroups.parse(message(7, attributes)):
        assert inode == "7" and number >= 0


def test_the_only_program_of_a_service_is_named(tmp_path: Path) -> None:
    number = group(tmp_path, "web.service", os.getpid())
    name = Path(f"/proc/{os.getpid()}/comm").read_text().strip()
    told = cgroups.program_in(number, (tmp_path / "missing", tmp_path))
    assert told == f"{name} (pid {os.getpid()}, web.service)"


def test_of_several_programs_only_their_service_is_told(tmp_path: Path) -> None:
    number = group(tmp_path, "session.scope", os.getpid(), 1)
    different = {Path(f"/proc/{pid}/comm").read_text() for pid in (1, os.getpid())}
    assert len(different) == 2
    assert cgroups.program_in(number, (tmp_path,)) == "a program of session.scope"


def test_a_group_that_is_not_there_or_everybodys_tells_nothing(tmp_path: Path) -> None:
    number = group(tmp_path, "web.service", os.getpid())
    assert cgroups.program_in(number + 10**9, (tmp_path,)) == ""
    assert cgroups.program_in(tmp_path.stat().st_ino, (tmp_path,)) == ""
    empty = group(tmp_path, "empty.service")
    assert cgroups.program_in(empty, (tmp_path,)) == ""
    (tmp_path / "cgroup.controllers").unlink()
    assert cgroups.program_in(number, (tmp_path,)) == ""
