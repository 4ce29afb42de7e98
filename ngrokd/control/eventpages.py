"""What `ngrokctl events` prints of each event for people. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from ngrokd.control import events
from ngrokd.control.answers import number, text, texts
from ngrokd.control.pages import state_words
from ngrokd.control.text import clean, count

_HEAD = frozenset({"event", "seq", "time"})


def lines(event: Mapping[str, object]) -> list[str]:
    """One for most of them; the first one also names each problem there is. Without the time."""
    known = _KNOWN.get(text(event, "event"), _unknown)
    return [clean(line) for line in known(event)]


def _began(event: Mapping[str, object]) -> list[str]:
    states = [
        f"{int(number(event, 'endpoints', state))} {state}"
        for state in ("open", "failed", "skipped")
        if number(event, "endpoints", state)
    ]
    found = f"endpoints: {', '.join(states)}" if states else "no endpoints"
    first = f"ngrokd {text(event, 'version')} is {state_words(event)}; {found}"
    return [first, *(f"problem: {problem}" for problem in texts(event, "problems"))]


def _open(event: Mapping[str, object]) -> list[str]:
    return [f"{_name(event)} open at {text(event, 'listen_address')}"]


def _failed(event: Mapping[str, object]) -> list[str]:
    return [f"{_name(event)} failed: {text(event, 'reason')}"]


def _skipped(event: Mapping[str, object]) -> list[str]:
    return [f"{_name(event)} skipped: {text(event, 'reason')}"]


def _closed(event: Mapping[str, object]) -> list[str]:
    was = text(event, "was")
    return [f"{_name(event)} closed" if was == "open" else f"{_name(event)} is gone (it was {was})"]


def _lost(event: Mapping[str, object]) -> list[str]:
    lost = count(int(number(event, "count")), "event")
    return [f"{lost} lost: not read fast enough"]


def _unknown(event: Mapping[str, object]) -> list[str]:
    """Of a newer daemon."""
    rest = {key: value for key, value in event.items() if key not in _HEAD}
    return [f"{text(event, 'event')} {json.dumps(rest)}" if rest else text(event, "event")]


def _name(event: Mapping[str, object]) -> str:
    return text(event, "url") or text(event, "id") or "an endpoint without a URL"


_KNOWN: Mapping[str, Callable[[Mapping[str, object]], list[str]]] = {
    events.BEGAN: _began,
    events.STATE: lambda event: [f"ngrokd is {state_words(event)}"],
    events.REGISTERED: lambda event: [f"registered as operator {text(event, 'operator_id')}"],
    events.DEREGISTERED: lambda event: [f"operator {text(event, 'operator_id')} is gone"],
    events.CERTIFICATE_RENEWED: lambda event: [
        f"a new certificate is in use, valid until {text(event, 'not_after')}"
    ],
    events.POLL_FAILED: lambda event: [text(event, "text")],
    events.POLL_OK: lambda event: ["poll works again"],
    events.ENDPOINT_OPEN: _open,
    events.ENDPOINT_FAILED: _failed,
    events.ENDPOINT_SKIPPED: _skipped,
    events.ENDPOINT_CLOSED: _closed,
    events.PROBLEM: lambda event: [f"problem: {text(event, 'text')}"],
    events.PROBLEM_GONE: lambda event: [f"no problem any more: {text(event, 'text')}"],
    events.LOST: _lost,
    events.STOPPED: lambda event: ["ngrokd has stopped"],
}
