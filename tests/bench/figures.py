"""The figures of the table: what they are made of, and what is to be reached. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

Rounds = Sequence[Mapping[str, float]]  # each a number by name
ByProxy = Mapping[str, Rounds]
Raw = Mapping[str, ByProxy]  # by workload

OURS, PEERS = "ngrokd", ("haproxy", "stunnel")
COLD = "ngrokd-off"


@dataclass(frozen=True)
class Goal:
    """What the daemon's figure is held against: `factor` times the peers' better one, or `limit`.

    `named`: against this peer rather than the better one.
    """

    factor: Optional[float] = None
    limit: Optional[float] = None
    named: str = ""


@dataclass(frozen=True)
class Figure:
    """A row of the table: one number of one workload."""

    title: str
    unit: str
    workload: str
    number: str
    more_is_better: bool = False
    goals: tuple[Goal, ...] = ()
    ours: str = OURS
    digits: int = 2


@dataclass(frozen=True)
class Row:
    """A figure with its medians. `reached` None: nothing is asked of it."""

    figure: Figure
    ours: Optional[float]
    peers: tuple[Optional[float], ...]
    ratio: Optional[float]
    reached: Optional[bool]


def _bulk(
    workload: str, title: str, throughput: tuple[Goal, ...], cpu: tuple[Goal, ...]
) -> list[Figure]:
    return [
        Figure(title, "Gbit/s", workload, "gbit_s", True, throughput),
        Figure(f"{title}, CPU", "s/GiB", workload, "cpu_s_gib", False, cpu),
    ]


_FASTER, _CHEAPER = (Goal(factor=1.25),), (Goal(factor=0.75),)
_PROMPT, _SMALL = (Goal(limit=10.0),), (Goal(limit=30.0),)
_LEAN = (Goal(limit=40.0), Goal(factor=1.0, named="haproxy"))

FIGURES = (
    *_bulk("one-up", "one stream up", _FASTER, _CHEAPER),
    *_bulk("one-down", "one stream down", _FASTER, _CHEAPER),
    *_bulk("sixteen-up", "16 streams up", (), _CHEAPER),
    *_bulk("sixteen-down", "16 streams down", (), _CHEAPER),
    Figure("new connection, 1 worker, cold, p50", "ms", "latency", "p50_ms", ours=COLD),
    Figure(
        "new connection, 1 worker, warm, p50", "ms", "latency", "p50_ms", goals=(Goal(factor=0.4),)
    ),
    Figure("the same 50 ms away, cold, p50", "ms", "distant", "p50_ms", ours=COLD, digits=1),
    Figure("the same 50 ms away, warm, p50", "ms", "distant", "p50_ms", digits=1),
    Figure("  in round trips, cold", "", "distant", "round_trips", ours=COLD),
    # Two round trips and what the machines themselves take.
    Figure("  in round trips, warm", "", "distant", "round_trips", goals=(Goal(limit=2.1),)),
    Figure(
        "new connections, 8 workers", "1/s", "connect", "per_s", True, (Goal(factor=0.9),), digits=0
    ),
    Figure("  CPU each", "ms", "connect", "cpu_ms", goals=(Goal(factor=1.1),)),
    Figure("  p50", "ms", "connect", "p50_ms"),
    Figure("  p99", "ms", "connect", "p99_ms"),
    Figure(
        "keep-alive requests, 8 workers",
        *("1/s", "keepalive", "per_s", True, (Goal(factor=0.85),)),
        digits=0,
    ),
    Figure("  CPU each", "us", "keepalive", "cpu_us", goals=(Goal(factor=1.3),), digits=1),
    Figure("  p50", "us", "keepalive", "p50_us", digits=0),
    Figure("  p99", "us", "keepalive", "p99_us", digits=0),
    Figure("request beside a download, p99", "ms", "beside-down", "p99_ms", goals=_PROMPT),
    Figure("request beside an upload, p99", "ms", "beside-up", "p99_ms", goals=_PROMPT),
    Figure("memory at rest, RSS", "MB", "memory", "rest_rss_mb", goals=_SMALL, digits=1),
    *(
        Figure(
            f"idle connection, of {count}, {kind.upper()}",
            "KB",
            "memory",
            f"{kind}_kb_{count}",
            goals=_LEAN,
            digits=1,
        )
        for count in (1000, 5000)
        for kind in ("rss", "pss")
    ),
)


def median(rounds: Optional[Rounds], number: str) -> Optional[float]:
    """Of those rounds that have the number."""
    values = [each[number] for each in rounds or () if number in each]
    return statistics.median(values) if values else None


def rows(raw: Raw, figures: Sequence[Figure] = FIGURES) -> list[Row]:
    """Of what was measured."""
    return [_row(figure, raw[figure.workload]) for figure in figures if figure.workload in raw]


def _row(figure: Figure, found: ByProxy) -> Row:
    ours = median(found.get(figure.ours), figure.number)
    peers = {name: median(found.get(name), figure.number) for name in PEERS}
    verdicts = [_reached(figure, goal, ours, found) for goal in figure.goals]
    known = [each for each in verdicts if each is not None]
    return Row(
        figure, ours, tuple(peers.values()), ratio(figure, found), all(known) if known else None
    )


def ratio(figure: Figure, found: ByProxy, peer: str = "") -> Optional[float]:
    """The daemon's to the better peer's, or to `peer`'s: the median of the rounds' own ratios.

    A round's measurements are neighbours in time, so that what the machine does besides is much
    the same for them. The better peer is the one with the better median, in every round.
    """
    other = peer or _better_peer(figure, found)
    if other is None:
        return None
    pairs = zip(found.get(figure.ours, ()), found.get(other, ()))
    ratios = [
        ours[figure.number] / theirs[figure.number]
        for ours, theirs in pairs
        if figure.number in ours and theirs.get(figure.number)
    ]
    return statistics.median(ratios) if ratios else None


def _better_peer(figure: Figure, found: ByProxy) -> Optional[str]:
    medians = {name: median(found.get(name), figure.number) for name in PEERS}
    known = {name: value for name, value in medians.items() if value is not None}
    if not known:
        return None
    return (max if figure.more_is_better else min)(known, key=lambda name: known[name])


def _reached(
    figure: Figure,
    goal: Goal,
    ours: Optional[float],
    found: ByProxy,
) -> Optional[bool]:
    """None: that cannot be told without the other."""
    value, wanted = ours, goal.limit
    if goal.factor is not None:
        value, wanted = ratio(figure, found, goal.named), goal.factor
    if value is None or wanted is None:
        return None
    return value >= wanted if figure.more_is_better else value <= wanted
