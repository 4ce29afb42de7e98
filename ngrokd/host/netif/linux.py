"""A virtual interface of our own on Linux: dummy, else tun, else bridge; else loopback range."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.errors import HostError, InterfaceTaken
from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import finding, iproute, loopback, making, proof, ranges, scene
from ngrokd.host.netif.abandoned import Abandoned
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
    link = None
    try:
        link = VirtualInterface(finding.look(net, known, run, reader), run, reader)
        link.prepare()
    except HostError as exc:
        instead = ranges.take(net.interface_name)
        note = f"{exc}. Endpoints have addresses of {instead.subnet} instead"
        logger.warning("%s", note)
        return Abandoned(instead, (note,), link.close if link else None)
    return link


class VirtualInterface:
    """An interface of ours with the gateway and the endpoint addresses. Owner: main.

    What is there is ours while it has the index that ours was given, its kind and its mark: another
    program may rename it at any time, or delete it and put one of its own in its place. An address
    on it is ours if we added it, or adopted it with the interface: others may add theirs.
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
        self._link: Optional[Link] = None  # what we made or adopted; None: nothing
        self._is_unsure = False  # it was being made, and how that ended was never told
        self._notes: tuple[str, ...] = ()
        self._steps: tuple[str, ...] = ()  # why it is not of the kind that was tried first

    @property
    def status(self) -> InterfaceStatus:
        notes = self._steps + self._notes
        return InterfaceStatus(self._name, str(self._layout.network), self._mode, notes)

    @property
    def _index(self) -> Optional[int]:
        return None if self._link is None else self._link.index

    def prepare(self) -> None:
        """Makes it, or adopts what a crashed run left. HostError: then nothing of it is left."""
        link = self._found.link
        if self._found.conflict:
            if link:  # left by a crashed run; now it only hides the other one's network
                self._delete()
            raise HostError(self._found.conflict)
        if self._found.is_outdated:
            self._delete()
            link = None
        if link:
            self._adopt(link)
        else:
            self._make()
        self._bring_up()

    def addresses(self) -> frozenset[str]:
        """Also mends what others did to it, and notes what it must leave as it is."""
        self._look()
        if self._layout.gateway not in self._held or self._index in self._scene.down:
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
        commands = {ip: self._tool.add(self._layout, ip) for ip in wanted}
        failed = self._batches.add(self._name, commands, self._added)
        self._added |= set(wanted) - (failed.keys() - self._batches.unsure)
        return failed

    def remove(self, ips: Iterable[str]) -> dict[str, str]:
        wanted = set(ips)
        try:
            self._look()
            going = wanted.intersection(self._ours())
            found = self._find() if going else None
            if found:
                self._refuse_replaced(found)
        except InterfaceTaken:  # with its addresses
            return {}
        except HostError as exc:
            return dict.fromkeys(wanted, str(exc))
        failed = self._batches.each(
            {ip: self._tool.remove(self._layout, f"{ip}/32") for ip in going}
        )
        self._added -= wanted - failed.keys()
        return failed

    def close(self) -> None:
        if self._link is None and not self._is_unsure:
            return
        found = self._find()
        if found:
            self._refuse_replaced(found)
            self._look()
            self._leave_to_others(found)
            self._delete()
        self._link, self._is_unsure = None, False

    def _adopt(self, link: Link) -> None:
        self._mode, self._link = KINDS[link.kind], link
        self._added = set(self._found.endpoints)
        logger.info("%s is left by an earlier run: adopted as %s", self._name, link.kind)
        for text in self._found.old_gateways:
            self._run(self._tool.remove(self._layout, text))

    def _find(self) -> Optional[Link]:
        """What is there now. What we may have made is ours by the proof of a start."""
        found = self._tool.find(self._name)
        if self._link and (found is None or found.index != self._index):
            self._look()
            if self._scene.index_of(self._name) == self._index:
                found = self._tool.find(self._name)  # renamed
        if found and self._is_unsure:
            held = self._reader.look().addresses_of(self._name)
            finding.refuse_unproven(found, held, self._layout, self._added, self._tool)
            self._mode, self._link, self._is_unsure = KINDS[found.kind], found, False
        return found

    def _look(self) -> None:
        """Takes in what has changed on this machine since the last look."""
        seen = self._reader.look()
        if seen is self._scene:
            return
        self._scene = seen
        self._follow(seen)
        self._held = seen.held.get(self._index, ()) if self._index is not None else ()
        if self._held and seen.index_of(self._name) == self._index:
            self._note()

    def _follow(self, seen: Scene) -> None:
        """To the name that another program gave it."""
        name = self._name if self._index is None else seen.links.get(self._index, self._name)
        if name != self._name:
            logger.warning("%s was renamed to %s: it is used on under that name", self._name, name)
            self._name, self._layout = name, replace(self._layout, name=name)

    def _ours(self) -> list[str]:
        """The endpoint addresses on it that we added or adopted. Thousands, at every look."""
        added = self._added
        held = self._held
        return [ip for text in held if text.endswith("/32") and (ip := text[:-3]) in added]

    def _mend(self) -> None:
        """Our gateway address is not there, or is down. HostError: another's interface is there."""
        if not self._make_if_gone():
            logger.warning("%s", proof.what_was_mended(self._layout, self._held))
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
        if self._link is None or not proof.is_same(found, self._link):
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
        self._added = set()
        self._link, self._mode, step = making.make(self._tool, self._run, self._name)
        self._is_unsure = False
        self._steps = (step,) if step else ()

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
                left = f"{self._name} is left behind: {exc}. Mend: {self._deletion}"
                raise HostError(left) from exc
        logger.info("%s is removed", self._name)

    @property
    def _deletion(self) -> str:
        return " ".join(self._tool.delete(self._name))
