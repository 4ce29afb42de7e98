"""A virtual interface of our own on Linux: dummy, else tun, else the loopback range."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.errors import HostError, InterfaceTaken, NoAddress
from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import iproute, lookup, loopback
from ngrokd.host.netif.backend import Backend
from ngrokd.host.netif.batches import Batches
from ngrokd.host.netif.iproute import Held, Link
from ngrokd.host.netif.loopback import Loopback
from ngrokd.model import InterfaceMode, InterfaceStatus

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")  # IFNAMSIZ is 16 with the final NUL

_MODES = {mode.value: mode for mode in (InterfaceMode.DUMMY, InterfaceMode.TUN)}


def prepare(net: NetSettings, run: Runner) -> Backend:
    """Makes or adopts `net.interface_name`; the loopback range where that cannot be."""
    if loopback.holds(net.subnet):
        logger.info("%s is loopback: it needs no interface", net.subnet)
        return Loopback(net.subnet)
    link = VirtualInterface(net.interface_name, net.subnet, run)
    try:
        link.prepare()
    except HostError as exc:
        note = f"{exc}. Endpoints have addresses of {loopback.FALLBACK_SUBNET} instead"
        logger.warning("%s", note)
        return Loopback(loopback.FALLBACK_SUBNET, (note,))
    return link


def first_address(name: str, run: Runner) -> str:
    """The first IPv4 address of any interface. Raises NoAddress, or HostError: not known."""
    try:
        answer = run([*iproute.SHOW_ADDRESSES, "dev", name])
    except CommandError as exc:
        if iproute.is_missing(exc.stderr):
            raise NoAddress(f"there is no interface {name}; `ip link` lists them") from exc
        raise
    held = iproute.held_addresses(answer)
    if not held:
        raise NoAddress(f"interface {name} has no IPv4 address; see `ip addr show dev {name}`")
    return held[0].ip


class VirtualInterface:
    """A dummy or tun interface with the gateway and the endpoint addresses. Owner: main.

    What is there under our name is ours while it has the index that ours was given: another
    program may delete it at any time and put one of its own in its place.
    """

    def __init__(self, name: str, subnet: str, run: Runner) -> None:
        self._name = name
        self._network = ipaddress.IPv4Network(subnet, strict=False)
        self._gateway = f"{self._network.network_address + 1}/{self._network.prefixlen}"
        self._run = run
        self._batches = Batches(run)
        self._mode = InterfaceMode.DUMMY
        self._index: Optional[int] = None  # of what we made or adopted; None: nothing
        self._notes: tuple[str, ...] = ()
        self._steps: tuple[str, ...] = ()  # why it is not of the kind that was tried first

    @property
    def status(self) -> InterfaceStatus:
        notes = self._steps + self._notes
        return InterfaceStatus(self._name, str(self._network), self._mode, notes)

    def prepare(self) -> None:
        """Makes it, or adopts what a crashed run left. HostError: then nothing of it is left."""
        if not _NAME.fullmatch(self._name):
            raise HostError(
                f"`{self._name}` cannot be the name of an interface: up to 15 letters, digits, "
                "`_`, `.` and `-`. Mend: set net.interface_name"
            )
        found = lookup.find(self._name, self._run)
        if found:
            self._refuse_foreign(found.kind)
        conflict = iproute.conflict(
            self._run(iproute.SHOW_ADDRESSES),
            self._run(iproute.SHOW_ROUTES),
            self._name,
            self._network,
        )
        if conflict:
            if found:  # left by a crashed run; now it only hides the other one's network
                self._delete()
            raise HostError(
                f"{self._network} is in use on this machine: {conflict}. "
                "Mend: set net.subnet to a range that is free here"
            )
        if found:
            self._mode, self._index = _MODES[found.kind], found.index
            logger.info(
                "%s is there, left by an earlier run: adopted as %s", self._name, found.kind
            )
        else:
            self._make()
        self._bring_up()

    def addresses(self) -> frozenset[str]:
        """Also mends what others did to it, and notes what it must leave as it is."""
        answer = self._run(iproute.SHOW_ALL_ADDRESSES)
        held = [one for one in iproute.held_addresses(answer) if one.interface == self._name]
        if {one.index for one in held} == {self._index}:
            self._note(answer, self._strange(held))
        if {one.index for one in held if one.text == self._gateway} != {self._index}:
            self._mend()
        return frozenset(self._endpoints_of(held))

    def add(self, ips: Iterable[str]) -> dict[str, str]:
        wanted = [str(ipaddress.IPv4Address(ip)) for ip in ips]
        if not wanted:
            return {}
        try:
            self._make_if_gone()
        except HostError as exc:
            return dict.fromkeys(wanted, str(exc))
        return self._batches.each(
            {ip: iproute.replace_address(self._name, f"{ip}/32") for ip in wanted}
        )

    def remove(self, ips: Iterable[str]) -> dict[str, str]:
        wanted = set(ips)
        try:
            held = self._endpoints_of(lookup.held_by(self._name, self._run))
        except HostError as exc:
            return dict.fromkeys(wanted, str(exc))
        return self._batches.each(
            {
                ip: iproute.delete_address(self._name, text)
                for ip, text in held.items()
                if ip in wanted
            }
        )

    def close(self) -> None:
        if self._index is None:
            return
        found = lookup.find(self._name, self._run)
        if found:
            self._refuse_replaced(found)
            self._leave_to_others(lookup.held_by(self._name, self._run))
            self._delete()
        self._index = None

    def _mend(self) -> None:
        """Our gateway address is not there. HostError: another's interface is in our place."""
        if not self._make_if_gone():
            logger.warning(
                "%s lost its address %s: another program removed it. Added again",
                self._name,
                self._gateway,
            )
            self._set_gateway()

    def _make_if_gone(self) -> bool:
        """True if it was. HostError: it cannot be made, or what is there is not ours."""
        found = lookup.find(self._name, self._run)
        if found:
            self._refuse_replaced(found)
            return False
        logger.warning("%s is gone: another program removed it. Made again", self._name)
        self._make()
        self._bring_up()
        return True

    def _refuse_replaced(self, found: Link) -> None:
        if (found.index, found.kind) != (self._index, self._mode.value):
            raise InterfaceTaken(
                f"{self._name} is left as it is: it is no longer ours, another program made one "
                f"of kind {found.kind} in its place. Mend: give that one another name, or, if "
                f"nobody needs it: ip link delete dev {self._name}"
            )

    def _leave_to_others(self, held: list[Held]) -> None:
        """HostError: others put addresses on it, so it stays with theirs and without ours."""
        strange = self._strange(held)
        if not strange:
            return
        ours = [one.text for one in held if one not in strange]
        failed = self._batches.each(
            {text: iproute.delete_address(self._name, text) for text in ours}
        )
        left = f", but for {', '.join(failed)}" if failed else ""
        raise HostError(
            f"{self._told(strange[0])}: {self._name} stays, without ngrokd's addresses{left}. "
            f"Mend, if nobody needs it: ip link delete dev {self._name}"
        )

    def _refuse_foreign(self, kind: str) -> None:
        """Adopting deletes it in the end: so only what can be nobody else's is adopted."""
        strange = self._strange(lookup.held_by(self._name, self._run))
        if kind not in _MODES:
            what = f"is of kind {kind}"
        elif strange:
            what = f"has the address {strange[0].text}, which is not in {self._network}"
        else:
            return
        raise HostError(
            f"there is an interface {self._name} already that ngrokd did not make: it {what}. "
            f"Mend: set net.interface_name to another name, or, if nobody needs it: "
            f"ip link delete dev {self._name}"
        )

    def _note(self, answer: str, strange: list[Held]) -> None:
        """Others' addresses are served beside, never touched; each is told once."""
        notes = [f"{self._told(one)}: {self._name} will stay for it" for one in strange]
        conflict = iproute.conflict(answer, "", self._name, self._network)
        if conflict:
            notes.append(
                f"{conflict}, which meets {self._network}: one of the two hides the other. "
                "Mend: set net.subnet to a range that is free here, and restart ngrokd"
            )
        for note in notes:
            if note not in self._notes:
                logger.warning("%s", note)
        self._notes = tuple(notes)

    def _told(self, strange: Held) -> str:
        return f"{self._name} has the address {strange.text}, which ngrokd did not add"

    def _strange(self, held: Iterable[Held]) -> list[Held]:
        return [one for one in held if not self._is_inside(one.ip)]

    def _is_inside(self, ip: str) -> bool:
        return ipaddress.ip_address(ip) in self._network

    def _make(self) -> None:
        complaints = ""
        for mode, argv in (
            (InterfaceMode.DUMMY, iproute.add_dummy(self._name)),
            (InterfaceMode.TUN, iproute.add_tun(self._name)),
        ):
            try:
                self._run(argv)
            except CommandError as exc:
                said = f"of type {mode.value}: {iproute.complaint(exc.stderr) or exc}"
                complaints += said + "; "
                logger.info("%s cannot be made %s", self._name, said)
                if iproute.is_taken(exc.stderr):  # `tuntap add` would take over another's tun
                    break
                continue
            made = lookup.find(self._name, self._run)
            self._mode, self._index = mode, made.index if made else None
            self._steps = (f"{self._name} cannot be made {complaints[:-2]}",) if complaints else ()
            logger.info("%s is made, of type %s", self._name, mode.value)
            return
        raise HostError(
            f"the interface {self._name} cannot be made ({complaints[:-2]}). "
            f"Mend: {iproute.mend_for_making(complaints)}"
        )

    def _bring_up(self) -> None:
        try:
            self._run(iproute.without_ipv6(self._name))
        except CommandError as exc:  # BusyBox cannot say it; costs a link-local address
            logger.debug("%s keeps IPv6: %s", self._name, exc)
        try:
            self._set_gateway()
        except CommandError:
            self._delete()
            raise

    def _set_gateway(self) -> None:
        self._run(iproute.replace_address(self._name, self._gateway))
        self._run(iproute.up(self._name))
        logger.info("%s is up with %s", self._name, self._gateway)

    def _delete(self) -> None:
        try:
            self._run(iproute.delete_link(self._name))
        except CommandError as exc:
            if not iproute.is_missing(exc.stderr):
                raise HostError(
                    f"{self._name} is left behind: {exc}. Mend: ip link delete dev {self._name}"
                ) from exc
        logger.info("%s is removed", self._name)

    def _endpoints_of(self, held: Iterable[Held]) -> dict[str, str]:
        """Address and the same with its prefix length, for each endpoint address."""
        return {
            one.ip: one.text
            for one in held
            if one.text != self._gateway and one.index == self._index and self._is_inside(one.ip)
        }
