"""What a dead daemon left on this machine: names, temporary files, addresses, interface."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host import command, files, hosts, journal, netif, orphans, platforms, resolvercache
from ngrokd.host.claims import Claims, is_served
from ngrokd.host.hostsfile import HostsFile
from ngrokd.host.netif.system import Past, System
from ngrokd.host.resolvercache import ResolverCache

SANDBOX_FOLDER = "/tmp/ngrokd-sandbox-*"  # where none is named with --dir
SANDBOX_RECORD = "daemon-as-started.yml"  # what `ngrokd --sandbox` runs with


def remove(
    net: NetSettings,
    known: frozenset[str],
    run: command.Runner = command.run,
    state_folder: Optional[Path] = None,
    flush: Sequence[platforms.Argv] = platforms.resolver_flush(),
    system: Optional[System] = None,
) -> tuple[list[str], list[str]]:
    """Removes them and makes nothing new: a line for each thing removed, one for each that stays.

    `known`: addresses that ngrokd remembers to have used; `system`: None: this machine's. Raises
    HostError, with nothing touched, if a daemon lives that has them; none can start meanwhile.
    """
    claims = Claims(net)
    why = claims.take()
    if why:
        raise HostError(
            f"whether a daemon lives that has the interface or the names cannot be told: {why}. "
            "Mend: run it as the user that ran ngrokd, with a /run or a TMPDIR that can be written"
        )
    try:
        file = HostsFile(
            Path(net.hosts_file), hosts.marker_of(net.interface_name), state_folder
        )
        removed, faults = _take_names(net, file)
        if removed:
            ResolverCache(resolvercache.commands(net, flush), run).flush_now()
        removed += [f"{path} is removed: it was written half" for path in file.remove_orphans()]
        try:
            past = Past(known, state_folder)
            removed += (system or netif.here()).remove_leftovers(net, run, past)
        except HostError as exc:
            faults.append(str(exc))
        return removed, faults
    finally:
        claims.release()


def _take_names(net: NetSettings, file: HostsFile) -> tuple[list[str], list[str]]:
    removed: list[str] = []
    faults: list[str] = []
    try:
        mended = file.mend()
        if mended:
            removed.append(f"{mended} was half written: it is put back")
        if file.publish({}):
            removed.append(f"{net.hosts_file}: ngrokd's section is removed")
    except HostError as exc:
        faults.append(str(exc))
    return removed, faults


def look(
    net: NetSettings,
    known: frozenset[str],
    run: command.Runner = command.run,
    state_folder: Optional[Path] = None,
    flush: Sequence[platforms.Argv] = platforms.resolver_flush(),
    system: Optional[System] = None,
) -> tuple[list[str], list[str]]:
    """What `remove` would do, and what would stay, as lines; nothing is changed."""
    stays: list[str] = []
    path = Path(net.hosts_file)
    would = half_written(path, state_folder)
    try:
        would += section(net, flush)
    except (HostError, OSError) as exc:
        stays.append(f"{net.hosts_file}: {exc}")
    would += orphans.look(path)
    try:
        past = Past(known, state_folder)
        commands, left = (system or netif.here()).would_remove(net, run, past)
    except HostError as exc:
        stays.append(str(exc))
    else:
        would += [shlex.join(argv) for argv in commands]
        stays += left
    return would, stays


def half_written(path: Path, state_folder: Optional[Path]) -> list[str]:
    """What would be done about a write of the hosts file that was cut short, as lines."""
    if state_folder is not None and os.path.lexists(noted := journal.place(state_folder, path)):
        return [f"# put {path} back if it is half written, as {noted} tells"]
    return []


def section(net: NetSettings, flush: Sequence[platforms.Argv]) -> list[str]:
    """How our section would be taken out, as lines. Raises HostError and OSError."""
    content = _content(Path(net.hosts_file))
    if hosts.render(content, {}, hosts.marker_of(net.interface_name)) == content:
        return []
    flushing = [shlex.join(argv) for argv in resolvercache.commands(net, flush)]
    return [f"# take ngrokd's section out of {net.hosts_file}", *flushing]


def of_others(net: NetSettings) -> list[str]:
    """What the hosts file has of ngrokds that are gone or unknown: for their own clean-up."""
    try:
        content = _content(Path(net.hosts_file))
    except (HostError, OSError):
        return []  # told by whoever had to write it
    found = hosts.others(content, hosts.marker_of(net.interface_name))
    return [
        f"{net.hosts_file} has names of another ngrokd (interface {each}), too; if that one is "
        f"gone, `ngrokd cleanup --config {_configuration(each)}` removes them"
        for each in found
        if not is_served(dataclasses.replace(net, interface_name=each))
    ]


def _configuration(interface: str) -> str:
    is_sandbox = interface.rstrip("0123456789") == "sandbox"
    return f"{SANDBOX_FOLDER}/{SANDBOX_RECORD}" if is_sandbox else "FILE"


def _content(path: Path) -> bytes:
    try:
        files.refuse_special(path)
        return path.read_bytes()  # whatever its size, as when it is written
    except FileNotFoundError:
        return b""
