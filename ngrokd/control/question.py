"""Asks a person before something is done that cannot be undone."""

from __future__ import annotations

import sys

from ngrokd.errors import ControlError


def there_is_a_person() -> bool:
    """Without a terminal there is nobody to ask, and whoever wrote the script knew."""
    return sys.stdin is not None and sys.stdin.isatty()


def confirm(question: str) -> None:
    """Asks on the terminal. ControlError: the answer is not yes."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ControlError("not_confirmed", "nothing was changed")
