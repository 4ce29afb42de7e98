"""`ngrokctl open`: where a name can be connected to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ngrokd.control.answers import number, text
from ngrokd.errors import ControlError

NO_SUCH_ENDPOINT = "no_such_endpoint"
NOT_OPEN = "not_open"


@dataclass(frozen=True)
class Wanted:
    """A hostname, and the endpoint's port where one is named."""

    hostname: str
    port: Optional[int] = None

    def __str__(self) -> str:
        return self.hostname if self.port is None else f"{self.hostname}:{self.port}"


def wanted(words: str) -> Wanted:
    """`db.ns` or `db.ns:5432`."""
    name, _, port = words.strip().rpartition(":")
    if not (name and port.isascii() and port.isdigit()):
        name, port = words.strip(), ""
    return Wanted(name.rstrip(".").lower(), int(port) if port else None)


def opened(endpoints: Sequence[dict[str, object]], sought: Wanted) -> list[dict[str, object]]:
    """The open ones of that name, by port.

    Raises ControlError if there is none, with the reasons of those that are not open.
    """
    named = [
        endpoint
        for endpoint in endpoints
        if text(endpoint, "hostname") == sought.hostname
        and sought.port in (None, int(number(endpoint, "port")))
    ]
    if not named:
        raise ControlError(
            NO_SUCH_ENDPOINT, f"no endpoint has the name {sought}: `ngrokctl list` shows all"
        )
    ready = [endpoint for endpoint in named if text(endpoint, "state") == "open"]
    if not ready:
        raise ControlError(NOT_OPEN, "; ".join(_why(endpoint) for endpoint in named))
    return [_where(e) for e in sorted(ready, key=lambda e: number(e, "port"))]


def _where(endpoint: dict[str, object]) -> dict[str, object]:
    address = text(endpoint, "listen_address")
    ip, _, port = address.rpartition(":")
    return {
        "url": text(endpoint, "url"),
        "address": address,
        "ip": ip.strip("[]"),
        "port": int(port) if port.isdigit() else None,
    }


def _why(endpoint: dict[str, object]) -> str:
    reason = text(endpoint, "reason")
    found = f"{text(endpoint, 'url')} is {text(endpoint, 'state')}"
    return f"{found}: {reason}" if reason else found
