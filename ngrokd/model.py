"""The words every room uses: frozen values, no behaviour beyond their own text."""

from __future__ import annotations

import enum
import ssl
from dataclasses import dataclass, field
from typing import Optional


@dataclass(frozen=True, order=True)
class Address:
    """A local TCP address."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"{self.ip}:{self.port}"


@dataclass(frozen=True, order=True)
class Target:
    """What the ingress is asked for: a hostname (lower case, no scheme) and its port."""

    hostname: str
    port: int

    def __str__(self) -> str:
        return f"{self.hostname}:{self.port}"


@dataclass(frozen=True, order=True)
class Route:
    """What a listener serves, and by which name: `host` is what HTTP requests get for theirs."""

    target: Target
    host: str = ""  # "": requests stay as they are


@dataclass(frozen=True)
class Endpoint:
    """A bound endpoint; the members of a pool (same scheme, host and port) are one endpoint."""

    target: Target
    scheme: str  # http, https, tcp or tls
    url: str
    ids: tuple[str, ...]  # of every pool member, sorted


@dataclass(frozen=True)
class SkippedEndpoint:
    """Something the API listed that cannot be served, and why."""

    id: str
    url: str
    reason: str


@dataclass(frozen=True)
class Discovered:
    """One complete answer of the API."""

    endpoints: tuple[Endpoint, ...] = ()
    skipped: tuple[SkippedEndpoint, ...] = ()


@dataclass(frozen=True)
class Ingress:
    """Where tunnels go: addresses in the order to try, all under one verified name."""

    server_name: str
    addresses: tuple[Address, ...]
    context: ssl.SSLContext


@dataclass(frozen=True)
class Counters:
    """What one target's connections did since start. `up` is towards ngrok; times: Unix seconds."""

    open: int = 0
    total: int = 0  # accepted, however they ended
    failed: int = 0  # never got through to the endpoint, or were cut by a fault
    bytes_up: int = 0
    bytes_down: int = 0
    last_activity: Optional[float] = None
    last_error: str = ""


class InterfaceMode(enum.Enum):
    """How endpoint addresses come to be on this machine."""

    DUMMY = "dummy"  # an interface of type dummy
    TUN = "tun"  # a tun device without a reader, where the kernel has no dummy
    LOOPBACK = "loopback"  # a part of 127.0.0.0/8, which needs no interface and no root


@dataclass(frozen=True)
class InterfaceStatus:
    """The interface in use. `notes` says why it is not the one that was configured."""

    name: str
    subnet: str
    mode: InterfaceMode
    notes: tuple[str, ...] = ()


class State(enum.Enum):
    """What the daemon as a whole is doing."""

    WAITING_FOR_API_KEY = "waiting_for_api_key"  # nothing to register with yet
    REGISTERING = "registering"  # has a key; no certificate or no applied poll yet
    READY = "ready"  # registered, and one poll has been applied
    DEGRADED = "degraded"  # ready, but something in `problems` needs attention
    STOPPING = "stopping"  # draining; nothing new is accepted


class EndpointState(enum.Enum):
    """What became of one endpoint."""

    OPEN = "open"  # listening
    FAILED = "failed"  # wanted, but this machine refuses; retried at every poll
    SKIPPED = "skipped"  # cannot be served as ngrok has it


@dataclass(frozen=True)
class EndpointStatus:
    """One line of `list`."""

    id: str
    url: str
    state: EndpointState
    reason: str = ""
    target: Optional[Target] = None  # None: skipped, its URL has no usable host and port
    ip: str = ""
    listener: Optional[Address] = None  # None: nothing listens
    listen_interface: str = "virtual"
    published: bool = False  # the name stands in the hosts file


@dataclass(frozen=True)
class Status:
    """Everything other threads may know. Published whole by the main thread."""

    state: State = State.REGISTERING
    operator_id: str = ""
    ingress_endpoint: str = ""
    problems: tuple[str, ...] = ()
    certificate_not_after: Optional[float] = None  # Unix seconds
    api_last_success: Optional[float] = None  # Unix seconds
    api_last_error: str = ""
    next_poll: Optional[float] = None  # Unix seconds
    interface: Optional[InterfaceStatus] = None
    endpoints: tuple[EndpointStatus, ...] = ()
    hosts_writes: int = 0
    started_at: float = 0.0  # Unix seconds
    api_requests: tuple[tuple[str, int], ...] = field(default=())  # (HTTP status or "error", count)

    @property
    def registered(self) -> bool:
        """ngrok knows us: an operator id and a certificate are held."""
        return bool(self.operator_id) and self.certificate_not_after is not None

    @property
    def ready(self) -> bool:
        """Registered, and one poll has been applied."""
        return self.state in (State.READY, State.DEGRADED)
