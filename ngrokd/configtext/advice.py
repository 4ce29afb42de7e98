"""What a configuration may say and yet is seldom meant: one line each, with the mend.

It asks this machine which files and groups there are. It opens no file and asks no network.
"""

from __future__ import annotations

import grp
import ipaddress
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from ngrokd.config import Config, NetSettings, ServerSettings

_ANY_IP = "0.0.0.0"
_PRIVATE = "10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"


def lines(path: Optional[Path], config: Config) -> Iterator[str]:
    """Each line of advice; `path` is the configuration file, None if there is none."""
    yield from _on_net(config.net)
    yield from _on_server(config.server)
    if config.api.key and path and _every_user_can_read(path):
        mend = f"chmod 600 {shlex.quote(str(path))}"
        yield (
            "the configuration file can be read by every user;"
            f" if the API key is in it: {mend}"
        )


def _on_net(net: NetSettings) -> Iterator[str]:
    if not ipaddress.IPv4Network(net.subnet).is_private:
        yield (
            f"net.subnet: {net.subnet} is not private: other hosts that have its addresses are out"
            f" of this machine's reach; choose a part of {_PRIVATE}"
        )
    overrides = {f"net.overrides.{name}": value for name, value in net.overrides.items()}
    for name, value in {"net.listen_interface": net.listen_interface, **overrides}.items():
        if value == _ANY_IP:
            yield f"{name}: {_ANY_IP} lets every host that reaches this one use endpoints"


def _on_server(server: ServerSettings) -> Iterator[str]:
    if not ipaddress.IPv4Address(server.health_address).is_loopback and server.health_port:
        yield f"server.health_address: {server.health_address} is open to other hosts"
    if server.ca_file and _is_missing(Path(server.ca_file)):
        yield (
            f"server.ca_file: {server.ca_file} does not exist, and without it no endpoint can be"
            " reached: put a PEM file there, or leave the key empty"
        )
    folder = Path(server.log_file).parent
    if server.log_file not in ("", "syslog") and _is_missing(folder):
        yield (
            f"server.log_file: the folder {folder} does not exist, and without it ngrokd does not"
            f" start: mkdir -p {shlex.quote(str(folder))}, or name another file"
        )
    if server.socket_group and not _is_group(server.socket_group):
        yield (
            f"server.socket_group: this machine has no group {server.socket_group}, and without it"
            f" ngrokd does not start: groupadd --system {server.socket_group}, or name another one"
        )


def _is_missing(path: Path) -> bool:
    """It is surely not there. What may not be looked at is left to who opens it."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _every_user_can_read(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & 0o004)
    except OSError:  # it was read a moment ago, and is gone or out of reach now
        return False


def _is_group(name: str) -> bool:
    """As `control` takes it: a name this machine knows, or a number."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return name.isascii() and name.isdigit()
    return True
