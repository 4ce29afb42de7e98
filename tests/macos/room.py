"""What the tests of macOS's network do again and again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ngrokd.config import NetSettings
from ngrokd.host.netif import bsd
from ngrokd.host.netif.aliasrecord import NAME
from ngrokd.host.netif.backend import Backend
from ngrokd.host.netif.darwin import DarwinSystem
from ngrokd.host.netif.system import Past
from ngrokd.model import Discovered, Endpoint, Target
from tests.macos.mac import Mac

DEFAULTS = NetSettings()
UTUN = replace(DEFAULTS, interface_name="utun")


def net(**values: Any) -> NetSettings:
    """The defaults, but for these."""
    return replace(DEFAULTS, **values)


def prepare(mac: Mac, settings: NetSettings, folder: Path) -> Backend:
    """As a start with that state folder does."""
    system = DarwinSystem(mac.open_utun)
    return system.prepare(settings, mac, system.open_reader(settings, mac), Past((), folder))


def taken(mac: Mac, ip: str) -> None:
    """By somebody else."""
    mac(bsd.add_alias(ip))


def recorded(folder: Path) -> list[str]:
    """What `aliases.json` says."""
    file = folder / NAME
    return list(json.loads(file.read_text())["addresses"]) if file.exists() else []


def leftovers_of(mac: Mac, folder: Path) -> list[str]:
    """Removes them; a line for each."""
    return DarwinSystem().remove_leftovers(DEFAULTS, mac, Past((), folder))


def discovered(*names: str) -> Discovered:
    """An endpoint for each name, on port 80."""
    targets = [Target(name, 80) for name in names]
    return Discovered(
        tuple(Endpoint(to, "tcp", f"tcp://{to.hostname}:80", (to.hostname,)) for to in targets)
    )
