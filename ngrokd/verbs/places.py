"""Which places of the configuration are closed to the user who starts the daemon."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from ngrokd.config import DEFAULT_LOG_FILE, Config
from ngrokd.errors import ConfigError

_NOT_FILES = frozenset(("", "syslog"))  # values of server.log_file that name no file


def check(config: Config, in_background: bool) -> None:
    """For a user other than root: raises ConfigError with every closed place at once.

    Root's daemon finds out one after the other, but then only where something is really wrong. The
    hosts file is not among them: without it only names are missing, which the status says.
    """
    if os.geteuid() == 0:
        return
    closed = [
        f"{key}: {path} cannot be written by {_user()}, allowed: a place of that user's own"
        for key, path in _places(config, in_background)
        if not _is_open(path)
    ]
    if closed:
        raise ConfigError([*closed, "Mend: set these in a configuration of yours, or run as root"])


def _places(config: Config, in_background: bool) -> Iterator[tuple[str, Path]]:
    server = config.server
    yield "server.client_cert", Path(server.client_cert)
    if Path(server.client_key).parent != Path(server.client_cert).parent:
        yield "server.client_key", Path(server.client_key)
    yield "server.pid_file", Path(server.pid_file)
    yield "server.socket_path", Path(server.socket_path)
    log = server.log_file if server.log_file or not in_background else DEFAULT_LOG_FILE
    if log not in _NOT_FILES:
        yield "server.log_file", Path(log)


def _is_open(path: Path) -> bool:
    """It can be written, or made: in its folder, or in one in which that is made first."""
    if os.path.isfile(path):  # noqa: PTH113 - pathlib raises for what is behind a closed folder
        return os.access(path, os.W_OK)
    folder = path.parent
    while not os.path.exists(folder) and folder != folder.parent:  # noqa: PTH110 - the same
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def _user() -> str:
    try:
        return f"user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:  # of a container that is started with `--user 1000`
        return f"uid {os.geteuid()}"
