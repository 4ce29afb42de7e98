"""Tells who typed a command, whoever reads it or no longer does."""

from __future__ import annotations

import os
import sys


def say(text: str) -> None:
    """A line; that it cannot be written is no reason to stop half-way."""
    try:
        sys.stdout.write(f"{text}\n")
    except OSError as exc:
        give_up(exc)
    flush()


def flush() -> None:
    """Writes what was said, as Python does at its exit, where it would fail with a traceback."""
    try:
        sys.stdout.flush()
    except OSError as exc:
        give_up(exc)


def complain(text: str) -> None:
    """A line that is not to be lost in a pipe."""
    flush()
    sys.stderr.write(f"{text}\n")


def give_up(why: OSError) -> None:
    """The rest goes nowhere. That a reader has seen enough, as with `| head`, is no news."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(why, BrokenPipeError):
        sys.stderr.write(f"ngrokd: cannot write the answer: {why.strerror or why}\n")
