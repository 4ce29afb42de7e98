"""The program that an init file names: where it is, and who could replace it."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ngrokd.errors import HostError

Runner = Callable[[Sequence[str]], str]  # the standard output; raises HostError

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
    for place, mode in _way_to(program):
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise HostError(
                f"everybody may write to {place}, and so become root by {program}: {_FOR_ALL}"
            )


def warnings(program: str) -> list[str]:
    """What should be known before root runs it at every boot."""
    found = []
    for place, _ in _way_to(program):
        owner = Path(place).stat().st_uid
        if owner != 0:
            found.append(
                f"{place} belongs to user {owner}, who could become root by replacing {program}; "
                f"{_FOR_ALL}"
            )
            break
    if program.startswith(("/tmp/", "/var/tmp/")):
        found.append(f"{program} is in a folder that is emptied at boot; {_FOR_ALL}")
    return found


def _way_to(program: str) -> Iterator[tuple[str, int]]:
    """The program, its interpreter's folder and all that leads there, with their modes."""
    seen = set()
    for start in (Path(program), Path(os.path.realpath(program)), _package()):
        for place in (start, *start.parents):
            if place not in seen:
                seen.add(place)
                yield str(place), place.stat().st_mode


def _package() -> Path:
    return Path(__file__).parent.parent
