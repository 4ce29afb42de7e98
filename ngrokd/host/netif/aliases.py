"""Endpoint addresses as aliases of lo0 on macOS, which has only 127.0.0.1 by itself."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Collection, Iterable

from ngrokd.errors import HostError, StateError
from ngrokd.host.command import Runner
from ngrokd.host.netif import bsd
from ngrokd.host.netif.aliasrecord import AliasRecord
from ngrokd.host.netif.shellbatches import ShellBatches
from ngrokd.model import InterfaceMode, InterfaceStatus

logger = logging.getLogger(__name__)

FOREIGN = "{} is an address of {} that ngrokd did not add"
_AS_ROOT = "Mend: run ngrokd as root"


class Aliases:
    """A Backend. Owner: main.

    An alias is ours if we added it, or if the record says that a killed run did. Any other is left
    alone, and no endpoint gets its address: a program of somebody may listen there.
    """

    def __init__(
        self, subnet: str, run: Runner, record: AliasRecord, notes: tuple[str, ...] = ()
    ) -> None:
        self._network = ipaddress.IPv4Network(subnet, strict=False)
        self._run = run
        self._record = record
        self._batches = ShellBatches(run)
        self._notes = notes
        self._unkept = ""  # why the record does not say what is ours
        self._ours: set[str] = set()
        self._seen: set[str] = set()  # those of them that were once there
        self._held: frozenset[str] = frozenset()  # all that lo0 has, as of the last look
        self._occupied: frozenset[str] = frozenset()  # what of it no endpoint may get

    @property
    def status(self) -> InterfaceStatus:
        notes = (*self._notes, self._unkept) if self._unkept else self._notes
        subnet = str(self._network)
        return InterfaceStatus(bsd.LOOPBACK, subnet, InterfaceMode.LOOPBACK, notes, self._occupied)

    def take_over(self) -> None:
        """What a killed run left is ours again."""
        self._record.remove_orphans()
        # Also what is not there yet: a script of that run may still be at it.
        self._ours = set(self._record.recall())
        self._keep(self._ours)  # what was of an earlier boot is of no use any more
        try:
            self._look()
        except HostError as exc:  # told again, and in the status, at each look
            logger.debug("what is left is not known: %s", exc)
        if self._seen:
            left = "%d aliases of %s are left by an earlier run: taken over"
            logger.info(left, len(self._seen), bsd.LOOPBACK)

    def addresses(self) -> frozenset[str]:
        self._look()
        return self._held & self._ours

    def add(self, ips: Iterable[str]) -> dict[str, str]:
        wanted = [str(ipaddress.IPv4Address(ip)) for ip in ips]
        if not wanted:
            return {}
        try:
            self._look()
        except HostError as exc:
            return dict.fromkeys(wanted, str(exc))
        foreign = self._held - self._ours
        failed = {
            ip: FOREIGN.format(ip, bsd.LOOPBACK) for ip in foreign.intersection(wanted)
        }
        missing = [ip for ip in wanted if ip not in self._held]
        again = self._seen.intersection(missing)
        self._keep(self._ours.union(missing))
        refused = self._batches.each({ip: bsd.add_alias(ip) for ip in missing})
        self._ours.update(ip for ip in missing if ip not in refused.keys() - self._batches.unsure)
        self._seen.update(ip for ip in missing if ip not in refused)
        if refused:
            self._keep(self._ours)
        again -= refused.keys()
        if again:
            lost = "%d addresses of %s were removed by another program: added again"
            logger.warning(lost, len(again), bsd.LOOPBACK)
        return {**failed, **{ip: f"{why}. {_AS_ROOT}" for ip, why in refused.items()}}

    def remove(self, ips: Iterable[str]) -> dict[str, str]:
        wanted = self._ours.intersection(ips)
        if not wanted:
            return {}
        try:
            self._look()
        except HostError as exc:
            return dict.fromkeys(wanted, str(exc))
        failed = take_away(wanted & self._held, self._batches)
        self._ours -= wanted - failed.keys()
        self._seen &= self._ours
        self._keep(self._ours)
        return failed

    def close(self) -> None:
        failed = self.remove(self._ours.copy())
        if failed:
            raise HostError(left_behind(failed))

    def _look(self) -> None:
        shown = bsd.interfaces(self._run(bsd.show(bsd.LOOPBACK)))
        texts = shown[0].texts if shown else ()
        self._held = frozenset(text.partition("/")[0] for text in texts if ":" not in text)
        self._seen |= self._held & self._ours
        self._occupied = frozenset(
            ip for ip in self._held - self._ours if ipaddress.IPv4Address(ip) in self._network
        )

    def _keep(self, ips: Collection[str]) -> None:
        """That it cannot be written must not keep endpoints from being served."""
        try:
            self._record.keep(ips)
        except StateError as exc:
            note = f"if ngrokd is killed, its aliases stay until the next boot: {exc}"
            if note != self._unkept:
                logger.warning("%s", note)
            self._unkept = note
        else:
            self._unkept = ""


def take_away(ips: Iterable[str], batches: ShellBatches) -> dict[str, str]:
    """Removes these aliases; those refused with the reason. One that is gone is no fault."""
    refused = batches.each({ip: bsd.remove_alias(ip) for ip in ips})
    return {ip: why for ip, why in refused.items() if not bsd.is_gone(why)}


def left_behind(failed: dict[str, str]) -> str:
    """What to tell of aliases that could not be removed."""
    ip, why = next(iter(failed.items()))
    return (
        f"{len(failed)} aliases of {bsd.LOOPBACK} are left behind, among them {ip} ({why}). "
        "Mend: ngrokd cleanup, as root"
    )
