"""Plain text for terminals: aligned columns, sizes, times. Pure."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

GAP = "  "
INDENT = "    "
ABSENT = "-"
ELLIPSIS = "…"
PLAIN_ELLIPSIS = "~"  # of the same width, for what knows only ASCII

LEAST_VALUE = 20  # places; in fewer, a value is not broken into lines beside its name


@dataclass(frozen=True)
class Column:
    """A column of a table. Where the width is short, all with the highest `optional` go first.

    Then what is longer than `least` places is cut, and if that is not enough, `last` ones go too.
    What needs more than `enough` places has no other column left out for it. `paint` may add what
    takes no place.
    """

    title: str
    right: bool = False
    optional: int = 0  # 0: never left out
    least: int = 0  # 0: never cut
    enough: int = 0  # 0: all that it needs
    last: bool = False
    paint: Optional[Callable[[str], str]] = None


def clean(text: str) -> str:
    """Names and reasons come from the network: their control characters reach no terminal."""
    if text.isprintable():  # as nearly all, and there are thousands of names
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def places(text: str) -> int:
    """How many places of a terminal it takes: some letters take two, and accents on others none."""
    if text.isascii():
        return len(text)
    return sum(map(_places, text))


def cut(text: str, width: int) -> str:
    """The beginning of what is longer than `width` places, with an ellipsis."""
    if places(text) <= width:
        return text
    kept, room = "", width - len(ELLIPSIS)
    for letter in text:
        room -= _places(letter)
        if room < 0:
            break
        kept += letter
    return kept + ELLIPSIS if width > 0 else ""


def padded(text: str, width: int, right: bool = False) -> str:
    """Filled up with spaces to `width` places, before it or after it."""
    spaces = " " * (width - places(text))
    return spaces + text if right else text + spaces


def showable(text: str, encoding: Optional[str]) -> str:
    """With another sign for the ellipsis where `encoding` has none; the rest has escapes there."""
    try:
        ELLIPSIS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return text.replace(ELLIPSIS, PLAIN_ELLIPSIS)
    return text


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: Optional[int]
) -> list[str]:
    """One line for the titles and one for each row; None: as wide as it gets."""
    cells = [[column.title for column in columns], *([clean(cell) for cell in r] for r in rows)]
    widths = [max(places(row[i]) for row in cells) for i in range(len(columns))]
    shown = list(range(len(columns)))
    if width is not None:
        _fit(columns, widths, shown, width)
    lines = []
    for row in cells:
        line = [padded(cut(row[i], widths[i]), widths[i], columns[i].right) for i in shown]
        whole = GAP.join(line).rstrip()
        if width is not None and places(whole) > width:
            lines.append(cut(whole, width))
        elif row is cells[0]:
            lines.append(whole)
        else:
            painted = [_painted(cell, columns[i]) for cell, i in zip(line, shown)]
            lines.append(GAP.join(painted).rstrip())
    return lines


def _fit(columns: Sequence[Column], widths: list[int], shown: list[int], width: int) -> None:
    """Leaves columns out of `shown`, then cuts their `widths`, until a line has `width` places."""

    def missing(limits: Sequence[int]) -> int:
        each = (min(widths[i], limits[i] or widths[i]) + len(GAP) for i in shown)
        return sum(each) - len(GAP) - width

    enough, least = [c.enough for c in columns], [c.least for c in columns]
    while missing(enough) > 0:
        least_wanted = max(columns[i].optional for i in shown)
        if not least_wanted:
            break
        shown[:] = [i for i in shown if columns[i].optional != least_wanted]
    if missing(least) > 0:
        shown[:] = [i for i in shown if not columns[i].last]
    for i in shown:
        if least[i] and missing(widths) > 0:
            widths[i] = min(widths[i], max(least[i], widths[i] - missing(widths)))


def _painted(cell: str, column: Column) -> str:
    word = cell.strip()
    return cell.replace(word, column.paint(word), 1) if column.paint and word else cell


def _places(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in ("W", "F") else 1


def pairs(lines: Iterable[tuple[str, str]], width: Optional[int] = None) -> list[str]:
    """`name   value` lines; those without a value are left out.

    A value that is longer than the terminal is wide goes on below itself.
    """
    kept = [(name, clean(value)) for name, value in lines if value]
    widest = max((len(name) for name, _ in kept), default=0)
    room = None if width is None else max(LEAST_VALUE, width - widest - len(GAP))
    told = []
    for name, value in kept:
        first, *rest = [value] if room is None else _wrapped(value, room)
        told.append(f"{name.ljust(widest)}{GAP}{first}")
        told += [" " * widest + GAP + line for line in rest]
    return told


def _wrapped(text: str, width: int) -> list[str]:
    """Lines; no word is broken, since people copy it."""
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return lines or [text]


def note(text: str, width: Optional[int]) -> list[str]:
    """An indented remark, wrapped at the terminal's width but never inside a word."""
    if width is None:
        return [INDENT + clean(text)]
    room = max(LEAST_VALUE, width) - len(INDENT)
    return [INDENT + line for line in _wrapped(clean(text), room)]


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


def age(seconds: float) -> str:
    """A length of time in its largest unit, at most 6 letters of it: `12 s`, `59 min`, `4 d`."""
    whole = int(max(0.0, seconds))
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if whole >= length:
            return f"{whole // length} {unit}"
    return f"{whole} s"
