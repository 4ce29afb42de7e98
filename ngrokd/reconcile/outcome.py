"""What became of each endpoint, and what that changed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ngrokd.config import NetSettings
from ngrokd.model import (
    Address,
    Discovered,
    Endpoint,
    EndpointState,
    EndpointStatus,
    Route,
    SkippedEndpoint,
    Target,
)
from ngrokd.reconcile.desired import VIRTUAL, Desired, listen_interface

UNOPENED = "not opened"
MOST_LINES = 20  # at once, of endpoints that are alike; more than these share one line
SHOWN = 5  # names in such a line


@dataclass(frozen=True)
class Actual:
    """What is true on this machine after an application."""

    listeners: Mapping[Address, Route]
    names: Mapping[str, str]  # published
    failed: Mapping[Target, str]  # why it is not listening


@dataclass(frozen=True)
class Change:
    """What one application changed, as "hostname:port"."""

    opened: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def statuses(
    discovered: Discovered, net: NetSettings, desired: Desired, actual: Actual
) -> tuple[EndpointStatus, ...]:
    """One line for everything ngrok lists: skipped ones first, then in the order of discovery."""
    at = {route.target: address for address, route in actual.listeners.items()}
    skipped = {(each.id, each.url) for each in desired.skipped}
    served = [e for e in discovered.endpoints if (e.ids[0], e.url) not in skipped]
    return (
        *(_skipped(each) for each in desired.skipped),
        *(_served(e, net, desired, actual, at) for e in served),
    )


def _skipped(skipped: SkippedEndpoint) -> EndpointStatus:
    return EndpointStatus(
        id=skipped.id, url=skipped.url, state=EndpointState.SKIPPED, reason=skipped.reason
    )


def _served(
    endpoint: Endpoint,
    net: NetSettings,
    desired: Desired,
    actual: Actual,
    listeners: Mapping[Target, Address],
) -> EndpointStatus:
    to = endpoint.target
    listener = listeners.get(to)
    interface = listen_interface(net, to.hostname)
    if listener is None:
        ip = desired.remembered.addresses.get(to.hostname, "") if interface == VIRTUAL else ""
        state, reason = EndpointState.FAILED, actual.failed.get(to, UNOPENED)
        return EndpointStatus(endpoint.ids[0], endpoint.url, state, reason, to, ip, None, interface)
    return EndpointStatus(
        id=endpoint.ids[0],
        url=endpoint.url,
        state=EndpointState.OPEN,
        target=to,
        ip=listener.ip,
        listener=listener,
        listen_interface=interface,
        published=listener.port == to.port and to.hostname in actual.names,
    )


def low_ports_note(statuses: Iterable[EndpointStatus], forbidden_below: int) -> str:
    """That endpoints have other ports than their own on addresses of their own; "": none."""
    if not forbidden_below:
        return ""
    moved = sum(
        status.listen_interface == VIRTUAL
        and status.listener is not None
        and status.target is not None
        and status.listener.port != status.target.port
        for status in statuses
    )
    if not moved:
        return ""
    return (
        f"ports below {forbidden_below} are refused to ngrokd, so some from net.start_port serve "
        f"instead ({moved}): `ngrokctl list`"
    )


def changes(before: Iterable[EndpointStatus], now: Iterable[EndpointStatus]) -> Change:
    """What opened, closed or failed between two lists of statuses."""
    old, new = _by_key(before), _by_key(now)
    changed = [status for key, status in new.items() if _news(old.get(key), status)]
    return Change(
        opened=_targets(s for s in changed if s.state is EndpointState.OPEN),
        closed=_targets(_gone(old, new)),
        failed=_targets(s for s in changed if s.state is EndpointState.FAILED),
    )


def lines(
    before: Iterable[EndpointStatus], now: Iterable[EndpointStatus]
) -> list[tuple[bool, str]]:
    """Lines for the log about endpoints whose state changed: (needs attention, text).

    Each has one, but that many of one kind and reason share one.
    """
    old, new = _by_key(before), _by_key(now)
    news = [_told(key, status) for key, status in new.items() if _news(old.get(key), status)]
    news += [_Told(str(status.target), "closed") for status in _gone(old, new)]
    alike: dict[tuple[str, str], list[str]] = {}
    for each in news:
        alike.setdefault((each.what, each.reason), []).append(each.name)
    lines = []
    for each in news:
        names = alike[each.what, each.reason]
        if len(names) <= MOST_LINES:
            lines.append((each.needs_attention, each.line))
        elif each.name is names[0]:
            lines.append((each.needs_attention, each.line_for(names)))
    return lines


@dataclass(frozen=True)
class _Told:
    """One endpoint's news; those with the same `what` and `reason` are alike."""

    name: str
    what: str  # "open", "closed", "failed" or "skipped"
    reason: str = ""
    where: str = ""

    @property
    def needs_attention(self) -> bool:
        return self.what not in ("open", "closed")

    @property
    def line(self) -> str:
        if self.where:
            return f"endpoint {self.name} open at {self.where}"
        return f"endpoint {self.name} {self.what}" + (f": {self.reason}" if self.reason else "")

    def line_for(self, names: Sequence[str]) -> str:
        """Of all that are alike."""
        first = ", ".join(names[:SHOWN])
        more = f"{first} and {len(names) - SHOWN} more; `ngrokctl list` shows all that are there"
        if not self.reason:
            return f"{len(names)} endpoints {self.what}: {more}"
        return f"{len(names)} endpoints {self.what}: {self.reason} ({more})"


def _told(key: str, status: EndpointStatus) -> _Told:
    if status.state is EndpointState.OPEN:
        return _Told(str(status.target), "open", where=_where(status))
    name = str(status.target or key or "without a URL")
    return _Told(name, status.state.value, status.reason)


def _by_key(statuses: Iterable[EndpointStatus]) -> dict[str, EndpointStatus]:
    return {status.url or status.id: status for status in statuses}


def _news(was: Optional[EndpointStatus], status: EndpointStatus) -> bool:
    return was != status and (
        was is None
        or (was.state, was.reason, was.listener) != (status.state, status.reason, status.listener)
    )


def _gone(
    old: Mapping[str, EndpointStatus], new: Mapping[str, EndpointStatus]
) -> list[EndpointStatus]:
    return [
        status
        for key, status in old.items()
        if status.state is EndpointState.OPEN
        and (key not in new or new[key].state is not EndpointState.OPEN)
    ]


def _targets(statuses: Iterable[EndpointStatus]) -> tuple[str, ...]:
    return tuple(str(status.target) for status in statuses)


def _where(status: EndpointStatus) -> str:
    assert status.listener is not None and status.target is not None
    same = status.listener.port == status.target.port
    return status.listener.ip if same else str(status.listener)
