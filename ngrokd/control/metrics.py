"""The daemon's numbers as Prometheus text (exposition format 0.0.4). Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Optional, Protocol, Union

from ngrokd.control.report import VIRTUAL, Verdict
from ngrokd.model import Counters, EndpointState, EndpointStatus, Status, Target, WarmStatus

Number = Union[int, float]
Labels = Mapping[str, str]
Sample = tuple[str, Labels, Number]  # suffix of the name, labels, value

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram(Protocol):
    """A frozen histogram: `counts[i]` observations were at most `bounds[i]` seconds (cumulative).

    `count` has those above the last bound too.
    """

    @property
    def bounds(self) -> Sequence[float]: ...
    @property
    def counts(self) -> Sequence[int]: ...
    @property
    def sum(self) -> float: ...
    @property
    def count(self) -> int: ...


class Seen(Protocol):
    """What the forwarding thread counted."""

    @property
    def counters(self) -> Mapping[Target, Counters]: ...
    @property
    def connect_seconds(self) -> Histogram: ...
    @property
    def warm(self) -> WarmStatus: ...


def render(status: Status, verdict: Verdict, seen: Seen, version: str) -> str:
    """The whole page of `/metrics`."""
    states = [endpoint.state for endpoint in status.endpoints]
    families = [
        _family("build_info", "gauge", "The running version.", [("", {"version": version}, 1)]),
        _family(
            "endpoints",
            "gauge",
            "Endpoints by what became of them.",
            [("", {"state": state.value}, states.count(state)) for state in EndpointState],
        ),
        _family(
            "endpoints_unpublished",
            "gauge",
            "Open endpoints whose name should stand in the hosts file and does not.",
            [("", {}, sum(map(_unpublished, status.endpoints)))],
        ),
        *_traffic(_with_idle(status, seen.counters)),
        _family(
            "connect_seconds",
            "histogram",
            "Time from accepting a connection to its endpoint being reached.",
            _buckets(seen.connect_seconds),
        ),
        *_life(status, verdict),
        *_daemon(status),
        *_warm(seen.warm),
    ]
    return "".join(families)


def _traffic(counters: Mapping[Target, Counters]) -> Iterable[str]:
    counted = [
        ({"hostname": target.hostname, "port": str(target.port)}, counters[target])
        for target in sorted(counters)
    ]
    yield _family(
        "connections_open",
        "gauge",
        "Connections open now.",
        [("", labels, c.open) for labels, c in counted],
    )
    yield _family(
        "connections_total",
        "counter",
        "Connections that have ended, by how they ended.",
        [
            ("", {**labels, "result": result}, value)
            for labels, c in counted
            for result, value in (("ok", _ended_well(c)), ("failed", c.failed))
        ],
    )
    yield _family(
        "connection_failures_total",
        "counter",
        "Connections that failed, by cause; a cause has a sample once it has occurred.",
        [
            ("", {**labels, "cause": cause.value}, times)
            for labels, c in counted
            for cause, times in c.failures
        ],
    )
    yield _family(
        "bytes_total",
        "counter",
        "Bytes carried; up is towards ngrok.",
        [
            ("", {**labels, "direction": direction}, value)
            for labels, c in counted
            for direction, value in (("up", c.bytes_up), ("down", c.bytes_down))
        ],
    )


def _ended_well(counted: Counters) -> int:
    """Open ones are left out: one that fails later would make the counter fall."""
    return max(0, counted.total - counted.failed - counted.open)


def _unpublished(endpoint: EndpointStatus) -> bool:
    """One that listens in the network has its name elsewhere."""
    here = endpoint.listen_interface == VIRTUAL
    return endpoint.state is EndpointState.OPEN and here and not endpoint.published


def _life(status: Status, verdict: Verdict) -> Iterable[str]:
    yield _family(
        "start_time_seconds",
        "gauge",
        "When the daemon started.",
        [("", {}, status.started_at)],
    )
    yield _family(
        "healthy",
        "gauge",
        "1 while the daemon's threads turn, else 0: what /health says.",
        [("", {}, int(verdict.healthy))],
    )
    yield _family(
        "ready",
        "gauge",
        "1 once registered and a poll has been applied, else 0: what /ready says.",
        [("", {}, int(verdict.ready))],
    )
    yield _family(
        "problems",
        "gauge",
        "Problems that `ngrokctl status` names.",
        [("", {}, len(status.problems))],
    )


def _daemon(status: Status) -> Iterable[str]:
    yield _family(
        "api_requests_total",
        "counter",
        "Requests to the ngrok API by HTTP status, `error` where no answer came.",
        [("", {"code": code}, count) for code, count in sorted(status.api_requests)],
    )
    yield _family(
        "poll_last_success_timestamp_seconds",
        "gauge",
        "When the API last answered in full.",
        _if_known(status.api_last_success),
    )
    yield _family(
        "certificate_expiry_timestamp_seconds",
        "gauge",
        "When the client certificate ends.",
        _if_known(status.certificate_not_after),
    )
    yield _family(
        "hosts_writes_total",
        "counter",
        "Times the hosts file was written.",
        [("", {}, status.hosts_writes)],
    )


def _warm(warm: WarmStatus) -> Iterable[str]:
    yield _family(
        "warm_connections",
        "gauge",
        "Ingress connections kept ready.",
        [("", {}, warm.ready)],
    )
    yield _family(
        "warm_connection_requests_total",
        "counter",
        "Clients by whether one was ready for them; none is counted where none is to be kept.",
        [("", {"result": "hit"}, warm.used), ("", {"result": "miss"}, warm.missed)],
    )


def _with_idle(
    status: Status, counters: Mapping[Target, Counters]
) -> Mapping[Target, Counters]:
    """A series starts at 0 when its endpoint opens, so that rate() sees the first connection."""
    idle = {
        endpoint.target: Counters()
        for endpoint in status.endpoints
        if endpoint.target is not None and endpoint.state is EndpointState.OPEN
    }
    return {**idle, **counters}


def _if_known(value: Optional[float]) -> list[Sample]:
    return [] if value is None else [("", {}, value)]


def _buckets(histogram: Histogram) -> list[Sample]:
    samples: list[Sample] = [
        ("_bucket", {"le": _number(bound)}, at_most)
        for bound, at_most in zip(histogram.bounds, histogram.counts)
    ]
    samples.append(("_bucket", {"le": "+Inf"}, histogram.count))
    samples.append(("_sum", {}, histogram.sum))
    samples.append(("_count", {}, histogram.count))
    return samples


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    name = f"ngrokd_{name}"
    lines = [f"# HELP {name} {_escape(text)}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{suffix}{_labels(labels)} {_number(v)}" for suffix, labels, v in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    inside = ",".join(
        '{}="{}"'.format(key, _escape(value).replace('"', r"\"")) for key, value in labels.items()
    )
    return "{" + inside + "}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _number(value: Number) -> str:
    if isinstance(value, int):
        return str(value)
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() else repr(value)
