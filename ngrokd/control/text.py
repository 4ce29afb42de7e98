"""Plain text for terminals: aligned columns, sizes, times. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

GAP = "  "
INDENT = "    "
ABSENT = "-"


@dataclass(frozen=True)
class Column:
    """A column of a table. Where the width is short, those with the highest `optional` go first."""

    title: str
    right: bool = False
    optional: int = 0  # 0: never left out


def clean(text: str) -> str:
    """Names and reasons come from the network: their control characters reach no terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: Optional[int]
) -> list[str]:
    """One line for the titles and one for each row; None: as wide as it gets."""
    cells = [[column.title for column in columns], *([clean(cell) for cell in r] for r in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    shown = list(range(len(columns)))
    while width is not None and sum(widths[i] + len(GAP) for i in shown) - len(GAP) > width:
        droppable = [i for i in shown if columns[i].optional]
        if not droppable:
            break
        shown.remove(max(droppable, key=lambda i: columns[i].optional))
    return [
        GAP.join(
            row[i].rjust(widths[i]) if columns[i].right else row[i].ljust(widths[i]) for i in shown
        ).rstrip()
        for row in cells
    ]


def pairs(lines: Iterable[tuple[str, str]]) -> list[str]:
    """`name   value` lines; those without a value are left out."""
    kept = [(name, value) for name, value in lines if value]
    widest = max((len(name) for name, _ in kept), default=0)
    return [f"{name.ljust(widest)}{GAP}{clean(value)}" for name, value in kept]


def note(text: str, width: Optional[int]) -> list[str]:
    """An indented remark, wrapped at the terminal's width but never inside a word."""
    if width is None:
        return [INDENT + clean(text)]
    return textwrap.wrap(
        clean(text),
        max(20, width),
        initial_indent=INDENT,
        subsequent_indent=INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


def size(count: float) -> str:
    """Bytes in powers of 1024: `0 B`, `1.5 KiB`, `30 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    digits = 1 if unit != "B" and count < 10 else 0
    return f"{count:.{digits}f} {unit}"


def span(seconds: float) -> str:
    """A length of time in its two largest units: `12 s`, `3 min 5 s`, `2 h 7 min`, `4 d 1 h`."""
    whole = int(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def count(number: int, one: str) -> str:
    """`1 endpoint`, `3 endpoints`."""
    return f"{number} {one}" if number == 1 else f"{number} {one}s"
