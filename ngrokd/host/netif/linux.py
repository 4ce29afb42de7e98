"""A virtual interface of our own on Linux: dummy, else tun, else the loopback range."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.errors import HostError, InterfaceTaken
from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import iproute, lookup, loopback, scene
from ngrokd.host.netif.backend import Backend
from ngrokd.host.netif.batches import Batches
from ngrokd.host.netif.iproute import Link
from ngrokd.host.netif.loopback import Loopback
from ngrokd.host.netif.scene import Reader, Scene
from ngrokd.model import InterfaceMode, InterfaceStatus

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")  # IFNAMSIZ is 16 with the final NUL

_MODES = {mode.value: mode for mode in (InterfaceMode.DUMMY, InterfaceMode.TUN)}


def prepare(net: NetSettings, run: Runner, reader: Reader) -> Backend:
    """Makes or adopts `net.interface_name`; the loopback range where that cannot be."""
    if loopback.holds(net.subnet):
        logger.info("%s is loopback: it needs no interface", net.subnet)
        return Loopback(net.subnet)
    link = VirtualInterface(net, run, reader)
    try:
        link.prepare()
    except HostError as exc:
        note = f"{exc}. Endpoints have addresses of {loopback.FALLBACK_SUBNET} instead"
        logger.warning("%s", note)
        return Loopback(loopback.FALLBACK_SUBNET, (note,))
    return link


class VirtualInterface:
    """A dummy or tun interface with the gateway and the endpoint addresses. Owner: main.

    What is there under our name is ours while it has the index that ours was given: another
    program may delete it at any time and put one of its own in its place.
    """

    def __init__(self, net: NetSettings, run: Runner, reader: Reader) -> None:
        self._name = net.interface_name
        self._network = ipaddress.IPv4Network(net.subnet, strict=False)
        self._gateway = f"{self._network.network_address + 1}/{self._network.prefixlen}"
        self._run = run
        self._reader = reader
        self._scene = Scene()  # as of the last look
        self._held: dict[str, str] = {}  # what the interface has: the endpoint's address, else ""
        self._batches = Batches(run)
        self._mode = InterfaceMode.DUMMY
        self._index: Optional[int] = None  # of what we made or adopted; None: nothing
        self._is_unsure = False  # it was being made, and how that ended was never told
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
        conflict = scene.conflict(self._reader.look(), self._name, self._network)
        if conflict:
            if found:  # left by a crashed run; now it only hides the other one's network
                self._delete()
            raise HostError(
                f"{self._network} is in use on this machine: {conflict}. "
                "Mend: set net.subnet to a range that is free here"
            )
        if found:
            self._mode, self._index = _MODES[found.kind], found.index
            logger.info("%s is left by an earlier run: adopted as %s", self._name, found.kind)
        else:
            self._make()
        self._bring_up()

    def addresses(self) -> frozenset[str]:
        """Also mends what others did to it, and notes what it must leave as it is."""
        self._look()
        if self._gateway not in self._held:
            self._mend()
            self._look()
        return frozenset(filter(None, self._held.values()))

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
            self._look()
        except HostError as exc:
            return dict.fromkeys(wanted, str(exc))
        return self._batches.each(
            {
                ip: iproute.delete_address(self._name, text)
                for text, ip in self._held.items()
                if ip in wanted
            }
        )

    def close(self) -> None:
        if self._index is None and not self._is_unsure:
            return
        found = self._find()
        if found:
            self._refuse_replaced(found)
            self._look()
            self._leave_to_others()
            self._delete()
        self._index, self._is_unsure = None, False

    def _find(self) -> Optional[Link]:
        """What is there now. What we may have made ourselves is ours by the proof of a start."""
        found = lookup.find(self._name, self._run)
        if found and self._is_unsure:
            self._refuse_foreign(found.kind)
            self._mode, self._index, self._is_unsure = _MODES[found.kind], found.index, False
        return found

    def _look(self) -> None:
        """Takes in what has changed on this machine since the last look."""
        seen = self._reader.look()
        if seen is self._scene:
            return
        self._scene = seen
        texts = seen.held.get(self._index, ()) if self._index is not None else ()
        # Thousands that were there already are not read again.
        known = self._held
        self._held = {each: known[each] if each in known else self._ip(each) for each in texts}
        if texts and seen.index_of(self._name) == self._index:
            self._note()

    def _ip(self, text: str) -> str:
        """Nothing of our gateway, and of what is not ours."""
        ip = text.partition("/")[0]
        return ip if text != self._gateway and self._is_inside(ip) else ""

    def _mend(self) -> None:
        """Our gateway address is not there. HostError: another's interface is in our place."""
        if not self._make_if_gone():
            lost = "%s lost its address %s: another program removed it. Added again"
            logger.warning(lost, self._name, self._gateway)
            self._set_gateway()

    def _make_if_gone(self) -> bool:
        """True if it was. HostError: it cannot be made, or what is there is not ours."""
        was_unsure = self._is_unsure
        found = self._find()
        if found:
            self._refuse_replaced(found)
            if was_unsure:
                self._bring_up()
            return was_unsure
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

    def _leave_to_others(self) -> None:
        """HostError: others put addresses on it, so it stays with theirs and without ours."""
        strange = self._strange(self._held)
        if not strange:
            return
        ours = [text for text in self._held if text not in strange]
        failed = self._batches.each({t: iproute.delete_address(self._name, t) for t in ours})
        left = f", but for {', '.join(failed)}" if failed else ""
        raise HostError(
            f"{self._told(strange[0])}: {self._name} stays, without ngrokd's addresses{left}. "
            f"Mend, if nobody needs it: ip link delete dev {self._name}"
        )

    def _refuse_foreign(self, kind: str) -> None:
        """Adopting deletes it in the end: so only what can be nobody else's is adopted."""
        strange = self._strange(self._reader.look().addresses_of(self._name))
        if kind not in _MODES:
            what = f"is of kind {kind}"
        elif strange:
            what = f"has the address {strange[0]}, which is not in {self._network}"
        else:
            return
        raise HostError(
            f"there is an interface {self._name} already that ngrokd did not make: it {what}. "
            f"Mend: set net.interface_name to another name, or, if nobody needs it: "
            f"ip link delete dev {self._name}"
        )

    def _note(self) -> None:
        """Others' addresses are served beside, never touched; each is told once."""
        strange = self._strange(self._held)
        notes = [f"{self._told(one)}: {self._name} will stay for it" for one in strange]
        conflict = scene.conflict(self._scene, self._name, self._network)
        if conflict:
            notes.append(
                f"{conflict}, which meets {self._network}: one of the two hides the other. "
                "Mend: set net.subnet to a range that is free here, and restart ngrokd"
            )
        for note in (each for each in notes if each not in self._notes):
            logger.warning("%s", note)
        self._notes = tuple(notes)

    def _told(self, strange: str) -> str:
        return f"{self._name} has the address {strange}, which ngrokd did not add"

    def _strange(self, held: Iterable[str]) -> list[str]:
        return [each for each in held if not (self._held.get(each) or self._is_inside(each))]

    def _is_inside(self, text: str) -> bool:
        return ipaddress.ip_address(text.partition("/")[0]) in self._network

    def _make(self) -> None:
        # A command killed for its time may have done its work, and the look behind it may fail:
        # what came of it would be taken for another program's for ever.
        self._is_unsure = True
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
            self._is_unsure = False
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
