"""What a person can do when the daemon is not there, or does not let them in."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ngrokd.config import DEFAULT_CONFIG_PATH, DEFAULT_SOCKET_PATH

ITS_CONFIGURATION = "the configuration that names this socket"

# Where sudo's `secure_path` looks; a program elsewhere must be named with its path.
_SUDO_PATH = frozenset({"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin"})


@dataclass(frozen=True)
class Caller:
    """The user who typed the command, and the group the socket is for (None: root's own)."""

    name: str
    group: Optional[str]
    is_member: bool  # in the user database, though perhaps not in this login


@dataclass(frozen=True)
class Whereabouts:
    """Of the daemon that `ngrokd start` starts: its configuration, its socket, where its log is.

    `start`: that command, as who is asking has to type it.
    """

    config: str
    socket_path: str
    log: str
    start: str


def not_permitted(
    reason: str, caller: Caller, again: str, config: str = DEFAULT_CONFIG_PATH
) -> str:
    """Exit code 5. `again`: the command as it would be typed. Pure."""
    lines = [f"{caller.name} is not permitted: {reason}", f"  once:      sudo {again}"]
    if caller.group is None:
        lines.append(
            f"  for good:  set server.socket_group in {config} to a group of yours "
            "and restart ngrokd"
        )
    elif caller.is_member:
        lines.append(
            f"  for good:  {caller.name} is in group {caller.group}, but this login is older: "
            "log in again"
        )
    else:
        lines.append(
            f"  for good:  sudo usermod -aG {shlex.quote(caller.group)} "
            f"{shlex.quote(caller.name)}    (then log in again)"
        )
    return "\n".join(lines)


def file_forbidden(reason: str, user: str, again: str) -> str:
    """Exit code 5, where a file is what is closed: no group would help. Pure."""
    return f"{user} is not permitted: {reason}\n  once:      sudo {again}"


def unreachable(reason: str, asked: str, known: Whereabouts) -> str:
    """Exit code 3. `asked`: the socket that nobody answers on. Pure."""
    lines = [reason]
    if asked == known.socket_path:
        lines += [f"  start it:  {known.start}", f"  its log:   {known.log}"]
    elif asked == DEFAULT_SOCKET_PATH:
        lines += [
            f"  running?   {known.config} has another socket: --socket "
            f"{shlex.quote(known.socket_path)}",
            f"  start it:  {known.start}",
            f"  its log:   {known.log}",
        ]
    else:
        lines += [
            "  start it:  ngrokd start --config PATH, if that configuration names this socket",
            "  its log:   where server.log_file of that configuration says",
            f"  another?   the socket of {known.config} is {known.socket_path}",
        ]
    return "\n".join(lines)


def caller(socket_path: str) -> Caller:
    """Who is calling, from the user database and the socket's own group."""
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
        groups = os.getgrouplist(name, pwd.getpwuid(uid).pw_gid)
    except KeyError:
        return Caller(f"uid {uid}", _socket_group(socket_path), is_member=False)
    group = _socket_group(socket_path)
    is_member = group is not None and grp.getgrnam(group).gr_gid in groups
    return Caller(name, group, is_member)


def user() -> str:
    """Who is calling."""
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def again(argv: Sequence[str], key: Optional[str], socket_path: str) -> str:
    """The same command for `sudo`, which drops the environment; never with the API key."""
    words = [word for word in argv if not key or word != key]
    if socket_path != DEFAULT_SOCKET_PATH and "--socket" not in " ".join(words):
        words = ["--socket", socket_path, *words]
    return shlex.join([*_program(), *words])


def start() -> str:
    """The command that starts the daemon, for `sudo` where that is needed."""
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    return shlex.join([*sudo, *_program("ngrokd", "ngrokd"), "start"])


def _program(name: str = "ngrokctl", module: str = "ngrokd.control.ctl") -> list[str]:
    """`name` beside the program that runs, in the words that sudo finds it by."""
    called = Path(sys.argv[0])
    if called.name != "ngrokctl":
        return [sys.executable, "-m", module]
    folder = called.absolute().parent
    return [name] if str(folder) in _SUDO_PATH else [str(folder / name)]


def _socket_group(socket_path: str) -> Optional[str]:
    """The group that may use the socket, None if that is root's or none can be told."""
    try:
        found = Path(socket_path).stat()
        if found.st_gid == 0 or not found.st_mode & stat.S_IWGRP:
            return None
        return grp.getgrgid(found.st_gid).gr_name
    except (OSError, KeyError):
        return None
