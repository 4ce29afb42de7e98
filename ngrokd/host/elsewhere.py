"""What names mean outside of this machine, asked past our own section of the hosts file.

`getaddrinfo` would answer from that section. So the name servers that this machine is configured
with are asked directly, and nobody else: those whom every program here would have asked.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from ngrokd.errors import ProtocolError
from ngrokd.host import dns, files, resolvconf, resolved
from ngrokd.host.dns import Answer, Kind, Question

logger = logging.getLogger(__name__)

PATIENCE_S = 2.0  # for one server; it answers in milliseconds, or the network is not well

Found = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Places:
    """Where this machine says whom to ask."""

    resolv_conf: Path = Path("/etc/resolv.conf")
    nsswitch: Path = Path("/etc/nsswitch.conf")
    resolved: Path = resolved.SOCKET
    port: int = 53


def look(names: Collection[str], places: Places, patience_s: float = PATIENCE_S) -> Found:
    """Name: its addresses, none if it has none; without those nobody could tell. Any thread.

    Takes at most `patience_s` for each of three servers.
    """
    read = files.text_of
    resolvers = resolvconf.resolvers(read(places.resolv_conf), read(places.nsswitch))
    if resolvers.resolved:
        try:
            return resolved.ask(names, places.resolved, time.monotonic() + 3 * patience_s)
        except (OSError, ProtocolError) as exc:
            logger.debug("systemd-resolved is not asked: %s", exc)
    found: Found = {}
    for server in resolvers.servers:
        left = [name for name in names if name not in found]
        if left:
            found.update(_ask(server, places.port, left, patience_s))
    return found


def search_domains(places: Places) -> tuple[str, ...]:
    """What this machine puts behind short names; () if it cannot be read."""
    return resolvconf.domains(files.text_of(places.resolv_conf))


def _ask(server: str, port: int, names: Iterable[str], patience_s: float) -> Found:
    """All at once; what is not answered in time says nothing."""
    questions = [Question(0, name, kind) for name in names for kind in Kind]
    numbers = secrets.SystemRandom().sample(range(1 << 16), len(questions))
    asked = {n: Question(n, q.name, q.kind) for n, q in zip(numbers, questions)}
    answered: dict[Question, Answer] = {}
    with contextlib.suppress(OSError):  # no route, or nobody there: silence, too
        where = socket.getaddrinfo(
            server, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )[0]
        with socket.socket(where[0], socket.SOCK_DGRAM) as link:
            link.connect(where[4])  # so that only this server's datagrams come
            link.settimeout(patience_s)
            for question in asked.values():
                link.send(dns.encode(question))
            _collect(link, asked, answered, time.monotonic() + patience_s)
    return _by_name(answered)


def _collect(
    link: socket.socket,
    asked: dict[int, Question],
    answered: dict[Question, Answer],
    until: float,
) -> None:
    """Until all have come; raises OSError when no more come."""
    waiting = dict(asked)
    while waiting and (left := until - time.monotonic()) > 0:
        link.settimeout(left)
        message = link.recv(dns.MAX_MESSAGE)
        with contextlib.suppress(ProtocolError, KeyError):  # somebody guesses, or a late one
            question = waiting[dns.number_of(message)]
            answered[question] = dns.decode(message, question)
            del waiting[question.number]


def _by_name(answered: dict[Question, Answer]) -> Found:
    """A name is known once both kinds are answered, or one of them with an address."""
    told: dict[str, list[Answer]] = {}
    for question, answer in answered.items():
        if answer.certain:
            told.setdefault(question.name, []).append(answer)
    addresses = {name: tuple(ip for a in told[name] for ip in a.addresses) for name in told}
    return {n: ips for n, ips in addresses.items() if ips or len(told[n]) == len(Kind)}
