"""The health pages over real TCP."""

from __future__ import annotations

import json
import logging
import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Optional, Union

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngrokd.control import connections, health, room
from ngrokd.control.connections import Connections
from ngrokd.control.health import HealthServer, Told
from ngrokd.control.report import Verdict
from ngrokd.control.server import ControlServer
from ngrokd.control.visit import Visit
from ngrokd.errors import HostError
from tests.control_room import PATIENCE_S, read_all

GOOD, BAD = Verdict(healthy=True, ready=True), Verdict(healthy=False, ready=False)
NOTHING = Told(lambda: GOOD, dict, str)


class Daemon:
    """What the pages tell can be changed while they are served."""

    def __init__(self) -> None:
        self.verdict = GOOD
        self.status: dict[str, object] = {"healthy": True, "endpoints": {}}
        self.fault: Optional[Exception] = None
        told = Told(self._verdict, lambda: self.status, lambda: "ngrokd_up 1\n")
        self.server = HealthServer("127.0.0.1", 0, told)

    def _verdict(self) -> Verdict:
        if self.fault is not None:
            raise self.fault
        return self.verdict

    def get(self, path: str, method: str = "GET") -> tuple[HTTPResponse, str]:
        http = HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE_S)
        http.request(method, path)
        response = http.getresponse()
        body = response.read().decode()
        http.close()
        return response, body

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), PATIENCE_S)

    def raw(self, sent: bytes) -> bytes:
        with self.connect() as conn:
            conn.sendall(sent)
            conn.shutdown(socket.SHUT_WR)
            return read_all(conn)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    daemon = Daemon()
    daemon.server.start()
    yield daemon
    daemon.server.stop()


@pytest.mark.parametrize(
    ("path", "verdict", "code", "body"),
    [
        ("/health", GOOD, 200, "healthy\n"),
        ("/healthz", GOOD, 200, "healthy\n"),
        ("/health?verbose", GOOD, 200, "healthy\n"),
        ("/ready", GOOD, 200, "ready\n"),
        ("/readyz", GOOD, 200, "ready\n"),
        ("/health", BAD, 503, "unhealthy\n"),
        ("/readyz", BAD, 503, "not ready\n"),
        ("/metrics", GOOD, 200, "ngrokd_up 1\n"),
        ("/", GOOD, 404, "there are /health /ready /status /metrics\n"),
        ("/health/x", GOOD, 404, "there are /health /ready /status /metrics\n"),
    ],
)
def test_each_page_answers(
    daemon: Daemon, path: str, verdict: Verdict, code: int, body: str
) -> None:
    daemon.verdict = verdict
    response, got = daemon.get(path)
    assert (response.status, got) == (code, body)
    assert response.headers["Connection"] == "close"


def test_the_status_page_is_json(daemon: Daemon) -> None:
    response, body = daemon.get("/status")
    assert response.headers["Content-Type"] == "application/json"
    assert json.loads(body) == {"healthy": True, "endpoints": {}}


def test_the_metrics_page_names_its_format(daemon: Daemon) -> None:
    response, _ = daemon.get("/metrics")
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_head_answers_the_same_without_a_body(daemon: Daemon) -> None:
    answer = daemon.raw(b"HEAD /ready HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 6\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed_here(daemon: Daemon, method: str) -> None:
    response, _ = daemon.get("/health", method)
    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("kind", [ValueError, TimeoutError, BrokenPipeError])
def test_a_page_that_fails_costs_only_itself_and_one_line(
    daemon: Daemon, kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    daemon.fault = kind("internal words")
    response, body = daemon.get("/health")
    assert response.status == 500
    assert "internal words" not in body
    (line,) = caplog.records
    assert line.getMessage() == "health: 'GET /health HTTP/1.1' failed"
    assert line.exc_info is not None
    assert line.exc_info[1] is daemon.fault
    assert daemon.get("/metrics")[0].status == 200


def test_a_fault_in_one_connection_costs_that_one_and_one_line(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    died: list[object] = []
    fault = ValueError("a bug")

    def broken(visit: Visit) -> bytes:
        visit.conn.recv(4096)  # what is left unread would make the end a reset
        raise fault

    monkeypatch.setattr(threading, "excepthook", died.append)
    with monkeypatch.context() as patch:
        patch.setattr(health, "_read_head", broken)
        assert daemon.raw(b"GET /health HTTP/1.0\r\n\r\n") == b""
    assert daemon.get("/health")[0].status == 200
    assert died == []
    (line,) = caplog.records
    assert line.getMessage() == "health: a connection met a fault of ngrokd's own and was ended"
    assert line.exc_info is not None
    assert line.exc_info[1] is fault


def test_a_status_that_is_no_json_is_a_page_that_fails(daemon: Daemon) -> None:
    daemon.status = {"no json": {1, 2}}
    assert daemon.get("/status")[0].status == 500


def test_nothing_of_python_is_told_and_no_request_is_logged(
    daemon: Daemon, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    answers = daemon.raw(b"GET /health HTTP/1.0\r\n\r\n") + daemon.raw(b"nonsense\r\n\r\n")
    assert b"python" not in answers.lower()
    assert b"<html" not in answers.lower()
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_a_client_that_leaves_early_is_no_news(
    daemon: Daemon, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    daemon.status = {"large": "x" * 8_000_000}
    for sent in (b"", b"GET /hea", b"GET /status HTTP/1.1\r\n\r\n"):
        with daemon.connect() as conn:
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            conn.sendall(sent)
    daemon.get("/health")  # is accepted after them
    daemon.server.stop()
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"hello\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\r\nGET /health HTTP/1.1\r\n\r\n", 200),
        (b"GET http://127.0.0.1:8081/health HTTP/1.1\r\n\r\n", 200),
        (b"GET HTTP://x/health?http://y/ HTTP/1.1\r\n\r\n", 200),
        (b"GET http://x/http://y/health HTTP/1.1\r\n\r\n", 404),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 404),
        (b"GET /health\r\n\r\n", 400),
        (b"GET /health HTTP/1.1", 200),
        (b"GET /health HTTP/1.0\r\n\r\n", 200),
        (b"GET /health HTTP/1.1\n\r\nmore", 200),
        (b"BREW /health HTTP/1.1\r\n\r\n", 405),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /health HTTP/1.1\n\n", 200),
        (b"GET /" + b"x" * 20_000, 431),
    ],
)
def test_strange_requests_get_an_http_answer(daemon: Daemon, sent: bytes, code: int) -> None:
    assert daemon.raw(sent).startswith(b"HTTP/1.1 %d " % code)


_HTTP_WORDS = [b"GET", b"HEAD", b" ", b"/", b"HTTP/", b"1", b".", b"\xb2", b"\r\n", b":", b"\x85"]


@given(st.binary(max_size=300) | st.lists(st.sampled_from(_HTTP_WORDS)).map(b"".join))
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_arbitrary_bytes_get_an_http_answer(daemon: Daemon, sent: bytes) -> None:
    answer = daemon.raw(sent)
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505 "))
    assert b"\r\nContent-Length: " in answer


def test_a_request_that_does_not_come_is_told_so(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "REQUEST_S", 0.1)
    with daemon.connect() as conn:
        conn.sendall(b"GET /health HTTP/1.1\r\n")
        assert read_all(conn).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_drips_gains_no_time(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "REQUEST_S", 0.3)
    began = time.monotonic()
    with daemon.connect() as conn:
        conn.sendall(b"GET /health?")
        while not select.select([conn], [], [], 0.02)[0]:
            conn.sendall(b"x")
            assert time.monotonic() - began < PATIENCE_S
        assert read_all(conn).startswith(b"HTTP/1.1 408 ")


def test_over_the_limit_a_client_is_told_to_come_again(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SLOT_WAIT_S", 0.05)
    monkeypatch.setattr(room, "HURRY_S", PATIENCE_S)
    held = [daemon.connect() for _ in range(health.MAX_CONNECTIONS)]
    with daemon.connect() as conn:
        assert read_all(conn).startswith(b"HTTP/1.1 503 ")
    for conn in held:
        conn.close()
    assert daemon.get("/health")[0].status == 200


def test_a_busy_port_is_named_with_its_mend(daemon: Daemon) -> None:
    second = HealthServer("127.0.0.1", daemon.server.port, NOTHING)
    with pytest.raises(HostError) as refused:
        second.start()
    second.stop()
    assert str(refused.value) == (
        f"health pages on 127.0.0.1:{daemon.server.port}: Address already in use; "
        "set server.health_address and server.health_port to what is free (health_port 0: no pages)"
    )


def test_an_address_that_is_no_address_is_named() -> None:
    with pytest.raises(HostError, match="health pages on no such host:1: "):
        HealthServer("no such host", 1, NOTHING).start()


def test_stop_frees_the_port_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    daemon = Daemon()
    daemon.server.stop()
    daemon.server.start()
    idle = daemon.connect()
    daemon.get("/health")
    daemon.server.stop()
    daemon.server.stop()
    idle.close()
    assert set(threading.enumerate()) == before
    again = HealthServer("127.0.0.1", daemon.server.port, NOTHING)
    again.start()
    again.stop()


def _health_server(_: Path) -> HealthServer:
    return HealthServer("127.0.0.1", 0, NOTHING)


def _control_server(folder: Path) -> ControlServer:
    return ControlServer(str(folder / "s"), "", {})


@pytest.mark.parametrize("make", [_health_server, _control_server])
def test_a_fault_that_ends_a_server_reaches_the_hook_of_the_daemon(
    make: Callable[[Path], Union[HealthServer, ControlServer]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    died: queue.SimpleQueue[tuple[Optional[threading.Thread], Optional[BaseException]]]
    died = queue.SimpleQueue()
    fault = RuntimeError("a bug")

    def wait(_: Connections, woken: socket.socket) -> bool:
        raise fault

    monkeypatch.setattr(threading, "excepthook", lambda args: died.put((args[3], args[1])))
    monkeypatch.setattr(Connections, "_wait", wait)
    server = make(tmp_path)
    server.start()
    thread, error = died.get(timeout=PATIENCE_S)
    server.stop()
    assert error is fault
    assert thread is not None
    assert thread.name == make.__name__.split("_")[1]


def test_half_a_surrogate_pair_from_somewhere_fails_no_page() -> None:
    server = HealthServer("127.0.0.1", 0, Told(lambda: GOOD, dict, lambda: "m \ud800\n"))
    server.start()
    try:
        http = HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        http.request("GET", "/metrics")
        response = http.getresponse()
        assert (response.status, response.read()) == (200, b"m ?\n")
        http.close()
    finally:
        server.stop()
