"""A virtual interface of our own on Linux: dummy, else tun, else bridge; else loopback range."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Collection, Iterable
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.errors import HostError, InterfaceTaken
from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import finding, iproute, loopback, scene
from ngrokd.host.netif.backend import Backend
from ngrokd.host.netif.batches import Batches
from ngrokd.host.netif.finding import Found
from ngrokd.host.netif.links import KINDS, Link
from ngrokd.host.netif.loopback import Loopback
from ngrokd.host.netif.scene import Reader, Scene
from ngrokd.model import InterfaceStatus

logger = logging.getLogger(__name__)


def prepare(
    net: NetSettings, known: Collection[str], run: Runner, reader: Reader
) -> Backend:
    """Makes or adopts `net.interface_name`; the loopback range where that cannot be."""
    if loopback.holds(net.subnet):
        logger.info("%s is loopback: it needs no interface", net.subnet)
        return Loopback(net.subnet)
    try:
        link = VirtualInterface(finding.look(net, known, run, reader), run, reader)
        link.prepare()
    except HostError as exc:
        note = f"{exc}. Endpoints have addresses of {loopback.FALLBACK_SUBNET} instead"
        logger.warning("%s", note)
        return Loopback(loopback.FALLBACK_SUBNET, (note,))
    return link


class VirtualInterface:
    """An interface of ours with the gateway and the endpoint addresses. Owner: main.

    What is there under our name is ours while it has the index that ours was given: another
    program may delete it at any time and put one of its own in its place. An address on it is ours
    if we added it, or adopted it with the interface: others may add theirs at any time.
    """

    def __init__(self, found: Found, run: Runner, reader: Reader) -> None:
        self._found = found
        self._layout = found.layout
        self._name = found.layout.name
        self._tool = found.tool
        self._run = run
        self._reader = reader
        self._scene = Scene()  # as of the last look
        self._held: tuple[str, ...] = ()  # what the interface has
        self._added: set[str] = set()  # the endpoint addresses of it that are ours
        self._batches = Batches(run, self._tool.takes_batches)
        self._mode = self._tool.kinds[0]
        self._index: Optional[int] = None  # of what we made or adopted; None: nothing
        self._is_unsure = False  # it was being made, and how that ended was never told
        self._notes: tuple[str, ...] = ()
        self._steps: tuple[str, ...] = ()  # why it is not of the kind that was tried first

    @property
    def status(self) -> InterfaceStatus:
        notes = self._steps + self._notes
        return InterfaceStatus(self._name, str(self._layout.network), self._mode, notes)

    def prepare(self) -> None:
        """Makes it, or adopts what a crashed run left. HostError: then nothing of it is left."""
        link = self._found.link
        if self._found.conflict:
            if link:  # left by a crashed run; now it only hides the other one's network
                self._delete()
            raise HostError(self._found.conflict)
        if link:
            self._adopt(link)
        else:
            self._make()
        self._bring_up()

    def addresses(self) -> frozenset[str]:
        """Also mends what others did to it, and notes what it must leave as it is."""
        self._look()
        if self._layout.gateway not in self._held:
            self._mend()
            self._look()
        return frozenset(self._ours())

    def add(self, ips: Iterable[str]) -> dict[str, str]:
        wanted = [str(ipaddress.IPv4Address(ip)) for ip in ips]
        if not wanted:
            return {}
        try:
            self._make_if_gone()
        except HostError as exc:
            return dict.fromkeys(wanted, str(exc))
        failed = self._batches.each({ip: self._tool.add(self._layout, ip) for ip in wanted})
        # A command that was killed for its time may have done its work: what turns up is ours then.
        theirs = {ip for ip in failed if f"{ip}/32" in self._held}
        self._added |= set(wanted) - theirs
        return failed

    def remove(self, ips: Iterable[str]) -> dict[str, str]:
        wanted = set(ips)
        try:
            self._look()
        except HostError as exc:
            return dict.fromkeys(wanted, str(exc))
        going = wanted.intersection(self._ours())
        failed = self._batches.each(
            {ip: self._tool.remove(self._layout, f"{ip}/32") for ip in going}
        )
        self._added -= wanted - failed.keys()
        return failed

    def close(self) -> None:
        if self._index is None and not self._is_unsure:
            return
        found = self._find()
        if found:
            self._refuse_replaced(found)
            self._look()
            self._leave_to_others(found)
            self._delete()
        self._index, self._is_unsure = None, False

    def _adopt(self, link: Link) -> None:
        self._mode, self._index = KINDS[link.kind], link.index
        self._added = set(self._found.endpoints)
        logger.info("%s is left by an earlier run: adopted as %s", self._name, link.kind)
        for text in self._found.old_gateways:
            self._run(self._tool.remove(self._layout, text))

    def _find(self) -> Optional[Link]:
        """What is there now. What we may have made ourselves is ours by the proof of a start."""
        found = self._tool.find(self._name)
        if found and self._is_unsure:
            held = self._reader.look().addresses_of(self._name)
            finding.refuse_unproven(found, held, self._layout, self._added, self._tool)
            self._mode, self._index, self._is_unsure = KINDS[found.kind], found.index, False
        return found

    def _look(self) -> None:
        """Takes in what has changed on this machine since the last look."""
        seen = self._reader.look()
        if seen is self._scene:
            return
        self._scene = seen
        self._held = seen.held.get(self._index, ()) if self._index is not None else ()
        if self._held and seen.index_of(self._name) == self._index:
            self._note()

    def _ours(self) -> list[str]:
        """The endpoint addresses on it that we added or adopted. Thousands, at every look."""
        ips = (text[:-3] for text in self._held if text.endswith("/32"))
        return [ip for ip in ips if ip in self._added]

    def _mend(self) -> None:
        """Our gateway address is not there. HostError: another's interface is in our place."""
        if not self._make_if_gone():
            lost = "%s lost its address %s: another program removed it. Added again"
            logger.warning(lost, self._name, self._layout.gateway)
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
        if found.index != self._index:
            raise InterfaceTaken(
                f"{self._name} is left as it is: it is no longer ours, another program made one "
                f"of kind {found.kind} in its place. Mend: give that one another name, or, if "
                f"nobody needs it: {self._deletion}"
            )

    def _leave_to_others(self, found: Link) -> None:
        """HostError: others use it too, so it stays with theirs and without ours."""
        strange = self._strange()
        if found.kind not in KINDS:
            why = f"{self._name} is by now a {found.kind}"
        elif strange:
            why = self._told(strange[0])
        else:
            return
        ours = [text for text in self._held if text not in strange]
        failed = self._batches.each({text: self._tool.remove(self._layout, text) for text in ours})
        left = f", but for {', '.join(failed)}" if failed else ""
        raise HostError(
            f"{why}: {self._name} stays, without ngrokd's addresses{left}. "
            f"Mend, if nobody needs it: {self._deletion}"
        )

    def _note(self) -> None:
        """Others' addresses are served beside, never touched; each is told once."""
        strange = self._strange()
        notes = [f"{self._told(one)}: {self._name} will stay for it" for one in strange]
        conflict = scene.conflict(self._scene, self._name, self._layout.network)
        if conflict:
            notes.append(
                f"{conflict}, which meets {self._layout.network}: one of the two hides the other. "
                "Mend: set net.subnet to a range that is free here, and restart ngrokd"
            )
        for note in (each for each in notes if each not in self._notes):
            logger.warning("%s", note)
        self._notes = tuple(notes)

    def _told(self, strange: str) -> str:
        return f"{self._name} has the address {strange}, which ngrokd did not add"

    def _strange(self) -> list[str]:
        """What others added."""
        ours = {f"{ip}/32" for ip in self._ours()}
        return [
            text for text in self._held if text not in ours and not self._layout.is_gateway(text)
        ]

    def _make(self) -> None:
        # A command killed for its time may have done its work, and the look behind it may fail:
        # what came of it would be taken for another program's for ever.
        self._is_unsure = True
        complaints = ""
        self._added = set()
        for mode in self._tool.kinds:
            try:
                self._run(self._tool.make(self._name, mode))
            except CommandError as exc:
                said = f"of type {mode.value}: {iproute.complaint(exc.stderr) or exc}"
                complaints += said + "; "
                logger.info("%s cannot be made %s", self._name, said)
                if iproute.is_taken(exc.stderr):  # `tuntap add` would take over another's tun
                    break
                continue
            made = self._tool.find(self._name)
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
        for argv in self._tool.settle(self._name):
            try:
                self._run(argv)
            except CommandError as exc:
                logger.debug("%s is not as quiet as it could be: %s", self._name, exc)
        try:
            self._set_gateway()
        except CommandError:
            self._delete()
            raise

    def _set_gateway(self) -> None:
        for argv in self._tool.bring_up(self._layout):
            self._run(argv)
        logger.info("%s is up with %s", self._name, self._layout.gateway)

    def _delete(self) -> None:
        try:
            self._run(self._tool.delete(self._name))
        except CommandError as exc:
            if not iproute.is_missing(exc.stderr):
                raise HostError(
                    f"{self._name} is left behind: {exc}. Mend: {self._deletion}"
                ) from exc
        logger.info("%s is removed", self._name)

    @property
    def _deletion(self) -> str:
        return " ".join(self._tool.delete(self._name))
