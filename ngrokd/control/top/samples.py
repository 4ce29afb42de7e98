"""Two looks at a daemon, and what went through it between them. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional, Union, overload

from ngrokd.control.answers import at, number, text

Json = Mapping[str, object]


@dataclass(frozen=True)
class Sample:
    """What the daemon answered. `taken_at` in seconds of a clock that never goes back."""

    taken_at: float
    status: Json
    endpoints: Sequence[Json]


@dataclass(frozen=True)
class Outage:
    """No answer, and why. `seen_at` on the clock of the samples."""

    seen_at: float
    reason: str


@dataclass(frozen=True)
class Rates:
    """Bytes a second in both directions, None where it cannot be told."""

    up: Optional[float] = None
    down: Optional[float] = None

    @property
    def sum(self) -> float:
        """For sorting: what is not known is as good as nothing."""
        return (self.up or 0.0) + (self.down or 0.0)


UNKNOWN = Rates()


@dataclass(frozen=True)
class Row:
    """One endpoint. `key` tells it from others as long as it exists."""

    key: str
    endpoint: Json
    rates: Rates = UNKNOWN


class Rows(Sequence[Row]):
    """Those of one picture, which keep the order that was last made of them. Owner: main.

    Every key that is pressed asks for it, and of thousands it takes a tenth of a second to make.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._how: Hashable = None
        self._order: list[Row] = []

    def order(self, how: Hashable, make: Callable[[Sequence[Row]], list[Row]]) -> list[Row]:
        """What `make` makes of them, which `how` says all about; not None."""
        if how != self._how:
            self._how, self._order = how, make(self._rows)
        return self._order

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Row: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Row]: ...

    def __getitem__(self, at: Union[int, slice]) -> Union[Row, Sequence[Row]]:
        return self._rows[at]


@dataclass(frozen=True)
class Picture:
    """All that there is to show; `outage` is set while nothing newer comes."""

    sample: Sample
    rows: Sequence[Row]
    rates: Rates = UNKNOWN
    outage: Optional[Outage] = None

    @property
    def silent_s(self) -> float:
        """For how many seconds no answer has come."""
        return self.outage.seen_at - self.sample.taken_at if self.outage else 0.0


def first(sample: Sample) -> Picture:
    """From one sample no rate can be told."""
    return Picture(sample, [Row(_key(each), each) for each in sample.endpoints])


def following(before: Picture, sample: Sample) -> Picture:
    """The next picture. Counters that begin anew, with the daemon or alone, tell no rate."""
    if not _is_same_daemon(before.sample.status, sample.status):
        return first(sample)
    seconds = sample.taken_at - before.sample.taken_at
    known = {row.key: row.endpoint for row in before.rows}
    rows = []
    for endpoint in sample.endpoints:
        key = _key(endpoint)
        older = known.get(key)
        rates = UNKNOWN if older is None else _rates(older, endpoint, seconds)
        rows.append(Row(key, endpoint, rates))
    earlier, later = at(before.sample.status, "bytes"), at(sample.status, "bytes")
    total = Rates(
        _rate(number(earlier, "up"), number(later, "up"), seconds),
        _rate(number(earlier, "down"), number(later, "down"), seconds),
    )
    return Picture(sample, rows, total)


def interrupted(before: Picture, outage: Outage) -> Picture:
    """The last that is known, without rates: they would be told as if they went on."""
    rows = [dataclasses.replace(row, rates=UNKNOWN) for row in before.rows]
    return Picture(before.sample, rows, UNKNOWN, outage)


def still(picture: Picture, moment: float) -> Picture:
    """The same at a later moment: an outage has become longer."""
    if picture.outage is None:
        return picture
    outage = dataclasses.replace(picture.outage, seen_at=moment)
    return dataclasses.replace(picture, outage=outage)


def as_json(picture: Picture, rows: Sequence[Row]) -> dict[str, object]:
    """`ngrokctl top --json`: what `list` tells of each of `rows`, and the rates."""
    return {
        "status": dict(picture.sample.status),
        "rate_up": picture.rates.up,
        "rate_down": picture.rates.down,
        "endpoints": [
            {**row.endpoint, "rate_up": row.rates.up, "rate_down": row.rates.down} for row in rows
        ],
    }


def _is_same_daemon(before: Json, after: Json) -> bool:
    """Neither another process nor, as process 1 of another container, one that began later."""
    same_process = text(before, "pid") == text(after, "pid")
    return same_process and number(before, "uptime_s") <= number(after, "uptime_s")


def _rates(older: Json, newer: Json, seconds: float) -> Rates:
    return Rates(
        _rate(number(older, "bytes_up"), number(newer, "bytes_up"), seconds),
        _rate(number(older, "bytes_down"), number(newer, "bytes_down"), seconds),
    )


def _rate(before: float, after: float, seconds: float) -> Optional[float]:
    return (after - before) / seconds if seconds > 0 and after >= before else None


def _key(endpoint: Json) -> str:
    return f"{text(endpoint, 'id')} {text(endpoint, 'url')}"
