"""Files of the sandbox's folder, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ngrokd.errors import StateError


def make_folder(folder: Path) -> None:
    """The folder and its parents; 0700, since private keys lie in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise StateError(f"the sandbox's folder {folder} cannot be made: {exc.strerror}") from exc


def write_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replaces the file in one step, so that a crash leaves the old one or the new one."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(handle, mode)
                file.write(content)
                file.flush()
                os.fsync(handle)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink()
            raise
    except OSError as exc:
        raise StateError(f"{path} cannot be written: {exc.strerror}") from exc


def read_file(path: Path) -> bytes:
    """The file's content; `StateError` names the file."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise StateError(f"{path} cannot be read: {exc.strerror}") from exc
