"""A client of the sandbox for its tests: HTTP, an operator of its own, and tunnels."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ngrokd.forward import wire
from ngrokd.model import Target
from ngrokd.sandbox.cloud import Sandbox
from tests.closing import Closing

TIMEOUT_S = 10
IGNORE_UNEXPECTED_EOF = ssl.Options(0x80)  # set by Python 3.9 and 3.10
PARTIAL_CHAIN = ssl.VerifyFlags(0x80000)  # has a name in the ssl module from Python 3.10 on
KEY_HEADERS = {"Authorization": "Bearer sandbox-key", "Ngrok-Version": "2"}
JSON_HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.content)


def send(
    sandbox: Sandbox,
    method: str,
    path: str,
    body: Optional[bytes] = None,
    headers: Optional[dict[str, str]] = None,
) -> Answer:
    """One request as it stands, on a connection of its own."""
    connection = http.client.HTTPConnection(sandbox.api_url[len("http://") :], timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        names = {name.lower(): value for name, value in reply.getheaders()}
        return Answer(reply.status, names, reply.read())
    finally:
        connection.close()


def call(sandbox: Sandbox, method: str, path: str, body: Optional[object] = None) -> Answer:
    """A well-formed API request."""
    if body is None:
        return send(sandbox, method, path, headers=KEY_HEADERS)
    return send(sandbox, method, path, json.dumps(body).encode(), {**KEY_HEADERS, **JSON_HEADERS})


def control(sandbox: Sandbox, method: str, path: str, body: Optional[object] = None) -> Any:
    """A control request that must succeed; what it gave."""
    headers = JSON_HEADERS if body is not None else {}
    content = json.dumps(body).encode() if body is not None else None
    answer = send(sandbox, method, f"/sandbox/{path}", content, headers)
    assert answer.status == 200, answer
    return answer.json


def new_csr(key: Optional[Any] = None, common_name: str = "") -> str:
    """A CSR with an empty subject, as ngrok wants it, unless a name is given."""
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    signed = request.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


class Operator:
    """A registered operator with its certificate in `folder`. Owner: the test."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self.sandbox = sandbox
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._cert_file, self._key_file = folder / "client.crt", folder / "client.key"
        body = {"enabled_features": ["bindings"], "binding": {"csr": new_csr(self._key)}}
        self.shown = call(sandbox, "POST", "/kubernetes_operators", body).json
        self.id: str = self.shown["id"]
        self._cert_file.write_text(self.shown["binding"]["cert"]["cert"])
        self._key_file.write_bytes(
            self._key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def context(self) -> ssl.SSLContext:
        """Verifies the ingress with the sandbox's CA file alone, and shows our certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= PARTIAL_CHAIN
        context.options &= ~IGNORE_UNEXPECTED_EOF
        context.load_verify_locations(self.sandbox.ca_file)
        context.load_cert_chain(self._cert_file, self._key_file)
        return context

    def connect(self, hostname: str, port: int) -> Tunnel:
        """A tunnel whose upgrade has been answered, well or badly."""
        tunnel = self.dial()
        tunnel.upgrade(Target(hostname, port))
        return tunnel

    def dial(self, context: Optional[ssl.SSLContext] = None) -> Tunnel:
        """A connection past its handshake."""
        host, _, port = self.sandbox.ingress.partition(":")
        connection = socket.create_connection(("127.0.0.1", int(port)), TIMEOUT_S)
        try:
            return Tunnel(connection, context or self.context(), host)
        except BaseException:
            connection.close()
            raise


class Tunnel(Closing):
    """A TLS client over MemoryBIO, which can half-close. Owner: the test."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, name: str) -> None:
        self.socket = connection
        self.response = wire.ConnResponse()
        self.early = b""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        while not self._step(self._tls.do_handshake):
            self._receive()
        self.flush()

    def upgrade(self, target: Target) -> None:
        """Sends the request and keeps the answer; what came behind it is in `early`."""
        self.send(wire.encode_request(target))
        reader = wire.ResponseReader()
        while True:
            response = reader.receive_data(self.recv())
            if response is not None:
                self.response, self.early = response, reader.leftover
                return

    def send(self, data: bytes) -> None:
        """All of it."""
        view = memoryview(data)
        while len(view):
            view = view[self._tls.write(view[: 1 << 20]) :]
            self.flush()

    def flush(self) -> None:
        """All ciphertext out."""
        self.socket.sendall(self._outgoing.read())

    def recv(self) -> bytes:
        """Some plaintext; b"" for the far side's close_notify."""
        while True:
            try:
                return self._tls.read(1 << 18)
            except ssl.SSLWantReadError:
                self._receive()
            except ssl.SSLZeroReturnError:
                return b""

    def recv_all(self) -> bytes:
        """Everything up to the far side's close_notify."""
        return b"".join(iter(self.recv, b""))

    def recv_exactly(self, count: int) -> bytes:
        """That many bytes."""
        chunks, have = [], 0
        while have < count:
            chunk = self.recv()
            assert chunk, f"the stream ended after {have} of {count} bytes"
            chunks.append(chunk)
            have += len(chunk)
        return b"".join(chunks)

    def close_write(self) -> None:
        """Our close_notify; reading goes on."""
        self._step(self._tls.unwrap)
        self.flush()

    def close(self) -> None:
        """The TCP connection."""
        self.socket.close()

    def _step(self, call: Any) -> bool:
        try:
            call()
        except ssl.SSLWantReadError:
            return False
        finally:
            self.flush()
        return True

    def _receive(self) -> None:
        data = self.socket.recv(1 << 18)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()


def running(folder: Path, **options: Any) -> Iterator[Sandbox]:
    """For fixtures: a sandbox that is stopped whatever the test does.

    Its samples are hello.sandbox and so on, whatever other sandbox runs on this machine.
    """
    sandbox = Sandbox(folder, **{"domain": "sandbox", **options})
    sandbox.start()
    try:
        yield sandbox
    finally:
        sandbox.stop()
