"""What happened between two published states of the daemon, as `events` tells it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ngrokd.control.report import iso
from ngrokd.model import EndpointState, EndpointStatus, Status

Event = dict[str, object]

# A problem that the events of endpoints tell one by one. `snapshot` writes it.
ENDPOINTS_FAILED = "endpoints failed: "

BEGAN = "began"
STATE = "state"
REGISTERED = "registered"
DEREGISTERED = "deregistered"
CERTIFICATE_RENEWED = "certificate_renewed"
POLL_FAILED = "poll_failed"
POLL_OK = "poll_ok"
ENDPOINT_OPEN = "endpoint_open"
ENDPOINT_FAILED = "endpoint_failed"
ENDPOINT_SKIPPED = "endpoint_skipped"
ENDPOINT_CLOSED = "endpoint_closed"
PROBLEM = "problem"
PROBLEM_GONE = "problem_gone"
LOST = "lost"
STOPPED = "stopped"

_OF_ENDPOINT = {
    EndpointState.OPEN: ENDPOINT_OPEN,
    EndpointState.FAILED: ENDPOINT_FAILED,
    EndpointState.SKIPPED: ENDPOINT_SKIPPED,
}


def began(status: Status, version: str, pid: int) -> Event:
    """What is true when a client begins to follow."""
    states = [endpoint.state for endpoint in status.endpoints]
    return {
        "event": BEGAN,
        "version": version,
        "pid": pid,
        "state": status.state.value,
        "endpoints": {state.value: states.count(state) for state in EndpointState},
        "problems": list(status.problems),
    }


def lost(count: int) -> Event:
    """So many events found no room, because they were not read."""
    return {"event": LOST, "count": count}


def changes(before: Status, now: Status) -> list[Event]:
    """What made `now` of `before`: causes before what follows from them."""
    return [
        *_identity(before, now),
        *_poll(before, now),
        *_endpoints(before, now),
        *_problems(before, now),
        *_state(before, now),
    ]


def _identity(before: Status, now: Status) -> Iterator[Event]:
    if now.operator_id != before.operator_id:
        if now.operator_id:
            yield {"event": REGISTERED, "operator_id": now.operator_id}
        else:
            yield {"event": DEREGISTERED, "operator_id": before.operator_id}
    old, new = before.certificate_not_after, now.certificate_not_after
    another = old != new or before.certificates_installed != now.certificates_installed
    if old is not None and new is not None and another:
        yield {"event": CERTIFICATE_RENEWED, "not_after": iso(new)}


def _poll(before: Status, now: Status) -> Iterator[Event]:
    if now.poll_problem and now.poll_problem != before.poll_problem:
        yield {"event": POLL_FAILED, "text": now.poll_problem}
    elif before.poll_problem and not now.poll_problem:
        yield {"event": POLL_OK}


def _endpoints(before: Status, now: Status) -> Iterator[Event]:
    if before.endpoints is now.endpoints:
        return
    old = {_key(endpoint): endpoint for endpoint in before.endpoints}
    new = {_key(endpoint): endpoint for endpoint in now.endpoints}
    for key, endpoint in old.items():
        if key not in new:
            closed: Event = {"event": ENDPOINT_CLOSED, "was": endpoint.state.value}
            yield {**closed, **_named(endpoint)}
    for key, endpoint in new.items():
        known = old.get(key)
        if known is None or _seen(known) != _seen(endpoint):
            yield _endpoint(endpoint)


def _endpoint(endpoint: EndpointStatus) -> Event:
    event: Event = {"event": _OF_ENDPOINT[endpoint.state], **_named(endpoint)}
    if endpoint.listener is not None:
        event["listen_address"] = str(endpoint.listener)
    else:
        event["reason"] = endpoint.reason
    return event


def _named(endpoint: EndpointStatus) -> Event:
    return {
        "id": endpoint.id,
        "url": endpoint.url,
        "hostname": endpoint.target.hostname if endpoint.target else "",
        "port": endpoint.target.port if endpoint.target else 0,
    }


def _key(endpoint: EndpointStatus) -> str:
    return endpoint.url or endpoint.id


def _seen(endpoint: EndpointStatus) -> tuple[object, ...]:
    return endpoint.state, endpoint.reason, endpoint.listener


def _problems(before: Status, now: Status) -> Iterator[Event]:
    old, new = _untold(before), _untold(now)
    for text in old:
        if text not in new:
            yield {"event": PROBLEM_GONE, "text": text}
    for text in new:
        if text not in old:
            yield {"event": PROBLEM, "text": text}


def _untold(status: Status) -> list[str]:
    """Problems that no other event tells."""
    return [
        text
        for text in dict.fromkeys(status.problems)
        if text != status.poll_problem and not text.startswith(ENDPOINTS_FAILED)
    ]


def _state(before: Status, now: Status) -> Iterator[Event]:
    if now.state is not before.state:
        yield {"event": STATE, "state": now.state.value, "was": before.state.value}
