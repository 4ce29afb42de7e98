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
NOTHING_CAME = "`{}` ended well, and nothing came of it; run it by hand to see why"
_AS_ROOT = "Mend: run ngrokd as root"


class Aliases:
    """A Backend. Owner: main.

    An alias is ours if we added it, or if the record says that a killed run did, until it is seen
    to be gone: who makes it again then is somebody else. Any other is left alone, and no endpoint
    gets its address: a program of somebody may listen there. What counts is what lo0 has, not what
    a command says that it did.
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
        self._lost: set[str] = set()  # once ours, and removed by others
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
        taken = self._record.claim()
        if taken:
            self._note_unkept(taken)
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
        refused = self._add(missing) if missing else {}
        self._tell_again(self._lost.intersection(missing) - refused.keys())
        self._lost.difference_update(missing)
        return {**failed, **refused}

    def _add(self, missing: Collection[str]) -> dict[str, str]:
        commands = {ip: bsd.add_alias(ip) for ip in missing}
        self._keep(self._ours.union(missing))
        refused = {
            ip: f"{why}. {_AS_ROOT}" if bsd.is_forbidden(why) else why
            for ip, why in self._batches.each(commands).items()
        }
        unsure = self._batches.unsure
        self._ours.update(ip for ip in missing if ip not in refused.keys() - unsure)
        try:
            self._look()
        except HostError as exc:
            logger.debug("whether they are there is seen at the next look: %s", exc)
        else:
            for ip in self._ours.intersection(missing) - self._held - unsure:
                refused[ip] = NOTHING_CAME.format(" ".join(commands[ip]))
                self._ours.discard(ip)
        if refused:
            self._keep(self._ours)
        return refused

    def remove(self, ips: Iterable[str]) -> dict[str, str]:
        wanted = self._ours.intersection(ips)
        if not wanted:
            return {}
        try:
            self._look()
        except HostError as exc:
            return dict.fromkeys(wanted, str(exc))
        failed = take_away(wanted & self._held, self._run, self._batches)
        self._ours -= wanted - failed.keys()
        self._held -= wanted - failed.keys()
        self._seen &= self._ours
        self._keep(self._ours)
        return failed

    def close(self) -> None:
        failed = self.remove(self._ours.copy())
        if failed:
            raise HostError(left_behind(failed))
        self._record.release()

    def _look(self) -> None:
        self._held = held(self._run)
        gone = self._seen - self._held
        if gone:
            self._lost |= gone
            self._seen -= gone
            self._ours -= gone
            self._keep(self._ours)
        self._seen |= self._held & self._ours
        self._occupied = frozenset(
            ip for ip in self._held - self._ours if ipaddress.IPv4Address(ip) in self._network
        )

    def _keep(self, ips: Collection[str]) -> None:
        """That it cannot be written must not keep endpoints from being served."""
        try:
            self._record.keep(ips)
        except StateError as exc:
            self._note_unkept(str(exc))
        else:
            self._unkept = self._unkept if self._record.taken else ""

    def _note_unkept(self, why: str) -> None:
        note = f"if ngrokd is killed, its aliases stay until the next boot: {why}"
        if note != self._unkept:
            logger.warning("%s", note)
        self._unkept = note

    def _tell_again(self, ips: Collection[str]) -> None:
        if ips:
            lost = "%d addresses of %s were removed by another program: added again"
            logger.warning(lost, len(ips), bsd.LOOPBACK)


def held(run: Runner) -> frozenset[str]:
    """The IPv4 addresses of lo0. Raises HostError: that cannot be told."""
    ips = bsd.loopback_ips(run(bsd.show(bsd.LOOPBACK)))
    if ips is None:
        raise bsd.strange(bsd.show(bsd.LOOPBACK))
    return ips


def take_away(ips: Iterable[str], run: Runner, batches: ShellBatches) -> dict[str, str]:
    """Removes these aliases; those refused with the reason. One that is gone is no fault."""
    commands = {ip: bsd.remove_alias(ip) for ip in ips}
    if not commands:
        return {}
    refused = batches.each(commands)
    try:
        left = held(run).intersection(commands)
    except HostError as exc:
        logger.debug("whether they are gone is not told: %s", exc)
        return {ip: why for ip, why in refused.items() if not bsd.is_gone(why)}
    return {ip: refused.get(ip) or NOTHING_CAME.format(" ".join(commands[ip])) for ip in left}


def left_behind(failed: dict[str, str]) -> str:
    """What to tell of aliases that could not be removed."""
    ip, why = next(iter(failed.items()))
    return (
        f"{len(failed)} aliases of {bsd.LOOPBACK} are left behind, among them {ip} ({why}). "
        "Mend: ngrokd cleanup, as root"
    )
