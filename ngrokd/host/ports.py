"""Which port of the network belongs to which endpoint. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ngrokd.host.slots import Slots, share_out
from ngrokd.model import Target

MAX_PORT = 65535


@dataclass(frozen=True)
class PortAssignment:
    """`ports` of the targets asked for; `remembered` is what to save, its order included."""

    ports: Mapping[Target, int]
    remembered: Mapping[str, int]  # "hostname:port": network port
    failed: Mapping[Target, str]  # why it has no port


def assign_ports(
    targets: Iterable[Target],
    remembered: Mapping[str, int],
    start_port: int,
    taken: Collection[int] = (),
    avoided: Collection[int] = (),
) -> PortAssignment:
    """One port per target from `start_port` up, the same one for as long as it is remembered.

    `taken` are ports that other programs hold: a target whose port is one of them gets another.
    `avoided` are not given out anew, but who has one keeps it: clients know it.
    """
    by_key = {str(target): target for target in targets}
    # `type(...) is int`: a damaged file may say `true`, which Python counts as 1.
    known = {key: port for key, port in remembered.items() if type(port) is int}
    unusable = frozenset(taken) | (frozenset(avoided) - set(known.values()))
    slots = Slots(range(max(start_port, 1), MAX_PORT + 1), unusable)
    shares = share_out(by_key, known, {}, slots)
    reason = (
        f"no port is left from {start_port} to {MAX_PORT}: {len(shares.given)} endpoints hold one; "
        "set net.start_port lower"
    )
    return PortAssignment(
        ports={by_key[key]: port for key, port in shares.given.items()},
        remembered=shares.remembered,
        failed={by_key[key]: reason for key in shares.left_out},
    )
