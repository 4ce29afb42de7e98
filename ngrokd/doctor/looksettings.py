"""Looks at the configuration, the files it names, and where the log goes."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from ngrokd import configfile
from ngrokd.config import Config
from ngrokd.doctor.settings import ConfigFacts, FileFacts, Files, LogFacts
from ngrokd.logs import targets
from ngrokd.verbs.cleanup import settings as as_far_as_possible

DEV_LOG = "/dev/log"


def at_config(path: Path) -> tuple[Config, ConfigFacts]:
    """The configuration as far as it can be read; what is wrong with it."""
    is_there = os.path.lexists(path)
    may_see = os.access(path.parent, os.X_OK) or not os.path.lexists(path.parent)
    if not may_see or (is_there and not os.access(path, os.R_OK)):
        return Config(), ConfigFacts(str(path), is_readable=False)
    config, faults = as_far_as_possible(path, os.environ)
    if faults:
        return config, ConfigFacts(str(path), is_there, faults=faults)
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


def at_log(config: Config) -> LogFacts:
    """Where a daemon in the background writes. Nothing is written."""
    place = targets.place_of(config.server, foreground=False)
    if place == targets.SYSLOG:
        found = os.path.exists(DEV_LOG)  # noqa: PTH110
        fault = "" if found else f"there is no {DEV_LOG}"
        return LogFacts(place, fault, "start a syslog daemon, or set server.log_file to a file")
    mend = "make room, or its file system writable; or set server.log_file to another file"
    folder = os.path.dirname(place)  # noqa: PTH120
    target = place if os.path.lexists(place) else folder
    if not os.path.lexists(folder):
        return LogFacts(place, f"there is no folder {folder}", f"mkdir -p {folder}")
    if not os.access(target, os.W_OK):
        is_root = os.geteuid() == 0
        return LogFacts(place, f"{target} is not writable", mend, is_known=is_root)
    if shutil.disk_usage(folder).free == 0:
        return LogFacts(place, "its file system is full", mend)
    return LogFacts(place)


def _file(path: Path) -> FileFacts:
    try:
        known = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return FileFacts(str(path))
    except OSError as exc:
        return FileFacts(str(path), fault=exc.strerror or str(exc))
    return FileFacts(str(path), stat.S_IMODE(known.st_mode), known.st_uid)
