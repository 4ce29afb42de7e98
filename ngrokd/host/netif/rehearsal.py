"""What a start would do about the interface: the commands as data. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Callable

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host.command import Runner
from ngrokd.host.netif import finding, loopback, ranges
from ngrokd.host.netif.finding import Found
from ngrokd.host.netif.scene import Reader


@dataclass(frozen=True)
class Step:
    """A command. `instead`: it is run only where the one before it is refused."""

    argv: list[str]
    instead: bool = False


@dataclass(frozen=True)
class Rehearsal:
    """What is to be done before the first endpoint is opened, and how addresses are added."""

    subnet: str
    steps: tuple[Step, ...] = ()
    remarks: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()  # why, with the mend
    present: Mapping[str, list[str]] = field(default_factory=dict)  # how to remove each
    add: Callable[[str], list[list[str]]] = lambda ip: []  # none: the range needs no command
    occupied: frozenset[str] = frozenset()  # no endpoint gets one of these

    def for_addresses(self, wanted: Iterable[str]) -> list[Step]:
        """Adds those that are not there; removes those that are left and not wanted."""
        kept = set(wanted)
        missing = sorted(kept - self.present.keys(), key=_number)
        left = sorted(self.present.keys() - kept, key=_number)
        added = [Step(argv) for ip in missing for argv in self.add(ip)]
        return added + [Step(self.present[ip]) for ip in left]


def of_linux(
    net: NetSettings, known: Collection[str], run: Runner, reader: Reader
) -> Rehearsal:
    """As `linux.prepare` and the first round would."""
    if loopback.holds(net.subnet):
        return Rehearsal(net.subnet, remarks=(f"{net.subnet} is loopback: no interface is made",))
    try:
        found = finding.look(net, known, run, reader)
    except HostError as exc:
        return _elsewhere(net, str(exc))
    if found.conflict:
        deletion = (Step(found.tool.delete(net.interface_name)),) if found.link else ()
        return _elsewhere(net, found.conflict, deletion)
    return Rehearsal(
        str(found.layout.network),
        tuple(_making(found)),
        _remarks(found),
        present={ip: found.tool.remove(found.layout, f"{ip}/32") for ip in found.endpoints},
        add=lambda ip: [found.tool.add(found.layout, ip)],
    )


def _elsewhere(net: NetSettings, refused: str, steps: tuple[Step, ...] = ()) -> Rehearsal:
    subnet = ranges.first_of(net.interface_name)
    remark = f"endpoints have addresses of {subnet} instead"
    return Rehearsal(subnet, steps, (remark,), (refused,))


def _remarks(found: Found) -> tuple[str, ...]:
    if found.link is None:
        return ()
    fate = "made anew, for it has another subnet" if found.is_outdated else "adopted"
    return (f"{found.layout.name} is left by an earlier run: {fate}",)


def _making(found: Found) -> list[Step]:
    tool, layout = found.tool, found.layout
    if found.link and not found.is_outdated:
        steps = [Step(tool.remove(layout, text)) for text in found.old_gateways]
    else:
        made = [tool.make(layout.name, mode) for mode in tool.kinds]
        steps = [Step(tool.delete(layout.name))] if found.link else []
        steps += [Step(argv, instead=number > 0) for number, argv in enumerate(made)]
    steps += [Step(argv) for argv in tool.settle(layout.name)]
    return steps + [Step(argv) for argv in tool.bring_up(layout)]


def _number(ip: str) -> tuple[int, ...]:
    return tuple(int(part) for part in ip.split("."))
