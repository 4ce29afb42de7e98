"""`sh -s` of macOS, as far as ngrokd's scripts need one: lanes of commands that tell what fails."""

from __future__ import annotations

import re
import shlex
from typing import Callable

WHILE_ITS_PARENT_LIVES = "kill -0 $PPID || exit"
_LINE = re.compile(
    r"said=\$\((?P<line>.*) 2>&1\) \|\| printf '%s\\n' \"(?P<text>[^\"$]*)\$said\"")


def run(script: str, execute: Callable[[list[str]], tuple[int, str]]) -> str:
    """Its standard output. `execute` gives the status of a command and what it said.

    The lanes take turns. Fails on a line of any other form.
    """
    lanes: list[list[str]] = []
    *body, last = script.splitlines()
    assert last == "wait", "the script must wait for its lanes"
    for line in body:
        if line == "(":
            lanes.append([])
        elif line not in (") &", WHILE_ITS_PARENT_LIVES):
            lanes[-1].append(line)
    said = ""
    while any(lanes):
        for lane in filter(None, lanes):
            found = _LINE.fullmatch(lane.pop(0))
            assert found, "sh runs it, and this one does not know it"
            status, output = execute(shlex.split(found["line"]))
            if status:
                text = output.rstrip("\n")
                said += f"{found['text']}{text}\n"
    return said
