"""Which number of a range belongs to which name, for as long as the name is known. Pure.

Addresses and network ports are given out by the same rule: a name keeps its number over restarts
and absences; a new name gets the lowest number nobody ever had; only when none is left does it get
the number of the name that has been gone longest. How long a name is gone is kept as the *order*
of the remembered mapping, gone names first, so it survives in a plain `{"name": number}` file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass


@dataclass(frozen=True)
class Slots:
    """The numbers that may be given out: those of `numbers` that are not `unusable`."""

    numbers: range
    unusable: Set[int] = frozenset()
    kept: Collection[str] = ()  # names that keep their number however long they are gone

    def holds(self, number: int) -> bool:
        """It may be given out."""
        return number in self.numbers and number not in self.unusable


@dataclass(frozen=True)
class Shares:
    """`given`: of the names asked for. `remembered`: of all, gone names first."""

    given: Mapping[str, int]
    remembered: Mapping[str, int]
    left_out: tuple[str, ...]  # of the names asked for, those that got none


def share_out(
    wanted: Iterable[str],
    remembered: Mapping[str, int],
    hints: Mapping[str, int],
    slots: Slots,
) -> Shares:
    """Gives each wanted name a number.

    `hints` are numbers to prefer for names whose remembered number no longer fits.
    """
    asked = set(wanted)
    here = [name for name in remembered if name in asked]
    gone = [name for name in remembered if name not in asked]
    held: dict[int, str] = {}
    numbers: dict[str, int] = {}

    def claim(names: Iterable[str], numbers_of: Mapping[str, int]) -> None:
        given_out, unusable = slots.numbers, slots.unusable  # thousands: no call for each
        for name in names:
            number = numbers_of.get(name)
            if number is None or name in numbers or number in held:
                continue
            if number in given_out and number not in unusable:
                held[number] = name
                numbers[name] = number

    # The order is the priority where a hand-edited file gives one number to two names, and where
    # what no longer fits meets what does.
    for numbers_of in filter(None, (remembered, hints)):
        claim(here, numbers_of)
        claim(gone, numbers_of)
    still_gone = [name for name in gone if name in numbers and name not in slots.kept]
    left_out = _give_new(sorted(asked.difference(numbers)), numbers, held, still_gone, slots)
    ordered = [name for name in gone if name in numbers]
    ordered += [name for name in here if name in numbers]
    ordered += sorted(name for name in asked.difference(here) if name in numbers)
    return Shares(
        given={name: numbers[name] for name in ordered if name in asked},
        remembered={name: numbers[name] for name in ordered},
        left_out=tuple(left_out),
    )


def _give_new(
    names: list[str],
    numbers: dict[str, int],
    held: dict[int, str],
    gone: list[str],
    slots: Slots,
) -> list[str]:
    """Adds to `numbers`; names that are gone lose theirs only once nothing is free."""
    free = _free(held, slots)
    longest_gone = iter(gone)
    left_out = []
    for name in names:
        number = next(free, None)
        if number is None:
            loser = next(longest_gone, None)
            if loser is None:
                left_out.append(name)
                continue
            number = numbers.pop(loser)
        held[number] = name
        numbers[name] = number
    return left_out


def _free(held: Mapping[int, str], slots: Slots) -> Iterator[int]:
    for number in slots.numbers:
        if number not in held and slots.holds(number):
            yield number
