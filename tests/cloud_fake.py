"""A small API server, operators behind it and a small CA, for the tests of `ngrokd/cloud`."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Optional

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

UTC = datetime.timezone.utc
KEY = "2abcDEFghiJKLmnoPQRstu_4xyzABCdefGHIjklMNO"


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> dict[str, object]:
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document


@dataclass(frozen=True)
class Reply:
    """One answer. `raw` is written as it stands, instead of an HTTP answer."""

    status: int = 200
    document: object = None
    body: Optional[bytes] = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: Optional[bytes] = None

    def content(self) -> bytes:
        if self.body is not None:
            return self.body
        return b"" if self.document is None else json.dumps(self.document).encode()


@contextlib.contextmanager
def fifo_at(path: Path) -> Iterator[None]:
    """A FIFO there; who hangs at it is let go every 5 s, so that its test can fail."""
    os.mkfifo(path)
    done = threading.Event()

    def let_go() -> None:
        while not done.wait(5):
            os.close(os.open(path, os.O_RDWR))

    thread = threading.Thread(target=let_go)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class FakeApi:
    """Answers by `answer`, on threads of its own; remembers what was asked."""

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.done = threading.Event()  # an answer that waits for it is let go at the end
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = False  # so that `server_close` waits for what still answers
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )

    def use_tls(self, certificate_and_key: Path) -> None:
        """From now on, for https://localhost."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate_and_key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_port}"

    def __enter__(self) -> FakeApi:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.done.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def handle_one(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, self.path, headers, self.rfile.read(length))
                fake.requests.append(request)
                reply = fake.answer(request)
                with contextlib.suppress(ConnectionError, ssl.SSLError):  # the client has left
                    self._send(reply)

            def _send(self, reply: Reply) -> None:
                if reply.raw is not None:
                    self.wfile.write(reply.raw)
                    return
                content = reply.content()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_DELETE = handle_one

            def log_message(self, format: str, *args: object) -> None:
                """Tests look at `requests`."""

        return Handler


class Authority:
    """A certificate authority: a root and an intermediate that signs."""

    def __init__(self) -> None:
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.root = _signed("Root CA", self.root_key, "Root CA", self.root_key, ca=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = _signed("Intermediate CA", self.key, "Root CA", self.root_key, ca=True)

    def root_pem(self) -> str:
        return _pem(self.root)

    def intermediate_pem(self) -> str:
        return _pem(self.certificate)

    def sign(
        self,
        csr_pem: str,
        not_before: datetime.datetime = datetime.datetime(2024, 1, 1, tzinfo=UTC),
        not_after: datetime.datetime = datetime.datetime(2044, 1, 1, tzinfo=UTC),
    ) -> str:
        """What the API does with a signing request. ValueError: it is not signed or is named."""
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        if not csr.is_signature_valid or list(csr.subject):
            raise ValueError("a bad request")
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "client")]))
            .issuer_name(self.certificate.subject)
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
        )
        return _pem(builder.sign(self.key, hashes.SHA256()))

    def server(self, name: str) -> tuple[str, str]:
        """(certificate, key) of a TLS server; the intermediate is not in the chain it sends."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _signed(name, key, "Intermediate CA", self.key, names=(name,))
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return _pem(certificate), private.decode()


class Ngrok:
    """Operators as ngrok keeps them."""

    def __init__(self) -> None:
        self.authority = Authority()
        self.operators: dict[str, dict[str, object]] = {}

    def answer(self, request: Request) -> Reply:
        path = request.path.split("/")
        if request.method == "POST":
            return self._made(f"k8sop_{len(self.operators) + 1}", request.json(), 201)
        if len(path) == 2:
            return Reply(200, {"operators": list(self.operators.values()), "next_page_uri": None})
        known = self.operators.get(path[2])
        if known is None:
            return Reply(404, {"status_code": 404, "msg": "Resource not found"})
        if request.method == "GET":
            return Reply(200, known)
        if request.method == "DELETE":
            del self.operators[path[2]]
            return Reply(204)
        return self._made(path[2], {**known, **request.json()}, 200)

    def _made(self, identity: str, body: dict[str, object], status: int) -> Reply:
        binding = body["binding"]
        assert isinstance(binding, dict)
        csr = binding.pop("csr", "")
        pem = self.authority.sign(csr) if csr else ""
        binding["cert"] = {"cert": pem, "not_after": "0001-01-01T00:00:00Z"}
        binding["ingress_endpoint"] = "ingress.test:443"
        self.operators[identity] = {**body, "id": identity}
        return Reply(status, self.operators[identity])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _signed(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    ca: bool = False,
    names: tuple[str, ...] = (),
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2024, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime.datetime(2044, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        # Python 3.13 is strict with the API's certificates: RFC 5280 wants them.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if ca:
        builder = builder.add_extension(_SIGNS_CERTIFICATES, critical=True)
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
