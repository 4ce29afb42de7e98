"""Collects what a bug report needs, and writes it as one file."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ngrokd.config import Config
from ngrokd.configtext.settings import KEY_FILE_VARIABLE, KEY_VARIABLE
from ngrokd.doctor import bundle
from ngrokd.doctor.bundle import Scrubber
from ngrokd.doctor.daemon import Asked
from ngrokd.errors import FileForbidden, HostError
from ngrokd.host import command, files, hosts
from ngrokd.host.command import CommandError, Runner
from ngrokd.logs import targets

_UNREAD = "not read: "  # begins what stands in place of a text that was out of reach

LOG_BYTES = 1 << 20  # the last of the log
MAX_FILE_BYTES = 4 << 20
STATE_FILES = (
    "registration.json",
    "ip_mappings.json",
    "network_ports.json",
    "endpoints.json",
    "last_run.json",
    "aliases.json",
)
SYSTEM_FILES = ("/etc/os-release", "/etc/resolv.conf", "/etc/nsswitch.conf")
COMMANDS = (
    ("ip", "addr"),
    ("ip", "route", "show", "table", "all"),
    ("ss", "-Hltn"),
    ("journalctl", "--no-pager", "-n", "2000", "-u", "ngrokd"),
)
VARIABLES = ("NGROK", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT")


def write(path: Path, config: Config, asked: Asked, pages: Mapping[str, str]) -> None:
    """`pages`: what doctor itself found. Raises HostError or FileForbidden."""
    if os.path.lexists(path):
        raise HostError(f"{path} is there already: name another file, or remove it")
    texts = {**pages, **dict(_texts(config, asked, command.run))}
    packed = bundle.archive(texts, Scrubber(_secrets(config, os.environ)), time.time())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(packed)
    except PermissionError as exc:
        raise FileForbidden(f"{path}: {exc.strerror}") from exc
    except OSError as exc:
        raise HostError(f"{path} cannot be written: {exc.strerror or exc}") from exc


def _texts(config: Config, asked: Asked, run: Runner) -> Iterator[tuple[str, str]]:
    yield "system.txt", f"{' '.join(platform.uname())}\nPython {platform.python_version()}\n"
    yield "config.json", bundle.configuration(config)
    yield "environment.txt", "".join(_environment(os.environ))
    if asked.status is not None:
        yield "status.json", json.dumps(asked.status, indent=1) + "\n"
        yield "list.json", json.dumps(asked.endpoints, indent=1) + "\n"
        yield "limits.txt", _file(Path(f"/proc/{asked.status.get('pid')}/limits"))
    for name in STATE_FILES:
        yield f"state/{name}", _file(config.state_folder / name)
    for name in SYSTEM_FILES:
        yield name.lstrip("/"), _file(Path(name))
    yield "hosts.txt", _hosts(config)
    for words in COMMANDS:
        yield f"commands/{'-'.join(words)}.txt", _output(words, run)
    yield "log.txt", _log(targets.place_of(config.server, foreground=False))


def _secrets(config: Config, environ: Mapping[str, str]) -> list[str]:
    """All that are known; those that this user may not read can be nowhere that it may."""
    paths = [
        config.state_folder / "api_key",
        Path(config.server.client_key),
        Path(environ.get(KEY_FILE_VARIABLE) or "/dev/null"),
    ]
    read = [content for path in paths if not (content := _file(path)).startswith(_UNREAD)]
    return [config.api.key, environ.get(KEY_VARIABLE, ""), *read]


def _environment(environ: Mapping[str, str]) -> Iterator[str]:
    for name, value in sorted(environ.items()):
        if name.upper().startswith(VARIABLES):
            yield f"{name}={value}\n"


def _hosts(config: Config) -> str:
    """Our section. The other lines are the user's own, so only their number is told."""
    path = Path(config.net.hosts_file)
    content = _file(path)
    marker = hosts.marker_of(config.net.interface_name)
    kept, others, is_inside = [], 0, False
    for line in content.splitlines():
        is_inside |= line.startswith(f"# BEGIN {marker}")
        is_mark = line.startswith(("# BEGIN ngrokd", "# END ngrokd"))
        if is_inside or is_mark:
            kept.append(line)
        else:
            others += 1
        is_inside &= not line.startswith("# END ")
    return "\n".join([f"{path}: {others} other lines", *kept, ""])


def _log(place: str) -> str:
    """The last of it, from the beginning of a line on."""
    try:
        files.refuse_special(Path(place))
        with Path(place).open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            start = file.seek(max(0, end - LOG_BYTES))
            content = file.read(LOG_BYTES).decode("utf-8", "replace")
    except OSError as exc:
        return f"{_UNREAD}{place}: {exc.strerror or exc}\n"
    return content.partition("\n")[2] if start else content


def _file(path: Path) -> str:
    try:
        return files.read_regular(path, MAX_FILE_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError) as exc:
        return f"{_UNREAD}{path}: {exc}\n"


def _output(words: tuple[str, ...], run: Runner) -> str:
    try:
        return run(list(words))
    except CommandError as exc:
        return f"{_UNREAD}{exc}\n"
