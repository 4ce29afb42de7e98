"""`last_run.json`: what runs that did not end cleanly have used of this machine.

A crashed run leaves its interface and its section of the hosts file. The next one takes up what its
own settings name; where somebody has changed them meanwhile, only this file still knows the others.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.errors import HostError, StateError
from ngrokd.host import command, files, leftovers
from ngrokd.host.netif.proof import NAME as INTERFACE
from ngrokd.host.netif.system import System

NAME = "last_run.json"
_KEYS = ("interface_name", "subnet", "hosts_file")


def used(folder: Path) -> tuple[NetSettings, ...]:
    """With these, oldest first; nothing is moved or made. What is damaged tells nothing."""
    try:
        document = json.loads(files.read_regular(folder / NAME))
        entries = document["used"]
        found = [_settings_of(entry) for entry in entries]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return ()
    return tuple(each for each in found if each is not None)


def earlier(folder: Path, net: NetSettings) -> tuple[NetSettings, ...]:
    """Those that `net` no longer names."""
    now = _noted(net)
    return tuple(each for each in used(folder) if _noted(each) != now)


def begin(folder: Path, net: NetSettings) -> None:
    """To be called before anything is made with `net`. Raises StateError."""
    _write(folder, (*earlier(folder, net), net))


def end(folder: Path, net: NetSettings) -> None:
    """Nothing of `net` is left on this machine. Raises StateError."""
    _write(folder, earlier(folder, net))


def remove_earlier(
    folder: Path,
    net: NetSettings,
    known: Collection[str],
    run: command.Runner = command.run,
    system: Optional[System] = None,
) -> tuple[list[str], list[str]]:
    """Removes what was made with other settings than `net`, as `leftovers.remove` does.

    A line for each thing removed, one for each that stays; what stays is tried again next time.
    """
    removed: list[str] = []
    left: list[str] = []
    staying = []
    for old in earlier(folder, net):
        try:
            gone, stays = leftovers.remove(old, frozenset(known), run, folder, system=system)
        except HostError as exc:  # a daemon lives that has it
            gone, stays = [], [str(exc)]
        removed += gone
        left += stays
        staying += [old] if stays else []
    now = [each for each in used(folder) if _noted(each) == _noted(net)]
    try:
        _write(folder, (*staying, *now))
    except StateError as exc:
        left.append(str(exc))
    return removed, left


def remove_orphans(folder: Path) -> list[Path]:
    """Removes what a run that was killed while it wrote left beside the file."""
    return files.remove_orphans(folder / NAME)


def _noted(net: NetSettings) -> dict[str, str]:
    return {key: str(getattr(net, key)) for key in _KEYS}


def _settings_of(entry: object) -> Optional[NetSettings]:
    """None: no such settings. They go into commands, so they are looked at again."""
    if not isinstance(entry, Mapping):
        return None
    words = {key: entry.get(key) for key in _KEYS}
    if not all(isinstance(word, str) for word in words.values()):
        return None
    name, subnet, hosts_file = (str(words[key]) for key in _KEYS)
    try:
        ipaddress.IPv4Network(subnet, strict=False)
    except ValueError:
        return None
    if not INTERFACE.fullmatch(name) or not Path(hosts_file).is_absolute() or "\0" in hosts_file:
        return None
    return replace(NetSettings(), interface_name=name, subnet=subnet, hosts_file=hosts_file)


def _write(folder: Path, nets: Collection[NetSettings]) -> None:
    path = folder / NAME
    if not nets:
        if not os.path.lexists(path):  # a folder that cannot be written would say otherwise
            return
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            raise StateError(f"{path} cannot be removed ({exc.strerror})") from exc
        return
    content = json.dumps({"used": [_noted(net) for net in nets]}, indent=2).encode() + b"\n"
    try:
        is_there = files.read_regular(path) == content
    except (OSError, ValueError):
        is_there = False
    if not is_there:
        files.write_atomic(path, content)
