"""What each command of ngrokctl asks the daemon, and what it has to show."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ngrokd import __version__
from ngrokd.control import deedpages, healthpage, hostspage, opened, pages
from ngrokd.control.alive import is_healthy, is_ready
from ngrokd.control.answers import at, mapping, mappings, text
from ngrokd.control.client import request
from ngrokd.control.protocol import BAD_ARGUMENTS
from ngrokd.control.question import agreed, there_is_a_person
from ngrokd.control.text import clean
from ngrokd.control.waiting import Goal, wait
from ngrokd.errors import (
    ControlError,
    DaemonUnreachable,
    NotPermitted,
    ProtocolError,
    TimedOut,
)

ASK_S = 10.0
POLL_S = 90.0  # the API may take 30 s for a page


@dataclass(frozen=True)
class Outcome:
    """What a command found: for `--json`, for people, and the exit code."""

    data: Mapping[str, object]
    text: str
    exit_code: int = 0


@dataclass(frozen=True)
class Call:
    """One run of ngrokctl.

    `width`: of the terminal, None where the output is no terminal. `colour`: it is to have some.
    """

    options: argparse.Namespace
    socket_path: str
    width: Optional[int]
    key: str = ""
    colour: bool = False

    def ask(self, command: str, args: Sequence[str] = (), timeout_s: float = ASK_S) -> object:
        """The daemon's answer. Raises what `client.request` does."""
        return request(self.socket_path, command, args, timeout_s)


def status(call: Call) -> Outcome:
    """The whole of the daemon on one page."""
    data = mapping(call.ask("status"))
    return Outcome(data, pages.status_page(data, time.time(), call.width, call.colour))


def list_endpoints(call: Call) -> Outcome:
    """Every endpoint, one line each; or every name, in the form of a hosts file."""
    if call.options.hosts:
        answer = mapping(call.ask("hosts"))
        return Outcome(answer, hostspage.hosts_page(answer))
    endpoints = mappings(call.ask("list"))
    page = pages.list_page(
        endpoints, call.options.all, time.time(), call.width, call.colour
    )
    return Outcome({"endpoints": endpoints}, page)


def open_endpoint(call: Call) -> Outcome:
    """Where a name can be connected to now, one line for each of its ports."""
    found = opened.opened(mappings(call.ask("list")), opened.wanted(call.options.hostname))
    page = "\n".join(clean(text(endpoint, "address")) for endpoint in found)
    return Outcome({"endpoints": found}, page)


def health(call: Call) -> Outcome:
    """Exit code 0 only if the daemon lives and is ready."""
    found = mapping(call.ask("status"))
    ready = is_ready(found)
    data = {
        "healthy": is_healthy(found),
        "ready": ready,
        "state": at(found, "state"),
        "problems": at(found, "problems"),
    }
    well = ready and is_healthy(found)
    return Outcome(data, healthpage.health_page(found, call.width, call.colour), 0 if well else 1)


def set_api_key(call: Call) -> Outcome:
    """The key is neither shown nor logged anywhere on its way."""
    answer = call.ask("set-api-key", [call.key], timeout_s=POLL_S)
    return Outcome({"done": True, "answer": answer}, deedpages.key_page(answer, call.width))


def wait_for(call: Call) -> Outcome:
    """Returns when the goal is reached."""
    options = call.options
    goal = Goal((options.hostname or "").strip().rstrip(".").lower(), options.endpoints)
    look = wait(
        lambda command, timeout_s: call.ask(command, timeout_s=timeout_s),
        goal,
        options.timeout,
        threading.Event().wait,  # of an event that never comes: a pause that Ctrl-C ends
    )
    return Outcome(look.data, look.found)


def refresh(call: Call) -> Outcome:
    """Returns once the poll has been applied."""
    answer = mapping(call.ask("refresh", timeout_s=POLL_S))
    return Outcome(answer, deedpages.refresh_page(answer, call.width))


def ping(call: Call) -> Outcome:
    """Does it answer, and how fast."""
    began = time.monotonic()
    call.ask("ping")
    took_ms = round((time.monotonic() - began) * 1000, 1)
    return Outcome({"answers": True, "ms": took_ms}, f"ngrokd answers ({took_ms:g} ms)")


def reload(call: Call) -> Outcome:
    """The configuration is read again."""
    answer = call.ask("reload", timeout_s=POLL_S)
    return Outcome({"done": True, "answer": answer}, deedpages.reload_page(answer))


def log_level(call: Call) -> Outcome:
    """Until the next reload or restart."""
    level = call.options.level
    answer = call.ask("log-level", [level])
    return Outcome({"done": True, "answer": answer}, f"Log level is {level}.")


def rotate_cert(call: Call) -> Outcome:
    """Returns once the new certificate is in use."""
    answer = mapping(call.ask("rotate-cert", timeout_s=POLL_S))
    page = f"A new certificate is in use, valid until {clean(text(answer, 'not_after'))}."
    return Outcome({"done": True, "answer": answer}, page)


def deregister(call: Call) -> Outcome:
    """Asks on a terminal first: what it removes cannot be had back."""
    if not call.options.yes:
        operator_id = clean(text(mapping(call.ask("status")), "operator_id"))
        what = f"operator {operator_id}" if operator_id else "the registration"
        question = f"Delete {what} at ngrok, and this machine's certificate, key and API key?"
        if not there_is_a_person():
            raise ControlError(BAD_ARGUMENTS, "there is no terminal to ask on: say --yes")
        if not agreed(question):
            raise ControlError("not_confirmed", "nothing was changed")
    answer = mapping(call.ask("deregister", timeout_s=POLL_S))
    return Outcome({"done": True, "answer": answer}, deedpages.deregistration_page(answer))


def version(call: Call) -> Outcome:
    """Ours, and the daemon's if one answers."""
    daemon: Optional[str] = None
    shown = "not running"
    try:
        daemon = text(call.ask("status"), "version")
        shown = clean(daemon)
    except DaemonUnreachable:
        pass  # "not running" is what there is to tell
    except (NotPermitted, ProtocolError, TimedOut):
        shown = "unknown"
    return Outcome(
        {"ngrokctl": __version__, "ngrokd": daemon}, f"ngrokctl {__version__}\nngrokd {shown}"
    )


COMMANDS: Mapping[str, Callable[[Call], Outcome]] = {
    "status": status,
    "list": list_endpoints,
    "open": open_endpoint,
    "health": health,
    "set-api-key": set_api_key,
    "wait": wait_for,
    "refresh": refresh,
    "reload": reload,
    "rotate-cert": rotate_cert,
    "deregister": deregister,
    "log-level": log_level,
    "ping": ping,
    "version": version,
}
