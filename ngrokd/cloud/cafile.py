"""Puts a CA certificate into the state folder as `ca.crt`, and never loses what was there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ngrokd.cloud import ngrokca, statefile
from ngrokd.cloud.ngrokca import Anchor
from ngrokd.cloud.trust import INSTALLED
from ngrokd.errors import StateError

MODE = 0o644  # a certificate is no secret
MAX_KEPT = 100  # files that were replaced


@dataclass(frozen=True)
class Placed:
    """What became of it."""

    path: Path
    is_new: bool  # False: it was there already
    kept: str = ""  # where that is now which was there before; "": there was nothing


def place(folder: Path, anchor: Anchor) -> Placed:
    """Make `anchor` the trust anchor of the state folder. StateError: nothing was changed."""
    path = folder / INSTALLED
    statefile.make_folder(folder)
    present = statefile.read(path)
    if present is not None and ngrokca.holds(present, anchor.facts.sha256):
        return Placed(path, is_new=False)
    kept = _keep(path, present) if present else ""
    statefile.write_atomic(path, anchor.pem.encode(), MODE)
    return Placed(path, is_new=True, kept=kept)


def is_there(folder: Path) -> bool:
    """There is a `ca.crt`, whatever it holds."""
    return statefile.read(folder / INSTALLED) is not None


def holds(folder: Path, sha256: str) -> bool:
    """That certificate is in `ca.crt`. What cannot be read is told by who uses it: False."""
    try:
        present = statefile.read(folder / INSTALLED)
    except StateError:
        return False
    return present is not None and ngrokca.holds(present, sha256)


def _keep(path: Path, content: bytes) -> str:
    """A copy beside; where one was kept before, the next number. Returns its path."""
    if len(content) > statefile.MAX_FILE_BYTES:
        raise StateError(f"{path} is too large to be kept; move it away")
    for number in range(1, MAX_KEPT + 1):
        kept = path.with_name(path.name + (".before" if number == 1 else f".before-{number}"))
        present = statefile.read(kept)
        if present is None:
            statefile.write_atomic(kept, content, MODE)
            return str(kept)
        if present == content:
            return str(kept)
    raise StateError(f"{path} has been replaced {MAX_KEPT} times; remove some of {path}.before-*")
