"""`ngrokctl trust`: has the daemon trust a CA, or puts its certificate where the next one looks."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ngrokd import configfile
from ngrokd.cloud import cafetch, cafile, ngrokca
from ngrokd.cloud.facts import Facts
from ngrokd.cloud.ngrokca import Anchor
from ngrokd.config import DEFAULT_CONFIG_PATH, Config
from ngrokd.control import deedpages, question
from ngrokd.control.answers import mapping
from ngrokd.control.commands import POLL_S, Call, Outcome
from ngrokd.control.protocol import BAD_ARGUMENTS, BAD_CONFIGURATION
from ngrokd.control.report import iso
from ngrokd.errors import (
    ConfigError,
    ControlError,
    DaemonUnreachable,
    FileForbidden,
    HostError,
    StateError,
)

STANDARD_INPUT = "-"


def trust(call: Call, agreed: Callable[[list[str]], bool]) -> Outcome:
    """Checks the certificate here, and again where it is installed.

    `agreed`: shows it to whoever sits at the terminal, and asks.
    """
    options = call.options
    source = ngrokca.URL if options.source is None else options.source
    try:
        sha256 = ngrokca.normal_fingerprint(options.fingerprint or ngrokca.SHA256)
    except ValueError as exc:
        raise ControlError(BAD_ARGUMENTS, f"--fingerprint: {exc}") from exc
    anchor = _checked(source, sha256)
    is_asked = not options.yes and question.there_is_a_person()
    if not options.yes and not agreed(deedpages.anchor_lines(_json(anchor.facts))):
        raise ControlError("declined", "nothing was installed")
    try:
        answer = mapping(call.ask("trust", [anchor.pem, sha256], timeout_s=POLL_S))
        answer = {**answer, "daemon": True}
    except DaemonUnreachable:
        answer = _install(options.config, anchor)
    answer["certificate"] = _json(anchor.facts)
    was_shown = is_asked and call.width is not None  # on the terminal that the page goes to
    return Outcome(answer, deedpages.trust_page(answer, call.width, was_shown))


def _checked(source: str, sha256: str) -> Anchor:
    if source == STANDARD_INPUT:
        named = "standard input"
        content = sys.stdin.buffer.read(ngrokca.MAX_BYTES + 1) if sys.stdin else b""
    elif cafetch.is_url(source):
        named, content = source, cafetch.fetch(source)
    else:
        named, content = source, _file(Path(source))
    try:
        return ngrokca.anchor(content, sha256, time.time())
    except ValueError as exc:
        raise HostError(f"{named} {exc}") from exc


def _file(path: Path) -> bytes:
    """Of a pipe, too, as a shell makes of `<(command)`: whoever names one waits for its writer."""
    try:
        with path.open("rb") as file:
            return file.read(ngrokca.MAX_BYTES + 1)
    except FileNotFoundError as exc:
        raise HostError(f"{path} does not exist") from exc
    except IsADirectoryError as exc:
        raise HostError(f"{path} is a folder: name the file of one certificate") from exc
    except PermissionError as exc:
        raise FileForbidden(f"{path}: {exc.strerror}") from exc
    except OSError as exc:
        raise HostError(f"{path} cannot be read: {exc.strerror or exc}") from exc


def _install(config_path: str, anchor: Anchor) -> dict[str, object]:
    """Where no daemon answers: into the state folder."""
    folder = _config(Path(config_path)).state_folder
    try:
        placed = cafile.place(folder, anchor)
    except StateError as exc:
        raise _permission(exc, folder) from exc
    return {
        "installed": placed.is_new,
        "path": str(placed.path),
        "kept": placed.kept,
        "ingress": "unknown",
        "daemon": False,
    }


def _config(path: Path) -> Config:
    try:
        is_missing = not path.exists()
    except OSError as exc:
        raise FileForbidden(f"{path}: {exc.strerror}") from exc
    if is_missing and str(path) == DEFAULT_CONFIG_PATH:
        return Config()
    if not is_missing and not os.access(path, os.R_OK):
        raise FileForbidden(f"{path}: it may not be read")
    try:
        return configfile.load(path, os.environ)
    except ConfigError as exc:
        raise ControlError(BAD_CONFIGURATION, str(exc)) from exc


def _permission(exc: StateError, path: Path) -> Exception:
    """Exit code 5 where that is what is missing."""
    if isinstance(exc.__cause__, PermissionError):
        return FileForbidden(f"{path}: {exc.__cause__.strerror}")
    return exc


def _json(facts: Facts) -> dict[str, object]:
    return {
        "subject": facts.subject,
        "issuer": facts.issuer,
        "not_before": iso(facts.not_before),
        "not_after": iso(facts.not_after),
        "sha256": facts.sha256,
    }
