"""In which order and for how long the ingress's addresses are tried, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ngrokd.model import Address, Cause, Failure

# The ingress itself was not reached, so these say less than what another address answered.
UNREACHED = frozenset({Cause.UNREACHABLE, Cause.CONNECT_REFUSED, Cause.CONNECT_TIMEOUT})


@dataclass(frozen=True)
class Attempt:
    """One address, to be given up at `deadline` (monotonic)."""

    address: Address
    deadline: float


class Attempts:
    """All addresses in turn under one deadline, of which each gets its share. Owner: forward."""

    def __init__(self, addresses: Sequence[Address], deadline: float) -> None:
        self._left = list(addresses)
        self._deadline = deadline
        self._failures: list[tuple[Address, Failure]] = []

    def next(self, now: float) -> Optional[Attempt]:
        """The next attempt; `None` when there is no address or no time left."""
        if not self._left or now >= self._deadline:
            return None
        share = (self._deadline - now) / len(self._left)
        return Attempt(self._left.pop(0), now + share)

    def failed(self, address: Address, failure: Failure) -> None:
        """Note why an address did not serve."""
        self._failures.append((address, failure))

    def summary(self) -> str:
        """Every address with its reason; a reason that several share is said once."""
        addresses: dict[str, list[str]] = {}
        for address, failure in self._failures:
            addresses.setdefault(failure.text, []).append(show(address))
        return "; ".join(f"{', '.join(who)}: {reason}" for reason, who in addresses.items())

    def cause(self) -> Cause:
        """That of the last address tried, of those that were reached if there is one.

        An IPv6 address that this machine has no route to would hide what the IPv4 one said.
        """
        causes = [failure.cause for _, failure in self._failures]
        reached = [cause for cause in causes if cause not in UNREACHED]
        return (reached or causes or [Cause.CONNECT_TIMEOUT])[-1]  # none tried: no time for one


def show(address: Address) -> str:
    """An address as people write it, IPv6 in brackets."""
    return f"[{address.ip}]:{address.port}" if ":" in address.ip else str(address)
