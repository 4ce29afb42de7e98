"""What ngrokctl prints for people: the daemon's answers as calm text. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

from ngrokd.control import tones
from ngrokd.control.alive import is_healthy, tone_of
from ngrokd.control.answers import at, moment, number, text, texts
from ngrokd.control.hostspage import missing_names
from ngrokd.control.text import ABSENT, Column, clean, count, note, pairs, places, size, span, table

SHOWN_SKIPPED = 5  # a wide selector can skip hundreds
SHOWN_CAUSES = 4  # `--json` has all

STUCK = "stuck: one of its threads stands still"
RESTART = "Restart it with `ngrokd restart`; please report what its log says."
GIVE_A_KEY = "Give it a key with `ngrokctl set-api-key`."
DAY_S = 86400.0

_REGISTERING = {  # why it is not ready yet
    "registered": "waiting_for_answer",
    "renewing": "waiting_for_answer",
    "refused": "refused",
}
_STATES = {
    "waiting_for_api_key": "waiting for an API key",
    "registering": "registering with ngrok",
    "waiting_for_answer": "waiting for ngrok's first answer",
    "refused": "refused by ngrok",
    "ready": "ready",
    "degraded": "ready, with problems",
    "stopping": "stopping",
}
_ORDER = {"open": 0, "failed": 1, "skipped": 2}
_COLUMNS = (
    Column("URL", least=20, enough=50),
    Column("ADDRESS", last=True),
    Column("STATE"),
    Column("OPEN", right=True, optional=1),
    Column("TOTAL", right=True, optional=3),
    Column("ERRORS", right=True, optional=2),
    Column("UP", right=True, optional=4),
    Column("DOWN", right=True, optional=4),
)


def state_words(status: object) -> str:
    """The daemon's state for people."""
    if not is_healthy(status):
        return STUCK
    state = text(status, "state")
    if state == "registering":
        state = _REGISTERING.get(text(status, "registration"), state)
    return _STATES.get(state, state or "in an unknown state")


def headline(status: object, colour: bool = False) -> str:
    """The daemon in one line."""
    words = clean(state_words(status))
    if colour:
        words = tones.painted(words, tone_of(status))
    pid, up = clean(text(status, "pid")), span(number(status, "uptime_s"))
    return f"ngrokd {clean(text(status, 'version'))} is {words} (pid {pid}, up {up})"


def status_page(
    status: dict[str, object], now: float, width: Optional[int], colour: bool = False
) -> str:
    """`ngrokctl status`. `now` in Unix seconds."""
    lines = [headline(status, colour), ""]
    if width is not None and places(headline(status)) > width:
        about, _, rest = lines[0].partition(" (pid ")
        lines[:1] = [about, f"(pid {rest}"]
    lines += pairs(
        [
            ("Operator", text(status, "operator_id") or "not registered"),
            ("Ingress", text(status, "ingress_endpoint")),
            ("Certificate", _certificate(status)),
            ("API", _api(status, now)),
            ("Interface", _interface(status)),
            ("Hosts file", _hosts_file(status)),
            ("Endpoints", _endpoints(status)),
            ("Connections", _connections(status)),
            ("Warm", _warm(at(status, "warm_connections"))),
            ("Failures", failures(at(status, "connections", "failures"))),
            ("Last error", _last_error(status, now)),
            (
                "Bytes",
                f"{size(number(status, 'bytes', 'up'))} up, "
                f"{size(number(status, 'bytes', 'down'))} down",
            ),
        ],
        width,
    )
    notes = [*texts(status, "interface", "notes"), *texts(status, "notes")]
    lines += _remarks("Notes", notes, width)
    lines += problem_lines(status, width)
    lines += missing_names(status)
    return "\n".join(lines + next_step(status))


def problem_lines(status: object, width: Optional[int]) -> list[str]:
    """What needs attention, one remark each."""
    return _remarks("Problems", texts(status, "problems"), width)


def list_page(
    endpoints: Sequence[dict[str, object]],
    everything: bool,
    now: float,
    width: Optional[int],
    colour: bool = False,
) -> str:
    """`ngrokctl list`: every endpoint; of the skipped ones only a few unless `everything`.

    `now` in Unix seconds.
    """
    if not endpoints:
        return "No endpoints. `ngrokctl status` tells what the daemon is doing."
    ordered = sorted(
        endpoints, key=lambda e: (_ORDER.get(text(e, "state"), 1), text(e, "url"), text(e, "id"))
    )
    others = [e for e in ordered if text(e, "state") != "skipped"]
    skipped = [e for e in ordered if text(e, "state") == "skipped"]
    shown = others + (skipped if everything else skipped[:SHOWN_SKIPPED])
    titles, *rows = table(_columns(colour), [_row(e) for e in shown], width)
    lines = [titles]
    for endpoint, row in zip(shown, rows):
        lines.append(row)
        lines += [line for remark in _why(endpoint, now) for line in note(remark, width)]
    hidden = len(others) + len(skipped) - len(shown)
    if hidden:
        lines += ["", f"{hidden} more skipped: `ngrokctl list --all`"]
    nameless = [e for e in others if text(e, "state") == "open" and at(e, "published") is False]
    if nameless:
        lines += ["", f"{count(len(nameless), 'endpoint')} without a name here: use the ADDRESS"]
    return "\n".join(lines)


def next_step(status: object) -> list[str]:
    """What only a person can do."""
    if not is_healthy(status):
        return ["", RESTART]
    waits = text(status, "state") == "waiting_for_api_key"
    return ["", GIVE_A_KEY] if waits else []


def _remarks(title: str, remarks: Sequence[str], width: Optional[int]) -> list[str]:
    if not remarks:
        return []
    return ["", title, *(line for remark in remarks for line in note(remark, width))]


def _certificate(status: object) -> str:
    not_after = text(status, "certificate", "not_after")
    if not not_after:
        return "none yet"
    days = number(status, "certificate", "days_left")
    if days <= 0:
        return f"ended {not_after}"
    left = f"{round(days, 1):g} days" if days >= 2 else span(days * DAY_S)
    return f"until {not_after} ({left})"


def _api(status: object, now: float) -> str:
    answered = moment(status, "api", "last_success")
    error = text(status, "api", "last_error")
    parts = []
    if answered is not None:
        parts.append(f"answered {span(now - answered)} ago")
    elif not error:
        parts.append("no answer yet")
    if at(status, "api", "next_poll_s") is not None:
        parts.append(f"next poll in {span(number(status, 'api', 'next_poll_s'))}")
    told = [", ".join(parts)] if parts else []
    return "; ".join([*told, f"last error: {error}"] if error else told)


def _interface(status: object) -> str:
    name = text(status, "interface", "name")
    if not name:
        return "none yet"
    return f"{name} {text(status, 'interface', 'subnet')} ({text(status, 'interface', 'mode')})"


def _hosts_file(status: object) -> str:
    path = text(status, "hosts", "path")
    names = count(int(number(status, "hosts", "names")), "name")
    if not path:
        return ""  # an older daemon, or nothing applied yet
    if at(status, "hosts", "published"):
        return f"{path} ({names})"
    stale = int(number(status, "hosts", "stale"))
    if not stale:
        return f"{path} lacks {names}"
    missing = int(number(status, "hosts", "missing"))
    lacks = f"lacks {count(missing, 'name')} and " if missing else ""
    return f"{path} {lacks}still has {count(stale, 'name')} to be withdrawn"


def _endpoints(status: object) -> str:
    states = [f"{int(number(status, 'endpoint_count'))} open"]
    for state in ("failed", "skipped"):
        found = int(number(status, "endpoints", state))
        if found:
            states.append(f"{found} {state}")
    return ", ".join(states)


def _connections(status: object) -> str:
    return ", ".join(
        f"{int(number(status, 'connections', word))} {word}" for word in ("open", "total", "failed")
    )


def _warm(warm: object) -> str:
    """How many ingress connections wait for clients, and why not as many as wanted."""
    setting = text(warm, "setting")
    if setting in ("", "off"):
        return setting  # "": an older daemon
    ready, wanted, used, missed = (
        int(number(warm, word)) for word in ("ready", "wanted", "used", "missed")
    )
    told = f"{ready} ready of {wanted} wanted" if wanted or ready else "none wanted now"
    if not number(warm, "max_age_s"):
        told = "none, since the ingress lets none wait"
    told += f" ({setting})"
    if used + missed:
        told += f", {used} of {count(used + missed, 'client')} found one"
    problem = text(warm, "problem")
    return f"{told}; no more now: {problem}" if problem else told


def failures(found: object) -> str:
    """How often each cause occurred, as words; the less frequent ones together."""
    if not isinstance(found, dict):
        return ""
    counted = sorted(((int(number(found, cause)), str(cause)) for cause in found), reverse=True)
    told = [f"{times} {cause.replace('_', ' ')}" for times, cause in counted[:SHOWN_CAUSES]]
    others = sum(times for times, _ in counted[SHOWN_CAUSES:])
    return ", ".join([*told, f"{others} for other causes"] if others else told)


def _last_error(status: object, now: float) -> str:
    last = at(status, "connections", "last_error")
    if not last:
        return ""
    target = f"{text(last, 'hostname')}:{text(last, 'port')}"
    return f"{target}{_age(last, 'at', now)}: {text(last, 'text')}"


def _age(found: object, key: str, now: float) -> str:
    """`, 3 min 5 s ago`, nothing if it is not known."""
    when = moment(found, key)
    return "" if when is None else f", {span(now - when)} ago"


def _why(endpoint: object, now: float) -> list[str]:
    """Why it is not open, what its name hides, and why connections to it failed."""
    why = [text(endpoint, "reason")]
    elsewhere = texts(endpoint, "resolves_elsewhere")
    if elsewhere:
        why.append(f"the name also resolves outside of this machine, to {elsewhere[0]}")
    if number(endpoint, "errors") and text(endpoint, "last_error"):
        age = _age(endpoint, "last_error_at", now)
        why.append(f"last error{age}: {text(endpoint, 'last_error')}")
        causes = at(endpoint, "failures")
        if isinstance(causes, dict) and len(causes) > 1:
            why.append(f"errors: {failures(causes)}")
    return [remark for remark in why if remark]


def _columns(colour: bool) -> Sequence[Column]:
    if not colour:
        return _COLUMNS
    return [replace(c, paint=_paint_state) if c.title == "STATE" else c for c in _COLUMNS]


def _paint_state(state: str) -> str:
    return tones.painted(state, tones.of_endpoint(state))


def _row(endpoint: object) -> list[str]:
    return [
        text(endpoint, "url") or text(endpoint, "id") or "(no URL)",
        text(endpoint, "listen_address") or text(endpoint, "ip") or ABSENT,
        text(endpoint, "state"),
        text(endpoint, "connections"),
        text(endpoint, "total_connections"),
        text(endpoint, "errors"),
        size(number(endpoint, "bytes_up")),
        size(number(endpoint, "bytes_down")),
    ]
