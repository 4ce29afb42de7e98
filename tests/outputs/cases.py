"""Every command with the answers of a daemon, and the text that comes of them.

`completion` is not here: its scripts stand in `init/completions`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional
from unittest import mock

from ngrokd import __version__, configfile
from ngrokd.control import advice, ctl, deedpages, events, watching
from ngrokd.control.advice import Caller, Whereabouts
from ngrokd.doctor import finding
from ngrokd.errors import ControlError
from ngrokd.verbs import configpages, configuring, whereabouts
from tests.control_room import serving
from tests.test_ctl import CACHE, NOW, STAR, STATUS, WEB, Daemon

FOLDER = Path(__file__).parent
SOCKET = "/var/run/ngrokd.sock"
CONFIG = "/etc/ngrokd/config.yml"

NEW: dict[str, object] = {
    "version": "0.1.0",
    "pid": 7,
    "uptime_s": 3,
    "state": "waiting_for_api_key",
    "problems": [],
    "interface": {
        "name": "lo",
        "subnet": "127.107.0.0/16",
        "mode": "loopback",
        "notes": ["no right to make ngrokd0: addresses of 127.107.0.0/16 are used"],
    },
}
BUSY: dict[str, object] = {
    **STATUS,
    "problems": [
        "cache.ns:6379 cannot be opened: another program listens on 10.107.0.3:6379",
        "endpoints failed: 1; `ngrokctl list` says why",
    ],
    "api": {
        "last_success": "2023-11-14T22:10:15Z",
        "last_error": "GET https://api.ngrok.com/endpoints: no answer within 30 s",
        "next_poll_s": 41.0,
    },
    "connections": {
        "open": 2,
        "total": 1700,
        "failed": 13,
        "failures": {"connect_timeout": 12, "refused_by_ngrok": 1},
        "last_error": {
            "at": "2023-11-14T22:10:15Z",
            "hostname": "web.ns",
            "port": 80,
            "cause": "refused_by_ngrok",
            "text": "ngrok refused the connection: ERR_NGROK_706",
        },
    },
}
FAILING: dict[str, object] = {
    **WEB,
    "id": "ep_9",
    "url": "https://a-name-of-some-length.in-a-namespace:8443",
    "errors": 13,
    "last_error": "ngrok refused the connection: ERR_NGROK_706",
    "last_error_at": "2023-11-14T22:10:15Z",
    "failures": {"connect_timeout": 12, "refused_by_ngrok": 1},
    "last_activity": "2023-11-14T22:13:08Z",
}
SECOND: dict[str, object] = {
    **WEB,
    "id": "ep_8",
    "port": 8080,
    "url": "http://web.ns:8080",
    "listen_address": "10.107.0.2:8080",
}
MANY = [WEB, CACHE, *({**STAR, "id": f"ep_{n}", "url": f"tls://*.n{n}"} for n in range(4, 12))]
KEY = "2abcSECRET"


@dataclass(frozen=True)
class Case:
    """A command line without `ngrokctl`, and what the daemon answers where it matters.

    `width` of the terminal, None for a pipe; `daemon`: one is there.
    """

    line: str
    status: Mapping[str, object] = field(default_factory=lambda: STATUS)
    listed: Sequence[Mapping[str, object]] = (STAR, CACHE, WEB)
    answers: Mapping[str, object] = field(default_factory=dict)
    width: Optional[int] = None
    colour: bool = False
    daemon: bool = True


def _refused(code: str, reason: str) -> ControlError:
    return ControlError(code, reason)


CASES: Mapping[str, Sequence[Case]] = {
    "status": [
        Case("status"),
        Case("status", BUSY),
        Case("status", BUSY, width=60),
        Case("status", NEW),
        Case("status", colour=True, width=80),
        Case("status", daemon=False),
    ],
    "list": [
        Case("list"),
        Case("list", listed=(FAILING, CACHE, WEB)),
        Case("list", listed=(FAILING, CACHE, WEB), width=80),
        Case("list", listed=(FAILING, CACHE, WEB), width=46),
        Case("list", listed=MANY),
        Case("list --all", listed=MANY),
        Case("list", listed=()),
        Case("list", colour=True, width=80),
        Case("list --hosts", answers={"hosts": {"lines": ["10.107.0.2\tweb.ns"]}}),
        Case("list --hosts", answers={"hosts": {"lines": []}}),
        Case("list", daemon=False),
    ],
    "open": [
        Case("open web.ns"),
        Case("open web.ns", listed=(WEB, SECOND)),
        Case("open web.ns:8080", listed=(WEB, SECOND)),
        Case("open cache.ns"),
        Case("open web.ns:81"),
        Case("open web.ns", daemon=False),
    ],
    "health": [
        Case("health"),
        Case("health", BUSY, width=60),
        Case("health", NEW),
        Case("health", {**STATUS, "state": "registering", "problems": ["401: wrong key"]}),
        Case("health", {**STATUS, "healthy": False, "ready": False}),
    ],
    "top": [
        Case("top --once --interval 0.5", BUSY, (FAILING, CACHE, WEB, STAR)),
        Case("top --once --interval 0.5 --sort errors", BUSY, (FAILING, WEB, STAR), width=80),
        Case("top --once --interval 0.5", NEW, (), width=80),
        Case("top"),
    ],
    "set-api-key": [
        Case(f"set-api-key {KEY}", answers={"set-api-key": {"checked": True, "endpoints": 3}}),
        Case(f"set-api-key {KEY}"),
        Case(
            f"set-api-key {KEY}",
            answers={"set-api-key": _refused("failed", "ngrok does not know this key")},
        ),
        Case("set-api-key schlüssel"),
    ],
    "wait": [
        Case("wait"),
        Case("wait --for web.ns"),
        Case("wait --endpoints 1"),
        Case("wait --for cache.ns --timeout 0"),
        Case("wait --endpoints 2 --timeout 0", BUSY),
    ],
    "refresh": [
        Case("refresh"),
        Case(
            "refresh",
            answers={"refresh": {"endpoints": 1, "opened": [], "closed": [], "failed": []}},
        ),
    ],
    "reload": [
        Case(
            "reload",
            answers={"reload": {"changed": ["net.subnet"], "needs_restart": ["server.pid_file"]}},
        ),
        Case("reload", answers={"reload": {"changed": [], "needs_restart": []}}),
        Case(
            "reload",
            answers={
                "reload": _refused("bad_configuration", "c.yml:3: net.subnet: '10' is no subnet")
            },
        ),
    ],
    "rotate-cert": [
        Case("rotate-cert"),
        Case("rotate-cert", answers={"rotate-cert": _refused("failed", "no answer of the API")}),
    ],
    "deregister": [Case("deregister --yes"), Case("deregister")],
    "log-level": [Case("log-level debug"), Case("log-level loud")],
    "ping": [Case("ping"), Case("ping", daemon=False)],
    "version": [Case("version"), Case("version", daemon=False), Case("--version")],
    "help": [Case("help"), Case("help top"), Case("help list"), Case("list all"), Case("")],
}


def made(name: str) -> str:
    """What is to be in `NAME.txt`."""
    if name in CASES:
        return "\n".join(map(shown, CASES[name]))
    return "\n".join(ELSEWHERE[name])


def shown(case: Case) -> str:
    """The command as typed, all that it prints, and its exit code."""
    about = [f"width {case.width}"] if case.width else []
    about += ["colour"] if case.colour else []
    about += [] if case.daemon else ["no daemon"]
    head = f"$ ngrokctl {case.line}{'   # ' + ', '.join(about) if about else ''}".rstrip()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        path = Path(folder, "s")
        if case.daemon:
            daemon = Daemon()
            daemon.status, daemon.listed = dict(case.status), list(case.listed)
            daemon.answers.update(case.answers)
            stack.enter_context(serving(path, daemon.commands()))
        printed = io.BytesIO()
        output = io.TextIOWrapper(printed, "utf-8")
        stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.redirect_stderr(output))
        environ = {"NGROKD_SOCKET": str(path), "COLUMNS": "80"}
        stack.enter_context(mock.patch.dict(os.environ, environ))
        stack.enter_context(mock.patch.object(time, "time", lambda: NOW))
        stack.enter_context(mock.patch.object(ctl, "_width", lambda: case.width))
        stack.enter_context(mock.patch.object(ctl, "_colour", lambda: case.colour))
        stack.enter_context(mock.patch("sys.stdin", io.StringIO()))
        known = Whereabouts(CONFIG, str(path), "/var/log/ngrokd.log", "sudo ngrokd start")
        stack.enter_context(mock.patch.object(whereabouts, "whereabouts", lambda: known))
        code = ctl.main(case.line.split())
        output.flush()
    text = _constant(printed.getvalue().decode("utf-8").replace(str(path), SOCKET))
    return f"{head}\n{text}{f'(exit code {code})' + chr(10) if code else ''}"


def _constant(text: str) -> str:
    """Without what is other each time or in each version."""
    text = re.sub(r"\([0-9.]+ ms\)", "(0.4 ms)", text.replace("\x1b", "\\e"))
    text = text.replace(f"ngrokctl {__version__}", "ngrokctl X.Y.Z")
    # Pythons before 3.10 and after 3.11 say these in other words.
    text = re.sub(r"(?<=choose from )[^)]*", lambda found: found[0].replace("'", ""), text)
    return text.replace("optional arguments:", "options:")


def _trust(installed: bool) -> str:
    certificate = {
        "subject": "CN=ngrok ingress CA",
        "issuer": "CN=ngrok ingress CA",
        "not_before": "2023-01-01T00:00:00Z",
        "not_after": "2033-01-01T00:00:00Z",
        "sha256": "AB:CD:EF",
    }
    answer: dict[str, Any] = {
        "installed": installed,
        "path": "/etc/ngrokd/ca.crt",
        "kept": "/etc/ngrokd/ca.crt.before" if installed else None,
        "daemon": installed,
        "ingress": "trusted" if installed else "unknown",
        "certificate": certificate,
    }
    return f"$ ngrokctl trust\n{deedpages.trust_page(answer, None)}\n"


def _not_permitted(caller: Caller) -> str:
    return advice.not_permitted(f"{SOCKET}: Permission denied", caller, "ngrokctl status") + "\n"


def _doctor(width: Optional[int], colour: bool = False) -> str:
    findings = [
        finding.ok("config", "/etc/ngrokd/config.yml is valid"),
        finding.warning("certificate", "it ends in 5 days", "ngrokctl rotate-cert"),
        finding.failed("ingress", "it does not answer within 10 s", "see ingressEndpoint"),
        finding.skipped("interface", "no daemon runs"),
    ]
    page = finding.page(findings, width, colour)
    return f"$ ngrokctl doctor{'   # colour' if colour else ''}\n{_constant(page)}\n"


def _events() -> str:
    """One of each kind, in an order that could be."""
    web = {"id": "ep_1", "url": "http://web.ns"}
    cache = {"id": "ep_2", "url": "tcp://cache.ns:6379"}
    star = {"id": "ep_3", "url": "tls://*.ns"}
    answer = "poll failed: the ngrok API at https://api.ngrok.com did not answer: timed out"
    taken = "another program listens on 10.107.0.3:6379"
    states = {"open": 1, "failed": 1, "skipped": 0}
    told: list[dict[str, object]] = [
        {"event": events.BEGAN, "version": "0.1.0", "state": "ready", "endpoints": {}},
        {"event": events.STATE, "state": "waiting_for_api_key"},
        {"event": events.REGISTERED, "operator_id": "k8sop_2x"},
        {"event": events.ENDPOINT_OPEN, **web, "listen_address": "10.107.0.2:80"},
        {"event": events.ENDPOINT_FAILED, **cache, "reason": taken},
        {"event": events.ENDPOINT_SKIPPED, **star, "reason": "a wildcard is no name"},
        {"event": events.ENDPOINT_CLOSED, **cache, "was": "failed"},
        {"event": events.ENDPOINT_CLOSED, **web, "was": "open"},
        {"event": events.POLL_FAILED, "text": answer},
        {"event": events.STATE, "state": "degraded"},
        {"event": events.POLL_OK},
        {"event": events.PROBLEM, "text": "/etc/hosts cannot be written (Read-only file system)"},
        {
            "event": events.PROBLEM_GONE,
            "text": "/etc/hosts cannot be written (Read-only file system)",
        },
        {"event": events.CERTIFICATE_RENEWED, "not_after": "2027-02-26T14:03:00Z"},
        {"event": events.LOST, "count": 1},
        {"event": events.DEREGISTERED, "operator_id": "k8sop_2x"},
        {"event": "of_a_newer_daemon", "weight": 3},
        {"event": events.STOPPED},
        {
            "event": events.BEGAN,
            "version": "0.1.0",
            "state": "degraded",
            "endpoints": states,
            "problems": [answer],
        },
    ]
    lines = [
        line
        for event in told
        for line in watching._words({**event, "time": "2023-11-14T22:13:20Z"})
    ]
    return "\n".join(["$ ngrokctl events", *lines, ""])


def _config(width: Optional[int]) -> str:
    config = configfile.parse(
        "api: {key: 2abcSECRET}\nnet: {subnet: 10.9.0.0/16, overrides: {db.ns: eth0}}", CONFIG
    )
    places = {
        "api.key": f"{CONFIG}:6: api.key",
        "net.subnet": f"{CONFIG}:31: net.subnet",
        "net.overrides": f"{CONFIG}:34: net.overrides",
        "net.hosts_file": "environment: NGROKD_HOSTS_PATH",
    }
    saved = "/etc/ngrokd/api_key" if width is None else ""
    found = configpages.settings(config, places, CONFIG, saved)
    notes = [] if saved else [f"{configuring.UNKNOWN_KEY}: /etc/ngrokd/api_key: Permission denied"]
    about = f"   # width {width}" if width else ""
    return f"$ ngrokctl config show{about}\n{configpages.page(CONFIG, True, found, notes, width)}\n"


def _edit() -> str:
    copy = "/etc/ngrokd/config.edit-1a2b3c4d.yml"
    fault = f"{copy}:31: net.subnet: '10.8' is no network, allowed: an IPv4 network"
    lines = [
        "$ ngrokctl config edit",
        f"ngrokctl: {fault}",
        configpages.kept(copy, CONFIG),
        "(exit code 2)",
        "",
        "$ ngrokctl config edit",
        f"{CONFIG} is saved.",
        deedpages.reload_page({"changed": ["net.subnet"], "needs_restart": []}),
        "",
        "$ ngrokctl config edit   # no daemon",
        f"{CONFIG} is saved.",
        configuring.NO_DAEMON,
        "",
        "$ ngrokctl config edit",
        configuring.UNCHANGED,
        "",
    ]
    return "\n".join(lines)


# What needs the network, another user or time: only its pages.
ELSEWHERE: Mapping[str, Sequence[str]] = {
    "config": [_config(None), _config(60), _edit()],
    "doctor": [_doctor(None), _doctor(50), _doctor(None, colour=True)],
    "events": [_events()],
    "trust": [_trust(True), _trust(False)],
    "not-permitted": [
        _not_permitted(Caller("bob", "ngrok", is_member=False)),
        _not_permitted(Caller("bob", "ngrok", is_member=True)),
        _not_permitted(Caller("bob", None, is_member=False)),
        advice.file_forbidden(f"{CONFIG}: Permission denied", "bob", "ngrokctl trust") + "\n",
    ],
    "unreachable": [
        advice.unreachable(f"no ngrokd answers on {asked} (Connection refused)", asked, known)
        + "\n"
        for asked, known in (
            (SOCKET, Whereabouts(CONFIG, SOCKET, whereabouts.JOURNAL, "ngrokd start")),
            (SOCKET, Whereabouts(CONFIG, "/n.sock", whereabouts.SYSTEM_LOG, "sudo ngrokd start")),
            ("/tmp/s", Whereabouts(CONFIG, SOCKET, whereabouts.JOURNAL, "ngrokd start")),
        )
    ],
}
