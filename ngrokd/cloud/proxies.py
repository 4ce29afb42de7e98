"""Which proxy a request goes through, by the variables that curl, Go and Python agree on.

`http_proxy` and `https_proxy` are for the scheme of the URL that is asked for, `no_proxy` is a list
of hosts, and domains with all below them, that are asked directly. The lower-case name counts
before the upper-case one, also if it is empty. Unlike `urllib.request`, which takes 1 MB of memory,
this does not read the system settings of macOS: they are the desktop's, not a daemon's.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional
from urllib.parse import unquote, urlsplit

_DEFAULT_PORT = 80  # as Go has it; curl's 1080 is that of SOCKS


@dataclass(frozen=True)
class Proxy:
    """Where to connect to, and what to say there about who asks."""

    variable: str  # that names it, for messages
    host: str
    port: int
    authorization: str = ""  # the value of Proxy-Authorization; "": none

    def __repr__(self) -> str:
        return f"Proxy({self.host!r}, {self.port})"


def proxy_for(url: str, environ: Mapping[str, str]) -> Optional[Proxy]:
    """The proxy for this URL; None: it is asked directly. ValueError: one is named that is none."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    variable = f"{parts.scheme}_proxy"
    value = _value(variable, environ).strip()
    if not value or _is_exempt(host, parts.port, _value("no_proxy", environ)):
        return None
    return _parsed(variable, value)


def _value(name: str, environ: Mapping[str, str]) -> str:
    if name in environ:
        return environ[name]
    # A web server hands a client's header `Proxy:` to its CGI programs as HTTP_PROXY.
    if name == "http_proxy" and "REQUEST_METHOD" in environ:
        return ""
    return environ.get(name.upper(), "")


def _is_exempt(host: str, port: Optional[int], exempt: str) -> bool:
    names = {host, f"{host}:{port}"}
    for word in exempt.lower().split(","):
        domain = word.strip().lstrip(".")
        if domain == "*":
            return True
        if domain and any(name == domain or name.endswith(f".{domain}") for name in names):
            return True
    return False


def _parsed(variable: str, value: str) -> Proxy:
    scheme, separator, _ = value.partition("://")
    if separator and scheme.lower() not in ("http", "https"):
        raise ValueError(f"{variable} names a proxy of the kind {scheme[:20]!r}: use an HTTP proxy")
    try:
        parts = urlsplit(value if separator else f"http://{value}")
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ValueError(f"{variable} is not a URL: http://HOST:PORT") from exc
    if not host or port == 0:
        raise ValueError(f"{variable} is not a URL: http://HOST:PORT")
    authorization = ""
    if parts.username:
        words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(words.encode()).decode()}"
    return Proxy(variable, host, port or _DEFAULT_PORT, authorization)
