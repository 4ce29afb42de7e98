"""TLS over memory, against OpenSSL's own server side."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest

from ngrokd.forward.tls import RECORD_BYTES, STEP_BYTES, Tls
from tests import certificates
from tests.certificates import SERVER_NAME, Authority, Contexts

VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}


class MemoryServer:
    """The other end, in memory too. Owner: the test."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def receive(self, data: bytes) -> None:
        self._incoming.write(data)

    def taken(self) -> bytes:
        """The ciphertext for the client."""
        return self._outgoing.read()

    def read(self) -> bytes:
        """All that has come."""
        parts = bytearray()
        try:
            while True:
                part = self.tls.read(STEP_BYTES)
                if not part:
                    return bytes(parts)
                parts += part
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            return bytes(parts)

    def end(self) -> None:
        """close_notify, after reading: SSL_shutdown would throw away what has come."""
        assert not self.read()
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            return


@dataclass
class Wire:
    """A client, a server, and the means to carry bytes between them."""

    client: Tls
    server: MemoryServer

    def handshake(self) -> None:
        done = False
        while not done:
            done = self.client.handshake()
            self.server.receive(self.client.data_to_send())
            try:
                self.server.tls.do_handshake()
            except ssl.SSLWantReadError:
                assert not done
            self.to_client()

    def to_client(self) -> None:
        data = self.server.taken()
        if data:
            self.client.receive_data(memoryview(data))

    def to_server(self) -> None:
        self.server.receive(self.client.data_to_send())

    def read(self, size: int = 512 * 1024) -> bytes:
        buffer = memoryview(bytearray(size))
        return bytes(buffer[: self.client.read_into(buffer)])


@pytest.fixture(params=list(VERSIONS.values()), ids=list(VERSIONS))
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    chosen: ssl.TLSVersion = request.param
    return chosen


@pytest.fixture
def both(tmp_path: Path, version: ssl.TLSVersion) -> Contexts:
    return certificates.contexts(tmp_path, version)


@pytest.fixture
def wire(both: Contexts) -> Wire:
    made = Wire(Tls(both.client, SERVER_NAME), MemoryServer(both.server))
    made.handshake()
    return made


def test_bytes_pass_both_ways(wire: Wire) -> None:
    wire.client.send(memoryview(b"up"))
    wire.to_server()
    wire.server.tls.write(b"down")
    wire.to_client()

    assert wire.server.read() == b"up"
    assert wire.read() == b"down"


def test_a_batch_of_many_records_is_read_at_once(wire: Wire) -> None:
    for number in range(100):
        wire.server.tls.write(bytes([number]) * 1000)
    wire.to_client()

    assert wire.read() == b"".join(bytes([number]) * 1000 for number in range(100))


def test_ciphertext_may_come_one_byte_at_a_time(wire: Wire) -> None:
    wire.server.tls.write(b"slowly")
    received = b""
    for byte in wire.server.taken():
        wire.client.receive_data(memoryview(bytes([byte])))
        received += wire.read()

    assert received == b"slowly"


def test_the_client_ends_first_and_loses_nothing_that_is_under_way(wire: Wire) -> None:
    wire.client.send(memoryview(b"question"))
    wire.server.tls.write(b"a" * 5000)
    record = wire.server.taken()
    wire.client.receive_data(memoryview(record)[:2500])  # a record, cut in the middle
    received = wire.read()

    wire.client.send_eof()
    wire.to_server()
    assert wire.server.read() == b"question"
    wire.client.receive_data(memoryview(record)[2500:])
    received += wire.read()
    wire.server.tls.write(b"b" * 5000)
    wire.server.end()
    wire.to_client()
    received += wire.read()

    assert received == b"a" * 5000 + b"b" * 5000
    assert wire.client.ended
    assert wire.client.fault is None


def test_the_server_ends_first_and_still_gets_what_the_client_sends(wire: Wire) -> None:
    wire.server.end()
    wire.to_client()
    assert wire.read() == b""
    assert wire.client.ended

    for _ in range(10):
        wire.client.send(memoryview(b"c" * 5000))
    wire.client.send_eof()
    wire.to_server()

    assert wire.server.read() == b"c" * 50000


def test_an_end_without_close_notify_is_a_truncation(wire: Wire) -> None:
    wire.server.tls.write(b"half")
    wire.to_client()
    wire.client.receive_data(memoryview(b""))

    assert wire.read() == b"half"
    assert not wire.client.ended
    assert isinstance(wire.client.fault, ssl.SSLEOFError)


def test_a_damaged_record_is_a_fault_after_what_came_before_it(wire: Wire) -> None:
    wire.server.tls.write(b"good")
    good = wire.server.taken()
    wire.server.tls.write(b"evil")
    evil = bytearray(wire.server.taken())
    evil[-1] ^= 1
    wire.client.receive_data(memoryview(good + bytes(evil)))

    assert wire.read() == b"good"
    assert wire.client.fault is not None


def test_the_largest_step_fits_the_buffer_it_is_read_into(wire: Wire) -> None:
    wire.server.tls.write(b"x" * STEP_BYTES)
    data = memoryview(wire.server.taken())
    wire.client.receive_data(data[:STEP_BYTES])
    received = wire.read(STEP_BYTES + RECORD_BYTES)
    wire.client.receive_data(data[STEP_BYTES:])

    assert received + wire.read(STEP_BYTES + RECORD_BYTES) == b"x" * STEP_BYTES


def test_a_server_of_another_name_is_refused(both: Contexts) -> None:
    wire = Wire(Tls(both.client, "another.test"), MemoryServer(both.server))

    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        wire.handshake()
    assert caught.value.verify_code == 62
    assert wire.client.data_to_send(), "the server is told by an alert"


def test_a_refused_client_certificate_shows_at_the_first_read_in_tls_1_3(tmp_path: Path) -> None:
    both = certificates.contexts(tmp_path)
    stranger = Authority(tmp_path, "Other CA").issue("stranger")
    both.client.load_cert_chain(stranger.cert, stranger.key)
    wire = Wire(Tls(both.client, SERVER_NAME), MemoryServer(both.server))

    with pytest.raises(ssl.SSLError):
        wire.handshake()  # it is the server's side that raises: ours is done
    assert wire.client.handshake()
    wire.client.send(memoryview(b"early"))
    wire.to_client()

    assert wire.read() == b""
    assert wire.client.fault is not None
    assert "UNKNOWN_CA" in str(wire.client.fault.reason)
