"""The steps, one after the other, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ngrokd.errors import HostError, NgrokdError
from ngrokd.service.disk import Disk
from ngrokd.service.steps import (
    Act,
    Link,
    MakeFolder,
    Remove,
    RemoveFolder,
    Run,
    Say,
    Step,
    Sweep,
    Write,
    text_of,
)

Command = Callable[[Sequence[str]], object]  # runs it to its end; raises HostError


@dataclass(frozen=True)
class Tools:
    """What carries out a step, and who is told."""

    disk: Disk
    run: Command
    run_patiently: Command  # without a bound, on the terminal of who typed
    acts: Mapping[str, Callable[[], list[str]]]  # by the name of an `Act`; lines to tell
    tell: Callable[[str], None]
    warn: Callable[[str], None]


def show(steps: Sequence[Step], tools: Tools) -> None:
    """Every step as a line, and nothing else."""
    for step in steps:
        if isinstance(step, Say):
            (tools.warn if step.warning else tools.tell)(step.text)
        else:
            tools.tell(f"would {text_of(step)}")


def apply(steps: Sequence[Step], tools: Tools) -> None:
    """Does them in order, and tells each that is done. Raises NgrokdError at the first that fails.

    Run again, it goes on there: the steps are planned from what is there by then.
    """
    for step in steps:
        if isinstance(step, Say):
            (tools.warn if step.warning else tools.tell)(step.text)
            continue
        try:
            lines = _do(step, tools)
        except NgrokdError as exc:
            if not _is_optional(step):
                raise
            tools.warn(f"not done: {text_of(step)}: {exc}")
            continue
        for line in lines:
            tools.tell(line)


def _is_optional(step: Step) -> bool:
    return isinstance(step, (MakeFolder, Write, Link, Run)) and step.extra


def _do(step: Step, tools: Tools) -> list[str]:
    if isinstance(step, Act):
        return tools.acts[step.name]()
    if isinstance(step, RemoveFolder):
        if not tools.disk.is_folder(step.path):
            return []
        gone = tools.disk.remove_folder(step.path)
        return [f"removed folder {step.path}" if gone else f"{step.path} stays: it is not empty"]
    if isinstance(step, Run):
        return _run(step, tools)
    if isinstance(step, MakeFolder):
        tools.disk.make_folder(step.path, step.mode)
        return [f"made folder {step.path}"]
    if isinstance(step, Write):
        tools.disk.write(step.path, step.content, step.mode)
        return [f"wrote {step.path}"]
    if isinstance(step, Link):
        tools.disk.link(step.path, step.target)
        return [f"linked {step.path}"]
    if isinstance(step, Sweep):
        return [f"removed {path}" for path in tools.disk.sweep(step.path)]
    if isinstance(step, Remove):
        tools.disk.remove(step.path)
        return [f"removed {step.path}"]
    return []


def _run(step: Run, tools: Tools) -> list[str]:
    try:
        (tools.run_patiently if step.patient else tools.run)(step.argv)
    except HostError:
        if not step.harmless:
            raise
        return []
    return [f"ran {' '.join(step.argv)}"]
