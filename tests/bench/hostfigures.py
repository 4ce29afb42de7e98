"""What the host side costs with thousands of endpoints: rows, and what is to be reached. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

Numbers = Mapping[str, float]
Found = Mapping[int, Sequence[Numbers]]  # by number of endpoints: what each round measured

TITLE_WIDTH, CELL = 44, 9


@dataclass(frozen=True)
class HostFigure:
    """A row. `goals`: the most it may be, by number of endpoints."""

    title: str
    unit: str
    number: str
    goals: Mapping[int, float] = field(default_factory=dict)
    digits: int = 2
    linear: bool = False  # it may grow as the number of endpoints does, and no faster


# Growth is held against what is measured on a machine that others use too.
LINEAR_SLACK = 1.15

_STARTED = {2000: 1.2, 8000: 5.0}

HOST_FIGURES = (
    HostFigure("start to all names, a new machine", "s", "new_s", _STARTED, linear=True),
    HostFigure("  CPU of ngrokd, programs it runs too", "s", "new_cpu_s"),
    HostFigure("  CPU of the stand-in cloud", "s", "new_cloud_s"),
    HostFigure("  after the last page's answer", "s", "new_after_s"),
    HostFigure("start to all names, a registered one", "s", "known_s", _STARTED, linear=True),
    HostFigure("  CPU of ngrokd, programs it runs too", "s", "known_cpu_s"),
    HostFigure("  CPU of the stand-in cloud", "s", "known_cloud_s"),
    HostFigure("start to all names, without an answer", "s", "again_s", _STARTED, linear=True),
    HostFigure("  CPU of ngrokd, programs it runs too", "s", "again_cpu_s"),
    HostFigure("one more: from the answer to its name", "ms", "one_more_ms", {8000: 300}, 0),
    HostFigure("unchanged poll, CPU", "ms", "poll_cpu_ms", {8000: 100}, 0),
    HostFigure("  asking, reading, comparing (pool)", "ms", "poll_pool_ms", digits=0),
    HostFigure("  judging and applying (main)", "ms", "poll_main_ms", digits=0),
    HostFigure("  programs it runs", "ms", "poll_children_ms", digits=0),
    HostFigure("  CPU of the stand-in cloud", "ms", "poll_cloud_ms", digits=0),
    HostFigure("  files written", "", "poll_writes", {8000: 0}, 0),
    HostFigure("  programs started", "", "poll_programs", {8000: 0}, 0),
    HostFigure("memory at rest, RSS", "MB", "rss_mb", {8000: 90}, 1),
    HostFigure("stop", "s", "stop_s", {8000: 3}),
)


def render(found: Found, figures: Sequence[HostFigure] = HOST_FIGURES) -> str:
    """The table."""
    cells = "".join(f"{size:>{CELL},}" for size in found)
    head = f"{'endpoints':{TITLE_WIDTH}}{'':4}{cells}{'growth':>{CELL}}  to reach"
    return "\n".join([head, "-" * len(head), *(_line(figure, found) for figure in figures)])


def median(found: Found, size: int, number: str) -> Optional[float]:
    """Of those rounds that have the number."""
    values = [each[number] for each in found.get(size, ()) if number in each]
    return statistics.median(values) if values else None


def growth(found: Found, number: str) -> Optional[float]:
    """From the fewest endpoints to the most: 1 is linear, less is better."""
    least, most = min(found), max(found)
    small, large = median(found, least, number), median(found, most, number)
    if least == most or not small or large is None:
        return None
    return large / small / (most / least)


def verdicts(figure: HostFigure, found: Found) -> list[tuple[str, bool]]:
    """What was to be reached, and whether it was."""
    told = []
    for size, most in figure.goals.items():
        value = median(found, size, figure.number)
        if value is not None:
            told.append((f"{size:,}: <= {most:g} {figure.unit}".rstrip(), value <= most))
    grown = growth(found, figure.number) if figure.linear else None
    if grown is not None:
        told.append(("linear", grown <= LINEAR_SLACK))
    return told


def _line(figure: HostFigure, found: Found) -> str:
    values = [median(found, size, figure.number) for size in found]
    numbers = "".join(_number(value, figure.digits) for value in values)
    goals = "; ".join(f"{text}: {'ok' if ok else 'missed'}" for text, ok in verdicts(figure, found))
    grown = _number(growth(found, figure.number), 2)
    return f"{figure.title:{TITLE_WIDTH}}{figure.unit:4}{numbers}{grown}  {goals}".rstrip()


def _number(value: Optional[float], digits: int) -> str:
    return f"{'-' if value is None else format(value, f',.{digits}f'):>{CELL}}"
