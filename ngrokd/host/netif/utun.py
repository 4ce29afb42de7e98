"""A utun interface of macOS with the endpoint addresses, where net.interface_name asks for one.

Theory of operation. The interface is ours beyond doubt, and leaves nothing behind: the kernel makes
it for our socket, and takes it away, with its addresses and routes, when that is closed or when the
process ends, however it ends.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable
from typing import Callable, Optional

from ngrokd.config import NetSettings
from ngrokd.errors import HostError, InterfaceTaken
from ngrokd.host.command import Runner
from ngrokd.host.netif import bsd, utunsocket
from ngrokd.host.netif.reflector import Reflector
from ngrokd.host.netif.scene import Reader, Scene, Way
from ngrokd.host.netif.shellbatches import ShellBatches
from ngrokd.host.netif.utunsocket import UtunSocket
from ngrokd.model import InterfaceMode, InterfaceStatus

logger = logging.getLogger(__name__)

_TOLD_SINGLY = 20  # of addresses added at once; of more, how many


class Utun:
    """A Backend. Owner: main."""

    def __init__(
        self,
        net: NetSettings,
        run: Runner,
        reader: Reader,
        open_utun: Callable[[int], UtunSocket],
    ) -> None:
        number = bsd.utun_number(net.interface_name)
        self._number = -1 if number is None else number
        self._network = ipaddress.IPv4Network(net.subnet, strict=False)
        self._run = run
        self._reader = reader
        self._open = open_utun
        self._batches = ShellBatches(run)
        self._name = net.interface_name
        self._reflector: Optional[Reflector] = None
        self._ours: set[str] = set()
        self._notes: tuple[str, ...] = ()

    @property
    def status(self) -> InterfaceStatus:
        network, far = str(self._network), frozenset((bsd.far_end(self._network),))
        return InterfaceStatus(self._name, network, InterfaceMode.TUN, self._notes, far)

    def prepare(self) -> None:
        """Makes it. HostError: then nothing of it is left."""
        conflict = utunsocket.refuse_conflict(self._reader.look(), self._network)
        if conflict:
            raise HostError(conflict)
        self._make()

    def addresses(self) -> frozenset[str]:
        """Also mends what others did to it. Raises InterfaceTaken: they are gone with it."""
        if not self._is_there:
            return self._make_again()
        seen = self._reader.look()
        if seen.index_of(self._name) is None:
            return self._make_again()
        self._mend(seen)
        self._note(seen)
        return frozenset(_ips(seen, self._name)) & self._ours

    def add(self, ips: Iterable[str]) -> dict[str, str]:
        wanted = [str(ipaddress.IPv4Address(ip)) for ip in ips]
        if not self._is_there:  # whoever has that name by now gets no address from us
            return dict.fromkeys(wanted, f"{self._name} is gone: the next poll makes it again")
        commands = {ip: bsd.utun_add(self._name, ip, self._network) for ip in wanted}
        had = self._ours.copy()
        failed = self._batches.each(commands)
        self._ours.update(ip for ip in wanted if ip not in failed.keys() - self._batches.unsure)
        self._serve()
        again = had.intersection(wanted) - failed.keys()
        if again:
            lost = "%d addresses of %s were removed by another program: added again"
            logger.warning(lost, len(again), self._name)
        self._tell([ip for ip in wanted if ip not in failed])
        return failed

    def remove(self, ips: Iterable[str]) -> dict[str, str]:
        wanted = self._ours.intersection(ips)
        if not self._is_there:
            self._ours -= wanted
            return {}
        refused = self._batches.each({ip: bsd.utun_remove(self._name, ip) for ip in wanted})
        failed = {ip: why for ip, why in refused.items() if not bsd.is_gone(why)}
        self._ours -= wanted - failed.keys()
        self._serve()
        return failed

    def close(self) -> None:
        """With the socket the interface goes, and all that it has."""
        if self._reflector is None:
            return
        self._reflector.stop()
        self._reflector = None
        self._ours.clear()
        logger.info("%s is removed", self._name)

    @property
    def _is_there(self) -> bool:
        """The kernel has it for us: then nobody else has one of its name."""
        return self._reflector is not None and self._reflector.lives

    def _make_again(self) -> frozenset[str]:
        lost = self._name
        self.close()
        try:
            self._make()
        except HostError as exc:
            raise InterfaceTaken(f"{lost} is gone, and no other is there yet: {exc}") from exc
        logger.warning("%s is gone: another program removed it. Made again", lost)
        return frozenset()

    def _make(self) -> None:
        made = self._open(self._number)
        try:
            self._reflector = Reflector(made.sock)
        except OSError as exc:
            made.sock.close()
            mend = "raise `ulimit -n`"
            why = f"{made.name} cannot be made: {exc.strerror}. Mend: {mend}"
            raise HostError(why) from exc
        self._name = made.name
        try:
            logger.info('Created utun interface interface="%s"', self._name)
            self._set_address()
            self._set_route()
        except HostError:
            self.close()
            raise
        self._serve()
        self._reflector.start()

    def _set_address(self) -> None:
        self._run(bsd.utun_up(self._name, self._network))
        logger.info('Configured utun interface interface="%s" gateway="%s"', self._name, self._own)

    def _set_route(self) -> None:
        refusal = bsd.route_refusal(self._run(bsd.add_route(self._name, self._network)))
        if refusal:
            raise HostError(
                f"the route to {self._network} by {self._name} is refused: {refusal}. "
                "Mend: set net.subnet to a range that is free here"
            )
        logger.info('Added route for subnet subnet="%s" interface="%s"', self._network, self._name)

    @property
    def _own(self) -> str:
        return str(self._network.network_address + 1)

    def _serve(self) -> None:
        if self._reflector is not None:
            self._reflector.serve((self._own, *self._ours))

    def _mend(self, seen: Scene) -> None:
        index = seen.index_of(self._name)
        if self._own not in _ips(seen, self._name):
            lost = "%s lost its address %s: another program removed it. Added again"
            logger.warning(lost, self._name, self._own)
            self._run(bsd.utun_mend(self._name, self._network))
        if index in seen.down:
            logger.warning("%s was set down by another program: it is up again", self._name)
            self._run(bsd.set_up(self._name))
        if Way(self._network, self._name) not in seen.ways:
            try:
                self._set_route()
            except HostError as exc:  # endpoints are served by the routes of their own addresses
                logger.debug("%s", exc)

    def _note(self, seen: Scene) -> None:
        conflict = utunsocket.refuse_conflict(seen, self._network, self._name)
        notes = (conflict,) if conflict else ()
        if notes and notes != self._notes:
            logger.warning("%s", conflict)
        self._notes = notes

    def _tell(self, added: list[str]) -> None:
        if len(added) > _TOLD_SINGLY:
            logger.info("Added %d IPs to utun interface interface=%s", len(added), self._name)
            return
        for ip in added:
            logger.info('Added IP to utun interface ip="%s" interface="%s"', ip, self._name)


def _ips(seen: Scene, name: str) -> list[str]:
    return [text.partition("/")[0] for text in seen.addresses_of(name)]
