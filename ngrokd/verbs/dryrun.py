"""`ngrokd --dry-run`: prints what a start would do on this machine, and changes nothing."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional
from urllib.parse import urlsplit

from ngrokd import configfile
from ngrokd.config import DEFAULT_CONFIG_PATH, DEFAULT_INGRESS, Config
from ngrokd.errors import ConfigError, HostError
from ngrokd.host import command, files, hosts, leftovers, netif, platforms, resolvercache
from ngrokd.host.holders import Holders
from ngrokd.host.machine import Machine
from ngrokd.host.netif.rehearsal import Rehearsal, Step
from ngrokd.host.netif.scene import Reader
from ngrokd.host.netif.system import Past, System
from ngrokd.memory import Memory
from ngrokd.model import Address, Discovered
from ngrokd.reconcile import plan as planning
from ngrokd.reconcile.desired import VIRTUAL, Desired, Facts, desire, listen_interface
from ngrokd.verbs import earlier
from ngrokd.verbs.cleanup import Means, refuse_running
from ngrokd.verbs.earlier import Left

DONE = 0


@dataclass(frozen=True)
class Script:
    """What is told, in the order of a start."""

    remarks: tuple[str, ...]
    left: tuple[str, ...]  # by earlier runs, which goes first
    interface: tuple[Step, ...]
    addresses: tuple[Step, ...]
    section: str
    flush: tuple[platforms.Argv, ...]  # once that has changed
    refused: tuple[str, ...]


def run(args: argparse.Namespace, say: Callable[[str], None]) -> int:
    """The exit status; `say` gets all of it. Raises ConfigError where a start would."""
    path = Path(args.config or DEFAULT_CONFIG_PATH)
    environ = os.environ
    remarks = []
    if os.path.lexists(path):
        config = configfile.load(path, environ)
    elif str(path) == DEFAULT_CONFIG_PATH:
        config = configfile.parse("", str(path), environ)
        remarks.append(f"{path} would be written, with the defaults")
    else:
        raise ConfigError([f"{path}: there is no such file"])
    reader = netif.open_reader(config.net, command.run)
    try:
        script = rehearse(config, command.run, reader)
    finally:
        reader.close()
    say("\n".join(lines(config, script, remarks)))
    return DONE


def rehearse(
    config: Config,
    runner: command.Runner,
    reader: Reader,
    flush: Sequence[platforms.Argv] = platforms.resolver_flush(),
    system: Optional[System] = None,
) -> Script:
    """From the last known endpoints and addresses, without a question to ngrok."""
    remembered, found, unread = Memory(config.state_folder).glimpse()
    system = system or netif.here()
    known = frozenset(remembered.addresses.values())
    past = Past(known, config.state_folder)
    left = earlier.look(config, known, Means(runner, system, flush))
    reader = earlier.Cleared(reader, left.interfaces)
    made = system.rehearse(config.net, runner, reader, past)
    machine = Machine(config.net, runner, system)
    reserved = _reserved(machine, found, remembered.addresses, left)
    facts = replace(_facts(config, made, found, reader), reserved_names=reserved)
    desired = desire(found, config.net, facts, remembered)
    holders = Holders()
    taken = _taken(desired, holders)
    others = {at.port for at in taken if desired.listeners[at].target in desired.moved}
    if others:  # as a start: the next port that nobody has
        facts = replace(facts, taken_ports=holders.ports() | others)
        desired = desire(found, config.net, facts, remembered)
        taken = _taken(desired, holders)
    listening = {at: route for at, route in desired.listeners.items() if at not in taken}
    names = planning.published_names(listening, desired.addresses)
    refused = [*_running(config), *left.stays, *made.refused]
    refused += [f"{each.url or each.id}: {each.reason}" for each in desired.skipped]
    refused += [f"{to}: {why}" for to, why in desired.failed.items()]
    refused += [f"{desired.listeners[at].target}: {why}" for at, why in taken.items()]
    refused += _unwritable(config, names)
    remarks = [*unread, *made.remarks, *_elsewhere(desired, taken)]
    if not found.endpoints:
        remarks.append("no endpoints are known yet: ngrok is asked for them at a start")
    return Script(
        tuple(remarks),
        (*left.would, *([] if names else _stale(config, flush))),
        made.steps,
        tuple(made.for_addresses(desired.addresses)),
        hosts.render(b"", names, hosts.marker_of(config.net.interface_name)).decode(),
        resolvercache.commands(config.net, flush),
        tuple(refused),
    )


def lines(config: Config, script: Script, remarks: list[str]) -> Iterator[str]:
    """A shell would take them: what is no command is a comment."""
    yield "# what a start would do on this machine; nothing is changed"
    for remark in [*remarks, *script.remarks]:
        yield f"# {remark}"
    if script.left:
        yield "# left by earlier runs, and removed first:"
        yield from script.left
    for title, steps in (("interface", script.interface), ("addresses", script.addresses)):
        if steps:
            yield f"# {title}:"
        for step in steps:
            text = shlex.join(step.argv)
            yield f"# or, where that is refused: {text}" if step.instead else text
    if script.section:
        yield f"# to stand in {config.net.hosts_file}:"
        yield from (f"#\t{line}" for line in script.section.splitlines())
        yield from (shlex.join(argv) for argv in script.flush)
    for refused in script.refused:
        yield f"# refused: {refused}"


def _facts(
    config: Config, made: Rehearsal, found: Discovered, reader: Reader
) -> Facts:
    interfaces = {listen_interface(config.net, e.target.hostname) for e in found.endpoints}
    ips, faults = {}, {}
    for name in sorted(interfaces - {VIRTUAL}):
        try:
            ips[name] = _interface_ip(name, reader)
        except HostError as exc:
            faults[name] = str(exc)
    ingress = config.ingress_endpoint or DEFAULT_INGRESS
    return Facts(
        subnet=made.subnet,
        loop_names=frozenset((urlsplit(config.api.url).hostname or "", ingress.rpartition(":")[0])),
        interface_ips=ips,
        interface_faults=faults,
        held=dict.fromkeys(made.occupied, ()),
    )


def _reserved(
    machine: Machine, found: Discovered, addresses: Mapping[str, str], left: Left
) -> Mapping[str, str]:
    """Of the hostnames: what on this machine has each, once that has gone which is left."""
    ours = {endpoint.target.hostname for endpoint in found.endpoints}
    return machine.why_reserved((machine.reserved_names(addresses) - left.names) & ours)


def _interface_ip(name: str, reader: Reader) -> str:
    try:
        return str(ipaddress.IPv4Address(name))
    except ipaddress.AddressValueError:
        return netif.interface_address(name, reader)


def _taken(desired: Desired, holders: Holders) -> Mapping[Address, str]:
    """Where something listens already, as far as /proc tells."""
    held = {at: holders.of(at) for at in desired.listeners}
    until = "until that ends, clients of this port reach that program"
    return {at: f"{at} is in use by {who}: {until}" for at, who in held.items() if who}


def _elsewhere(desired: Desired, taken: Collection[Address]) -> Iterator[str]:
    """Where to connect to what does not listen on its own port."""
    for at, route in sorted(desired.listeners.items()):
        if route.target in desired.moved and at not in taken:
            yield f"{route.target} would listen on {at}"


def _running(config: Config) -> list[str]:
    try:
        refuse_running(config)
    except HostError as exc:
        return [f"a start: {exc}"]
    return []


def _stale(config: Config, flush: Sequence[platforms.Argv]) -> list[str]:
    """How names go that lead nowhere; why they would stay tells `_unwritable`."""
    with contextlib.suppress(HostError, OSError):
        return leftovers.section(config.net, flush)
    return []


def _unwritable(config: Config, names: Mapping[str, str]) -> list[str]:
    """Why the names would not be published."""
    path = Path(config.net.hosts_file)
    try:
        hosts.render(files.read_regular(path), names, hosts.marker_of(config.net.interface_name))
    except FileNotFoundError:
        return []
    except OSError as exc:
        return [f"names: {path} cannot be read ({exc.strerror})"]
    except HostError as exc:
        return [f"names: {path}: {exc}"]
    return []
