"""Fetches a CA certificate from a URL. For a thread that may wait."""

from __future__ import annotations

from urllib.parse import urlsplit

from ngrokd import __version__
from ngrokd.cloud import transport
from ngrokd.cloud.transport import NoAnswer, Transport
from ngrokd.errors import HostError

TIMEOUT_S = 20.0
MAX_SHOWN = 200  # characters of where a server wants to send us

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def is_url(source: str) -> bool:
    """It is not the name of a file."""
    return "://" in source


def fetch(url: str) -> bytes:
    """What is there. HostError: nothing, or not over a way that can be used.

    The name and certificate of an https server are verified; no redirect is followed.
    """
    _check(url)
    headers = {"User-Agent": f"ngrokd/{__version__}", "Accept": "*/*"}
    try:
        answer = Transport(url, TIMEOUT_S).send("GET", url, headers, None)
    except NoAnswer as exc:
        raise HostError(f"{url} cannot be fetched: {exc}") from exc
    if answer.status in _REDIRECTS:
        where = answer.location[:MAX_SHOWN]
        raise HostError(f"{url} cannot be fetched: it redirects, which is not followed, to {where}")
    if answer.status != 200:
        raise HostError(f"{url} cannot be fetched: it answers with HTTP status {answer.status}")
    return answer.body


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:
        usable = False
    if not usable:
        raise HostError(f"{url} is not a URL that can be fetched from")
    if parts.scheme != "https" and not (parts.scheme == "http" and transport.is_loopback(url)):
        raise HostError(f"{url} is not an https:// URL")
