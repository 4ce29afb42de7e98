"""The sandbox's endpoints: what they are, how `--endpoint` names them, how the API shows them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional
from urllib.parse import urlsplit

from ngrokd.model import Target

DEFAULT_PORTS = {"http": 80, "https": 443, "tls": 443}
SCHEMES = ("http", "https", "tcp", "tls")
MAX_PORT = 65535
HOSTNAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", re.IGNORECASE)
PORT = re.compile(r"[0-9]{1,5}")
UPSTREAM = re.compile(
    r"(?:\[(?P<literal>[0-9a-fA-F:.]+)\]|(?P<name>[^\s\x00-\x1f:/\[\]]+)):(?P<port>[0-9]{1,5})"
)

Fields = Mapping[str, object]


class SpecError(ValueError):
    """An endpoint or upstream that cannot be meant. `str()`: what is wrong and what is right."""


@dataclass(frozen=True)
class Upstream:
    """Where an endpoint's connections go; the name is resolved at each connection."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class EndpointSpec:
    """An endpoint to be listed. The URL may be any text: the API passes it on as it is.

    No upstream: it is listed, and connections to it are refused. `fields` replace those of the
    API's object, and `omit` names those to leave out.
    """

    url: str
    upstream: Optional[Upstream] = None
    fields: Fields = field(default_factory=dict)
    omit: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listed:
    """An endpoint that the API lists. The dates are RFC 3339."""

    id: str
    spec: EndpointSpec
    created_at: str
    updated_at: str


def parse_upstream(text: str) -> Upstream:
    """`HOST:PORT`, `[IPV6]:PORT`."""
    match = UPSTREAM.fullmatch(text)
    if not match or not 1 <= int(match["port"]) <= MAX_PORT:
        raise SpecError(f"the upstream {text!r} is not HOST:PORT with a port from 1 to {MAX_PORT}")
    return Upstream(match["literal"] or match["name"], int(match["port"]))


def parse_argument(text: str) -> EndpointSpec:
    """The value of `--endpoint`: `URL=HOST:PORT`. `SpecError` names the fault."""
    url, separator, upstream = text.rpartition("=")
    if not separator:
        raise SpecError("write URL=HOST:PORT, as in tcp://db.example:5432=localhost:5432")
    _check_url(url)
    return EndpointSpec(url, parse_upstream(upstream))


def _check_url(url: str) -> None:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise SpecError(f"the URL {url!r} does not begin with {'://, '.join(SCHEMES)}://")
    hostname, colon, port = rest.partition(":")
    if not HOSTNAME.fullmatch(hostname):
        raise SpecError(f"the URL {url!r} is not SCHEME://HOSTNAME[:PORT]")
    if colon and not (PORT.fullmatch(port) and 1 <= int(port) <= MAX_PORT):
        raise SpecError(f"the port of the URL {url!r} is not a number from 1 to {MAX_PORT}")
    if scheme == "tcp" and not colon:
        raise SpecError(f"the URL {url!r} needs a port: tcp has no default one")


def locate(url: str) -> tuple[str, Optional[Target]]:
    """(scheme, target) of an endpoint's URL; None if it names no host and port."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:  # a port out of range, an unbalanced bracket
        return "", None
    if not parts.hostname or not port:
        return parts.scheme, None
    return parts.scheme, Target(parts.hostname, port)


def to_json(endpoint: Listed, api_url: str, pooled: bool) -> dict[str, object]:
    """The API's object (ngrok-api-go `Endpoint`)."""
    spec = endpoint.spec
    scheme, target = locate(spec.url)
    shown: dict[str, object] = {
        "id": endpoint.id,
        "region": "",
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
        "public_url": spec.url,
        "proto": scheme,
        "scheme": scheme,
        "hostport": str(target) if target else "",
        "host": target.hostname if target else "",
        "port": target.port if target else 0,
        "type": "cloud",
        "metadata": "",
        "description": "",
        "url": spec.url,
        "principal": {"id": "usr_sandbox", "uri": ""},
        "bindings": ["kubernetes"],
        "uri": f"{api_url}/endpoints/{endpoint.id}",
        "name": "",
        "pooling_enabled": pooled,
    }
    shown.update(spec.fields)
    return {name: value for name, value in shown.items() if name not in spec.omit}
