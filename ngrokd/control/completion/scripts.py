"""The completion scripts of both programs; loaded only by `ngrokctl completion`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ngrokd.control.arguments import Arguments
from ngrokd.control.completion import bash, fish, zsh
from ngrokd.control.completion.daemon import NGROKD
from ngrokd.control.completion.grammar import Program, program

SHELLS: Mapping[str, Callable[[Sequence[Program]], str]] = {
    "bash": bash.script,
    "zsh": zsh.script,
    "fish": fish.script,
}


def script(shell: str) -> str:
    """What `shell` sources to complete the arguments of ngrokd and ngrokctl."""
    return SHELLS[shell]((NGROKD, program(Arguments().parser)))
