"""Who is at the other end of a unix socket, and whether that user may command the daemon."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from dataclasses import dataclass
from typing import Optional

# Linux 4.13's option for the peer's supplementary groups at connect; Python has no name for it.
_SO_PEERGROUPS = 59
_GROUP_BYTES = 4
_MAX_OPTION_BYTES = 1024  # the most that Python's getsockopt takes
_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7)

# macOS, <sys/un.h> and <sys/ucred.h>; Python has no names for most of it.
_SOL_LOCAL = 0
_LOCAL_PEERCRED = 1
_LOCAL_PEERPID = 2
_XUCRED = struct.Struct("@IIh16I")  # version, uid, number of groups, groups: the first is the gid
_XUCRED_VERSION = 0
_PID = struct.Struct("i")
_XUCRED_GROUPS = 16  # a user of more has only these told


@dataclass(frozen=True)
class Peer:
    """The credentials a process had when it connected."""

    pid: int
    uid: int
    groups: frozenset[int]

    def __str__(self) -> str:
        return f"uid {self.uid}, pid {self.pid}"


def credentials(conn: socket.socket) -> Peer:
    """The peer of a connected unix socket, as the kernel noted it. Raises OSError."""
    if not hasattr(socket, "SO_PEERCRED"):
        return _credentials_of_bsd(conn)
    pid, uid, gid = _UCRED.unpack(
        conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    return Peer(pid, uid, frozenset({gid}) | _supplementary_groups(conn, uid, gid))


def pid_of(conn: socket.socket) -> int:
    """The process at the other end; 0: of another container. Raises OSError."""
    if not hasattr(socket, "SO_PEERCRED"):
        return _pid_of_bsd(conn)
    raw = conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid: int = _UCRED.unpack(raw)[0]
    return pid


def may_command(peer: Peer, own_uid: int, group: Optional[int]) -> bool:
    """root, the daemon's own user, and the members of `server.socket_group`."""
    return is_owner(peer, own_uid) or (group is not None and group in peer.groups)


def is_owner(peer: Peer, own_uid: int) -> bool:
    """root and the daemon's own user, who could as well replace its files."""
    return peer.uid in (0, own_uid)


def _supplementary_groups(conn: socket.socket, uid: int, gid: int) -> frozenset[int]:
    try:
        raw = conn.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_OPTION_BYTES)
    except OSError:
        # An older kernel, or more groups than fit: what the user database says.
        return _groups_of_user(uid, gid)
    return frozenset(struct.unpack(f"{len(raw) // _GROUP_BYTES}I", raw))


def _credentials_of_bsd(conn: socket.socket) -> Peer:
    uid, groups = _xucred(conn.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size))
    more = _groups_of_user(uid, groups[0]) if len(groups) == _XUCRED_GROUPS else frozenset()
    return Peer(_pid_of_bsd(conn), uid, frozenset(groups) | more)


def _pid_of_bsd(conn: socket.socket) -> int:
    raw = conn.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID, _PID.size)
    if len(raw) != _PID.size:
        raise OSError("the kernel tells nothing of who is at the other end")
    pid: int = _PID.unpack(raw)[0]
    return pid


def _xucred(raw: bytes) -> tuple[int, list[int]]:
    """User id and groups of a `struct xucred`. Raises OSError for one that we do not know."""
    if len(raw) != _XUCRED.size:
        raise OSError("the kernel tells nothing of who is at the other end")
    version, uid, count, *groups = _XUCRED.unpack(raw)
    if version != _XUCRED_VERSION or not 0 <= count <= _XUCRED_GROUPS:
        raise OSError(f"the kernel tells who is at the other end in an unknown form ({version})")
    return uid, groups[:count]


def _groups_of_user(uid: int, gid: int) -> frozenset[int]:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return frozenset()
    return frozenset(os.getgrouplist(name, gid))
