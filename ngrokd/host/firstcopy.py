"""A copy of the hosts file as it was before names of ours were first put into it."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from ngrokd.errors import StateError
from ngrokd.host import files, hosts, journal

logger = logging.getLogger(__name__)


class FirstCopy:
    """It is made once and never again. Owner: main."""

    def __init__(self, path: Path, marker: str, folder: Optional[Path]) -> None:
        """`folder`: where it is kept; None: there is to be none."""
        self._path = path
        self._marker = marker
        self._folder = folder
        self._copy = folder / f"{path.name}.ngrokd.bak" if folder else None
        self._is_told = False  # that there is none: once is enough

    @contextlib.contextmanager
    def kept(self, content: bytes) -> Iterator[None]:
        """Around the putting in of names; where that fails with nothing changed, there is none."""
        made = self._make(content)
        is_done = False
        try:
            yield
            is_done = True
        finally:
            if made is not None and not is_done and not self._is_half_written():
                with contextlib.suppress(OSError):  # then it is early, and harms nobody
                    made.unlink()
        if made is not None:
            logger.info("%s as it was is kept as %s", self._path, made)

    def remove_orphans(self) -> list[Path]:
        """Removes what a killed run left beside it."""
        return files.remove_orphans(self._copy) if self._copy else []

    def _is_half_written(self) -> bool:
        return self._folder is not None and os.path.lexists(
            journal.place(self._folder, self._path)
        )

    def _make(self, content: bytes) -> Optional[Path]:
        """The copy, if it was made now."""
        if self._copy is None or os.path.lexists(self._copy) or not self._path.exists():
            return None
        mode = stat.S_IMODE(self._path.stat().st_mode) & 0o666
        try:
            files.write_atomic(self._copy, hosts.outside(content, self._marker), mode)
        except StateError as exc:
            if not self._is_told:
                self._is_told = True
                logger.warning("no copy of %s is kept: %s", self._path, exc)
            return None
        return self._copy
