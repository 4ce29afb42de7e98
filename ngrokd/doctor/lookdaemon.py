"""Asks the daemon, and looks at how it was started: its configuration, its environment, its log."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ngrokd.config import Config
from ngrokd.control.answers import mapping, mappings, number
from ngrokd.control.client import request
from ngrokd.doctor.daemon import Asked
from ngrokd.errors import DaemonUnreachable, HostError, NgrokdError, NotPermitted
from ngrokd.host import files
from ngrokd.process import identity, running

ASK_S = 10.0
PROC = Path("/proc")
MAX_BYTES = 4 << 20  # arguments and environment of a process: the kernel's bound is near it

_CONFIG = "--config"
_FOREGROUND = "--foreground"
_NOTIFIED = "NOTIFY_SOCKET="  # a service manager started it


@dataclass(frozen=True)
class Started:
    """How a daemon was started. `environ` None: not to be seen by this user."""

    config: Optional[Path] = None  # None: it was not named
    environ: Optional[Mapping[str, str]] = None
    in_foreground: bool = False  # its log goes where its starter wants it, if nothing is set


def ask(socket_path: str, config: Config, log: str) -> Asked:
    """What the daemon tells of itself and of its endpoints. `log`: where a dead one's words are."""
    try:
        status = mapping(request(socket_path, "status", timeout_s=ASK_S))
        endpoints = mappings(request(socket_path, "list", timeout_s=ASK_S))
    except NotPermitted as exc:
        return Asked(socket_path, why=str(exc), is_forbidden=True)
    except DaemonUnreachable as exc:
        pid = _alive(config)
        if pid is not None:
            who = f" (pid {pid})" if pid else ""
            return Asked(socket_path, why=f"{exc}{who}", is_stuck=True)
        return Asked(socket_path, why=str(exc), log=log)
    except NgrokdError as exc:  # too late, too busy, or nothing that makes sense: it lives
        return Asked(socket_path, why=str(exc), is_stuck=True)
    return Asked(socket_path, status, tuple(endpoints))


def started(asked: Asked, proc: Path = PROC) -> Started:
    """Of the daemon that answered."""
    pid = int(number(asked.status, "pid"))
    if pid <= 0 or not identity.is_ngrokd(pid):
        return Started()
    folder = proc / str(pid)
    words = _texts(folder / "cmdline") or []
    environ = _texts(folder / "environ")
    named = _named(words)
    return Started(
        None if named is None else Path(_link(folder / "cwd"), named),
        None if environ is None else dict(_pairs(environ)),
        _FOREGROUND in words or any(text.startswith(_NOTIFIED) for text in environ or ()),
    )


def _alive(config: Config) -> Optional[int]:
    """The pid of one that lives and is not to be reached, 0 if that is not told."""
    try:
        return running.find(config)
    except (HostError, OSError):
        return None  # another program's lock, or another user's daemon: not the one that was asked


def _named(words: list[str]) -> Optional[str]:
    for at, word in enumerate(words):
        if word == _CONFIG and words[at + 1 :]:
            return words[at + 1]
        if word.startswith(f"{_CONFIG}="):
            return word.partition("=")[2]
    return None


def _pairs(texts: list[str]) -> list[tuple[str, str]]:
    split = [text.partition("=") for text in texts]
    return [(name, value) for name, equals, value in split if equals]


def _texts(path: Path) -> Optional[list[str]]:
    """Those that end with a NUL; None: the kernel does not show them."""
    try:
        content = files.read_regular(path, MAX_BYTES)
    except (OSError, ValueError):
        return None
    return [os.fsdecode(text) for text in content.split(b"\0") if text]


def _link(path: Path) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - it is joined to, and may name what is gone
    except OSError:
        return "/"
