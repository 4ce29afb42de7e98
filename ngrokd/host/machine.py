"""This machine behind one object: addresses, names, listening sockets.

Everything that needs root goes through it, and it takes and returns plain values only.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.errors import HostError, InterfaceTaken, StateError
from ngrokd.host import (
    command,
    elsewhere,
    hosts,
    lastrun,
    listening,
    lowports,
    netif,
    platforms,
    resolvercache,
)
from ngrokd.host.claims import Claims
from ngrokd.host.elsewhere import Places
from ngrokd.host.holders import Holders
from ngrokd.host.hostsfile import HostsFile
from ngrokd.host.lowports import Start
from ngrokd.host.netif.backend import Backend
from ngrokd.host.netif.loopback import Loopback
from ngrokd.host.netif.scene import Reader
from ngrokd.host.netif.system import Past, System
from ngrokd.host.netif.watch import NetworkWatch
from ngrokd.host.resolvercache import ResolverCache
from ngrokd.model import Address, HostsStatus, InterfaceMode, InterfaceStatus

logger = logging.getLogger(__name__)


class Machine:
    """The interface, the hosts section, and the right to listen. Owner: main."""

    def __init__(
        self,
        net: NetSettings,
        run: command.Runner = command.run,
        system: Optional[System] = None,
        state_folder: Optional[Path] = None,
        flush: Sequence[platforms.Argv] = platforms.resolver_flush(),
    ) -> None:
        """`system`: None: this machine's. `state_folder`: for a copy of the hosts file and notes of
        what is used; None: none. `flush`: the commands after which this platform's resolver reads
        the hosts file again."""
        self._net = net
        self._folder = state_folder
        self._run = run
        self._system = system or netif.here()
        self._reader: Optional[Reader] = None
        marker = hosts.marker_of(net.interface_name)
        self._hosts = HostsFile(Path(net.hosts_file), marker, state_folder)
        self._resolver = ResolverCache(resolvercache.commands(net, flush), run)
        self._holders = Holders()
        self._start: Optional[Start] = None  # not asked for yet
        self._claims = Claims(net)
        self._is_anothers = False  # another daemon has the interface or the section
        self._is_noted = False  # what this run uses of the machine, for the next one
        self._backend: Backend = Loopback(net.subnet)  # nothing to take away until `prepare`

    def prepare(self, known: Collection[str] = ()) -> InterfaceStatus:
        """Makes the interface, or adopts what a crashed run left; else the loopback range.

        `known`: addresses of earlier runs, which help to prove that what is there is ours.
        Raises HostError only for another daemon that has this interface or this section of the
        hosts file; else the notes of the status say what is not as configured, and the mend.
        """
        try:
            why = self._claims.take()
        except HostError:
            self._is_anothers = True
            raise
        if why:
            logger.warning("a second ngrokd would not be kept from what this one has: %s", why)
        self._hosts.remove_orphans()
        self._note_use(known)
        try:
            if self._hosts.mend():
                self._resolver.flush()
        except HostError as exc:
            logger.warning("%s", exc)  # tried again, and told in the status, at each publication
        with self._claims.making():  # of two with one subnet the second must see the first
            self._backend = self._system.prepare(
                self._net, self._run, self._reading(), Past(known, self._folder)
            )
        return self._backend.status

    def watch_networks(self) -> Optional[NetworkWatch]:
        """Tells when a network comes that is not ours; `None` where the kernel refuses that."""
        return netif.watch(self._net, self._system)

    def _note_use(self, known: Collection[str]) -> None:
        """What a crashed run made with other settings goes, before anything is made with these."""
        if self._folder is None:
            return
        lastrun.remove_orphans(self._folder)
        removed, left = lastrun.remove_earlier(
            self._folder, self._net, known, self._run, self._system
        )
        for line in removed:
            logger.info("left by an earlier run with other settings: %s", line)
        for line in left:
            logger.warning("left by an earlier run with other settings, and stays: %s", line)
        try:
            lastrun.begin(self._folder, self._net)
            self._is_noted = True
        except StateError as exc:
            logger.warning("if settings of net change after a crash, its traces stay: %s", exc)

    def status(self) -> InterfaceStatus:
        """The interface in use now; it may change when a lost one is made again."""
        return self._backend.status

    def addresses(self) -> frozenset[str]:
        """Endpoint addresses on the interface now, without the gateway. Raises HostError.

        InterfaceTaken: they are surely not there. A name that led to one would lead out of this
        machine, by its default route.
        """
        try:
            return self._backend.addresses()
        except HostError as exc:
            if self._is_gone():
                raise InterfaceTaken(str(exc)) from exc
            raise

    def add_addresses(self, ips: Iterable[str]) -> dict[str, str]:
        """Adds them; returns those refused, with the reason."""
        return self._backend.add(ips)

    def remove_addresses(self, ips: Iterable[str]) -> dict[str, str]:
        """Removes them; returns those refused, with the reason."""
        return self._backend.remove(ips)

    def publish(self, names: Mapping[str, str]) -> bool:
        """Makes our hosts section exactly `names` (hostname: address); True if written.

        Raises HostError; no line was changed then.
        """
        is_written = self._hosts.publish(names)
        if is_written:
            self._resolver.flush()
        return is_written

    def hosts(self) -> HostsStatus:
        """What came of the last `publish`."""
        return self._hosts.status

    def reserved_names(self, addresses: Mapping[str, str]) -> frozenset[str]:
        """Names, in lower case, that mean something else on this machine already.

        `addresses`: those of our hostnames, with which they may stand anywhere in the hosts file.
        """
        own = socket.gethostname().lower()
        short = own.partition(".")[0]
        full = {f"{short}.{domain}" for domain in self._domains()}
        return self._hosts.reserved(addresses) | full | {own, short}

    def why_reserved(self, names: Iterable[str]) -> dict[str, str]:
        """Of these `reserved_names`: what on this machine has each."""
        wanted = frozenset(names)
        found = self._hosts.who_has(wanted) if wanted else {}
        return {
            name: found.get(name, "it is the machine's own, by its host name") for name in wanted
        }

    def _domains(self) -> tuple[str, ...]:
        """What other programs put behind this machine's short name; `local` is mDNS's."""
        return (*elsewhere.search_domains(Places()), "local")

    def bind(self, address: Address) -> socket.socket:
        """A listening, non-blocking socket. Raises BindError or PortForbidden."""
        return listening.listen(address, self._holders, self._how_started)

    def _how_started(self) -> Start:
        if self._start is None:
            self._start = lowports.how_started()
        return self._start

    def first_free_port(self) -> int:
        """From which port on listening needs no right."""
        return listening.first_free_port()

    def ports_in_use(self) -> frozenset[int]:
        """Where anybody listens, on whichever address; none where /proc does not tell."""
        return self._holders.ports()

    def interface_address(self, name: str) -> str:
        """The first IPv4 address of any interface. Raises NoAddress, or HostError: not known."""
        return netif.interface_address(name, self._reading())

    def close(self) -> None:
        """Takes names, addresses and interface off the machine. Twice is harmless.

        Every step runs; then raises HostError with what could not be taken away, if anything.
        """
        if self._is_anothers:
            return
        faults = []
        for step in (lambda: self.publish({}), self._backend.close):
            try:
                step()
            except HostError as exc:
                faults.append(str(exc))
        self._resolver.close()
        self._claims.release()
        if self._reader is not None:
            self._reader.close()
        if faults:
            raise HostError("\n".join(faults))
        self._forget_use()

    def _forget_use(self) -> None:
        """Nothing is left that the next run would have to know of."""
        if self._folder is None or not self._is_noted:
            return
        self._is_noted = False
        try:
            lastrun.end(self._folder, self._net)
        except StateError as exc:  # the next run looks, and finds nothing
            logger.warning("%s", exc)

    def _is_gone(self) -> bool:
        """For sure: what cannot be looked at may well be there."""
        if self._backend.status.mode is not InterfaceMode.LOOPBACK:
            with contextlib.suppress(HostError):
                return self._reading().look().index_of(self._backend.status.name) is None
        return False

    def _reading(self) -> Reader:
        if self._reader is None:
            self._reader = netif.open_reader(self._net, self._run, self._system)
        return self._reader
