"""`ngrokctl config`: shows the configuration and its path, and has it edited safely."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ngrokd import configfile
from ngrokd.config import DEFAULT_CONFIG_PATH, DEFAULT_SOCKET_PATH, Config
from ngrokd.control import deedpages, question
from ngrokd.control.answers import mapping
from ngrokd.control.client import request
from ngrokd.control.commands import POLL_S, Call, Outcome
from ngrokd.control.protocol import BAD_ARGUMENTS, BAD_CONFIGURATION, FAILED, TIMEOUT
from ngrokd.errors import (
    ConfigError,
    ControlError,
    DaemonUnreachable,
    FileForbidden,
    HostError,
    NotPermitted,
    TimedOut,
)
from ngrokd.host import files
from ngrokd.host.exchange import ChangedMeanwhile, Shared, Stranded
from ngrokd.process import attached
from ngrokd.verbs import cleanup, configpages, lifecycle, whereabouts

UNCHANGED = "Nothing was changed."
NO_DAEMON = "No daemon answers: it counts from the next start on."
UNKNOWN_KEY = "whether `ngrokctl set-api-key` has set a key is not known"
BY_ITSELF = "You may not have ngrokd reload; it takes the file up by itself within seconds."

_MODE = 0o600  # it may hold the API key


@dataclass(frozen=True)
class _Edited:
    """A good edit, and what it means."""

    content: bytes
    config: Config


def configure(call: Call) -> Outcome:
    """What `config WHAT` does. Raises NgrokdError."""
    given = call.options.config
    path = lifecycle.absolute(given) if given else whereabouts.config_path()
    if call.options.what == "path":
        data = {"path": str(path), "exists": _content(path) is not None}
        return Outcome(data, str(path))
    return _show(call, path) if call.options.what == "show" else _edit(call, path)


def _show(call: Call, path: Path) -> Outcome:
    is_there = _content(path) is not None
    if not is_there and call.options.config:
        raise HostError(f"{path}: there is no such file")
    try:
        # Without a file, of an empty one.
        source = path if is_there else Path(os.devnull)
        config, places = configfile.load_with_places(source, os.environ)
    except ConfigError as exc:
        raise ControlError(BAD_CONFIGURATION, str(exc)) from exc
    key_file = config.state_folder / "api_key"
    notes = []
    saved = ""
    try:
        saved = str(key_file) if files.read_regular(key_file).strip() else ""
    except FileNotFoundError:
        pass  # none was set at run time
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else str(exc)
        notes = [f"{UNKNOWN_KEY}: {key_file}: {why}"]
    found = configpages.settings(config, places, str(path), saved)
    data = configpages.as_json(str(path), is_there, found, notes)
    return Outcome(data, configpages.page(str(path), is_there, found, notes, call.width))


def _edit(call: Call, path: Path) -> Outcome:
    """Nothing of the file is lost, nor of the edit, whatever goes wrong."""
    if not question.there_is_a_person() and not configpages.is_editor_named(os.environ):
        raise ControlError(BAD_ARGUMENTS, "there is no terminal to edit on, and EDITOR is not set")
    try:
        argv = configpages.editor(os.environ, lambda name: shutil.which(name) is not None)
    except ValueError as exc:
        raise ControlError(BAD_ARGUMENTS, str(exc)) from exc
    before = _content(path)
    if before is None and call.options.config:
        raise HostError(f"{path}: there is no such file")
    shown = configfile.DEFAULT_TEXT.encode() if before is None else before
    # The daemon that runs has the socket of before, whatever becomes of that setting.
    socket_path = cleanup.settings(path, {})[0].server.socket_path
    if call.socket_path != DEFAULT_SOCKET_PATH:
        socket_path = call.socket_path
    copy = _copied(path, shown)
    with _kept_if_edited(copy, shown, path):
        edited = _edited(argv, copy, shown)
        if edited is not None:
            _put(path, edited.content, before)
    if edited is None:
        return Outcome({"path": str(path), "changed": False, "reload": None}, UNCHANGED)
    return _reloaded(socket_path, path, edited.config)


def _copied(path: Path, content: bytes) -> Path:
    """The copy that is edited, in the same folder: what only root may read is nowhere else."""
    real = files.real(path)
    if path == Path(DEFAULT_CONFIG_PATH):
        with contextlib.suppress(OSError):  # the copy tells of it
            real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    copy = real.with_name(configpages.copy_name(real, secrets.token_hex(4)))
    try:
        descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except PermissionError as exc:
        raise FileForbidden(f"{copy.parent}: {exc.strerror}") from exc
    except OSError as exc:
        raise HostError(f"{copy} cannot be written: {exc.strerror or exc}") from exc
    return copy


@contextlib.contextmanager
def _kept_if_edited(copy: Path, shown: bytes, path: Path) -> Iterator[None]:
    """Removes the copy at the end, unless it alone has the edit: then that is told."""
    try:
        yield
    except (ControlError, HostError, KeyboardInterrupt) as exc:
        if _is_as_shown(copy, shown):
            copy.unlink(missing_ok=True)
            raise
        code = exc.code if isinstance(exc, ControlError) else FAILED
        why = str(exc) or "interrupted"
        raise ControlError(code, f"{why}\n{configpages.kept(str(copy), str(path))}") from exc
    copy.unlink(missing_ok=True)


def _edited(argv: list[str], copy: Path, shown: bytes) -> Optional[_Edited]:
    """What the edit means, None if there was none. A person may mend a mistake at once."""
    while True:
        with _interrupts_are_the_editors():
            status = attached.spawn(
                [*argv, str(copy)], os.environ, os.environ.get("PATH", os.defpath)
            )
        if status != 0:
            named = " ".join(argv)
            raise HostError(
                f"the editor `{named}` failed (exit status {status}): nothing is put in place"
            )
        if copy.is_symlink():  # what it leads to was never asked for
            raise HostError(f"the editor has put a link in the place of {copy}")
        content = _content(copy)
        if content is None:
            raise HostError(f"the editor has removed {copy}")
        if content == shown:
            return None
        if not content.strip() and shown.strip():
            # As editors leave it that found no room or were killed; nobody means that by an edit.
            raise HostError("the edit is empty, which would set everything back to its default")
        try:
            # As it is, without the variables of whoever edits: a daemon has others.
            return _Edited(content, configfile.load(copy))
        except ConfigError as exc:
            again = question.there_is_a_person() and question.agreed("Edit it again?", *exc.faults)
            if not again:
                raise ControlError(BAD_CONFIGURATION, str(exc)) from exc


def _is_as_shown(copy: Path, shown: bytes) -> bool:
    """There is no edit in it. What cannot be read may well be one."""
    try:
        return not copy.is_symlink() and _content(copy) in (None, b"", shown)
    except (HostError, NotPermitted):
        return False


@contextlib.contextmanager
def _interrupts_are_the_editors() -> Iterator[None]:
    """Ctrl-C goes to the editor as well, which may mean something else by it than to end."""
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _put(path: Path, content: bytes, before: Optional[bytes]) -> None:
    """In one step, with the owner and mode that the file has. Raises HostError."""
    try:
        files.replace(path, content, _MODE, Shared(before or b""))
    except ChangedMeanwhile as exc:
        raise HostError(f"{path} was changed by another program meanwhile") from exc
    except Stranded as exc:
        raise HostError(f"{path}: {exc.strerror}") from exc
    except OSError as exc:
        raise HostError(f"{path} cannot be written: {exc.strerror or exc}") from exc


def _reloaded(socket_path: str, path: Path, config: Config) -> Outcome:
    """Has the daemon take it up. Raises what it answers: the file is in place all the same."""
    advice = [f"consider: {line}" for line in configfile.advice(path, config)]
    answer = None
    try:
        answer = mapping(request(socket_path, "reload", timeout_s=POLL_S))
        said = deedpages.reload_page(answer)
    except DaemonUnreachable:
        said = NO_DAEMON
    except NotPermitted:
        said = BY_ITSELF
    except (ControlError, TimedOut) as exc:
        code = exc.code if isinstance(exc, ControlError) else TIMEOUT
        raise ControlError(code, f"{path} is saved, but the daemon says: {exc}") from exc
    data = {"path": str(path), "changed": True, "reload": answer}
    return Outcome(data, "\n".join([f"{path} is saved.", *advice, said]))


def _content(path: Path) -> Optional[bytes]:
    """None: there is no such file. Raises FileForbidden and HostError."""
    try:
        return files.read_regular(path, configfile.MAX_FILE_BYTES)
    except FileNotFoundError:
        return None
    except PermissionError as exc:
        raise FileForbidden(f"{path}: {exc.strerror}") from exc
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else exc
        raise HostError(f"{path} cannot be read: {why}") from exc
