"""Roff, as far as the templates of the manual pages use it, as Markdown. Pure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

WIDTH = 100

_FONTS = {".B": "B", ".I": "I", ".BR": "BR", ".RB": "RB", ".IR": "IR", ".RI": "RI"}
_GLYPHS = {
    r"\(aq": "'",
    r"\(dq": '"',
    r"\(ga": "`",
    r"\(ha": "^",
    r"\(ti": "~",
    r"\-": "-",
    r"\&": "",
    r"\ ": " ",
    r"\e": "\\",
}
_GLYPH = re.compile("|".join(map(re.escape, _GLYPHS)))
# In quotes, or up to a space that no backslash stands before.
_ARGUMENT = re.compile(r'"([^"]*)"|((?:\\ |[^ ])+)')
_INLINE = re.compile(r"\\f([BI])(.*?)\\f[RP]")


def text(lines: list[str]) -> str:
    """Paragraphs, lists and examples; what the lines ask a generator for (`@...`) is left out."""
    blocks: list[str] = []
    words: list[str] = []
    given = iter(lines)
    tag = ""

    def close() -> None:
        nonlocal tag
        if words:
            blocks.append(wrapped(f"- {tag}: " if tag else "", " ".join(words)))
        words.clear()
        tag = ""

    for line in given:
        if line in (".IP", ".PP"):
            close()
        elif line == ".TP":
            close()
            tag = _line(next(given))
        elif line == ".EX":
            close()
            blocks.append("\n".join(["```sh", *_example(given), "```"]))
        elif line.split(" ")[0] in (".RS", ".RE") or line.startswith("@"):
            continue
        else:
            words.append(_line(line))
    close()
    return re.sub(r"(?m)^(- .*(?:\n  .*)*)\n\n(?=- )", r"\1\n", "\n\n".join(blocks))


def wrapped(before: str, words: str) -> str:
    """A paragraph, or an item of a list if there is something `before` its words."""
    return textwrap.fill(
        before + words,
        WIDTH,
        subsequent_indent=" " * min(len(before), 2),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _example(given: Iterator[str]) -> Iterator[str]:
    for line in given:
        if line == ".EE":
            return
        yield _plain(line)


def _line(line: str) -> str:
    """A line of text, or a macro that sets its arguments in turns of two fonts."""
    macro, _, rest = line.partition(" ")
    if macro not in _FONTS:
        return _inline(line)
    fonts = _FONTS[macro]
    if len(fonts) == 1:
        return _set(fonts, _plain(rest.strip('"')))
    words = [quoted or word for quoted, word in _ARGUMENT.findall(rest)]
    # A font of its own within such a word: `\fItext\fP`.
    inner = [re.sub(r"\\f[A-Z]", "", word) for word in words]
    return "".join(_set(fonts[n % 2], _plain(word)) for n, word in enumerate(inner))


def _inline(line: str) -> str:
    shown = _INLINE.sub(lambda found: _set(found[1], found[2]), line)
    return _plain(shown)


def _set(font: str, words: str) -> str:
    """What is typed as it stands, and names of files, are code in Markdown."""
    return words if font == "R" or not words else f"`{words}`"


def _plain(words: str) -> str:
    return _GLYPH.sub(lambda found: _GLYPHS[found[0]], words)
