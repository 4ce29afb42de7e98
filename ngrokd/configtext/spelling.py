"""What somebody may have meant to write."""

from __future__ import annotations

from collections.abc import Iterable

_LOOKED_AT_CHARACTERS = 60  # comparing takes time with the square of the length


def closest(word: str, known: Iterable[str]) -> str:
    """The known word that is most like this one, "" if none is like it."""
    import difflib  # 0.2 MB that only a mistake needs

    return next(iter(difflib.get_close_matches(word[:_LOOKED_AT_CHARACTERS], known, n=1)), "")
