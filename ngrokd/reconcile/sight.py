"""What has to be known of this machine before it can be decided what to change on it."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping

from ngrokd.config import NetSettings
from ngrokd.errors import HostError, NoAddress
from ngrokd.model import Endpoint
from ngrokd.reconcile.desired import VIRTUAL, Facts, listen_interface
from ngrokd.reconcile.parts import Machine


class Sight:
    """Owner: main thread. What cannot be seen now is taken to be as it was."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._known: dict[str, str] = {}  # interface: its address when it was last seen
        self._ips: dict[str, str] = {}
        self._faults: dict[str, str] = {}
        self._reserved: Mapping[str, str] = {}

    def look(
        self, endpoints: Collection[Endpoint], net: NetSettings, addresses: Mapping[str, str]
    ) -> list[str]:
        """Once for each application; what could not be seen. `addresses`: of our hostnames."""
        problems = []
        try:
            reserved = self._machine.reserved_names(addresses)
            ours = {endpoint.target.hostname for endpoint in endpoints}
            self._reserved = self._machine.why_reserved(reserved.intersection(ours))
        except HostError as exc:
            problems.append(str(exc))
        self._ips, self._faults = {}, {}
        names = {net.listen_interface} if endpoints else set()
        if net.overrides:
            names = {listen_interface(net, endpoint.target.hostname) for endpoint in endpoints}
        for name in sorted(names - {VIRTUAL}):
            try:
                self._ips[name] = self._known[name] = self._address(name)
            except NoAddress as exc:
                self._known.pop(name, None)
                self._faults[name] = str(exc)
            except HostError as exc:
                if name == net.listen_interface:
                    problems.append(f"net.listen_interface: {name}: {exc}")
                else:
                    problems.append(f"net.overrides: {name}: {exc}")
                if name in self._known:
                    self._ips[name] = self._known[name]
                else:
                    self._faults[name] = str(exc)
        return problems

    def facts(
        self, subnet: str, loops: Iterable[str], forbidden_below: int, taken: Collection[int]
    ) -> Facts:
        """With what was met since: low ports that are refused, network ports that are taken."""
        return Facts(
            subnet=subnet,
            reserved_names=self._reserved,
            loop_names=frozenset(loops),
            interface_ips=self._ips,
            interface_faults=self._faults,
            forbidden_below=forbidden_below,
            taken_ports=taken,
        )

    def _address(self, name: str) -> str:
        """Of an interface; an address is its own."""
        try:
            return str(ipaddress.IPv4Address(name))
        except ipaddress.AddressValueError:
            return self._machine.interface_address(name)
