"""A virtual interface of our own on Linux: dummy, else tun, else the loopback range."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import iproute, loopback
from ngrokd.host.netif.backend import Backend
from ngrokd.host.netif.loopback import Loopback
from ngrokd.model import InterfaceMode, InterfaceStatus

logger = logging.getLogger(__name__)

# One `ip` takes them all in one process; more at once would only delay the first error.
_BATCH_SIZE = 1000

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
    """The first IPv4 address of any interface. Raises HostError."""
    try:
        answer = run([*iproute.SHOW_ADDRESSES, "dev", name])
    except CommandError as exc:
        if iproute.is_missing(exc.stderr):
            raise HostError(f"there is no interface {name}; `ip link` lists them") from exc
        raise
    held = iproute.held_addresses(answer)
    if not held:
        raise HostError(f"interface {name} has no IPv4 address; see `ip addr show dev {name}`")
    return held[0].ip


class VirtualInterface:
    """A dummy or tun interface with the gateway and the endpoint addresses. Owner: main."""

    def __init__(self, name: str, subnet: str, run: Runner) -> None:
        self._name = name
        self._network = ipaddress.IPv4Network(subnet, strict=False)
        self._gateway = f"{self._network.network_address + 1}/{self._network.prefixlen}"
        self._run = run
        self._mode = InterfaceMode.DUMMY
        self._takes_batches = True

    @property
    def status(self) -> InterfaceStatus:
        return InterfaceStatus(self._name, str(self._network), self._mode)

    def prepare(self) -> None:
        """Makes it, or adopts what a crashed run left. HostError: then nothing of it is left."""
        if not _NAME.fullmatch(self._name):
            raise HostError(
                f"`{self._name}` cannot be the name of an interface: up to 15 letters, digits, "
                "`_`, `.` and `-`. Mend: set net.interface_name"
            )
        found = self._kind()
        if found:
            self._refuse_foreign(found)
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
            self._mode = _MODES[found]
            logger.info("%s is there, left by an earlier run: adopted as %s", self._name, found)
        else:
            self._make()
        self._bring_up()

    def addresses(self) -> frozenset[str]:
        return frozenset(self._held())

    def add(self, ips: Iterable[str]) -> dict[str, str]:
        wanted = [str(ipaddress.IPv4Address(ip)) for ip in ips]
        if not wanted:
            return {}
        try:
            if not self._kind():
                logger.warning("%s is gone: another program removed it. Made again", self._name)
                self._make()
                self._bring_up()
        except HostError as exc:
            return dict.fromkeys(wanted, str(exc))
        return self._each(
            {ip: iproute.replace_address(self._name, f"{ip}/32") for ip in wanted}
        )

    def remove(self, ips: Iterable[str]) -> dict[str, str]:
        wanted = set(ips)
        try:
            held = self._held()
        except HostError as exc:
            return dict.fromkeys(wanted, str(exc))
        return self._each(
            {
                ip: iproute.delete_address(self._name, text)
                for ip, text in held.items()
                if ip in wanted
            }
        )

    def close(self) -> None:
        found = self._kind()
        if not found:
            return
        if found not in _MODES:
            raise HostError(
                f"{self._name} is left as it is: it is no longer ours but of kind {found}. "
                f"Mend, if nobody needs it: ip link delete dev {self._name}"
            )
        self._delete()

    def _kind(self) -> str:
        """"dummy", "tun", another word for what is not ours; "": there is no such interface."""
        try:
            return iproute.link_kind(self._run(iproute.show_link(self._name)))
        except CommandError as exc:
            if iproute.is_missing(exc.stderr):
                return ""
            if not iproute.is_busybox(exc.stderr):
                raise
        try:
            answer = self._run(iproute.show_link_of_busybox(self._name))
        except CommandError as exc:
            if iproute.is_missing(exc.stderr):
                return ""
            raise
        return iproute.link_kind_of_busybox(answer)

    def _refuse_foreign(self, kind: str) -> None:
        """Adopting deletes it in the end: so only what can be nobody else's is adopted."""
        held = iproute.held_addresses(self._run(iproute.show_addresses_of(self._name)))
        strange = [one.text for one in held if not self._is_inside(one.ip)]
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
                continue
            self._mode = mode
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
            self._run(iproute.replace_address(self._name, self._gateway))
            self._run(iproute.up(self._name))
        except CommandError:
            self._delete()
            raise
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

    def _held(self) -> dict[str, str]:
        """Address and the same with its prefix length, for each endpoint address it carries."""
        try:
            answer = self._run(iproute.show_addresses_of(self._name))
        except CommandError as exc:
            if iproute.is_missing(exc.stderr):
                return {}
            raise
        return {
            held.ip: held.text
            for held in iproute.held_addresses(answer)
            if held.text != self._gateway and self._is_inside(held.ip)
        }

    def _each(self, commands: dict[str, list[str]]) -> dict[str, str]:
        """Runs the command of each address; the addresses whose command failed, with the reason."""
        failed: dict[str, str] = {}
        ips = list(commands)
        for start in range(0, len(ips), _BATCH_SIZE):
            part = {ip: commands[ip] for ip in ips[start : start + _BATCH_SIZE]}
            failed.update(self._batch(part) if self._takes_batches else self._singly(part))
        return failed

    def _batch(self, commands: dict[str, list[str]]) -> dict[str, str]:
        try:
            self._run(iproute.BATCH, iproute.as_batch(list(commands.values())))
        except CommandError as exc:
            failures = iproute.batch_failures(exc.stderr)
            if failures:
                ips = list(commands)
                return {ips[index]: reason for index, reason in failures.items()}
            if exc.returncode is None:  # it never ran: one by one would not either
                return dict.fromkeys(commands, str(exc))
            logger.info("this `ip` takes no batches: addresses are set one by one")
            self._takes_batches = False
            return self._singly(commands)
        return {}

    def _singly(self, commands: dict[str, list[str]]) -> dict[str, str]:
        failed = {}
        for ip, argv in commands.items():
            try:
                self._run(argv)
            except CommandError as exc:
                failed[ip] = iproute.complaint(exc.stderr) or str(exc)
        return failed
