"""Many commands as one script for `sh`, some at a time, and what its answer means. Pure.

For programs that take one address at a time: to start thousands of them takes a process of ours
six times as long.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

ARGV = ["/bin/sh", "-s"]

LANES = 4  # so many run at a time; more only wait for the kernel's lock on the interface

_FAILED = re.compile(r"Command failed -:([0-9]+) ?(.*)")


def script(commands: Sequence[Sequence[str]]) -> str:
    """Runs them all, whatever becomes of each, while whoever started it lives."""
    lanes = [
        "".join(_line(number, commands[number]) for number in range(lane, len(commands), LANES))
        for lane in range(min(LANES, len(commands)))
    ]
    return "".join(f"(\n{lane}) &\n" for lane in lanes) + "wait\n"


def failures(complaint: str) -> dict[int, str]:
    """Index of each command that failed, with the reason, from what the script complained of."""
    found = (_FAILED.fullmatch(line) for line in complaint.splitlines())
    return {int(one[1]): one[2].strip() or "refused" for one in found if one}


def _line(number: int, argv: Sequence[str]) -> str:
    # `printf` writes the line at once, so none of another lane can come into its middle.
    failed = f"printf '%s\\n' \"Command failed -:{number} $said\""
    # A killed daemon's script would go on behind the back of who cleans up after it.
    return f"kill -0 $PPID || exit\nsaid=$({shlex.join(argv)} 2>&1) || {failed}\n"
