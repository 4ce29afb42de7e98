"""Looks at the configuration, the files it names, and where the log goes."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path

from ngrokd import configfile
from ngrokd.config import Config
from ngrokd.doctor.settings import ConfigFacts, FileFacts, Files, LogFacts
from ngrokd.logs import targets
from ngrokd.verbs import whereabouts
from ngrokd.verbs.cleanup import settings as as_far_as_possible

DEV_LOG = "/dev/log"
JOURNAL = whereabouts.JOURNAL
STANDARD_ERROR = "standard error"


def at_config(path: Path, environ: Mapping[str, str]) -> tuple[Config, ConfigFacts]:
    """The configuration as far as it can be read, without the key of the environment; what is
    wrong with it."""
    is_there = os.path.lexists(path)
    if _is_closed(path):
        return Config(), ConfigFacts(str(path), is_readable=False)
    config, faults = as_far_as_possible(path, environ)
    if faults:
        is_lost = config == as_far_as_possible(Path(os.devnull), environ)[0]
        return config, ConfigFacts(str(path), is_there, faults=faults, is_lost=is_lost)
    advice = configfile.advice(path if is_there else None, config)
    return config, ConfigFacts(str(path), is_there, advice=advice)


def at_files(config: Config, path: Path, socket_path: str) -> Files:
    """The state folder, what is secret in it and beside it, and the control socket."""
    secrets = [Path(config.server.client_key), config.state_folder / "api_key"]
    if config.api.key and os.path.exists(path):  # noqa: PTH110 - it may be out of reach
        secrets.append(path)
    folder = _file(config.state_folder)
    return Files(
        folder,
        tuple(map(_file, secrets)),
        _file(Path(socket_path)),
        frozenset((0, os.geteuid(), folder.uid)),
    )


def at_log(place: str) -> LogFacts:
    """Where the daemon writes, as `log_place` says. Nothing is written."""
    if place == JOURNAL:
        return LogFacts(f"the journal ({JOURNAL})")
    if place == STANDARD_ERROR:
        return LogFacts(place)
    if place == targets.SYSLOG:
        found = os.path.exists(DEV_LOG)  # noqa: PTH110
        fault = "" if found else f"there is no {DEV_LOG}"
        return LogFacts(place, fault, "start a syslog daemon, or set server.log_file to a file")
    mend = "make room, or its file system writable; or set server.log_file to another file"
    real = os.path.realpath(place)  # what a link leads to is made there
    folder = os.path.dirname(real)  # noqa: PTH120
    target = real if os.path.lexists(real) else folder
    try:
        is_there, is_odd = target == real, not _takes_lines(os.stat(real).st_mode)  # noqa: PTH116
    except PermissionError:
        is_there = is_odd = False  # whether it can be written is seen below
    except FileNotFoundError:
        is_there = is_odd = False
    except OSError as exc:
        return LogFacts(place, exc.strerror or str(exc), mend)
    if is_there and is_odd:
        what = "it is a folder, a pipe or a socket"
        return LogFacts(place, what, "set server.log_file to the path of a file")
    if not os.path.lexists(folder):
        return LogFacts(place, f"there is no folder {folder}", f"mkdir -p {shlex.quote(folder)}")
    if not os.access(target, os.W_OK):
        is_root = os.geteuid() == 0
        return LogFacts(place, f"{target} is not writable", mend, is_known=is_root)
    return LogFacts(place, _no_room(folder, is_there), mend)


def log_place(config: Config, config_path: Path, in_foreground: bool) -> str:
    """Where the log of a daemon with this configuration is."""
    if config.server.log_file:
        return targets.place_of(config.server, foreground=False)
    if in_foreground or config_path == whereabouts.config_path():
        log = whereabouts.whereabouts().log
        if log == JOURNAL:
            return JOURNAL
    return STANDARD_ERROR if in_foreground else targets.place_of(config.server, foreground=False)


def _is_closed(path: Path) -> bool:
    """To this user. What is wrong with it otherwise is told by reading it."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(path, os.R_OK)


def _takes_lines(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISCHR(mode)


def _no_room(folder: str, is_there: bool) -> str:
    """Some blocks are root's alone; a file that is there needs no inode any more."""
    known = os.statvfs(folder)
    is_root = os.geteuid() == 0
    if known.f_blocks and not (known.f_bfree if is_root else known.f_bavail):
        return "its file system is full"
    if not is_there and known.f_files and not (known.f_ffree if is_root else known.f_favail):
        return "its file system has no room for one more file"
    return ""


def _file(path: Path) -> FileFacts:
    try:
        known = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return FileFacts(str(path))
    except OSError as exc:
        is_closed = isinstance(exc, PermissionError)
        return FileFacts(str(path), fault=exc.strerror or str(exc), is_closed=is_closed)
    return FileFacts(str(path), stat.S_IMODE(known.st_mode), known.st_uid)
