"""The program that an init file names: where it is, and who could replace it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ngrokd.errors import HostError
from ngrokd.service import trust
from ngrokd.service.trust import Threat

Runner = Callable[[Sequence[str]], str]  # the standard output; raises HostError

_MAX_SCRIPTS, _MAX_LINE = 4, 256  # as the kernel
_FOR_ALL = "install it where only root writes: `make install`, or pip into a venv below /opt"


def argv(words: Sequence[str] = ()) -> tuple[str, ...]:
    """How this ngrokd was started, to start another one; `words`: sys.argv."""
    first = Path((words or sys.argv)[0]).absolute()
    if first.name == "__main__.py":
        return (sys.executable, "-m", "ngrokd")
    if os.access(first, os.X_OK):
        return (str(first),)
    return (sys.executable, str(first))


def path(words: Sequence[str] = ()) -> str:
    """The program for an init file. Raises HostError: there is none that could stand there."""
    started = argv(words)
    beside = Path(sys.executable).with_name("ngrokd")  # of the venv that ours runs in
    is_script = len(started) == 1 and not started[0].endswith(".py")
    if not is_script and os.access(beside, os.X_OK):
        return str(beside)
    if len(started) == 1:
        return started[0]
    raise HostError(f"there is no program ngrokd that an init file could name: {_FOR_ALL}")


def check(program: str, run: Runner) -> None:
    """Raises HostError: it does not run as a service would be, or anybody could replace it."""
    try:
        said = run((program, "--version"))
    except HostError as exc:
        raise HostError(f"{program} does not run by itself ({exc}): {_FOR_ALL}") from exc
    if not said.startswith("ngrokd "):
        raise HostError(f"{program} is not ngrokd: it says {said[:60]!r}")
    for threat in _threats(program):
        if threat.everybody:
            raise HostError(
                f"everybody may write to {threat.place}, and so become root by {program}: "
                f"{_FOR_ALL}"
            )


def warnings(program: str) -> list[str]:
    """What should be known before root runs it at every boot."""
    found = []
    for threat in _threats(program)[:1]:
        does = "belongs to" if threat.owner else "may be written to by"
        found.append(
            f"{threat.place} {does} {threat.who}, who could become root by replacing {program}; "
            f"{_FOR_ALL}"
        )
    if program.startswith(("/tmp/", "/var/tmp/")):
        found.append(f"{program} is in a folder that is emptied at boot; {_FOR_ALL}")
    return found


def _threats(program: str) -> list[Threat]:
    """Of the program, of what interprets it, and of the package that it runs."""
    started = (program, *_interpreters(program), sys.executable, str(Path(__file__).parent.parent))
    return [threat for path in dict.fromkeys(started) for threat in trust.threats(path)]


def _interpreters(program: str) -> Iterator[str]:
    """`#!/usr/bin/env NAME` is followed to what env runs, and a script to its own interpreter."""
    for _ in range(_MAX_SCRIPTS):
        words = _shebang(program)
        if not words:
            return
        yield words[0]
        if words[0].rpartition("/")[2] == "env":
            named = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
            found = shutil.which(named[0]) if named else None
            if found is None:
                return
            yield found
            words = [found]
        program = words[0]


def _shebang(program: str) -> list[str]:
    with contextlib.suppress(OSError), Path(program).open("rb") as file:
        line = file.readline(_MAX_LINE)
        if line.startswith(b"#!"):
            return os.fsdecode(line[2:]).split()
    return []
