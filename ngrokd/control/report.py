"""What the daemon tells about itself: the JSON of `status`, `list` and the health page. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Optional

from ngrokd.model import (
    Counters,
    EndpointState,
    EndpointStatus,
    HostsStatus,
    InterfaceStatus,
    Status,
    Target,
    WarmStatus,
)

DAY_S = 86400
VIRTUAL = "virtual"
SHOWN_HOSTS_LINES = 20  # of thousands; `ngrokctl list --hosts` has all

_NONE = Counters()


@dataclass(frozen=True)
class Verdict:
    """What the health pages answer in one word each."""

    healthy: bool  # the daemon lives: its threads turn
    ready: bool  # it serves


@dataclass(frozen=True)
class Traffic:
    """What the forwarding thread tells: its connections, and those that wait for clients."""

    counters: Mapping[Target, Counters] = field(default_factory=dict)
    warm: WarmStatus = field(default_factory=WarmStatus)
    forgotten: Counters = field(default_factory=Counters)  # of endpoints that went long ago


def status_json(
    status: Status, traffic: Traffic, version: str, pid: int, now: float
) -> dict[str, object]:
    """The data of `status`. `now` in Unix seconds; what is not known is null."""
    states = [endpoint.state for endpoint in status.endpoints]
    counted = (*traffic.counters.values(), traffic.forgotten)
    return {
        "registered": status.registered,
        "registration": status.registration,
        "operator_id": status.operator_id,
        "endpoint_count": states.count(EndpointState.OPEN),
        "ingress_endpoint": status.ingress_endpoint,
        "version": version,
        "pid": pid,
        "uptime_s": int(max(0.0, now - status.started_at)),
        "config": status.config or None,
        "state": status.state.value,
        "problems": list(status.problems),
        "notes": list(status.notes),
        "endpoints": {state.value: states.count(state) for state in EndpointState},
        "certificate": _certificate(status.certificate_not_after, now),
        "api": _api(status, now),
        "interface": _interface(status.interface),
        "hosts": _hosts(status.hosts),
        "connections": {
            "open": sum(c.open for c in counted),
            "total": sum(c.total for c in counted),
            "failed": sum(c.failed for c in counted),
            "failures": _failures(counted),
            "last_error": _last_error(traffic.counters),
        },
        "bytes": {
            "up": sum(c.bytes_up for c in counted),
            "down": sum(c.bytes_down for c in counted),
        },
        "warm_connections": _warm(traffic.warm),
    }


def endpoints_json(
    status: Status, counters: Mapping[Target, Counters]
) -> list[dict[str, object]]:
    """The data of `list`, every endpoint with its state, open ones and the others."""
    return [
        _endpoint(each, _counted(each, counters), _elsewhere(status, each))
        for each in status.endpoints
    ]


def hosts_lines_json(status: Status) -> dict[str, object]:
    """The data of `hosts`: every line of our section, as it is or should be in the hosts file."""
    hosts = status.hosts
    if hosts is None:
        return {"path": None, "published": False, "lines": []}
    return {"path": hosts.path, "published": hosts.published, "lines": hosts.section.lines()}


def verdict(status: Status, forwarding: bool, reconciling: bool) -> Verdict:
    """`forwarding` and `reconciling`: the thread that does so turns.

    Without the main thread what is open is still served; without the forwarding thread nothing is.
    """
    return Verdict(forwarding and reconciling, status.ready and forwarding)


def verdict_json(verdict: Verdict) -> dict[str, object]:
    """Of `status` and of the page `/status`."""
    return {"healthy": verdict.healthy, "ready": verdict.ready}


def health_json(
    status: Status, counters: Mapping[Target, Counters], verdict: Verdict, now: float
) -> dict[str, object]:
    """The JSON of `/status`. `now` in Unix seconds."""
    return {
        "healthy": verdict.healthy,
        "ready": verdict.ready,
        "uptime": _duration(max(0.0, now - status.started_at)),
        "start_time": iso(status.started_at),
        "endpoints": {
            endpoint.id: _health_of(endpoint, _counted(endpoint, counters))
            for endpoint in status.endpoints
        },
    }


def iso(moment: Optional[float]) -> Optional[str]:
    """Unix seconds as ISO 8601 in UTC, to the second."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _certificate(not_after: Optional[float], now: float) -> dict[str, object]:
    # Three decimals are minutes; adding 0.0 makes 0.0 of -0.0.
    days_left = None if not_after is None else round((not_after - now) / DAY_S, 3) + 0.0
    return {"not_after": iso(not_after), "days_left": days_left}


def _api(status: Status, now: float) -> dict[str, object]:
    next_poll = status.next_poll
    return {
        "last_success": iso(status.api_last_success),
        "last_error": status.api_last_error or None,
        "next_poll_s": None if next_poll is None else round(max(0.0, next_poll - now), 1),
    }


def _interface(interface: Optional[InterfaceStatus]) -> dict[str, object]:
    if interface is None:
        return {"name": None, "subnet": None, "mode": None, "notes": []}
    return {
        "name": interface.name,
        "subnet": interface.subnet,
        "mode": interface.mode.value,
        "notes": list(interface.notes),
    }


def _hosts(hosts: Optional[HostsStatus]) -> dict[str, object]:
    """`lines` are those that somebody has to add by hand, the first of them if they are many."""
    if hosts is None:
        return {
            "path": None,
            "published": False,
            "names": 0,
            "missing": 0,
            "stale": 0,
            "replace": False,
            "problem": None,
            "lines": [],
            "more_lines": 0,
        }
    lines = [] if hosts.published else hosts.section.lines()
    return {
        "path": hosts.path,
        "published": hosts.published,
        "names": len(hosts.section.names),
        "missing": hosts.missing,
        "stale": hosts.stale,
        "replace": hosts.is_marked and not hosts.published,
        "problem": hosts.problem or None,
        "lines": lines[:SHOWN_HOSTS_LINES],
        "more_lines": len(lines[SHOWN_HOSTS_LINES:]),
    }


def _warm(warm: WarmStatus) -> dict[str, object]:
    return {
        "setting": warm.setting,
        "ready": warm.ready,
        "wanted": warm.wanted,
        "used": warm.used,
        "missed": warm.missed,
        "max_age_s": round(warm.max_age_s, 1),
        # Where none is wanted any more, the last try says nothing about now.
        "problem": (warm.problem or None) if warm.wanted else None,
    }


def _failures(counted: Iterable[Counters]) -> dict[str, int]:
    """How often each cause occurred, the most frequent first."""
    sums: dict[str, int] = {}
    for counters in counted:
        for cause, times in counters.failures:
            sums[cause.value] = sums.get(cause.value, 0) + times
    return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0])))


def _last_error(counters: Mapping[Target, Counters]) -> Optional[dict[str, object]]:
    """The newest of all endpoints."""
    failed = [
        (c.last_error_at, target, c.last_cause.value, c.last_error)
        for target, c in counters.items()
        if c.last_error_at is not None and c.last_cause is not None
    ]
    if not failed:
        return None
    moment, target, cause, text = max(failed)
    return {
        "at": iso(moment),
        "hostname": target.hostname,
        "port": target.port,
        "cause": cause,
        "text": text,
    }


def _counted(endpoint: EndpointStatus, counters: Mapping[Target, Counters]) -> Counters:
    return _NONE if endpoint.target is None else counters.get(endpoint.target, _NONE)


def _endpoint(
    endpoint: EndpointStatus, counted: Counters, elsewhere: list[str]
) -> dict[str, object]:
    listener = endpoint.listener
    in_network = listener is not None and endpoint.listen_interface != VIRTUAL
    return {
        "id": endpoint.id,
        "hostname": endpoint.target.hostname if endpoint.target else "",
        "ip": endpoint.ip,
        "port": endpoint.target.port if endpoint.target else 0,
        "url": endpoint.url,
        "local_listener": listener is not None,
        "network_port": listener.port if listener is not None and in_network else 0,
        "listen_interface": endpoint.listen_interface,
        "listen_address": str(listener) if listener is not None else "",
        "published": endpoint.published,
        "resolves_elsewhere": elsewhere,
        "state": endpoint.state.value,
        "reason": endpoint.reason,
        "connections": counted.open,
        "total_connections": counted.total,
        "errors": counted.failed,
        "failures": _failures([counted]),
        "last_error": counted.last_error,
        "last_error_cause": counted.last_cause.value if counted.last_cause else None,
        "last_error_at": iso(counted.last_error_at),
        "bytes_up": counted.bytes_up,
        "bytes_down": counted.bytes_down,
        "last_activity": iso(counted.last_activity),
    }


def _elsewhere(status: Status, endpoint: EndpointStatus) -> list[str]:
    """What its name means outside of this machine."""
    if endpoint.target is None:
        return []
    return list(status.shadowed.get(endpoint.target.hostname, ()))


def _health_of(endpoint: EndpointStatus, counted: Counters) -> dict[str, object]:
    return {
        "name": endpoint.target.hostname if endpoint.target else endpoint.url,
        "local_address": str(endpoint.listener) if endpoint.listener else "",
        "target_uri": endpoint.url,
        "active": endpoint.state is EndpointState.OPEN,
        "connections": counted.open,
        "total_connections": counted.total,
        "last_activity": iso(counted.last_activity),
        "errors": counted.failed,
    }


def _duration(seconds: float) -> str:
    """As the existing daemon writes it: `26h3m5s`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
