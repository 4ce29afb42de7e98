"""Which published names mean something else outside of this machine: asked for and told once."""

from __future__ import annotations

import functools
import ipaddress
import itertools
import logging
import os
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Callable, Optional

from ngrokd.config import NetSettings
from ngrokd.host import elsewhere
from ngrokd.host.elsewhere import Places
from ngrokd.messages import JobDone, JobKind
from ngrokd.model import EndpointStatus
from ngrokd.process.workers import Job

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 50  # names of one job: its questions come to the name server as one burst
TRIES = 3  # for a name that nobody could tell anything of
MOST_KEPT = 20_000  # names that are remembered also while they are not listed
SHOWN = 3  # names in one line of the log; `ngrokctl list` has every one

_PLURAL = ("resolve", "lead", "them")

SYSTEM_HOSTS = "/etc/hosts"

# No name server knows anything of them, and some must not be asked: RFC 6761, 6762, 7686, 9476.
_NEVER_PUBLIC = frozenset(("alt", "invalid", "local", "onion", "test"))


class Shadows:
    """Owner: main thread. `look` runs on the pool; nothing waits for what it finds."""

    def __init__(
        self, submit: Callable[[JobKind, Job], None], places: Optional[Places] = None
    ) -> None:
        self._submit = submit
        self._places = places or Places()
        self._asking: tuple[str, ...] = ()
        self._tries: dict[str, int] = {}
        self._ours: Mapping[str, str] = {}  # published, with the address
        self._subnet = NetSettings.subnet
        self._known: dict[str, tuple[str, ...]] = {}  # what they mean elsewhere; (): nothing
        self.names: Mapping[str, tuple[str, ...]] = {}  # shadowed ones, listed now

    def look_at(
        self, endpoints: Iterable[EndpointStatus], hosts_file: str, subnet: str
    ) -> None:
        """What an answer of ngrok made of this machine; asks for names that are new.

        Names in another file than the one that this machine resolves by shadow nothing on it.
        """
        is_resolved_by = os.path.realpath(hosts_file) == os.path.realpath(SYSTEM_HOSTS)
        self._ours = _published(endpoints) if is_resolved_by else {}
        self._subnet = subnet
        self._forget()
        self._show()
        if self._asking:
            return
        new = (name for name in self._ours if name not in self._known and _may_be_public(name))
        untired = (name for name in new if self._tries.get(name, 0) < TRIES)
        self._asking = tuple(itertools.islice(untired, MOST_AT_ONCE))
        if self._asking:
            job = functools.partial(elsewhere.look, self._asking, self._places)
            self._submit(JobKind.SHADOWS, job)

    def handle(self, done: JobDone) -> None:
        """Takes up what was found, and tells what is new of it. Silence is no fault."""
        found = done.result if isinstance(done.result, dict) else {}
        if done.error is not None:  # for a note alone nobody's connections are ended
            logger.warning("which names are hidden was not found out", exc_info=done.error)
        for name in self._asking:
            if name in found:
                self._tries.pop(name, None)
                ours = self._ours.get(name, "")
                self._known[name] = elsewhere_only(found[name], self._subnet, ours)
            else:
                self._tries[name] = self._tries.get(name, 0) + 1
        told, self._asking = self._asking, ()
        self._show()
        self._tell([name for name in told if name in self.names])

    def _show(self) -> None:
        """Another thread may be reading the last one, so it is made anew."""
        shadowed = {name: self._known[name] for name in self._ours if self._known.get(name)}
        if shadowed != self.names:
            self.names = MappingProxyType(shadowed)

    def _forget(self) -> None:
        for kept in (self._known, self._tries):
            if len(kept) > MOST_KEPT:
                for name in [name for name in kept if name not in self._ours]:
                    del kept[name]

    def _tell(self, names: list[str]) -> None:
        if not names:
            return
        shown = [f"{name} ({self.names[name][0]})" for name in names[:SHOWN]]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        verb, lead, them = ("resolves", "leads", "it") if len(names) == 1 else _PLURAL
        logger.warning(
            "%s%s also %s outside of this machine, and %s to ngrok on it. If that is not meant, "
            "leave %s out by bound_endpoints.selectors; see `ngrokctl list`",
            ", ".join(shown),
            more,
            verb,
            lead,
            them,
        )


def elsewhere_only(addresses: Iterable[str], subnet: str, ours: str) -> tuple[str, ...]:
    """Without what may come from our own section, or says that there is nothing.

    `ours`: the address that is published. A name server of this machine may read its hosts file,
    and block lists answer with 0.0.0.0.
    """
    network = ipaddress.ip_network(subnet, strict=False)
    found = []
    for text in addresses:
        ip = ipaddress.ip_address(text)
        if not (text == ours or ip in network or ip.is_loopback or ip.is_unspecified):
            found.append(text)
    return tuple(found)


def _published(endpoints: Iterable[EndpointStatus]) -> dict[str, str]:
    return {e.target.hostname: e.ip for e in endpoints if e.published and e.target is not None}


def _may_be_public(name: str) -> bool:
    first, dot, last = name.rpartition(".")
    return bool(first and dot) and last not in _NEVER_PUBLIC
