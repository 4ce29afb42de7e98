"""Asks a person before something is done that is not to be done by mistake."""

from __future__ import annotations

import sys


def somebody_is_there() -> bool:
    """Standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def agreed(question: str, *details: str) -> bool:
    """Whether a person says yes. Without a terminal there is nobody to ask, and whoever wrote the
    script has decided."""
    if not somebody_is_there():
        return True
    sys.stderr.write("".join(f"{line}\n" for line in details) + f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
