"""The numbers of a command line, each checked as argparse has it."""

from __future__ import annotations

import argparse
import contextlib
import math

LEAST_INTERVAL_S = 0.5  # between two frames of `top`


def whole(word: str) -> int:
    """`3`. Raises ArgumentTypeError, as all of these do."""
    with contextlib.suppress(ValueError):  # argparse's own message would name this function
        if int(word) >= 0:
            return int(word)
    raise argparse.ArgumentTypeError(f"{word!r} is not a whole number from 0")


def seconds(word: str) -> float:
    """`1.5`, and no number that a wait cannot take."""
    with contextlib.suppress(ValueError):
        if 0 <= float(word) < math.inf:
            return float(word)
    raise argparse.ArgumentTypeError(f"{word!r} is not a number of seconds from 0")


def interval(word: str) -> float:
    """Seconds between two frames."""
    length = seconds(word)
    if length < LEAST_INTERVAL_S:
        raise argparse.ArgumentTypeError(f"{word!r} is less than {LEAST_INTERVAL_S:g} seconds")
    return length
