"""Exceptions that are kept."""

from __future__ import annotations

from typing import TypeVar

Fault = TypeVar("Fault", bound=BaseException)


def bare(fault: Fault) -> Fault:
    """`fault` without the way it came, which would keep everything it passed in a cycle.

    A connection is freed when it ends, not at some time by the garbage collector.
    """
    fault.__context__ = fault.__cause__ = None
    return fault.with_traceback(None)
