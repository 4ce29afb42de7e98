"""Waits until the daemon is as far as a script needs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

from ngrokd.control.alive import is_ready
from ngrokd.control.answers import mapping, mappings, text, texts
from ngrokd.control.pages import GIVE_A_KEY, state_words
from ngrokd.control.protocol import BUSY, TIMEOUT
from ngrokd.control.text import INDENT, clean, count
from ngrokd.errors import ControlError, DaemonUnreachable, NgrokdError, TimedOut

INTERVAL_S = 0.25
REQUEST_S = 5.0  # for one look
CAUSES_S = 2.0  # for the last one, after the time is over

Ask = Callable[[str, float], object]  # command and timeout in seconds -> the daemon's data


@dataclass(frozen=True)
class Goal:
    """What is waited for. Neither a hostname nor a number: that the daemon is ready."""

    hostname: str = ""
    endpoints: Optional[int] = None


@dataclass(frozen=True)
class Look:
    """What was found, and what is still missing ("": nothing)."""

    missing: str
    found: str
    data: dict[str, object]


def wait(ask: Ask, goal: Goal, timeout_s: float, pause: Callable[[float], object]) -> Look:
    """Looks again and again until the goal is reached.

    Raises DaemonUnreachable if no daemon ever answered, TimedOut if it was not far enough, and at
    once what waiting cannot mend, such as NotPermitted.
    """
    deadline = time.monotonic() + timeout_s
    missing: Optional[str] = None
    while True:
        left = deadline - time.monotonic()
        try:
            look = _look(ask, goal, min(REQUEST_S, max(INTERVAL_S, left)))
            if not look.missing:
                return look
            missing = look.missing
        except DaemonUnreachable as exc:
            failure = exc
            if missing is not None:
                missing = str(exc)
        except TimedOut as exc:
            missing = str(exc)
        except ControlError as exc:
            if exc.code not in (BUSY, TIMEOUT):
                raise
            missing = str(exc)
        if deadline - time.monotonic() <= INTERVAL_S:
            break
        pause(INTERVAL_S)
    if missing is None:
        raise failure
    raise TimedOut(f"after {timeout_s:g} s: {_with_causes(missing, ask)}")


def _with_causes(missing: str, ask: Ask) -> str:
    """What was missing, and what the daemon knows of why."""
    try:
        status = mapping(ask("status", CAUSES_S))
    except NgrokdError:
        return missing  # which says itself that no answer came, or is all there is to say
    return explained(missing, status)


def _look(ask: Ask, goal: Goal, timeout_s: float) -> Look:
    if goal.hostname or goal.endpoints is not None:
        return judge_endpoints(mappings(ask("list", timeout_s)), goal)
    return judge_state(mapping(ask("status", timeout_s)))


def judge_state(status: dict[str, object]) -> Look:
    """Is the daemon ready? Pure."""
    ready = is_ready(status)
    missing = "" if ready else f"the daemon is {state_words(status)}"
    data: dict[str, object] = {"ready": ready, "state": status.get("state")}
    return Look(missing, f"ngrokd is {state_words(status)}", data)


def explained(missing: str, status: dict[str, object]) -> str:
    """`missing` with the daemon's state and its problems, one a line. Pure."""
    state = f"the daemon is {state_words(status)}"
    lines = [missing if missing == state else f"{missing}; {state}"]
    problems = texts(status, "problems")
    error = text(status, "api", "last_error")
    if error and not any(error in problem for problem in problems):
        problems.append(f"last error of the API: {error}")
    if text(status, "state") == "waiting_for_api_key":
        problems.append(GIVE_A_KEY)
    return "\n".join([*lines, *(INDENT + clean(problem) for problem in problems)])


def judge_endpoints(endpoints: list[dict[str, object]], goal: Goal) -> Look:
    """Is the name open on all of its ports, and are enough endpoints open? Pure."""
    is_open = [e for e in endpoints if text(e, "state") == "open"]
    wanted = [e for e in endpoints if goal.hostname and text(e, "hostname") == goal.hostname]
    data: dict[str, object] = {"endpoints": wanted if goal.hostname else is_open}
    missing = ""
    if goal.hostname and not wanted:
        missing = f"no endpoint has the name {goal.hostname}"
    for endpoint in wanted:
        if text(endpoint, "state") != "open":
            missing = f"{text(endpoint, 'url')} is {text(endpoint, 'state')}"
            missing += f": {text(endpoint, 'reason')}" if text(endpoint, "reason") else ""
    if not missing and goal.endpoints is not None and len(is_open) < goal.endpoints:
        missing = f"{len(is_open)} of {count(goal.endpoints, 'endpoint')} open"
    if goal.hostname:
        found = f"{goal.hostname} is open on {', '.join(_address(e) for e in wanted)}"
    else:
        found = f"open endpoints: {len(is_open)}"
    return Look(missing, found, data)


def _address(endpoint: object) -> str:
    return text(endpoint, "listen_address") or f"{text(endpoint, 'ip')}:{text(endpoint, 'port')}"
