"""ngrokctl against a daemon of canned answers: what it prints and how it exits."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from ngrokd import __version__
from ngrokd.control import advice, ctl, tones, waiting
from ngrokd.control.advice import Caller
from ngrokd.control.answers import mapping, mappings
from ngrokd.control.client import request
from ngrokd.control.commands import COMMANDS
from ngrokd.control.deedpages import refresh_page
from ngrokd.control.pages import list_page, status_page
from ngrokd.control.server import Command
from ngrokd.control.text import (
    Column,
    clean,
    count,
    cut,
    note,
    pairs,
    showable,
    size,
    span,
    table,
)
from ngrokd.errors import ControlError, FileForbidden, ProtocolError
from ngrokd.service.control import Service
from ngrokd.service.systems import Init
from ngrokd.verbs import trusting, whereabouts
from tests.control_room import NOBODY, PATIENCE_S, as_user, serving

NOW = 1_700_000_000.0

STATUS: dict[str, Any] = {
    "registered": True,
    "operator_id": "k8sop_2x",
    "endpoint_count": 1,
    "ingress_endpoint": "ingress.example:443",
    "version": "0.1.0",
    "pid": 42,
    "uptime_s": 7620,
    "state": "degraded",
    "problems": ["cache.ns:6379 cannot be opened"],
    "endpoints": {"open": 1, "failed": 1, "skipped": 1},
    "certificate": {"not_after": "2023-12-14T22:13:20Z", "days_left": 30.0},
    "api": {"last_success": "2023-11-14T22:13:08Z", "last_error": None, "next_poll_s": 18.0},
    "interface": {"name": "ngrokd0", "subnet": "10.107.0.0/16", "mode": "dummy", "notes": []},
    "connections": {"open": 2, "total": 17, "failed": 1},
    "bytes": {"up": 1_234_567, "down": 99_999_999},
    "warm_connections": {
        "setting": "auto",
        "ready": 3,
        "wanted": 4,
        "used": 120,
        "missed": 4,
        "max_age_s": 600.0,
        "problem": None,
    },
}


def _endpoint(**changed: object) -> dict[str, object]:
    return {
        "id": "ep_1",
        "hostname": "web.ns",
        "ip": "10.107.0.2",
        "port": 80,
        "url": "http://web.ns",
        "local_listener": True,
        "listen_address": "10.107.0.2:80",
        "state": "open",
        "reason": "",
        "connections": 2,
        "total_connections": 17,
        "errors": 1,
        "bytes_up": 1_234_567,
        "bytes_down": 99_999_999,
        **changed,
    }


WEB = _endpoint()
CACHE = _endpoint(
    id="ep_2",
    hostname="cache.ns",
    ip="10.107.0.3",
    url="tcp://cache.ns:6379",
    listen_address="",
    state="failed",
    reason="10.107.0.3:6379: address already in use",
    connections=0,
    total_connections=0,
    errors=0,
    bytes_up=0,
    bytes_down=0,
)
STAR = {**CACHE, "id": "ep_3", "hostname": "", "ip": "", "url": "tls://*.ns", "state": "skipped"}
STAR["reason"] = "a wildcard is no name"


class Daemon:
    """Canned answers that a test may change; remembers what it was asked."""

    def __init__(self) -> None:
        self.status: object = STATUS
        self.listed: object = [STAR, CACHE, WEB]
        self.asked: list[tuple[str, list[str]]] = []
        self.answers: dict[str, object] = {
            "ping": "pong",
            "set-api-key": "API key set",
            "refresh": {"endpoints": 3, "opened": ["web.ns:80"], "closed": [], "failed": ["b:1"]},
            "reload": {"changed": ["net", "server"]},
            "rotate-cert": {"not_after": "2027-02-26T14:03:00Z"},
            "deregister": {"operator_id": "k8sop_1"},
            "log-level": {"log_level": "debug"},
            "hosts": {"path": "/etc/hosts", "published": True, "lines": ["# BEGIN", "10.0.0.2\ta"]},
        }

    def commands(self) -> dict[str, Command]:
        names = ["status", "list", *self.answers]
        return {name: lambda args, name=name: self._answer(name, args) for name in names}  # type: ignore[misc]

    def _answer(self, name: str, args: list[str]) -> object:
        self.asked.append((name, args))
        answer = {"status": self.status, "list": self.listed, **self.answers}[name]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NGROKD_SOCKET", str(tmp_path / "s"))
    monkeypatch.delenv("NGROKD_HOST", raising=False)
    return tmp_path / "s"


@pytest.fixture
def daemon(path: Path) -> Iterator[Daemon]:
    daemon = Daemon()
    with serving(path, daemon.commands()):
        yield daemon


# Exit codes


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("status", 0),
        ("list", 0),
        ("list bound-endpoints --all", 0),
        ("list --hosts", 0),
        ("health", 0),
        ("set-api-key 2abc", 0),
        ("wait", 0),
        ("wait --for web.ns", 0),
        ("wait --for WEB.ns.", 0),
        ("wait --endpoints 1 --timeout 5", 0),
        ("wait --for cache.ns --timeout 0", 4),
        ("wait --for none.ns --timeout 0.3", 4),
        ("wait --endpoints 2 --timeout 0", 4),
        ("refresh", 0),
        ("reload", 0),
        ("rotate-cert", 0),
        ("deregister --yes", 0),
        ("deregister", 2),
        ("log-level debug", 0),
        ("ping", 0),
        ("version", 0),
        ("--version", 0),
        ("help", 0),
        ("help wait", 0),
        ("--help", 0),
        ("", 2),
        ("nonsense", 2),
        ("stat", 2),
        ("list everything", 2),
        ("list --al", 2),
        ("log-level", 2),
        ("log-level loud", 2),
        ("wait --timeout soon", 2),
        ("wait --timeout -1", 2),
        ("wait --timeout inf", 2),
        ("wait --timeout nan", 2),
        ("wait --endpoints -1", 2),
        ("help nonsense", 2),
    ],
)
def test_exit_codes(daemon: Daemon, line: str, code: int) -> None:
    assert ctl.main(line.split()) == code


@pytest.mark.parametrize(
    "line",
    [
        "status",
        "list",
        "health",
        "set-api-key k",
        "wait --timeout 0.3",
        "refresh",
        "ping",
        "events",
        "open a.b",
    ],
)
def test_without_a_daemon_every_command_exits_with_three_and_says_what_to_do(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    known = advice.Whereabouts("/c.yml", str(path), "/var/log/ngrokd.log", "ngrokd start")
    monkeypatch.setattr(whereabouts, "whereabouts", lambda: known)
    assert ctl.main(line.split()) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"ngrokctl: no ngrokd answers on {path} (No such file or directory)\n"
        "  start it:  ngrokd start\n"
        "  its log:   /var/log/ngrokd.log\n"
    )


def test_who_is_not_root_is_told_to_start_it_with_sudo() -> None:
    known = advice.Whereabouts("/c.yml", "/s", "journalctl -u ngrokd", "sudo ngrokd start")
    assert advice.unreachable("no", "/s", known).splitlines() == [
        "no",
        "  start it:  sudo ngrokd start",
        "  its log:   journalctl -u ngrokd",
    ]


@pytest.mark.parametrize(
    ("called", "uid", "command"),
    [
        ("/usr/bin/ngrokctl", 0, "ngrokd start"),
        ("/usr/bin/ngrokctl", 7, "sudo ngrokd start"),
        ("/my venv/bin/ngrokctl", 7, "sudo '/my venv/bin/ngrokd' start"),
        ("/x/ctl.py", 0, f"{sys.executable} -m ngrokd start"),
    ],
)
def test_the_command_that_starts_it_is_found_by_sudo(
    monkeypatch: pytest.MonkeyPatch, called: str, uid: int, command: str
) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert advice.start() == command


def test_where_the_configuration_has_another_socket_that_one_is_told() -> None:
    known = advice.Whereabouts("/c.yml", "/my s", "/l", "ngrokd start")
    usual = advice.unreachable("no", "/var/run/ngrokd.sock", known).splitlines()
    assert usual[1] == "  running?   /c.yml has another socket: --socket '/my s'"
    named = advice.unreachable("no", "/other", known).splitlines()
    assert named[1] == (
        "  start it:  ngrokd start --config PATH, if that configuration names this socket"
    )
    assert named[-1] == "  another?   the socket of /c.yml is /my s"


@pytest.mark.parametrize(
    ("setting", "log"),
    [
        ("", "/var/log/ngrokd.log"),
        ("server: {log_file: /var/log/mine.log}", "/var/log/mine.log"),
        ("server: {log_file: syslog}", "the system's: journalctl -t ngrokd, or /var/log/syslog"),
        ("nonsense", "/var/log/ngrokd.log"),
    ],
)
def test_the_log_is_where_the_configuration_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, log: str
) -> None:
    monkeypatch.setenv("NGROKD_SOCKET", "/tmp/of-another-program")
    (tmp_path / "c.yml").write_text(setting)
    for init, expected in ((Init.SYSV, log), (Init.SYSTEMD, log if setting[:1] == "s" else "")):
        service = Service(init, str(tmp_path / "c.yml"))
        monkeypatch.setattr(whereabouts, "_service", lambda service=service: service)
        known = whereabouts.whereabouts()
        assert known.log == (expected or "journalctl -u ngrokd")
        assert known.config == str(tmp_path / "c.yml")
        assert known.socket_path == "/var/run/ngrokd.sock"


def test_where_a_file_is_closed_only_sudo_is_told(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(call: object, agreed: object) -> None:
        raise FileForbidden("/etc/ngrokd/config.yml: Permission denied")

    monkeypatch.setattr(trusting, "trust", refuse)
    assert ctl.main(["trust"]) == 5
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("is not permitted: /etc/ngrokd/config.yml: Permission denied")
    assert re.fullmatch(r"  once:      sudo \S.* trust", second)


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        ("failed", 1),
        ("rate_limited", 1),
        ("bad_arguments", 2),
        ("bad_configuration", 2),
        ("timeout", 4),
        ("forbidden", 5),
        ("needs_owner", 5),
    ],
)
def test_the_daemons_refusals_have_their_exit_codes(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], refusal: str, code: int
) -> None:
    daemon.answers["reload"] = ControlError(refusal, "because \x1b[31mof this")
    assert ctl.main(["reload"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "because \\x1b[31mof this" in err


@pytest.mark.parametrize("state", ["registering", "waiting_for_api_key", "stopping"])
def test_health_exits_with_one_until_the_daemon_is_ready(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    daemon.status = {**STATUS, "state": state, "problems": []}
    assert ctl.main(["health"]) == 1
    assert capsys.readouterr().out.startswith("healthy\nnot ready: ")


@pytest.mark.parametrize("ready", [True, False])
def test_a_daemon_with_a_thread_that_stands_still_is_neither_healthy_nor_waited_for_as_ready(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], ready: bool
) -> None:
    daemon.status = {**STATUS, "state": "ready", "problems": [], "healthy": False, "ready": ready}
    assert ctl.main(["health"]) == 1
    stuck = "stuck: one of its threads stands still"
    serves = "ready" if ready else f"not ready: {stuck}"
    mend = "Restart it with `ngrokd restart`; please report what its log says."
    assert capsys.readouterr().out == f"unhealthy\n{serves}\n\n{mend}\n"
    assert ctl.main(["health", "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["healthy"], said["ready"]) == (False, ready)
    assert ctl.main(["wait", "--timeout", "0"]) == (0 if ready else 4)
    assert stuck in "".join(capsys.readouterr())
    ctl.main(["status"])
    assert capsys.readouterr().out.startswith(f"ngrokd {STATUS['version']} is {stuck} (pid ")


def test_an_answer_of_another_kind_is_told_and_not_a_traceback(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.status, daemon.listed = ["x"], {"a": 1}
    assert (ctl.main(["status"]), ctl.main(["list"])) == (1, 1)
    assert capsys.readouterr().err.count("is it an ngrokd of this version?") == 2


# Where the socket is


def test_the_option_goes_before_the_variables_and_may_stand_anywhere(
    daemon: Daemon, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGROKD_SOCKET", "/nowhere")
    assert ctl.main(["ping"]) == 3
    assert ctl.main(["--socket", str(path), "ping"]) == 0
    assert ctl.main(["ping", "--socket", str(path)]) == 0


def test_ngrokd_host_names_the_socket_too(
    daemon: Daemon, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NGROKD_SOCKET")
    monkeypatch.setenv("NGROKD_HOST", str(path))
    assert ctl.main(["ping"]) == 0


@pytest.mark.parametrize("variable", ["NGROKD_HOST", "NGROKD_SOCKET"])
def test_the_socket_may_be_named_as_a_url_as_for_the_daemon(
    daemon: Daemon, path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("NGROKD_SOCKET")
    assert ctl.main(["ping", "--socket", f"unix://{path}"]) == 0
    monkeypatch.setenv(variable, f"unix://{path}")
    assert ctl.main(["ping"]) == 0


# What is printed


def test_status_for_people() -> None:
    assert status_page(STATUS, NOW, None) == """\
ngrokd 0.1.0 is ready, with problems (pid 42, up 2 h 7 min)

Operator     k8sop_2x
Ingress      ingress.example:443
Certificate  until 2023-12-14T22:13:20Z (30 days)
API          answered 12 s ago, next poll in 18 s
Interface    ngrokd0 10.107.0.0/16 (dummy)
Endpoints    1 open, 1 failed, 1 skipped
Connections  2 open, 17 total, 1 failed
Warm         3 ready of 4 wanted (auto), 120 of 124 clients found one
Bytes        1.2 MiB up, 95 MiB down

Problems
    cache.ns:6379 cannot be opened"""


def test_status_of_a_daemon_without_a_key_says_what_to_do() -> None:
    status = {"version": "0.1.0", "pid": 1, "uptime_s": 3, "state": "waiting_for_api_key"}
    status["interface"] = {"name": "lo", "subnet": "127.107.0.0/16", "mode": "loopback"}
    status["interface"]["notes"] = ["no right to make ngrokd0"]  # type: ignore[index]
    status["api"] = {"last_error": "401 from the API"}
    assert status_page(status, NOW, None) == """\
ngrokd 0.1.0 is waiting for an API key (pid 1, up 3 s)

Operator     not registered
Certificate  none yet
API          last error: 401 from the API
Interface    lo 127.107.0.0/16 (loopback)
Endpoints    0 open
Connections  0 open, 0 total, 0 failed
Bytes        0 B up, 0 B down

Notes
    no right to make ngrokd0

Give it a key with `ngrokctl set-api-key`."""


@pytest.mark.parametrize(
    ("api", "shown"),
    [
        ({}, "no answer yet"),
        ({"last_success": None, "last_error": None}, "no answer yet"),
        ({"last_error": "", "next_poll_s": 5.0}, "no answer yet, next poll in 5 s"),
        ({"last_success": "2023-11-14T22:13:08Z", "last_error": ""}, "answered 12 s ago"),
        ({"last_error": "401"}, "last error: 401"),
        ({"last_error": "401", "next_poll_s": 5.0}, "next poll in 5 s; last error: 401"),
    ],
)
def test_status_tells_how_the_api_stands(api: dict[str, object], shown: str) -> None:
    assert f"\nAPI          {shown}\n" in status_page({**STATUS, "api": api}, NOW, None)


def test_status_tells_why_connections_failed_and_which_was_the_last() -> None:
    last = {
        "at": "2023-11-14T22:10:15Z",
        "hostname": "web.ns",
        "port": 80,
        "cause": "refused_by_ngrok",
        "text": "ngrok refused: ERR_NGROK_706 no such\x1b endpoint",
    }
    failures = {"connect_timeout": 12, "refused_by_ngrok": 1}
    connections = {"open": 0, "total": 13, "failed": 13, "failures": failures, "last_error": last}
    assert """
Connections  0 open, 13 total, 13 failed
Warm         3 ready of 4 wanted (auto), 120 of 124 clients found one
Failures     12 connect timeout, 1 refused by ngrok
Last error   web.ns:80, 3 min 5 s ago: ngrok refused: ERR_NGROK_706 no such\\x1b endpoint
Bytes """ in status_page({**STATUS, "connections": connections}, NOW, None)


def test_status_counts_the_less_frequent_causes_together() -> None:
    failures = {"a_b": 1, "c": 5, "d": 4, "e": 3, "f": 2, "g": 1}
    page = status_page({**STATUS, "connections": {"failures": failures}}, NOW, None)
    assert "\nFailures     5 c, 4 d, 3 e, 2 f, 2 for other causes\n" in page


def test_status_says_nothing_of_failures_where_there_were_none() -> None:
    connections = {"open": 0, "total": 1, "failed": 0, "failures": {}, "last_error": None}
    page = status_page({**STATUS, "connections": connections}, NOW, None)
    assert "Failures" not in page and "Last error" not in page


@pytest.mark.parametrize(
    ("warm", "shown"),
    [
        ({"setting": "off", "max_age_s": 600.0, "used": 3}, "off"),
        ({"used": 0, "missed": 0, "ready": 0}, "0 ready of 4 wanted (auto)"),
        (
            {"wanted": 0, "ready": 0, "used": 0, "missed": 1},
            "none wanted now (auto), 0 of 1 client found one",
        ),
        (
            {"wanted": 0, "ready": 0, "used": 1, "missed": 4, "max_age_s": 0.0},
            "none, since the ingress lets none wait (auto), 1 of 5 clients found one",
        ),
        (
            {"setting": "8", "wanted": 8, "used": 0, "missed": 0, "problem": "it is\x1b away"},
            "3 ready of 8 wanted (8); no more now: it is\\x1b away",
        ),
    ],
)
def test_status_tells_how_many_connections_are_warm_or_why_none_is(
    warm: dict[str, object], shown: str
) -> None:
    status = {**STATUS, "warm_connections": {**STATUS["warm_connections"], **warm}}
    assert f"\nWarm         {shown}\n" in status_page(status, NOW, None)


def test_status_of_a_daemon_that_keeps_none_warm_yet_has_no_line_of_it() -> None:
    older = {name: value for name, value in STATUS.items() if name != "warm_connections"}
    assert "Warm" not in status_page(older, NOW, None)


def test_status_tells_an_ended_certificate() -> None:
    ended = {**STATUS, "certificate": {"not_after": "2023-11-13T22:13:20Z", "days_left": -1.0}}
    assert "Certificate  ended 2023-11-13T22:13:20Z\n" in status_page(ended, NOW, None)


def test_status_shows_the_lines_that_are_to_be_added_by_hand_as_they_are() -> None:
    lines = ["# BEGIN ngrokd managed section", "10.107.0.2\tweb.ns"]
    hosts: dict[str, object] = {"path": "/etc/hosts", "published": False, "names": 1}
    page = status_page({**STATUS, "hosts": {**hosts, "lines": lines, "more_lines": 0}}, NOW, 20)
    assert "\nHosts file   /etc/hosts lacks 1\n             name\n" in page
    assert page.endswith(
        "Until ngrokd may write /etc/hosts, names work with these lines in it:\n\n"
        "# BEGIN ngrokd managed section\n10.107.0.2\tweb.ns"
    )
    page = status_page({**STATUS, "hosts": {**hosts, "lines": lines, "more_lines": 7981}}, NOW, 20)
    assert page.endswith("\n10.107.0.2\tweb.ns\n... 7981 lines more: `ngrokctl list --hosts`")
    hosts = {**hosts, "lines": lines, "missing": 0, "stale": 2, "replace": True}
    page = status_page({**STATUS, "hosts": hosts}, NOW, None)
    assert "\nHosts file   /etc/hosts still has 2 names to be withdrawn\n" in page
    assert "with these lines in place of the older ones of ngrokd" in page
    page = status_page({**STATUS, "hosts": {**hosts, "lines": []}}, NOW, None)
    assert page.endswith("remove the older ones of ngrokd (between `# BEGIN` and `# END`) from it")
    hosts = {"path": "/etc/hosts", "published": True, "names": 2, "lines": [], "more_lines": 0}
    page = status_page({**STATUS, "hosts": hosts}, NOW, None)
    assert "\nHosts file   /etc/hosts (2 names)\n" in page and "Until" not in page


def test_list_in_hosts_file_form_is_nothing_but_lines(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ctl.main(["list", "--hosts"]) == 0
    assert capsys.readouterr().out == "# BEGIN\n10.0.0.2\ta\n"
    daemon.answers["hosts"] = {"path": "/etc/hosts", "published": True, "lines": []}
    assert ctl.main(["list", "--hosts"]) == 0
    assert capsys.readouterr().out == "# ngrokd has no names to publish now\n"
    assert ctl.main(["list", "--hosts", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == daemon.answers["hosts"]


def test_list_for_people_gives_the_reason_of_what_is_not_open() -> None:
    assert list_page([STAR, CACHE, WEB], False, NOW, None) == """\
URL                  ADDRESS        STATE    OPEN  TOTAL  ERRORS       UP    DOWN
http://web.ns        10.107.0.2:80  open        2     17       1  1.2 MiB  95 MiB
tcp://cache.ns:6379  10.107.0.3     failed      0      0       0      0 B     0 B
    10.107.0.3:6379: address already in use
tls://*.ns           -              skipped     0      0       0      0 B     0 B
    a wildcard is no name"""


def test_list_says_why_connections_failed() -> None:
    cut = _endpoint(last_error="ERR_NGROK_706: no such\x1b endpoint")
    cured = _endpoint(id="ep_4", url="http://b.ns", errors=0, last_error="long ago")
    moved = {**CACHE, "errors": 3, "last_error": "reset by the ingress"}
    assert list_page([moved, cut, cured], False, NOW, None).splitlines()[1:] == [
        "http://b.ns          10.107.0.2:80  open       2     17       0  1.2 MiB  95 MiB",
        "http://web.ns        10.107.0.2:80  open       2     17       1  1.2 MiB  95 MiB",
        "    last error: ERR_NGROK_706: no such\\x1b endpoint",
        "tcp://cache.ns:6379  10.107.0.3     failed     0      0       3      0 B     0 B",
        "    10.107.0.3:6379: address already in use",
        "    last error: reset by the ingress",
    ]


def test_list_tells_the_age_of_the_last_error_and_each_cause_if_there_are_several() -> None:
    known: dict[str, Any] = {"last_error": "cut", "last_error_at": "2023-11-14T22:13:08Z"}
    one = _endpoint(**known, failures={"cut_while_open": 1})
    two = _endpoint(**known, failures={"connect_timeout": 12, "cut_while_open": 1})
    assert list_page([one], False, NOW, None).splitlines()[2:] == ["    last error, 12 s ago: cut"]
    assert list_page([two], False, NOW, None).splitlines()[2:] == [
        "    last error, 12 s ago: cut",
        "    errors: 12 connect timeout, 1 cut while open",
    ]


def test_on_a_narrow_terminal_list_leaves_columns_out_and_wraps_reasons() -> None:
    assert list_page([CACHE, WEB], False, NOW, 48) == """\
URL                  ADDRESS        STATE   OPEN
http://web.ns        10.107.0.2:80  open       2
tcp://cache.ns:6379  10.107.0.3     failed     0
    10.107.0.3:6379: address already in use"""
    assert list_page([CACHE, WEB], False, NOW, 42).splitlines()[:3] == [
        "URL                  ADDRESS        STATE",
        "http://web.ns        10.107.0.2:80  open",
        "tcp://cache.ns:6379  10.107.0.3     failed",
    ]
    assert list_page([CACHE, WEB], False, NOW, 40).splitlines()[:3] == [
        "URL                  STATE",
        "http://web.ns        open",
        "tcp://cache.ns:6379  failed",
    ]
    assert list_page([CACHE], False, NOW, 30).splitlines()[-2:] == [
        "    10.107.0.3:6379: address",
        "    already in use",
    ]


def test_of_many_skipped_endpoints_a_few_are_shown_unless_all_are_asked_for() -> None:
    many = [WEB, *({**STAR, "id": f"ep_{i}", "url": f"tls://*.{i}"} for i in range(8))]
    few = list_page(many, False, NOW, None)
    assert few.endswith("\n\n3 more skipped: `ngrokctl list --all`")
    assert few.count("a wildcard is no name") == 5
    assert list_page(many, True, NOW, None).count("a wildcard is no name") == 8


def test_list_says_how_many_have_no_name_here_since_only_their_address_serves() -> None:
    moved = _endpoint(listen_address="0.0.0.0:9080", published=False)
    assert list_page([moved, WEB], False, NOW, None).splitlines()[-1] == (
        "1 endpoint without a name here: use the ADDRESS"
    )
    assert "without a name" not in list_page([_endpoint(published=True)], False, NOW, None)


def test_status_shows_the_notes_of_the_daemon_and_of_its_interface_together() -> None:
    interface = {"name": "lo", "subnet": "127.107.0.0/16", "mode": "loopback", "notes": ["first"]}
    page = status_page({**STATUS, "interface": interface, "notes": ["second"]}, NOW, None)
    assert "\nNotes\n    first\n    second\n" in page


def test_an_empty_list_says_where_to_look() -> None:
    assert list_page([], False, NOW, None).startswith("No endpoints. `ngrokctl status`")


def test_a_name_that_hides_another_is_told_below_its_line() -> None:
    hiding = {**WEB, "resolves_elsewhere": ["93.184.216.34", "2001:db8::1"]}
    assert list_page([hiding], False, NOW, None).splitlines()[2:] == [
        "    the name also resolves outside of this machine, to 93.184.216.34"
    ]


def test_refresh_names_what_changed() -> None:
    answer = {"endpoints": 1, "opened": ["a:1"], "closed": ["b:2"], "failed": ["c:3"]}
    assert refresh_page(answer, None) == """\
Polled: 1 endpoint open
    opened a:1
    closed b:2
    failed c:3
`ngrokctl list` gives the reasons."""
    quiet = {"endpoints": 2, "opened": [], "closed": [], "failed": []}
    nothing = "Polled: 2 endpoints open; nothing opened, closed or failed."
    assert refresh_page(quiet, None) == nothing


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("set-api-key 2abc", "API key set. `ngrokctl wait` returns when the daemon is ready."),
        ("reload", "Configuration read again.\nchanged  net, server"),
        (
            "rotate-cert",
            "A new certificate is in use, valid until 2027-02-26T14:03:00Z.",
        ),
        (
            "deregister --yes",
            "Operator k8sop_1 is deleted. `ngrokctl set-api-key` registers this machine again.",
        ),
        ("log-level debug", "Log level is debug."),
        ("health", "healthy\nready\n\nProblems\n    cache.ns:6379 cannot be opened"),
        ("wait", "ngrokd is ready, with problems"),
        ("wait --for web.ns", "web.ns is open on 10.107.0.2:80"),
        ("wait --endpoints 1", "open endpoints: 1"),
        ("version", f"ngrokctl {__version__}\nngrokd 0.1.0"),
        ("--version", f"ngrokctl {__version__}"),
    ],
)
def test_the_text_of_each_command(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], line: str, text: str
) -> None:
    assert ctl.main(line.split()) == 0
    assert capsys.readouterr() == (text + "\n", "")


@pytest.mark.parametrize(
    ("line", "data"),
    [
        ("status", STATUS),
        ("list", {"endpoints": [STAR, CACHE, WEB]}),
        (
            "health",
            {
                "healthy": True,
                "ready": True,
                "state": "degraded",
                "problems": ["cache.ns:6379 cannot be opened"],
            },
        ),
        ("set-api-key 2abc", {"done": True, "answer": "API key set"}),
        ("reload", {"done": True, "answer": {"changed": ["net", "server"]}}),
        ("rotate-cert", {"done": True, "answer": {"not_after": "2027-02-26T14:03:00Z"}}),
        ("deregister --yes", {"done": True, "answer": {"operator_id": "k8sop_1"}}),
        ("log-level debug", {"done": True, "answer": {"log_level": "debug"}}),
        (
            "refresh",
            {"endpoints": 3, "opened": ["web.ns:80"], "closed": [], "failed": ["b:1"]},
        ),
        ("wait", {"ready": True, "state": "degraded"}),
        ("wait --for web.ns", {"endpoints": [WEB]}),
        ("version", {"ngrokctl": __version__, "ngrokd": "0.1.0"}),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_json_is_one_object_with_the_data(
    daemon: Daemon,
    capsys: pytest.CaptureFixture[str],
    line: str,
    data: dict[str, object],
    first: bool,
) -> None:
    words = ["--json", *line.split()] if first else [*line.split(), "--json"]
    assert ctl.main(words) == 0
    assert json.loads(capsys.readouterr().out) == data


def test_ping_tells_how_long_it_took(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    ctl.main(["ping"])
    assert re.fullmatch(r"ngrokd answers \([0-9.]+ ms\)\n", capsys.readouterr().out)
    ctl.main(["ping", "--json"])
    assert json.loads(capsys.readouterr().out)["answers"] is True


def test_version_works_without_a_daemon(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["version"]) == 0
    assert capsys.readouterr().out == f"ngrokctl {__version__}\nngrokd not running\n"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"changed": [], "needs_restart": []}, "Configuration read again. Nothing has changed."),
        (
            {"changed": ["net.subnet"], "needs_restart": ["server.health_port", "server.pid_file"]},
            "Configuration read again.\n"
            "changed        net.subnet\n"
            "needs restart  server.health_port, server.pid_file",
        ),
        (None, "Configuration read again."),
    ],
)
def test_reload_tells_what_it_changed(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], answer: object, text: str
) -> None:
    daemon.answers["reload"] = answer
    assert ctl.main(["reload"]) == 0
    assert capsys.readouterr() == (text + "\n", "")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("frob", "there is no command 'frob': `ngrokctl help` lists all\n"),
        ("stauts --json", "there is no command 'stauts': did you mean `ngrokctl status`? "),
        ("--socket /x --json lst", "there is no command 'lst': did you mean `ngrokctl list`? "),
        ("list --foo --bar", "unrecognized arguments: --foo --bar\n"),
        ("log-level loud", "argument LEVEL: invalid choice: 'loud'"),
        ("log-level", "the following arguments are required: LEVEL"),
        ("list all", "argument bound-endpoints: invalid choice: 'all'"),
        ("wait --endpoints x", "argument --endpoints: 'x' is not a whole number from 0\n"),
        ("wait --endpoints -1", "argument --endpoints: '-1' is not a whole number from 0\n"),
        ("wait --timeout x", "argument --timeout: 'x' is not a number of seconds from 0\n"),
        ("wait --timeout nan", "argument --timeout: 'nan' is not a number of seconds from 0\n"),
    ],
)
def test_a_usage_error_names_the_word_and_what_is_allowed(
    capsys: pytest.CaptureFixture[str], line: str, reason: str
) -> None:
    assert ctl.main(line.split()) == 2
    assert f"error: {reason}" in capsys.readouterr().err


def test_help_says_where_errors_go_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "With --json too, errors are text on standard error and standard output is" in words


@pytest.mark.parametrize("line", ["status --json", "--json list", "refresh --json"])
def test_with_json_an_error_leaves_standard_output_empty(
    path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    assert ctl.main(line.split()) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ngrokctl: no ngrokd answers")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["help"]) == 0
    listed = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n    {name} " in listed or f"\n    {name}\n" in listed


def test_the_level_reaches_the_daemon(daemon: Daemon) -> None:
    ctl.main(["log-level", "debug"])
    assert daemon.asked == [("log-level", ["debug"])]


# The key


def test_the_key_is_read_from_standard_input(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("2abcSECRET\nmore\n"))
    assert ctl.main(["set-api-key"]) == 0
    assert daemon.asked == [("set-api-key", ["2abcSECRET"])]
    assert "SECRET" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("given", ["", "  ", "two words", "k\x07y", "schlüssel", "x" * 5000])
def test_what_cannot_be_a_key_is_a_usage_error_and_is_not_sent(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    assert ctl.main(["set-api-key", given]) == 2
    assert daemon.asked == []
    assert given.strip() == "" or given not in capsys.readouterr().err


def test_no_key_on_standard_input_is_a_usage_error(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert ctl.main(["set-api-key"]) == 2


def test_at_a_terminal_the_key_is_asked_for_and_not_echoed(daemon: Daemon, path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "ngrokd.control.ctl", "set-api-key"])
    shown = b""
    while b"ngrok API key: " not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, b"2abcSECRET\n")
    while b"ready.\r\n" not in shown:
        shown += os.read(terminal, 1024)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    assert daemon.asked == [("set-api-key", ["2abcSECRET"])]
    assert b"SECRET" not in shown


# Waiting


def test_wait_returns_once_the_daemon_has_come_up_and_is_ready(path: Path) -> None:
    daemon = Daemon()
    daemon.status = {**STATUS, "state": "registering"}
    with contextlib.ExitStack() as stack:
        steps: Iterator[Callable[[], object]] = iter(
            [
                lambda: stack.enter_context(serving(path, daemon.commands())),
                lambda: setattr(daemon, "status", STATUS),
            ]
        )
        look = waiting.wait(
            lambda command, timeout_s: request(str(path), command, (), timeout_s),
            waiting.Goal(),
            timeout_s=60,
            pause=lambda _: next(steps)(),
        )
    assert look.data == {"ready": True, "state": "degraded"}
    assert [name for name, _ in daemon.asked] == ["status", "status"]


@pytest.mark.parametrize(
    ("goal", "missing"),
    [
        (waiting.Goal("web.ns"), ""),
        (waiting.Goal("none.ns"), "no endpoint has the name none.ns"),
        (
            waiting.Goal("cache.ns"),
            "tcp://cache.ns:6379 is failed: 10.107.0.3:6379: address already in use",
        ),
        (waiting.Goal(endpoints=1), ""),
        (waiting.Goal(endpoints=2), "1 of 2 endpoints open"),
        (waiting.Goal("web.ns", 2), "1 of 2 endpoints open"),
    ],
)
def test_what_is_still_missing_is_named(goal: waiting.Goal, missing: str) -> None:
    assert waiting.judge_endpoints(mappings([STAR, CACHE, WEB]), goal).missing == missing


def test_one_missing_endpoint_is_counted_in_the_singular() -> None:
    assert waiting.judge_endpoints([], waiting.Goal(endpoints=1)).missing == "0 of 1 endpoint open"


def test_a_name_is_open_only_when_all_of_its_ports_are() -> None:
    second = _endpoint(id="ep_9", url="http://web.ns:81", state="failed", reason="taken")
    look = waiting.judge_endpoints(mappings([WEB, second]), waiting.Goal("web.ns"))
    assert look.missing == "http://web.ns:81 is failed: taken"


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        (
            "wait",
            {"state": "waiting_for_api_key", "problems": []},
            [
                "the daemon is waiting for an API key",
                "    Give it a key with `ngrokctl set-api-key`.",
            ],
        ),
        (
            "wait",
            {"state": "registering", "problems": ["401: the key is\x1b wrong", "no ingress"]},
            [
                "the daemon is registering with ngrok",
                "    401: the key is\\x1b wrong",
                "    no ingress",
            ],
        ),
        (
            "wait --for none.ns",
            {"state": "registering", "problems": ["no ingress"]},
            [
                "no endpoint has the name none.ns; the daemon is registering with ngrok",
                "    no ingress",
            ],
        ),
        (
            "wait --endpoints 2",
            {"problems": ["no ingress"], "api": {"last_error": "503 from the API"}},
            [
                "1 of 2 endpoints open; the daemon is ready, with problems",
                "    no ingress",
                "    last error of the API: 503 from the API",
            ],
        ),
        (
            "wait --endpoints 2",
            {"problems": ["the API: 503, again in 9 s"], "api": {"last_error": "the API: 503"}},
            [
                "1 of 2 endpoints open; the daemon is ready, with problems",
                "    the API: 503, again in 9 s",
            ],
        ),
    ],
)
def test_a_wait_in_vain_says_what_was_missing_and_why(
    daemon: Daemon,
    capsys: pytest.CaptureFixture[str],
    line: str,
    status: dict[str, object],
    said: list[str],
) -> None:
    daemon.status = {**STATUS, **status}
    assert ctl.main([*line.split(), "--timeout", "0"]) == 4
    first, *rest = said
    assert capsys.readouterr().err.splitlines() == [f"ngrokctl: after 0 s: {first}", *rest]


def test_a_wait_in_vain_for_a_daemon_that_does_not_tell_why_says_what_was_missing(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.status = ControlError("failed", "broken")
    assert ctl.main(["wait", "--for", "none.ns", "--timeout", "0"]) == 4
    assert capsys.readouterr().err == "ngrokctl: after 0 s: no endpoint has the name none.ns\n"


def test_wait_does_not_wait_for_what_waiting_cannot_mend(daemon: Daemon) -> None:
    daemon.status = ControlError("failed", "broken")
    assert ctl.main(["wait", "--timeout", "60"]) == 1
    assert len(daemon.asked) == 1


# Not permitted


def test_the_group_line_is_exact() -> None:
    bob = Caller("bob", "ngrok", is_member=False)
    assert advice.not_permitted("S: Permission denied", bob, "ngrokctl status") == (
        "bob is not permitted: S: Permission denied\n"
        "  once:      sudo ngrokctl status\n"
        "  for good:  sudo usermod -aG ngrok bob    (then log in again)"
    )


def test_a_member_whose_login_is_older_is_told_to_log_in_again() -> None:
    text = advice.not_permitted("S: no", Caller("bob", "ngrok", is_member=True), "x")
    assert text.endswith("bob is in group ngrok, but this login is older: log in again")


def test_without_a_group_the_setting_is_named() -> None:
    text = advice.not_permitted("S: no", Caller("bob", None, is_member=False), "x")
    assert "set server.socket_group in /etc/ngrokd/config.yml" in text
    text = advice.not_permitted("S: no", Caller("bob", None, is_member=False), "x", "/my.yml")
    assert "set server.socket_group in /my.yml to" in text


def test_of_another_daemons_socket_no_other_configuration_is_named(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.status = ControlError("forbidden", "not for you")
    assert ctl.main(["status"]) == 5
    assert "/etc/ngrokd/config.yml" not in capsys.readouterr().err
    bob = Caller("bob", None, is_member=False)
    told = advice.not_permitted("S: no", bob, "x", advice.ITS_CONFIGURATION)
    assert "set server.socket_group in the configuration that names this socket to" in told


def test_the_command_for_sudo_never_holds_the_key_and_names_the_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ngrokctl"])
    words = ["set-api-key", "2abcSECRET"]
    assert advice.again(words, "2abcSECRET", "/run/my sock") == (
        "ngrokctl --socket '/run/my sock' set-api-key"
    )
    monkeypatch.setattr(sys, "argv", ["/home/bob/venv/bin/ngrokctl"])
    assert advice.again(["status"], None, "/var/run/ngrokd.sock") == (
        "/home/bob/venv/bin/ngrokctl status"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_exits_with_five_and_the_mend(daemon: Daemon, path: Path) -> None:
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        folder.chmod(0o755)

    def run() -> str:
        sys.stderr = io.StringIO()
        code = ctl.main(["set-api-key", "2abcSECRET"])
        return f"{code} {sys.stderr.getvalue()}"

    answer = as_user(NOBODY, [], run)
    assert answer.startswith(f"5 ngrokctl: nobody is not permitted: {path}: Permission denied\n")
    assert "  once:      sudo " in answer
    assert "SECRET" not in answer
    assert daemon.asked == []


# The program as scripts run it


def _run(line: str, path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -m {ctl.__name__}"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("ngrokctl", program)],
        env={**os.environ, "NGROKD_SOCKET": str(path), **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_reader_that_has_seen_enough_is_no_error(daemon: Daemon, path: Path) -> None:
    daemon.listed = [_endpoint(url=f"http://{i}.ns") for i in range(5000)]
    done = _run("ngrokctl list | head -n 1", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("URL ")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_stream_is_no_traceback_and_the_exit_code_stands(
    daemon: Daemon, path: Path, closed: str
) -> None:
    assert _run(f"ngrokctl health {closed}", path).returncode == 0
    daemon.status = {**STATUS, "state": "registering"}
    done = _run(f"ngrokctl health {closed}", path)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error(daemon: Daemon, path: Path) -> None:
    done = _run("ngrokctl status > /dev/full", path)
    assert done.returncode == 1
    assert done.stderr == "ngrokctl: cannot write the answer: No space left on device\n"


def test_an_output_that_knows_only_ascii_gets_escapes(daemon: Daemon, path: Path) -> None:
    daemon.status = {**STATUS, "problems": ["größer ✓"]}
    done = _run("ngrokctl status", path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert r"gr\xf6\xdfer \u2713" in done.stdout


def test_nothing_is_coloured(daemon: Daemon, path: Path) -> None:
    assert "\x1b" not in _run("ngrokctl status && ngrokctl list", path).stdout


# Text


def test_control_characters_of_others_do_not_reach_the_terminal() -> None:
    assert clean("a\x1b[31m\nb\x9b") == "a\\x1b[31m\\x0ab\\x9b"
    assert table([Column("A")], [["\x1b"]], None) == ["A", "\\x1b"]
    assert pairs([("a", "\x1b")]) == ["a  \\x1b"]
    assert note("\x1b", None) == note("\x1b", 80) == ["    \\x1b"]


def test_a_table_cuts_only_what_may_be_and_only_where_leaving_columns_out_is_not_enough() -> None:
    columns = [Column("URL", least=6), Column("ADDRESS"), Column("N", optional=1)]
    row = ["x" * 12, "1.2.3.4", "1"]
    assert table(columns, [row], 25)[1] == "xxxxxxxxxxxx  1.2.3.4  1"[:25]
    assert table(columns, [row], 21)[1] == "xxxxxxxxxxxx  1.2.3.4"
    assert table(columns, [row], 20)[1] == "xxxxxxxxxx…  1.2.3.4"
    assert table(columns, [row], 15)[1] == "xxxxx…  1.2.3.4"
    assert table(columns, [row], 11) == ["URL     AD…"[:11], "xxxxx…  1.…"]
    assert table(columns, [row], None)[1] == "xxxxxxxxxxxx  1.2.3.4  1"
    columns[0], columns[1] = Column("URL", least=6, enough=8), Column("ADDRESS", last=True)
    assert table(columns, [row], 20)[1] == "xxxxxxx…  1.2.3.4  1"
    assert table(columns, [row], 19)[1] == "xxxxxxxxx…  1.2.3.4"
    assert table(columns, [row], 15)[1] == "xxxxx…  1.2.3.4"
    assert table(columns, [row], 14)[1] == "xxxxxxxxxxxx"


def test_what_takes_two_places_or_none_is_aligned_too() -> None:
    rows = [["日本", "1"], ["e\u0301e\u0301", "2"], ["abcd", "3"]]
    assert table([Column("A"), Column("N")], rows, None)[1:] == [
        "日本  1",
        "e\u0301e\u0301    2",
        "abcd  3",
    ]
    assert [cut("日本語", n) for n in (6, 5, 4, 2)] == ["日本語", "日本…", "日…", "…"]
    assert [cut("ab", n) for n in (2, 1, 0, -1)] == ["ab", "…", "", ""]


@pytest.mark.parametrize("width", [44, 48, 60, 80, 120])
def test_pages_fit_the_terminal(width: int) -> None:
    status = {**STATUS, "api": {"last_error": "the API does not answer: " + "so it is " * 20}}
    long = {**WEB, "url": "http://" + "x" * 100, "last_error": "reset by the ingress, again"}
    shown = [status_page(status, NOW, width), list_page([STAR, CACHE, long], True, NOW, width)]
    lines = [line for page in shown for line in page.split("\n")]
    assert [line for line in lines if len(line) > width] == []


def test_a_word_that_is_longer_than_the_terminal_is_wide_is_left_whole_to_be_copied() -> None:
    page = status_page({**STATUS, "problems": ["see https://x.test/" + "y" * 60]}, NOW, 40)
    assert page.splitlines()[-2:] == ["    see", "    https://x.test/" + "y" * 60]


def test_an_ellipsis_is_a_tilde_where_only_ascii_can_be_shown() -> None:
    assert showable("a…", "utf-8") == "a…"
    assert [showable("a…", name) for name in ("ascii", None, "strange")] == ["a~"] * 3


def test_colour_is_for_states_and_changes_no_width() -> None:
    page = list_page([STAR, CACHE, WEB], True, NOW, 80, True)
    assert "\x1b[32mopen\x1b[0m" in page and "\x1b[31mfailed\x1b[0m" in page
    plain = list_page([STAR, CACHE, WEB], True, NOW, 80)
    assert re.sub(r"\x1b\[\d*m", "", page) == plain
    assert status_page(STATUS, NOW, 80, True).startswith(
        "ngrokd 0.1.0 is \x1b[33mready, with problems\x1b[0m (pid"
    )


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm", "NO_COLOR": "0"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": "vt100"}, False),
        ({}, False),
    ],
)
def test_no_color_and_terminals_without_colours_are_heeded(
    environ: dict[str, str], wanted: bool
) -> None:
    assert tones.wanted(environ) is wanted


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (10 * 1024, "10 KiB"),
        (5 * 1024**4, "5.0 TiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_sizes(number: float, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (59.9, "59 s"),
        (185, "3 min 5 s"),
        (7620, "2 h 7 min"),
        (349_200, "4 d 1 h"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_counts() -> None:
    assert [count(n, "endpoint") for n in (0, 1, 2)] == ["0 endpoints", "1 endpoint", "2 endpoints"]


@pytest.mark.parametrize("data", [None, [], "x", 1])
def test_an_answer_that_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(ProtocolError):
        mapping(data)
    with pytest.raises(ProtocolError):
        mappings([data])
