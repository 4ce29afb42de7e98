"""One HTTP request and its whole answer: no redirects, bounded in time and size."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import os
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any, Optional, Union
from urllib.parse import SplitResult, urlsplit

from ngrokd.cloud.anchors import anchor_folder
from ngrokd.cloud.apierrors import Answer
from ngrokd.cloud.httpanswer import read_answer, read_head
from ngrokd.cloud.proxies import Proxy, proxy_for
from ngrokd.errors import ProtocolError

# 100 endpoints of a page with all their metadata and traffic policies stay far below this.
MAX_BODY_BYTES = 16 << 20

DEFAULT_PORTS = {"http": 80, "https": 443}


class NoAnswer(Exception):
    """No HTTP answer came, or none that can be used. `str()` is the cause."""


class Transport:
    """Sends requests to one server. Immutable: usable from any thread."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """Proxies are taken from the environment here, once; a loopback server never gets one."""
        self._timeout_s = timeout_s
        self._proxy: Optional[Proxy] = None
        self._fault = ""  # of the proxy's URL
        try:
            self._proxy = None if is_loopback(url) else proxy_for(url, os.environ)
        except ValueError as exc:
            self._fault = str(exc)
        secure = urlsplit(url).scheme == "https"
        self._context = verifying() if secure else None

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: Optional[bytes]
    ) -> Answer:
        """The answer, whatever its status. NoAnswer: none came; nobody knows what was done."""
        if self._fault:
            raise NoAnswer(self._fault)
        try:
            parts = urlsplit(url)
            request = self._request(method, parts, headers, body)
            with self._connected(parts) as connection:
                deadline = time.monotonic() + self._timeout_s
                connection.settimeout(self._timeout_s)
                connection.sendall(request)
                return read_answer(_reader(connection, deadline), MAX_BODY_BYTES)
        # ValueError: a host name or a port that cannot even be asked for.
        except (OSError, ProtocolError, ValueError, OverflowError) as exc:
            raise NoAnswer(self._cause(exc)) from exc

    def _request(
        self, method: str, parts: SplitResult, headers: Mapping[str, str], body: Optional[bytes]
    ) -> bytes:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        more = {
            "Host": parts.netloc,
            "Connection": "close",
            "Accept-Encoding": "identity",
            **headers,
        }
        if body is not None:
            more["Content-Length"] = str(len(body))
        if self._proxy is not None and self._context is None:
            target = f"{parts.scheme}://{parts.netloc}{target}"
            more.update(_authorized(self._proxy))
        return _head(f"{method} {target}", more) + (body or b"")

    @contextlib.contextmanager
    def _connected(self, parts: SplitResult) -> Iterator[socket.socket]:
        """To the server, or to the proxy that speaks with it."""
        server = parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme]
        host, port = (self._proxy.host, self._proxy.port) if self._proxy else server
        place: Any = wire_name(host), port  # typeshed knows names as text only
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection(place, self._timeout_s))
            # The head and the body of a request must not wait for each other's acknowledgement.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                if self._proxy is not None:
                    self._open_tunnel(connection, self._proxy, server)
                connection.settimeout(self._timeout_s)
                connection = stack.enter_context(
                    self._context.wrap_socket(connection, server_hostname=wire_name(server[0]))
                )
            yield connection

    def _open_tunnel(
        self, connection: socket.socket, proxy: Proxy, server: tuple[str, int]
    ) -> None:
        """RFC 9110 section 9.3.6. Raises OSError, ProtocolError."""
        host = f"[{server[0]}]" if ":" in server[0] else server[0]
        place = f"{host}:{server[1]}"
        connection.sendall(_head(f"CONNECT {place}", {"Host": place, **_authorized(proxy)}))
        # Without a buffer: what follows the head is the server's, for TLS.
        deadline = time.monotonic() + self._timeout_s
        status, _ = read_head(_Deadlined(connection, deadline))
        if not 200 <= status < 300:
            mend = ": give the user and password in its URL" if status == 407 else ""
            raise ProtocolError(f"it answered {status} to CONNECT {place}{mend}")

    def _cause(self, exc: Exception) -> str:
        through = ""
        if self._proxy is not None:
            through = f" (through the proxy that {self._proxy.variable} names)"
        return _words(exc, self._timeout_s) + through


def is_loopback(url: str) -> bool:
    """The URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def wire_name(host: str) -> Union[str, bytes]:
    """A name as the resolver and OpenSSL take it. Text goes through Python's `idna` codec, which
    is 0.3 MB of tables; only a name that is not ASCII needs them."""
    return host.encode("ascii") if host.isascii() else host


def verifying() -> ssl.SSLContext:
    """Trusts what this machine trusts, and looks at the name."""
    folder = anchor_folder(ssl.get_default_verify_paths(), os.environ)
    return ssl.create_default_context(capath=folder)  # None: the system's defaults


def _head(start: str, headers: Mapping[str, str]) -> bytes:
    """ValueError: something in it would end a line, or is not ASCII."""
    lines = (f"{start} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()))
    for line in lines:
        if not line.isprintable():
            raise ValueError("the request would hold a line break")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _authorized(proxy: Proxy) -> dict[str, str]:
    return {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}


def _words(reason: Exception, timeout_s: float) -> str:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({reason.verify_message}): see the clock, and whether"
            " a proxy with its own CA needs SSL_CERT_FILE"
        )
    if isinstance(reason, socket.gaierror):
        return f"its name cannot be resolved ({reason.strerror}): see the DNS of this machine"
    if isinstance(reason, socket.timeout):  # TimeoutError itself from Python 3.10 on
        return f"no whole answer came within {timeout_s:g} s"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__


class _Deadlined(io.RawIOBase):
    """A socket's bytes until a deadline. Owner: the thread of the request.

    A socket's own timeout starts again with every byte, so a server that drips could hold a pool
    thread for ever.
    """

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("timed out")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


def _reader(connection: socket.socket, deadline: float) -> io.BufferedReader:
    return io.BufferedReader(_Deadlined(connection, deadline))
