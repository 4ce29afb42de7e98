"""Whom this machine asks for names, as its configuration says. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

MAX_INTERFACE_NAME = 16  # IFNAMSIZ, with its final NUL
MAX_SERVERS = 3  # MAXNS of the C library, which reads no more

# systemd-resolved answers here, and answers from the hosts file first.
STUBS = frozenset(("127.0.0.53", "127.0.0.54"))

# macOS writes a resolv.conf for old programs and asks by rules of its own, per domain.
_NOT_CONSULTED = "not consulted for DNS"


@dataclass(frozen=True)
class Resolvers:
    """systemd-resolved where it is to be had, else the servers, one after the other."""

    resolved: bool = False
    servers: tuple[str, ...] = ()


def resolvers(resolv_conf: str, nsswitch: str) -> Resolvers:
    """Whom a program of this machine asks for a name that is not in the hosts file.

    Texts of resolv.conf(5) and nsswitch.conf(5); "" for a file that is not there.
    """
    if _NOT_CONSULTED in resolv_conf:
        return Resolvers()
    services = _services(nsswitch) or ["dns"]
    asked: tuple[str, ...] = ()
    if "dns" in services:  # without any, the C library asks this machine
        asked = servers(resolv_conf) or ("127.0.0.1",)
    by_stub = bool(asked) and set(asked) <= STUBS
    return Resolvers("resolve" in services or by_stub, asked)


def servers(resolv_conf: str) -> tuple[str, ...]:
    """The addresses that are named, none by default."""
    return tuple(filter(_is_address, _values(resolv_conf, "nameserver")))[:MAX_SERVERS]


def domains(resolv_conf: str) -> tuple[str, ...]:
    """What is put behind a short name, in lower case; the last `domain` or `search` line counts."""
    found: tuple[str, ...] = ()
    for line in resolv_conf.splitlines():
        words = line.split()
        if words[:1] == ["search"]:
            found = tuple(words[1:])
        elif words[:1] == ["domain"]:
            found = tuple(words[1:2])
    return tuple(each.lower().strip(".") for each in found if each.strip("."))


def _is_address(server: str) -> bool:
    """The C library passes over what is none, too. An IPv6 address may name its interface."""
    ip, _, interface = server.partition("%")
    try:
        ipaddress.ip_address(ip)
    except ValueError:
        return False
    return interface.isascii() and len(interface) < MAX_INTERFACE_NAME


def _values(text: str, keyword: str) -> Iterator[str]:
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == keyword:
            yield words[1]


def _services(nsswitch: str) -> list[str]:
    """Of the last `hosts:` line; none where there is no such file, as with musl."""
    found: list[str] = []
    for line in nsswitch.splitlines():
        words = line.partition("#")[0].replace("hosts:", "hosts: ", 1).split()
        if words[:1] == ["hosts:"]:
            found = [word for word in words[1:] if not word.startswith("[")]
    return found
