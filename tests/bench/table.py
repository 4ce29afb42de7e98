"""The results as plain text. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from tests.bench.figures import PEERS, Figure, Goal, Raw, Row, median, rows

TITLE_WIDTH, CELL = 38, 9


def render(raw: Raw, ingress: str) -> str:
    """The table of what was measured against one ingress."""
    cells = "".join(f"{name:>{CELL}}" for name in ("ngrokd", *PEERS, "ratio"))
    head = f"{'ingress: ' + ingress:{TITLE_WIDTH}}{'':7}{cells}  to reach"
    return "\n".join([head, "-" * len(head), *map(_line, rows(raw)), "", *_shares(raw)])


def _line(row: Row) -> str:
    figure = row.figure
    numbers = "".join(_number(each, figure.digits) for each in (row.ours, *row.peers))
    verdict = {None: "", True: "ok", False: "missed"}[row.reached]
    goals = " and ".join(_goal(figure, goal) for goal in figure.goals)
    text = f"{figure.title:{TITLE_WIDTH}}{figure.unit:7}{numbers}{_number(row.ratio, 2)}"
    return f"{text}  {goals + ': ' + verdict if goals else ''}".rstrip()


def _number(value: Optional[float], digits: int) -> str:
    return f"{'-' if value is None else format(value, f',.{digits}f'):>{CELL}}"


def _goal(figure: Figure, goal: Goal) -> str:
    sign = ">=" if figure.more_is_better else "<="
    if goal.factor is not None:
        return f"{sign} {goal.factor:g} x{' ' + goal.named if goal.named else ''}"
    return f"{sign} {goal.limit:g} {figure.unit}".rstrip()


def _shares(raw: Raw) -> list[str]:
    """Who was busy. Where the ingress took a whole core, it was measured and not the proxy."""
    lines = []
    for workload, found in raw.items():
        parts: list[str] = []
        for name, rounds in found.items():
            ours, far = median(rounds, "cores"), median(rounds, "ingress_cores")
            if ours is not None and far is not None:
                parts.append(f"{name} {ours:.2f}+{far:.2f}{_resumed(median(rounds, 'resumed'))}")
        if parts:
            lines.append(f"  {workload:14}" + "   ".join(parts))
    return ["cores busy, proxy+ingress:", *lines] if lines else []


def _resumed(share: Optional[float]) -> str:
    return "" if share is None else f" ({share:.0%} resumed)"


def environment(lines: Sequence[tuple[str, str]]) -> str:
    """What ran where."""
    return "\n".join(f"{name + ':':10}{value}" for name, value in lines)
