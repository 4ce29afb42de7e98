"""Looks at this machine: its networks, the hosts file, its resolver, what listens, limits."""

from __future__ import annotations

import ipaddress
import os
import re
import resource
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.control.answers import number, text, texts
from ngrokd.doctor import proctables
from ngrokd.doctor.daemon import Asked
from ngrokd.doctor.host import HostsFacts, InterfaceFacts, Limits, published
from ngrokd.errors import HostError
from ngrokd.host import command, files, hosts, netif
from ngrokd.host.command import CommandError, Runner
from ngrokd.host.holders import Holders
from ngrokd.host.netif import loopback, scene
from ngrokd.host.netif.system import System
from ngrokd.model import Address, InterfaceMode
from ngrokd.process.limits import LEAST_DESCRIPTORS

SYSTEM_HOSTS = "/etc/hosts"
MAX_HOSTS_BYTES = 64 << 20  # a block list of 200,000 lines has 8 MB
ASKED_NAMES = 5  # each is a process
GETENT_FINDS_NONE = 2  # its exit status: getent(1)
PROC = Path("/proc")

# Of the daemon's answers: what may be given to this machine's programs as it is.
_NAME = re.compile(r"(?i)[a-z0-9_*][a-z0-9_.*-]{0,252}")
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")

_BEGIN = "# BEGIN "
_UNSEEABLE = "networks cannot be looked at: {}"

# What `Holders` says of a program that it may not look into.
_UNSEEN = re.compile(
    r"a program of [^()]* on ([\d.]+|\[[\da-f:.]+\]):([0-9]{1,5}) \(which one: [^()]*\)"
)


def as_told(net: NetSettings, asked: Asked) -> NetSettings:
    """The settings that the daemon goes by, where it tells them: the file may be of another one,
    closed to this user, or changed since."""
    name = text(asked.status, "interface", "name")
    subnet = text(asked.status, "interface", "subnet")
    is_loopback = text(asked.status, "interface", "mode") == InterfaceMode.LOOPBACK.value
    path = text(asked.status, "hosts", "path")
    # `lo` and a network of its range stand in for what is set, and our section keeps its name.
    is_named = bool(_INTERFACE.fullmatch(name)) and not is_loopback
    return replace(
        net,
        interface_name=name if is_named else net.interface_name,
        subnet=subnet if _is_network(subnet) and not is_loopback else net.subnet,
        hosts_file=path if path.startswith("/") and path.isprintable() else net.hosts_file,
    )


def at_interface(net: NetSettings, run: Runner = command.run) -> InterfaceFacts:
    """What there is under its name now, and who else uses the subnet."""
    if loopback.holds(net.subnet):
        return InterfaceFacts(net.interface_name, net.subnet)
    try:
        seen = _look(net, run)
    except (HostError, OSError) as exc:
        fault = _UNSEEABLE.format(exc)
        return InterfaceFacts(net.interface_name, net.subnet, fault=fault)
    held = seen.addresses_of(net.interface_name)
    ips = frozenset(each.partition("/")[0] for each in held)
    conflict = scene.conflict(seen, net.interface_name, ipaddress.IPv4Network(net.subnet))
    is_there = seen.index_of(net.interface_name) is not None
    return InterfaceFacts(net.interface_name, net.subnet, is_there, ips, conflict)


def with_aliases(
    facts: InterfaceFacts,
    asked: Asked,
    run: Runner = command.run,
    system: Optional[System] = None,
) -> InterfaceFacts:
    """With what the loopback interface has, where it has not its whole range by itself."""
    name = text(asked.status, "interface", "name")
    is_loopback = text(asked.status, "interface", "mode") == InterfaceMode.LOOPBACK.value
    if not is_loopback or name in ("", loopback.INTERFACE) or facts.fault:
        return facts
    try:
        held = _look(NetSettings(), run, system).addresses_of(name)
    except (HostError, OSError) as exc:
        return replace(facts, fault=_UNSEEABLE.format(exc))
    return replace(facts, aliases=frozenset(each.partition("/")[0] for each in held))


def marker(net: NetSettings, asked: Asked) -> str:
    """Of our section: as it is told, else by the name of the interface. That may have changed since
    (renamed), or be what the kernel chose."""
    first = next(iter(texts(asked.status, "hosts", "lines")), "")
    return first[len(_BEGIN) :] if first.startswith(_BEGIN) else hosts.marker_of(net.interface_name)


def at_hosts(net: NetSettings, marker: str = "") -> HostsFacts:
    """Our section, as it stands there between the words `marker`; "": by the interface's name."""
    path, marker = Path(net.hosts_file), marker or hosts.marker_of(net.interface_name)
    is_the_resolvers = os.path.realpath(path) == os.path.realpath(SYSTEM_HOSTS)
    try:
        content = files.read_regular(path, MAX_HOSTS_BYTES)
        hosts.render(content, {}, marker)  # says what is wrong with the markers
    except FileNotFoundError:
        return HostsFacts(str(path), is_the_resolvers)
    except (OSError, ValueError) as exc:
        return HostsFacts(str(path), is_the_resolvers, fault=f"{path} cannot be read: {exc}")
    except HostError as exc:
        names = dict(hosts.entries(content, marker))
        return HostsFacts(str(path), is_the_resolvers, names, f"{path}: {exc}")
    return HostsFacts(str(path), is_the_resolvers, proctables.section(content, marker))


def at_resolver(
    asked: Asked, run: Runner = command.run
) -> dict[str, Optional[tuple[str, ...]]]:
    """What programs get for some of the names: first, last and some between."""
    names = sorted(filter(_NAME.fullmatch, published(asked)))
    step = max(1, (len(names) - 1) // (ASKED_NAMES - 1))
    return {name: _resolved(name, run) for name in names[::step][:ASKED_NAMES]}


def at_listeners(proc: Path = PROC) -> Optional[dict[Address, int]]:
    """Where this machine listens, and how many clients wait there; nobody is connected to."""
    try:
        return proctables.listening((proc / "net" / "tcp").read_text())
    except (OSError, ValueError):
        return None


def at_holders(asked: Asked, holders: Optional[Holders] = None) -> Asked:
    """With the programs named that the daemon may not see, and this user may."""
    using = holders or Holders()
    return replace(asked, endpoints=tuple(_with_program(each, using) for each in asked.endpoints))


def at_limits(asked: Asked, proc: Path = PROC) -> Limits:
    """Of the daemon's process; with none, what one started by this user would get."""
    pid = int(number(asked.status, "pid"))
    if not pid:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        return Limits(None if hard == resource.RLIM_INFINITY else hard, None, LEAST_DESCRIPTORS)
    try:
        allowed = proctables.open_files((proc / str(pid) / "limits").read_text())
    except OSError:
        return Limits(None)
    try:
        used = sum(1 for _ in (proc / str(pid) / "fd").iterdir())
    except OSError:
        return Limits(allowed, None, LEAST_DESCRIPTORS)
    return Limits(allowed, used, LEAST_DESCRIPTORS)


def _with_program(endpoint: dict[str, object], holders: Holders) -> dict[str, object]:
    reason = text(endpoint, "reason")
    unseen = _UNSEEN.search(reason)
    if unseen is None:
        return endpoint
    program = holders.of(Address(unseen[1].strip("[]"), int(unseen[2])))
    if not program or _UNSEEN.search(program):
        return endpoint
    return {**endpoint, "reason": reason.replace(unseen[0], program)}


def _is_network(subnet: str) -> bool:
    try:
        ipaddress.IPv4Network(subnet)
    except ValueError:
        return False
    return True


def _look(net: NetSettings, run: Runner, system: Optional[System] = None) -> scene.Scene:
    reader = netif.open_reader(net, run, system)
    try:
        return reader.look()
    finally:
        reader.close()


def _resolved(name: str, run: Runner) -> Optional[tuple[str, ...]]:
    try:
        return tuple(_first_words(run(["getent", "hosts", name]).splitlines()))
    except CommandError as exc:
        return () if exc.returncode == GETENT_FINDS_NONE else None


def _first_words(lines: Iterable[str]) -> list[str]:
    return [line.split()[0] for line in lines if line.strip()]
