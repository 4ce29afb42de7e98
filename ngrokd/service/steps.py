"""What is done to this machine, as data: it can be printed without being done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union


@dataclass(frozen=True)
class MakeFolder:
    """A folder that is not there yet. `extra`: as of a file."""

    path: str
    mode: int
    extra: bool = False


@dataclass(frozen=True)
class Write:
    """A file, as a whole. `extra`: that it cannot be written only is told."""

    path: str
    content: bytes
    mode: int
    extra: bool = False


@dataclass(frozen=True)
class Link:
    """A symbolic link. `extra`: as of a file."""

    path: str
    target: str
    extra: bool = False


@dataclass(frozen=True)
class Remove:
    """A file or a link."""

    path: str


@dataclass(frozen=True)
class Sweep:
    """What a run that was killed while it wrote this file left beside it."""

    path: str


@dataclass(frozen=True)
class RemoveFolder:
    """A folder, if it is empty by then."""

    path: str


@dataclass(frozen=True)
class Run:
    """A command. `patient`: it may take minutes. `harmless`: that it fails means nothing.

    `extra`: that it fails only is told.
    """

    argv: tuple[str, ...]
    patient: bool = False
    harmless: bool = False
    extra: bool = False


@dataclass(frozen=True)
class Act:
    """Something that another room of ngrokd does; `name` is what it is known by there."""

    name: str
    text: str  # "delete the operator ... at ngrok"


@dataclass(frozen=True)
class Say:
    """Nothing is done, and this is why. `warning`: it goes to standard error."""

    text: str
    warning: bool = False


Step = Union[MakeFolder, Write, Link, Remove, Sweep, RemoveFolder, Run, Act, Say]


def text_of(step: Step) -> str:
    """One line: `write /etc/init.d/ngrokd (mode 0755)`."""
    if isinstance(step, MakeFolder):
        return f"make folder {step.path} (mode {step.mode:04o})"
    if isinstance(step, Write):
        return f"write {step.path} (mode {step.mode:04o})"
    if isinstance(step, Link):
        return f"link {step.path} -> {step.target}"
    if isinstance(step, RemoveFolder):
        return f"remove folder {step.path} if it is empty"
    if isinstance(step, Remove):
        return f"remove {step.path}"
    if isinstance(step, Sweep):
        return f"remove what a killed run left beside {step.path}"
    if isinstance(step, Run):
        return f"run {' '.join(step.argv)}"
    return step.text
