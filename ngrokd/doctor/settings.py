"""Judges the configuration, the files it names, and the log. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ngrokd.doctor.daemon import NEEDS_ROOT
from ngrokd.doctor.finding import Finding, failed, ok, skipped, warning

_OTHERS = 0o077
_OTHERS_WRITE = 0o022
_EVERYBODY = 0o007


@dataclass(frozen=True)
class ConfigFacts:
    """The configuration file: `faults` of it, and `advice` on what is allowed."""

    path: str
    is_there: bool = True
    is_readable: bool = True
    faults: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    is_lost: bool = False  # so faulty that nothing of it is known

    @property
    def is_known(self) -> bool:
        """It says what else is to be looked at."""
        return self.is_readable and not self.is_lost


@dataclass(frozen=True)
class FileFacts:
    """A file or folder. `mode` None: it is not there, or `fault` says why nothing is known."""

    path: str
    mode: Optional[int] = None
    uid: int = 0
    fault: str = ""
    is_closed: bool = False  # that is because of who asks


@dataclass(frozen=True)
class Files:
    """Those that hold secrets or guard them. `uids`: who may well own them."""

    folder: FileFacts
    secrets: tuple[FileFacts, ...]  # the key, the API key, the configuration if a key is in it
    socket: FileFacts
    uids: frozenset[int] = frozenset((0,))


@dataclass(frozen=True)
class LogFacts:
    """Where the log goes. `fault`: why it cannot be written, "" if it can."""

    place: str
    fault: str = ""
    mend: str = ""
    is_known: bool = True  # False: only root can tell


def of_config(facts: ConfigFacts) -> Finding:
    """What `ngrokd check-config` says, in short."""
    if not facts.is_readable:
        why = f"{facts.path} may not be read by this user"
        return skipped("configuration", why, NEEDS_ROOT)
    if facts.faults:
        told = "".join(f"\n{fault}" for fault in facts.faults)
        mend = f"correct these lines, then: ngrokd check-config {shlex.quote(facts.path)}"
        return failed("configuration", f"{facts.path} is not valid{told}", mend)
    if not facts.is_there:
        mend = "none if that is meant; --config names another file"
        return warning("configuration", f"there is no {facts.path}: the defaults count", mend)
    if facts.advice:
        told = "".join(f"\n{line}" for line in facts.advice)
        return warning("configuration", f"{facts.path} is valid, but{told}", "as each line says")
    return ok("configuration", f"{facts.path} is valid")


def of_files(files: Files) -> list[Finding]:
    """Nobody else may read a secret, nor put something in its place."""
    odd = [each for each in (files.folder, *files.secrets) if each.fault and not each.is_closed]
    if odd:
        what = f"{odd[0].path} cannot be looked at: {odd[0].fault}"
        return [failed("permissions", what, f"move it away: {shlex.quote(odd[0].path)}")]
    unknown = [each for each in (files.folder, *files.secrets) if each.fault]
    if unknown:
        why = f"{unknown[0].path} may not be looked at: {unknown[0].fault}"
        return [skipped("permissions", why, NEEDS_ROOT)]
    bad = [*_secrets(files.secrets), *_folder(files.folder), *_socket(files.socket)]
    if not bad:
        bad = list(_owners(files))
    return bad or [ok("permissions", f"{files.folder.path} and its secrets are closed to others")]


def of_log(facts: LogFacts) -> Finding:
    """A log that cannot be written tells nothing of the next fault."""
    if not facts.is_known:
        return skipped("log", f"only root can tell whether {facts.place} is writable", NEEDS_ROOT)
    if facts.fault:
        return failed("log", f"{facts.place} cannot be written: {facts.fault}", facts.mend)
    if facts.place.startswith("/"):
        return ok("log", f"{facts.place} is writable")
    return ok("log", f"it goes to {facts.place}")


def _secrets(secrets: Sequence[FileFacts]) -> list[Finding]:
    return [
        failed(
            "permissions",
            f"{each.path} has mode {each.mode:04o}: others can read a secret in it",
            f"chmod 600 {shlex.quote(each.path)}",
        )
        for each in secrets
        if each.mode is not None and each.mode & _OTHERS
    ]


def _folder(folder: FileFacts) -> list[Finding]:
    if folder.mode is None or not folder.mode & _OTHERS_WRITE:
        return []
    what = f"{folder.path} has mode {folder.mode:04o}: others can put their files in place of ours"
    return [failed("permissions", what, f"chmod go-w {shlex.quote(folder.path)}")]


def _socket(socket: FileFacts) -> list[Finding]:
    if socket.mode is None or not socket.mode & _EVERYBODY:
        return []
    what = f"{socket.path} has mode {socket.mode:04o}: every user can connect to it"
    return [warning("permissions", what, f"chmod 660 {shlex.quote(socket.path)}")]


def _owners(files: Files) -> list[Finding]:
    return [
        warning(
            "permissions",
            f"{each.path} belongs to uid {each.uid}, and not to the daemon's user",
            f"chown root {shlex.quote(each.path)}",
        )
        for each in (files.folder, *files.secrets)
        if each.mode is not None and each.uid not in files.uids
    ]
