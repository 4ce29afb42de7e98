"""The sandbox's ingress carries every byte, both ways, to whoever may come in."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ngrokd.errors import HostError, StateError
from ngrokd.model import Target
from ngrokd.sandbox.cloud import Sandbox
from tests.sandbox_client import PARTIAL_CHAIN, TIMEOUT_S, Operator, control, running

MIB = 1 << 20
Serve = Callable[[socket.socket], None]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    yield from running(tmp_path_factory.mktemp("ingress"))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox that the test may change."""
    yield from running(tmp_path / "own")


@pytest.fixture
def operator(sandbox: Sandbox, tmp_path: Path) -> Operator:
    return Operator(sandbox, tmp_path)


class Upstream:
    """A TCP server of the test's own; its thread's errors are raised at the end."""

    def __init__(self, serve: Serve, connections: int = 1) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(TIMEOUT_S)
        self._serve = serve
        self._errors: list[BaseException] = []
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, args=(connections,))
        self._thread.start()

    def _run(self, connections: int) -> None:
        try:
            for _ in range(connections):
                connection, _ = self._listener.accept()
                with connection:
                    connection.settimeout(TIMEOUT_S)
                    self._serve(connection)
        except BaseException as exc:  # noqa: BLE001  # shown by the test's own thread
            self._errors.append(exc)

    def close(self) -> None:
        self._thread.join(TIMEOUT_S * 2)
        self._listener.close()
        if self._errors:
            raise self._errors[0]


@contextlib.contextmanager
def upstream(sandbox: Sandbox, url: str, serve: Serve, connections: int = 1) -> Iterator[None]:
    server = Upstream(serve, connections)
    added = control(sandbox, "POST", "endpoints", {"url": url, "upstream": server.address})
    try:
        yield
    finally:
        server.close()
        control(sandbox, "DELETE", f"endpoints/{added['endpoints'][0]['id']}")


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 18), b""))


def ended(sandbox: Sandbox, result: str) -> Any:
    """The newest connection, once the log says that it ended so."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        newest = control(sandbox, "GET", "connections")["connections"][-1:]
        if newest and result in newest[0]["result"]:
            return newest[0]
        assert time.monotonic() < deadline, newest


def noise(count: int) -> bytes:
    return random.Random(count).randbytes(count)


def test_a_request_reaches_the_endpoint_and_its_answer_comes_back(operator: Operator) -> None:
    with operator.connect("hello.sandbox", 80) as tunnel:
        assert tunnel.response.proto == "http"
        assert tunnel.response.endpoint_id.startswith("ep_")
        tunnel.send(b"GET /here HTTP/1.1\r\nHost: hello.sandbox\r\nConnection: close\r\n\r\n")
        assert b"GET /here HTTP/1.1" in tunnel.recv_all()


def test_an_unknown_endpoint_is_706(operator: Operator) -> None:
    for host, port in (("nothing.ns", 80), ("hello.sandbox", 81), ("hello.sandbox:80", 80)):
        with operator.connect(host, port) as tunnel:
            assert tunnel.response.error_code == "ERR_NGROK_706"
            assert tunnel.recv_all() == b""


def test_an_endpoint_whose_upstream_is_down_says_so(operator: Operator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    down = {"url": "tcp://down.ns:1", "upstream": address}
    body = {"endpoints": [down, {"url": "tcp://no.ns:1"}]}
    control(operator.sandbox, "POST", "endpoints", body)
    for host in ("down.ns", "no.ns"):
        with operator.connect(host, 1) as tunnel:
            assert tunnel.response.error_code == "ERR_NGROK_8012"
            assert host in tunnel.response.error_message


def test_the_members_of_a_pool_take_turns(operator: Operator) -> None:
    body = {"url": "tcp://pool.ns:9", "upstream": "127.0.0.1:1", "members": 2}
    control(operator.sandbox, "POST", "endpoints", body)
    known = control(operator.sandbox, "GET", "endpoints")["endpoints"]
    [echo] = [each["upstream"] for each in known if each["url"] == "tcp://echo.sandbox:7000"]
    members = [each["id"] for each in known if each["url"] == "tcp://pool.ns:9"]
    for member in members:
        control(operator.sandbox, "PATCH", f"endpoints/{member}", {"upstream": echo})
    seen = []
    for _ in range(4):
        with operator.connect("pool.ns", 9) as tunnel:
            seen.append(tunnel.response.endpoint_id)
    assert sorted(seen) == sorted(members * 2)
    assert seen[0] == seen[2] != seen[1]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_the_client_ends_first_and_the_answer_still_comes_whole(
    own: Sandbox, tmp_path: Path, version: str
) -> None:
    control(own, "PATCH", "settings", {"tls_version": version})
    sent, answer = noise(5 * MIB), noise(4 * MIB)
    received = []

    def serve(connection: socket.socket) -> None:
        received.append(read_all(connection))
        connection.sendall(answer)

    operator = Operator(own, tmp_path)
    with upstream(own, "tcp://up.ns:1", serve), operator.connect("up.ns", 1) as tunnel:
        tunnel.send(sent)
        tunnel.close_write()
        assert tunnel.recv_all() == answer
    assert received == [sent]
    log = ended(own, "done")
    assert log["tls_version"] == f"TLSv{version}"
    assert (log["bytes_up"], log["bytes_down"]) == (len(sent), len(answer))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_the_upstream_ends_first_and_the_client_goes_on_sending(
    own: Sandbox, tmp_path: Path, version: str
) -> None:
    control(own, "PATCH", "settings", {"tls_version": version})
    sent = noise(5 * MIB)
    received = []

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"bye")
        connection.shutdown(socket.SHUT_WR)
        received.append(read_all(connection))

    operator = Operator(own, tmp_path)
    with upstream(own, "tcp://up.ns:1", serve), operator.connect("up.ns", 1) as tunnel:
        assert tunnel.early + tunnel.recv_all() == b"bye"
        tunnel.send(sent)
        tunnel.close_write()
    assert received == [sent]


def test_64_megabytes_arrive_the_same_in_both_directions_at_once(operator: Operator) -> None:
    """The echo reads no faster than it is read, so both sides must go on together."""
    data = noise(64 * MIB)
    with operator.connect("echo.sandbox", 7000) as tunnel:
        window = MIB
        received = hashlib.sha256()
        tunnel.send(data[:window])
        for at in range(window, len(data) + window, window):
            received.update(tunnel.recv_exactly(window))
            tunnel.send(data[at : at + window])
        tunnel.close_write()
        assert tunnel.recv_all() == b""
    assert received.digest() == hashlib.sha256(data).digest()


def test_who_does_not_read_makes_the_far_side_wait(sandbox: Sandbox, operator: Operator) -> None:
    stuck = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.settimeout(0.5)
        sent = 0
        try:
            while sent < 256 * MIB:
                sent += connection.send(bytes(MIB))
        except socket.timeout:
            stuck.set()

    with upstream(sandbox, "tcp://flood.ns:1", serve), operator.connect("flood.ns", 1) as tunnel:
        assert stuck.wait(TIMEOUT_S)
        assert tunnel.socket.fileno() >= 0


def test_an_upstream_that_resets_resets_the_client(sandbox: Sandbox, operator: Operator) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with upstream(sandbox, "tcp://rst.ns:1", serve), operator.connect("rst.ns", 1) as tunnel:
        tunnel.send(b"x")
        with pytest.raises((ConnectionResetError, ssl.SSLError)):
            tunnel.recv_all()


def test_a_client_that_vanishes_resets_the_upstream(sandbox: Sandbox, operator: Operator) -> None:
    ends = []

    def serve(connection: socket.socket) -> None:
        connection.recv(1)
        try:
            ends.append(connection.recv(1))
        except ConnectionResetError as exc:
            ends.append(type(exc).__name__.encode())

    with upstream(sandbox, "tcp://gone.ns:1", serve), operator.connect("gone.ns", 1) as tunnel:
        tunnel.send(b"x")
        tunnel.close()
    assert ends == [b"ConnectionResetError"]


@pytest.mark.long
def test_500_connections_are_carried_at_once(sandbox: Sandbox, operator: Operator) -> None:
    context = operator.context()
    with contextlib.ExitStack() as stack:
        tunnels = [stack.enter_context(operator.dial(context)) for _ in range(500)]
        for number, tunnel in enumerate(tunnels):
            tunnel.upgrade(Target("echo.sandbox", 7000))
            tunnel.send(b"%d" % number)
        for number, tunnel in enumerate(tunnels):
            text = b"%d" % number
            assert (tunnel.early + tunnel.recv_exactly(len(text) - len(tunnel.early))) == text
        log = control(sandbox, "GET", "connections")["connections"]
        assert sum(each["result"] == "open" for each in log) >= 500


# Who may come in


def refused(operator: Operator, context: ssl.SSLContext) -> bool:
    try:
        with operator.dial(context) as tunnel:
            tunnel.upgrade(Target("hello.sandbox", 80))
    except (ssl.SSLError, ConnectionError):
        return True
    return False


def test_a_client_without_a_certificate_is_refused(operator: Operator) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= PARTIAL_CHAIN
    context.load_verify_locations(operator.sandbox.ca_file)
    assert refused(operator, context)
    ended(operator.sandbox, "TLS: ")


def test_the_alert_says_that_a_certificate_was_required(operator: Operator) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= PARTIAL_CHAIN
    context.load_verify_locations(operator.sandbox.ca_file)
    required = pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED")
    with operator.dial(context) as tunnel, required:
        tunnel.recv()


def test_a_certificate_of_another_authority_is_refused(
    operator: Operator, own: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    context = Operator(own, tmp_path / "other").context()
    context.load_verify_locations(operator.sandbox.ca_file)
    assert refused(operator, context)


def test_a_deleted_operator_is_cut_off(operator: Operator) -> None:
    context = operator.context()
    assert not refused(operator, context)
    control(operator.sandbox, "DELETE", f"operators/{operator.id}")
    assert refused(operator, context)
    ended(operator.sandbox, "does not exist")


def test_an_expired_certificate_is_refused(own: Sandbox, tmp_path: Path) -> None:
    control(own, "PATCH", "settings", {"certificate_lifetime": 0})
    operator = Operator(own, tmp_path)
    assert refused(operator, operator.context())


def test_a_daemons_strict_verification_accepts_the_ingress(operator: Operator) -> None:
    context = operator.context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    assert not refused(operator, context)


def test_garbage_instead_of_a_request_ends_only_that_connection(operator: Operator) -> None:
    with operator.dial() as tunnel:
        tunnel.send(b"\x02\x00\xff\xff")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            tunnel.recv()
    assert not refused(operator, operator.context())


def test_a_client_that_sends_no_request_is_dropped_in_time(own: Sandbox, tmp_path: Path) -> None:
    control(own, "PATCH", "settings", {"upgrade_timeout": 0.2})
    operator = Operator(own, tmp_path)
    with operator.dial() as tunnel, pytest.raises((ssl.SSLError, ConnectionError)):
        tunnel.recv()
    ended(own, "too slow")


def test_plain_text_on_the_ingress_is_no_crash(operator: Operator) -> None:
    port = int(operator.sandbox.ingress.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        read_all(connection)
    assert not refused(operator, operator.context())


# The end


def test_stop_cuts_open_connections_and_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    sandbox = Sandbox(tmp_path / "cloud", domain="sandbox")
    sandbox.start()
    operator = Operator(sandbox, tmp_path)
    with operator.connect("echo.sandbox", 7000) as tunnel, operator.dial() as waiting:
        tunnel.send(b"x")
        assert tunnel.recv() == b"x"
        sandbox.stop()
        sandbox.stop()
        for each in (tunnel, waiting):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                each.recv()
    assert set(threading.enumerate()) <= before


def test_a_fixed_port_that_is_taken_is_named(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options in ({"port": port}, {"ingress_port": port}):
            with pytest.raises(HostError, match=f"127.0.0.1:{port}: another program"):
                Sandbox(tmp_path, **options).start()
    assert set(threading.enumerate()) <= before


def test_a_damaged_authority_is_named_with_the_mend(tmp_path: Path) -> None:
    first = Sandbox(tmp_path, samples=False)
    first.start()
    first.stop()
    first.ca_file.write_text("nonsense")
    with pytest.raises(StateError, match="remove that folder"):
        Sandbox(tmp_path, samples=False).start()
