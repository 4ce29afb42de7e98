"""Collects what a bug report needs, and writes it as one file."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ngrokd.config import Config
from ngrokd.configtext.settings import KEY_FILE_VARIABLE
from ngrokd.doctor import bundle, secrets
from ngrokd.doctor.bundle import Scrubber
from ngrokd.doctor.daemon import Asked
from ngrokd.errors import FileForbidden, HostError
from ngrokd.host import command, files, hosts
from ngrokd.host.command import CommandError, Runner

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


@dataclass(frozen=True)
class Sources:
    """What there is to collect from. `log`: its place; `environ`: the daemon's."""

    config: Config
    config_path: Path
    environ: Mapping[str, str]
    asked: Asked
    log: str


def write(path: Path, sources: Sources, pages: Mapping[str, str]) -> None:
    """`pages`: what doctor itself found. Raises HostError or FileForbidden; half a file is not
    left behind."""
    refuse_existing(path)
    texts = {**pages, **dict(_texts(sources, command.run))}
    packed = bundle.archive(texts, Scrubber(_secrets(sources)), time.time())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, bundle.MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, bundle.MODE)  # whatever the umask
                file.write(packed)
        except OSError:
            path.unlink()
            raise
    except PermissionError as exc:
        raise FileForbidden(f"{path}: {exc.strerror}") from exc
    except OSError as exc:
        raise HostError(f"{path} cannot be written: {exc.strerror or exc}") from exc


def refuse_existing(path: Path) -> None:
    """Raises HostError."""
    if os.path.lexists(path):
        raise HostError(f"{path} is there already: name another file, or remove it")


def _texts(sources: Sources, run: Runner) -> Iterator[tuple[str, str]]:
    config, asked = sources.config, sources.asked
    yield "system.txt", f"{' '.join(platform.uname())}\nPython {platform.python_version()}\n"
    yield "config.json", bundle.configuration(config)
    yield "environment.txt", "".join(_environment(sources.environ))
    if asked.status is not None:
        yield "status.json", _bounded(json.dumps(asked.status, indent=1) + "\n")
        yield "list.json", _bounded(json.dumps(asked.endpoints, indent=1) + "\n")
        yield "limits.txt", _file(Path(f"/proc/{asked.status.get('pid')}/limits"))
    for name in STATE_FILES:
        yield f"state/{name}", _file(config.state_folder / name)
    for name in SYSTEM_FILES:
        yield name.lstrip("/"), _file(Path(name))
    yield "hosts.txt", _hosts(config)
    for words in COMMANDS:
        yield f"commands/{'-'.join(words)}.txt", _output(words, run)
    yield "log.txt", _log(sources.log)


def _secrets(sources: Sources) -> list[str]:
    """All that are known; of those that this user may not read, only the look is."""
    config, environs = sources.config, (sources.environ, os.environ)
    paths = [config.state_folder / "api_key", Path(config.server.client_key)]
    paths += [Path(each[KEY_FILE_VARIABLE]) for each in environs if each.get(KEY_FILE_VARIABLE)]
    read = [content for path in paths if not (content := _file(path)).startswith(_UNREAD)]
    variables = [value for each in environs for value in secrets.of_variables(each)]
    # Of the file as it stands: in one that is broken, no key is a key.
    words = secrets.of_config(_file(sources.config_path))
    users = secrets.of_url(config.api.url)
    return [config.api.key, *variables, *words, *users, *read]


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
    if not place.startswith("/"):
        return f"{_UNREAD}it goes to {place}\n"
    try:
        files.refuse_special(Path(place))
        with Path(place).open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            start = file.seek(max(0, end - LOG_BYTES))
            content = file.read(LOG_BYTES).decode("utf-8", "replace")
    except OSError as exc:
        return f"{_UNREAD}{place}: {exc.strerror or exc}\n"
    return content.partition("\n")[2] if start else content


def _bounded(text: str) -> str:
    if len(text) <= MAX_FILE_BYTES:
        return text
    kept = text[:MAX_FILE_BYTES].rpartition("\n")[0]
    return f"{kept}\n... cut: it has {len(text)} characters\n"


def _file(path: Path) -> str:
    try:
        return files.read_regular(path, MAX_FILE_BYTES).decode("utf-8", "replace")
    except (OSError, ValueError) as exc:
        return f"{_UNREAD}{path}: {exc}\n"


def _output(words: tuple[str, ...], run: Runner) -> str:
    try:
        return _bounded(run(list(words)))
    except CommandError as exc:
        return f"{_UNREAD}{exc}\n"
