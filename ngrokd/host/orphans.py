"""What killed writers left beside a hosts file: removed, unless it holds lines of somebody."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Optional

from ngrokd.host import exchange, files, remains

logger = logging.getLogger(__name__)

# A block list of a million lines has a third of it.
_MAX_BYTES = 128 * 1024 * 1024


def remove(path: Path) -> list[Path]:
    """Those that are removed; one with lines that are nowhere else is renamed, and told."""
    return files.remove_orphans(path, lambda orphan: _is_kept(orphan, path))


def look(path: Path) -> list[str]:
    """What `remove` would do, as lines of a shell."""
    kept = exchange.kept_name(files.real(path), "*")
    found = [(shlex.quote(str(each)), _is_needed(each, path)) for each in files.orphans(path)]
    return [
        f"# keep {orphan} as {kept}" if needed else f"rm {orphan}"
        for orphan, needed in found
        if needed is not None
    ]


def _is_kept(orphan: Path, path: Path) -> bool:
    needed = _is_needed(orphan, path)
    if needed:
        kept = exchange.keep(orphan, files.real(path))
        logger.warning(
            "%s may lack lines: it was edited in the moment that ngrokd was killed. Mend: compare "
            "it with what it had, which is kept as %s, and add what is missing", path, kept,
        )  # fmt: skip
    return needed is not False


def _is_needed(orphan: Path, path: Path) -> Optional[bool]:
    """It may be what an exchange took out, with an edit of that moment; None: not to be known now.
    """
    try:
        former = files.read_regular(orphan, _MAX_BYTES)
        current = files.read_regular(path, _MAX_BYTES) if path.exists() else b""
    except (OSError, ValueError):
        return None
    return remains.is_missing_lines(current, former)
