"""What colour may say on a terminal, and that it is no more than an addition. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Tone(Enum):
    """How a piece of text stands out, with its codes of ECMA-48, 8.3.117."""

    PLAIN = ""
    TITLE = "1"  # bold
    GOOD = "32"  # green
    WARN = "33"  # yellow
    BAD = "31"  # red
    FAINT = "2"  # there, and of little interest
    CHOSEN = "7"  # reversed: the line that keys act on


ENDPOINTS = {"open": Tone.GOOD, "failed": Tone.BAD, "skipped": Tone.FAINT}
_DAEMON = {"ready": Tone.GOOD}
_MONOCHROME = ("", "dumb", "unknown")


def of_endpoint(state: str) -> Tone:
    """The tone of an endpoint's state."""
    return ENDPOINTS.get(state, Tone.PLAIN)


def of_daemon(state: str) -> Tone:
    """The tone of the daemon's state: whatever is not simply ready wants a look."""
    return _DAEMON.get(state, Tone.WARN)


def painted(text: str, tone: Tone) -> str:
    """With the codes that a terminal takes."""
    return f"\x1b[{tone.value}m{text}\x1b[0m" if tone.value else text


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether a terminal is to be given colours: https://no-color.org, and terminals of one."""
    term = environ.get("TERM", "")
    return not environ.get("NO_COLOR") and term not in _MONOCHROME and not term.startswith("vt")
