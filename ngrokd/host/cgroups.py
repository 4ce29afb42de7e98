"""In which control group a listening socket was made, and which program that tells.

Everybody is told that much, where the descriptors of another program are shown only to who may
trace it. A service manager gives every service a group of its own.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

ROOTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))  # the second: with version 1 also

TIMEOUT_S = 1.0  # the kernel answers at once, or the answer was lost
_ANSWER_BYTES = 65536
_MOST_PROGRAMS = 100  # of a group, to be looked at

# linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST, _NLM_F_DUMP = 0x001, 0x300
_TCP_LISTEN = 10
_CGROUP_ID = 21  # Linux 5.9
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_REQUEST = struct.Struct("=BBBxI48x")  # family, protocol, attributes, states, any socket
_INODE = struct.Struct("=I")
_INODE_AT, _MESSAGE_BYTES = 68, 72  # of struct inet_diag_msg
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_ID = struct.Struct("=Q")


def of_listeners() -> dict[str, int]:
    """The inode of each listening TCP socket, with the number of its group; {} if not told."""
    found: dict[str, int] = {}
    if not hasattr(socket, "AF_NETLINK"):
        return found
    with contextlib.suppress(OSError, struct.error):  # an old kernel, or one that refuses
        for family in (socket.AF_INET, socket.AF_INET6):
            found.update(_ask(family))
    return found


def parse(answer: bytes) -> Iterator[tuple[str, int]]:
    """(inode, group) of each socket in what the kernel sent. Raises struct.error if it is cut."""
    at = 0
    while at < len(answer):
        length, kind, *_ = _HEADER.unpack_from(answer, at)
        if kind != _SOCK_DIAG_BY_FAMILY or length < _HEADER.size:
            return
        message = answer[at + _HEADER.size : at + length]
        (inode,) = _INODE.unpack_from(message, _INODE_AT)
        group = _attribute(message[_MESSAGE_BYTES:], _CGROUP_ID)
        if group is not None:
            yield str(inode), _ID.unpack(group)[0]
        at += -(-length // 4) * 4


def program_in(group: int, roots: tuple[Path, ...] = ROOTS) -> str:
    """As in "nginx (pid 7, nginx.service)"; "" where the group does not tell one from others."""
    folder = next(filter(None, (_find(root, group) for root in roots)), None)
    if folder is None:
        return ""
    with contextlib.suppress(OSError, ValueError):  # it has ended meanwhile
        pids = sorted(map(int, (folder / "cgroup.procs").read_text().split()))
        names = {_name(pid) for pid in pids[:_MOST_PROGRAMS]}
        if len(names) == 1:
            return f"{names.pop()} (pid {pids[0]}, {folder.name})"
        if names:
            return f"a program of {folder.name}"
    return ""


def _ask(family: int) -> Iterator[tuple[str, int]]:
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << _TCP_LISTEN)
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(TIMEOUT_S)
        kernel.send(header + request)
        while True:
            answer = kernel.recv(_ANSWER_BYTES)
            yield from parse(answer)
            if _HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:
                return  # the end, or an error


def _attribute(attributes: bytes, wanted: int) -> Optional[bytes]:
    at = 0
    while at + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, at)
        if length < _ATTRIBUTE.size:
            return None
        if kind == wanted and length == _ATTRIBUTE.size + _ID.size:
            return attributes[at + _ATTRIBUTE.size : at + length]
        at += -(-length // 4) * 4
    return None


def _find(root: Path, group: int) -> Optional[Path]:
    """The group's folder: its inode is the number. The root is everybody's, and tells nothing."""
    if not (root / "cgroup.controllers").exists():  # version 1, where others have that inode, too
        return None
    for folder, names, _ in os.walk(root):
        for name in names:
            with contextlib.suppress(OSError):
                path = Path(folder) / name
                if path.stat().st_ino == group:
                    return path
    return None


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()
