"""Text as the roff of a manual page. Pure."""

from __future__ import annotations

import re

# A quotation mark would end a macro's argument, the others become typographic or vanish.
_GLYPHS = {
    "\\": r"\e",
    "-": r"\-",
    "'": r"\(aq",
    '"': r"\(dq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
}
_SENTENCE_END = re.compile(r"(?<=[.?!]) +(?=\S)")


def literal(text: str) -> str:
    """Characters as they are, to be used inside a line; line ends become spaces."""
    flat = re.sub(r"\s+", " ", text)
    return "".join(_GLYPHS.get(char, char) for char in flat if char == " " or char.isprintable())


def line(text: str) -> str:
    """A whole line of escaped text: what begins like a request is none."""
    return rf"\&{text}" if text.startswith((".", "'")) else text


def paragraph(text: str) -> str:
    """Words with `code` in them, a sentence a line."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one mark stands alone
        return "\n".join(line(part) for part in _SENTENCE_END.split(literal(text.strip())))
    shown = (bold(part) if odd else literal(part) for odd, part in _alternating(parts))
    return "\n".join(line(part) for part in _SENTENCE_END.split("".join(shown).strip()))


def preformatted(text: str) -> str:
    """Lines that stay as they are."""
    shown = (line(_spaced(part)) for part in text.rstrip("\n").split("\n"))
    return "\n".join([".nf", *shown, ".fi"])


def bold(text: str) -> str:
    """What is typed as it stands."""
    return rf"\fB{literal(text)}\fR"


def italic(text: str) -> str:
    """What is replaced by something else."""
    return rf"\fI{literal(text)}\fR"


def tagged(tag: str, *bodies: str) -> str:
    """An entry of a list; later bodies are paragraphs of their own. All of them are roff."""
    first, *rest = bodies or (r"\&",)
    return "\n".join([".TP", line(tag), first, *(f".IP\n{body}" for body in rest)])


def _spaced(text: str) -> str:
    return "".join(_GLYPHS.get(char, char) for char in text if char.isprintable())


def _alternating(parts: list[str]) -> list[tuple[bool, str]]:
    return [(index % 2 == 1, part) for index, part in enumerate(parts)]
