"""Our files with the paths of this machine in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ngrokd.errors import HostError

_PROGRAM = re.compile(r"/usr/local/bin/ngrokd(?![\w.-])")
_CONFIG = re.compile(r"/etc/ngrokd/config\.yml(?![\w.-])")

# What means the same to a shell (no ~), to systemd (no %), in XML and in a list with colons.
_PLAIN = re.compile(r"/[A-Za-z0-9_./+,@=-]*")

# What the unit leaves writable (its ReadWritePaths=, ConfigurationDirectory= and PrivateTmp=).
_WRITABLE = ("/etc", "/run", "/var/run", "/var/log", "/var/lib/ngrokd", "/tmp", "/var/tmp")


@dataclass(frozen=True)
class Paths:
    """Of this installation."""

    program: str
    config: str
    folders: tuple[str, ...] = ()  # that the daemon writes to, wherever it is told to


def check(paths: Paths) -> None:
    """Raises HostError: a path that an init file cannot carry."""
    for what, path in (("program", paths.program), ("configuration", paths.config)):
        if not _PLAIN.fullmatch(path):
            raise HostError(
                f"the path of the {what}, {path!r}, cannot stand in an init file: "
                "move it to one of letters, digits and /._-"
            )


def rendered(name: str, body: bytes, paths: Paths) -> bytes:
    """The file `name` of init/ for this machine."""
    if name.startswith(("man/", "completions/")):
        return body
    text = body.decode("utf-8")
    text = _PROGRAM.sub(paths.program, text)
    text = _CONFIG.sub(paths.config, text)
    if name.endswith(".service"):
        text = _with_writable(text, paths.folders)
    return text.encode("utf-8")


def _with_writable(unit: str, folders: Iterable[str]) -> str:
    """The unit, which may then write to these folders too."""
    more = sorted({folder for folder in folders if not _is_writable(folder)})
    if not more:
        return unit
    line = "ReadWritePaths=" + " ".join(f"-{folder}" for folder in more)
    return re.sub(r"^(ReadWritePaths=.*)$", rf"\1\n{line}", unit, count=1, flags=re.MULTILINE)


def _is_writable(folder: str) -> bool:
    if not _PLAIN.fullmatch(folder):
        return True  # it cannot be said: the daemon's own log names the folder it may not write
    return any(folder == known or folder.startswith(f"{known}/") for known in _WRITABLE)
