"""What killed writers left beside a hosts file: removed, unless it holds lines of somebody."""

from __future__ import annotations

import logging
from pathlib import Path

from ngrokd.host import exchange, files, remains

logger = logging.getLogger(__name__)


def remove(path: Path) -> list[Path]:
    """Those that are removed; one with lines that are nowhere else is renamed, and told."""
    return files.remove_orphans(path, lambda orphan: _is_needed(orphan, path))


def _is_needed(orphan: Path, path: Path) -> bool:
    """It may be what an exchange took out, with an edit of that moment."""
    try:
        former = files.read_regular(orphan)
        current = files.read_regular(path) if path.exists() else b""
    except (OSError, ValueError):
        return True  # looked at again at the next start
    if not remains.is_missing_lines(current, former):
        return False
    kept = exchange.keep(orphan, files.real(path))
    logger.warning(
        "%s may lack lines: it was edited in the moment that ngrokd was killed. Mend: compare it "
        "with what it had, which is kept as %s, and add what is missing", path, kept,
    )  # fmt: skip
    return True
