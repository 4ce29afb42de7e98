"""macOS's own way with networks: aliases of lo0, or a utun interface where that is asked for."""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass
from typing import Callable

from ngrokd.config import NetSettings
from ngrokd.errors import HostError, StateError
from ngrokd.host.command import Runner
from ngrokd.host.netif import bsd, darwinwatch, loopback, ranges, utunsocket
from ngrokd.host.netif.aliases import Aliases, held, left_behind, take_away
from ngrokd.host.netif.aliasrecord import AliasRecord
from ngrokd.host.netif.backend import Backend
from ngrokd.host.netif.bsdreader import BsdReader
from ngrokd.host.netif.rehearsal import Rehearsal, Step
from ngrokd.host.netif.scene import Reader
from ngrokd.host.netif.shellbatches import ShellBatches
from ngrokd.host.netif.system import Past
from ngrokd.host.netif.utun import Utun
from ngrokd.host.netif.utunsocket import UtunSocket
from ngrokd.host.netif.watch import NetworkWatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DarwinSystem:
    """A System."""

    open_utun: Callable[[int], UtunSocket] = utunsocket.open_utun

    def open_reader(self, net: NetSettings, run: Runner) -> Reader:
        return BsdReader(run)

    def prepare(self, net: NetSettings, run: Runner, reader: Reader, past: Past) -> Backend:
        record = AliasRecord(past.folder, run)
        if not _wants_utun(net):
            return _aliases(net, run, record, _told(net))
        logger.info(
            'Creating virtual network interface (macOS utun) name="%s" subnet="%s"',
            net.interface_name,
            net.subnet,
        )
        link = Utun(net, run, reader, self.open_utun)
        try:
            link.prepare()
        except HostError as exc:
            logger.warning(
                "Failed to create utun interface, falling back to loopback aliases: %s", exc
            )
            logger.info("Using loopback aliases (fallback mode)")
            note = f"{exc}. Endpoints have addresses of {subnet_of(net)} instead"
            return _aliases(net, run, record, (note,))
        try:  # what a killed run left that had no utun
            for line in _remove_recorded(record, run):
                logger.info("left by an earlier run: %s", line)
        except HostError as exc:
            logger.warning("%s", exc)
        return link

    def rehearse(self, net: NetSettings, run: Runner, reader: Reader, past: Past) -> Rehearsal:
        try:
            if _wants_utun(net):
                return _rehearse_utun(net, reader)
            on_loopback = held(run)
            left = on_loopback & AliasRecord(past.folder, run).recall()
        except HostError as exc:
            return Rehearsal(subnet_of(net), refused=(str(exc),))
        return Rehearsal(
            subnet_of(net),
            present={ip: bsd.remove_alias(ip) for ip in left},
            add=lambda ip: [bsd.add_alias(ip)],
            occupied=on_loopback - left,
        )

    def would_remove(
        self, net: NetSettings, run: Runner, past: Past
    ) -> tuple[list[list[str]], list[str]]:
        left = _recorded(run, AliasRecord(past.folder, run))
        return [bsd.remove_alias(ip) for ip in left], []

    def remove_leftovers(self, net: NetSettings, run: Runner, past: Past) -> list[str]:
        return _remove_recorded(AliasRecord(past.folder, run), run)

    def open_watch(self, net: NetSettings) -> NetworkWatch:
        return darwinwatch.open_watch(net)


def subnet_of(net: NetSettings) -> str:
    """The part of the loopback range that serves where there is no utun.

    Other instances than the first have one of their own: of two that start at the same moment
    neither would see the other's aliases.
    """
    if loopback.holds(net.subnet):
        return net.subnet
    name = net.interface_name
    if name == NetSettings.interface_name or bsd.utun_number(name) is not None:
        return str(loopback.RANGE)
    return ranges.first_of(name)


def _wants_utun(net: NetSettings) -> bool:
    return bsd.utun_number(net.interface_name) is not None and not loopback.holds(net.subnet)


def _told(net: NetSettings) -> tuple[str, ...]:
    """Says once why it is not the subnet of the settings; what of that is to be in the status."""
    if loopback.holds(net.subnet):
        return ()
    instead = subnet_of(net)
    logger.info(
        "macOS: loopback aliases (%s on %s) instead of the %s subnet, due to routing limitations "
        "with utun interfaces. net.interface_name: utun makes one all the same",
        instead,
        bsd.LOOPBACK,
        net.subnet,
    )
    if net.subnet == NetSettings.subnet:
        return ()
    return (
        f"macOS has no interface for {net.subnet}: endpoints have addresses of {instead}. "
        "Mend: set net.subnet to a part of 127.0.0.0/8, or net.interface_name to utun",
    )


def _aliases(
    net: NetSettings, run: Runner, record: AliasRecord, notes: tuple[str, ...]
) -> Aliases:
    aliases = Aliases(subnet_of(net), run, record, notes)
    aliases.take_over()
    return aliases


def _rehearse_utun(net: NetSettings, reader: Reader) -> Rehearsal:
    network = ipaddress.IPv4Network(net.subnet, strict=False)
    seen = reader.look()
    conflict = utunsocket.refuse_conflict(seen, network)
    if conflict:
        instead = subnet_of(net)
        remark = f"endpoints have addresses of {instead} instead"
        add = bsd.add_alias
        return Rehearsal(
            instead, remarks=(remark,), refused=(conflict,), add=lambda ip: [add(ip)]
        )
    name = utunsocket.expected_name(net.interface_name, seen)
    return Rehearsal(
        str(network),
        (Step(bsd.utun_up(name, network)), Step(bsd.add_route(name, network))),
        (f"{name} would be made through {utunsocket.CONTROL_NAME}, which needs root",),
        add=lambda ip: [bsd.utun_add(name, ip, network)],
        occupied=frozenset((bsd.far_end(network),)),
    )


def _recorded(run: Runner, record: AliasRecord) -> list[str]:
    """The aliases that a killed run left. Raises HostError."""
    recalled = record.recall()  # without any there may well be no `ifconfig`
    return sorted(held(run) & recalled, key=ipaddress.IPv4Address) if recalled else []


def _remove_recorded(record: AliasRecord, run: Runner) -> list[str]:
    """Removes what `record` says is ours; a line for each. Raises HostError."""
    taken = record.claim()
    if taken:
        raise HostError(taken)
    try:
        record.remove_orphans()
        left = _recorded(run, record)
        failed = take_away(left, run, ShellBatches(run))
        record.keep(failed)
    except StateError as exc:
        raise HostError(str(exc)) from exc
    finally:
        record.release()
    if failed:
        raise HostError(left_behind(failed))
    return [f"{bsd.LOOPBACK}: the address {ip} is removed" for ip in left]
