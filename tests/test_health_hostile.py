"""Clients that mean the health pages no good, beside one that does."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ngrokd.control import health
from ngrokd.control.health import HealthServer, Told
from ngrokd.control.report import Verdict
from tests import certificates
from tests.control_room import PATIENCE_S, read_all
from tests.fair import Stopwatch
from tests.ingress import echo, upgraded
from tests.town import Town, serve, wait_until

CROWD = 200
# Each of the crowd may keep a place for a tenth of a second, 32 at a time.
SOON_S = 4.0
GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = "x" * 6_000_000  # more than the kernel keeps for one connection
FLOOD_S = 5.0
GROWTH_BYTES = 6 * 1024 * 1024

# One process that serves, so that its memory can be looked at; it ends with its standard input.
SERVER = """
import sys
from ngrokd.control.health import HealthServer, Told
from ngrokd.control.report import Verdict
told = Told(lambda: Verdict(True, True), dict, lambda: "x" * 100_000)
server = HealthServer("127.0.0.1", 0, told)
server.start()
print(server.port, flush=True)
sys.stdin.read()
server.stop()
"""

# One process that floods, so that its own work is not taken for the server's.
FLOOD = """
import socket, sys, time
port, until = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
held = []
while time.monotonic() < until:
    conn = socket.create_connection(("127.0.0.1", port), 10)
    conn.sendall(b"GET /metrics HTTP/1.1\\r\\nX: " + b"x" * (len(held) % 2 * 8192))
    held.append(conn)
    if len(held) == 200:
        held.pop(0).close()
"""


@pytest.fixture
def port() -> Iterator[int]:
    told = Told(lambda: Verdict(True, True), lambda: {"large": LARGE}, lambda: "m 1\n")
    server = HealthServer("127.0.0.1", 0, told)
    server.start()
    yield server.port
    server.stop()


@contextlib.contextmanager
def crowd(port: int, sent: bytes, size: int = CROWD) -> Iterator[list[socket.socket]]:
    """Clients that send that much and do nothing more."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(size):
            client = stack.enter_context(connect(port))
            client.sendall(sent)
            clients.append(client)
        yield clients


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE_S)


def exchange(port: int, sent: bytes) -> bytes:
    """What is answered to a client that has no more to say but stays."""
    with connect(port) as conn:
        conn.sendall(sent)
        return read_all(conn)


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nX: "], ids=["silent", "half"])
def test_a_request_is_answered_soon_behind_200_that_never_come(port: int, sent: bytes) -> None:
    with crowd(port, sent):
        watch = Stopwatch()
        assert exchange(port, GET).endswith(b"\r\n\r\nhealthy\n")
        assert watch.own() < SOON_S


@pytest.mark.long
def test_a_request_is_answered_behind_many_that_do_not_take_their_answer(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "ANSWER_S", 60.0)
    with crowd(port, b"GET /status HTTP/1.1\r\n\r\n", health.MAX_CONNECTIONS + 8):
        assert exchange(port, GET).startswith(b"HTTP/1.1 200 ")


def test_whether_it_lives_is_told_while_every_long_page_hangs() -> None:
    hung, go_on = threading.Event(), threading.Event()

    def metrics() -> str:
        hung.set()
        assert go_on.wait(PATIENCE_S)
        return "m 1\n"

    server = HealthServer("127.0.0.1", 0, Told(lambda: Verdict(True, True), dict, metrics))
    server.start()
    try:
        with crowd(server.port, SCRAPE, health.LONG_AT_ONCE + 1) as scrapers:
            assert hung.wait(PATIENCE_S)
            turned_away = select.select(scrapers, [], [], PATIENCE_S)[0]
            assert exchange(server.port, GET).endswith(b"\r\n\r\nhealthy\n")
            go_on.set()
            assert [read_all(each)[:13] for each in turned_away] == [b"HTTP/1.1 503 "]
            scraped = [read_all(each) for each in scrapers if each not in turned_away]
        assert all(answer.endswith(b"\r\n\r\nm 1\n") for answer in scraped)
        assert exchange(server.port, SCRAPE).endswith(b"\r\n\r\nm 1\n")
    finally:
        go_on.set()
        server.stop()


def test_200_requests_at_once_are_all_answered(port: int) -> None:
    with crowd(port, GET) as clients:
        assert all(read_all(client).endswith(b"\r\n\r\nhealthy\n") for client in clients)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET /health?" + b"x" * 8192 + b" HTTP/1.1\r\n\r\n", 200),
        (b"GET /" + b"x" * 8192 + b" HTTP/1.1\r\n\r\n", 404),
        (b"GET /health HTTP/1.1\r\n" + b"X-%d: 1\r\n" * 4000, 431),
        (b"GET /health\r\n\r\n", 400),  # HTTP/0.9
        (b"GET /health HTTP/0.9\r\n\r\n", 400),
    ],
    ids=["long query", "long path", "endless head", "no version", "old version"],
)
def test_an_odd_request_gets_one_answer_with_a_head(port: int, sent: bytes, code: int) -> None:
    assert exchange(port, sent).startswith(b"HTTP/1.1 %d " % code)


def test_of_pipelined_requests_the_first_is_answered_and_the_connection_ends(port: int) -> None:
    answer = exchange(port, 100 * GET)
    assert answer.count(b"HTTP/1.1") == 1
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\nhealthy\n")


def test_clients_that_leave_at_once_disturb_nobody(port: int) -> None:
    for sent in (b"", b"GET /hea", GET, b"GET /status HTTP/1.1\r\n\r\n"):
        for _ in range(10):
            with connect(port) as conn:
                conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                conn.sendall(sent)
    assert exchange(port, GET).startswith(b"HTTP/1.1 200 ")


def _resident(pid: int) -> int:
    """Once nobody is served any more."""
    wait_until(lambda: len(list(Path(f"/proc/{pid}/task").iterdir())) <= 4)
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


def _hostile_round(port: int) -> None:
    for sent in (b"", b"x" * 20_000, b"GET /metrics HTTP/1.1\r\n\r\n"):
        with crowd(port, sent):
            assert exchange(port, GET).startswith(b"HTTP/1.1 200 ")


# One process whose pages are as long as those of a thousand endpoints, beside one that floods it.
BUSY_SERVER = """
import json, sys, time
from ngrokd.control.health import HealthServer, Told
from ngrokd.control.report import Verdict
def page():
    until = time.thread_time() + 0.02
    while time.thread_time() < until:
        pass
    return "m 1\\n"
server = HealthServer("127.0.0.1", 0, Told(lambda: Verdict(True, True), dict, page))
server.start()
print(server.port, flush=True)
sys.stdin.read()
server.stop()
print(time.process_time(), flush=True)
"""


def _scrape(port: int, until: float) -> int:
    answered = 0
    while time.monotonic() < until:
        answer = exchange(port, b"GET /metrics HTTP/1.1\r\nX: %d\r\n\r\n" % answered)
        assert answer.endswith(b"\r\n\r\nm 1\n")
        answered += 1
    return answered


@contextlib.contextmanager
def _served_by(program: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process of its own that serves until its standard input ends, and its port."""
    argv = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())


@pytest.mark.long
def test_a_crowd_that_scrapes_without_a_pause_takes_a_part_of_the_time() -> None:
    with _served_by(BUSY_SERVER) as (process, port):
        until = time.monotonic() + FLOOD_S
        with ThreadPoolExecutor(16) as pool:
            answered = sum(pool.map(lambda _: _scrape(port, until), range(16)))
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        worked = float(process.stdout.readline())
    assert answered > 10 * 16
    # A quarter for the pages, and what the connections themselves take; all of it without rests.
    assert worked < FLOOD_S / 2


@pytest.mark.long
def test_memory_does_not_grow_with_hostile_clients() -> None:
    with _served_by(SERVER) as (process, port):
        _hostile_round(port)
        before = _resident(process.pid)
        for _ in range(4):
            _hostile_round(port)
        assert _resident(process.pid) - before < GROWTH_BYTES
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.long
def test_forwarding_goes_on_at_its_pace_under_a_flood(port: int, tmp_path: Path) -> None:
    town = Town()
    argv = [sys.executable, "-c", FLOOD, str(port), str(FLOOD_S)]
    slowest = 0.0
    with serve(town, certificates.contexts(tmp_path), upgraded(echo)), town.connect() as client:
        with subprocess.Popen(argv) as flood:
            while flood.poll() is None:
                began = time.monotonic()
                client.sendall(b"ping")
                assert select.select([client], [], [], PATIENCE_S)[0]
                assert client.recv(4) == b"ping"
                slowest = max(slowest, time.monotonic() - began)
        assert flood.returncode == 0
    town.close()
    assert slowest < 1.0
