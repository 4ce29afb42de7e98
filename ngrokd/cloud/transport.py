"""One HTTP request and its whole answer, by urllib: no redirects, bounded in time and size."""

from __future__ import annotations

import contextlib
import copy
import functools
import http.client
import ipaddress
import os
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Optional
from urllib.parse import urlsplit

from ngrokd.cloud.anchors import anchor_folder
from ngrokd.cloud.apierrors import Answer
from ngrokd.cloud.connection import BoundedConnection, BoundedTlsConnection
from ngrokd.cloud.kept import Keeper, KeptConnection, KeptTlsConnection, Stale

# 100 endpoints of a page with all their metadata and traffic policies stay far below this.
MAX_BODY_BYTES = 16 << 20
_PIECE_BYTES = 64 * 1024  # of one read: Python 3.9 makes a buffer as large as what is asked for
_WORD = re.compile(r"[^\s'\"]+")


class NoAnswer(Exception):
    """No HTTP answer came, or none that can be used. `str()` is the cause."""


class Transport:
    """Sends requests to one server. Immutable: usable from any thread.

    Each goes over a connection of its own, but for those of a `keeping`.
    """

    _keeper: Optional[Keeper] = None

    def __init__(self, url: str, timeout_s: float) -> None:
        """Proxies are taken from the environment here, once; a loopback server never gets one."""
        self._timeout_s = timeout_s
        # Not those of macOS's settings, nor `proxy_bypass` without any of these: there a process
        # that has forked, as a daemon does, is killed by what it takes to ask for them.
        proxies = {} if is_loopback(url) else urllib.request.getproxies_environment()
        parts = urlsplit(url)
        is_proxied = parts.scheme in proxies and not urllib.request.proxy_bypass(
            parts.hostname or ""
        )
        self._proxied = parts.scheme if is_proxied else ""
        self._proxy = _place(proxies[parts.scheme]) if self._proxied else ""
        # Nothing but these handlers: without HTTPRedirectHandler no redirect is followed, so the
        # key goes to no other server, and without FileHandler a URL can name no file.
        self._opener = urllib.request.OpenerDirector()
        self._opener.add_handler(urllib.request.ProxyHandler(proxies))
        self._opener.add_handler(urllib.request.UnknownHandler())
        if parts.scheme == "https":
            self._opener.add_handler(_HttpsHandler(verifying()))
        else:
            self._opener.add_handler(_HttpHandler())

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: Optional[bytes]
    ) -> Answer:
        """The answer, whatever its status. NoAnswer: none came; nobody knows what was done."""
        try:
            request = _Request(url, body, dict(headers), method=method)
            request.keeper = self._keeper
            try:
                return self._answer_to(request)
            except Stale:
                return self._answer_to(request)
        # ValueError: a proxy URL or a host name that cannot even be asked for.
        except (OSError, http.client.HTTPException, ValueError, OverflowError) as exc:
            raise NoAnswer(self._cause(exc)) from exc

    @contextlib.contextmanager
    def keeping(self) -> Iterator[Transport]:
        """Sends over one connection, for as long as the server keeps it.

        For one thread, and for requests that do no harm when they are sent twice.
        """
        kept = copy.copy(self)
        kept._keeper = Keeper()
        try:
            yield kept
        finally:
            kept.let_go()

    def let_go(self) -> None:
        """The next request goes over a new connection: what waits for long is closed by many."""
        if self._keeper is not None:
            self._keeper.close()

    def _answer_to(self, request: _Request) -> Answer:
        with contextlib.ExitStack() as unless_whole:
            unless_whole.callback(self.let_go)  # what is left of it would be the next answer
            with self._opener.open(request, timeout=self._timeout_s) as response:
                answer = _answer(response, _content(response))
            unless_whole.pop_all()
        return answer

    def _cause(self, exc: Exception) -> str:
        reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
        named = f"{self._proxy}that {self._proxied}_proxy names"
        through = f" (through the proxy {named})" if self._proxied else ""
        words = _WORD.sub(_without_user, _words(reason, self._timeout_s))
        if "Tunnel connection failed: 407" in words:  # the words are http.client's
            words += f": give the proxy's user and password in {self._proxied}_proxy"
        return words + through


def is_loopback(url: str) -> bool:
    """The URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_hosts() -> set[str]:
    """Names of the proxies that the environment names."""
    found = set()
    for scheme, url in urllib.request.getproxies_environment().items():
        if scheme != "no":
            with contextlib.suppress(ValueError):  # it cannot be used, and is told where it is
                found.add(urlsplit(url if "://" in url else f"http://{url}").hostname or "")
    return found - {""}


def _place(proxy: str) -> str:
    """`HOST:PORT ` of a proxy's URL, and nothing of a user or password; "": it cannot be told."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    # A password with a slash in it would be taken for host and path.
    if ("@" in proxy and "@" not in parts.netloc) or not host.isprintable() or not host:
        return ""
    shown = f"[{host}]" if ":" in host else host
    return f"{shown} " if port is None else f"{shown}:{port} "


def verifying() -> ssl.SSLContext:
    """Trusts what this machine trusts, and looks at the name."""
    folder = anchor_folder(ssl.get_default_verify_paths(), os.environ)
    context = ssl.create_default_context(capath=folder)  # None: the system's defaults
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # Python 3.9 would take less
    return context


def _without_user(word: re.Match[str]) -> str:
    """Blanks user and password of a proxy's URL, which urllib repeats if it cannot read the URL.

    Word by word: a server may have sent the text, and looking for them from each character takes
    half a minute for a status line of 64 KiB.
    """
    _, at, host = word.group().rpartition("@")
    return f"[redacted]@{host}" if at else word.group()


def _content(response: http.client.HTTPResponse) -> bytes:
    """The whole body. Raises NoAnswer if it is larger than the bound or ends too early."""
    content = bytearray()
    while len(content) <= MAX_BODY_BYTES:
        piece = response.read(_PIECE_BYTES)
        if not piece:
            break
        content += piece
    else:
        raise NoAnswer(f"the answer is larger than {MAX_BODY_BYTES >> 20} MiB")
    if response.length:  # `read` with a size does not mind that the rest never came
        raise NoAnswer(f"the answer was cut short, {response.length} bytes before its end")
    return bytes(content)


def _answer(response: http.client.HTTPResponse, content: bytes) -> Answer:
    def header(name: str) -> str:
        return response.headers.get(name) or ""

    return Answer(
        status=response.status,
        body=content,
        content_type=header("Content-Type"),
        retry_after=header("Retry-After"),
        location=header("Location"),
        operation_id=header("ngrok-operation-id"),
        date=header("Date"),
    )


def _words(reason: object, timeout_s: float) -> str:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({reason.verify_message}): see the clock, and whether"
            " a proxy with its own CA needs SSL_CERT_FILE"
        )
    if isinstance(reason, socket.gaierror):
        return f"its name cannot be resolved ({reason.strerror}): see the DNS of this machine"
    if isinstance(reason, socket.timeout):  # TimeoutError itself from Python 3.10 on
        return f"no whole answer came within {timeout_s:g} s"
    if isinstance(reason, http.client.RemoteDisconnected):
        return "it closed the connection without an answer"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    if isinstance(reason, http.client.IncompleteRead):
        return "the answer was cut short"
    if isinstance(reason, http.client.HTTPException):
        return f"what came is not HTTP ({type(reason).__name__}: {reason})"
    return str(reason) or type(reason).__name__


class _Request(urllib.request.Request):
    """`keeper`: where its connection comes from; None: it has one of its own."""

    keeper: Optional[Keeper] = None


class _HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_connecting(req, BoundedConnection, KeptConnection), req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._verifying = context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        connecting = _connecting(req, BoundedTlsConnection, KeptTlsConnection)
        return self.do_open(connecting, req, context=self._verifying)


def _connecting(
    req: urllib.request.Request, own: type[BoundedConnection], kept: type[KeptConnection]
) -> Callable[..., Any]:
    """What gives urllib a connection."""
    keeper = req.keeper if isinstance(req, _Request) else None
    return own if keeper is None else functools.partial(keeper.connection, kept)
