"""The words every room uses: frozen values, no behaviour beyond their own text."""

from __future__ import annotations

import enum
import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Optional


# Tuples, these and the endpoints' statuses: thousands are made and compared at a poll, which
# Python's own code does for a tuple in a tenth of the time.
class Address(NamedTuple):
    """A TCP address."""

    ip: str
    port: int

    def __str__(self) -> str:
        """As people write it, IPv6 in brackets."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


class Target(NamedTuple):
    """What the ingress is asked for: a hostname (lower case, no scheme) and its port."""

    hostname: str
    port: int

    def __str__(self) -> str:
        return f"{self.hostname}:{self.port}"


class Route(NamedTuple):
    """What a listener serves, and by which name: `host` is what HTTP requests get for theirs."""

    target: Target
    host: str = ""  # "": requests stay as they are
    exposed: bool = False  # whoever reaches its listener is served; else this machine alone


@dataclass(frozen=True)
class NetworkCame:
    """A network is there that was not a moment ago."""

    what: str  # for a person
    addresses: frozenset[str] = frozenset()  # this machine's own on it
    everywhere: bool = False  # the way to anywhere may be another: a default route came

    def and_also(self, other: NetworkCame) -> NetworkCame:
        """Both, told as the first one."""
        addresses = self.addresses | other.addresses
        return NetworkCame(self.what, addresses, self.everywhere or other.everywhere)


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


class Cause(enum.Enum):
    """Why a connection failed. The values are names for scripts and dashboards."""

    # ngrok's word
    REFUSED_BY_NGROK = "refused_by_ngrok"  # its answer was an error, with an ERR_NGROK_* code
    # Certificates
    CERTIFICATE_REFUSED = "certificate_refused"  # ours, by the ingress; also by a silent close
    INGRESS_UNTRUSTED = "ingress_untrusted"  # its certificate is of an authority we do not know
    INGRESS_NAME_MISMATCH = "ingress_name_mismatch"  # its certificate is for another name
    INGRESS_CERTIFICATE_DATE = "ingress_certificate_date"  # expired, not yet valid, or our clock
    # On the way to the ingress
    UNREACHABLE = "unreachable"  # this machine has no way there: route, firewall, local ports
    CONNECT_REFUSED = "connect_refused"  # nothing listens there, or a firewall says so
    CONNECT_TIMEOUT = "connect_timeout"  # no TCP connection in time
    HANDSHAKE_TIMEOUT = "handshake_timeout"  # TCP, but no TLS in time
    CLOSED_IN_HANDSHAKE = "closed_in_handshake"  # closed or reset before TLS was there
    TLS_FAILED = "tls_failed"  # no TLS that both speak, or no TLS at all
    # At the ingress
    UPGRADE_TIMEOUT = "upgrade_timeout"  # no answer for the endpoint in time
    CLOSED_IN_UPGRADE = "closed_in_upgrade"  # reset before, or closed within the answer
    PROTOCOL_BROKEN = "protocol_broken"  # it does not speak as ngrok's ingress does
    # Open connections
    RESET_WHILE_OPEN = "reset_while_open"  # by the far side, as programs do: no news
    CUT_WHILE_OPEN = "cut_while_open"  # what came may be incomplete, or the ingress vanished
    STALLED = "stalled"  # bytes waited, and nobody took them for the whole idle time
    # This machine
    CLIENT_LEFT = "client_left"  # before its connection was open
    NO_INGRESS = "no_ingress"  # none is known yet
    FOREIGN_CLIENT = "foreign_client"  # of another machine, and the endpoint is for this one alone
    CONNECTION_LIMIT = "connection_limit"  # `forward.max_connections`
    NO_DESCRIPTOR = "no_descriptor"  # the limit of open files
    NO_MEMORY = "no_memory"  # the kernel has none for sockets
    INTERNAL_ERROR = "internal_error"  # a bug of ours


@dataclass(frozen=True)
class Failure:
    """Why a connection failed: the cause for counting, the text for people."""

    cause: Cause
    text: str


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
    last_cause: Optional[Cause] = None  # of `last_error`
    last_error_at: Optional[float] = None
    failures: tuple[tuple[Cause, int], ...] = ()  # those that occurred; their sum is `failed`


@dataclass(frozen=True)
class WarmStatus:
    """The ingress connections that are kept ready for the next clients."""

    setting: str = "off"  # off, auto or a number in digits
    ready: int = 0
    wanted: int = 0
    used: int = 0  # clients who found one
    missed: int = 0  # clients who found none, though some are to be kept
    max_age_s: float = 0.0  # older ones are replaced; 0: the ingress lets none wait
    problem: str = ""  # why none can be made now


class InterfaceMode(enum.Enum):
    """How endpoint addresses come to be on this machine."""

    DUMMY = "dummy"  # an interface of type dummy
    TUN = "tun"  # a tun device without a reader, where the kernel has no dummy
    BRIDGE = "bridge"  # a bridge without ports, where neither of the two can be made
    LOOPBACK = "loopback"  # a part of 127.0.0.0/8, which needs no interface and no root


@dataclass(frozen=True)
class InterfaceStatus:
    """The interface in use. `notes` says why it is not the one that was configured."""

    name: str
    subnet: str
    mode: InterfaceMode
    notes: tuple[str, ...] = ()
    occupied: frozenset[str] = frozenset()  # of the subnet, but given to no endpoint


@dataclass(frozen=True)
class HostsSection:
    """Names of ours (hostname: address) as they stand in a hosts file; none: nothing stands there.

    `marker`: the words of the lines before and behind them.
    """

    marker: str
    names: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """One name a line, sorted by address, between the markers; without line ends."""
        if not self.names:
            return []
        entries = [f"{ip}\t{name}" for name, ip in sorted(self.names.items(), key=_by_address)]
        return [f"# BEGIN {self.marker}", *entries, f"# END {self.marker}"]


def _by_address(entry: tuple[str, str]) -> bytes:
    """Bytes, since of thousands of tuples and lists the garbage collector would keep account."""
    name, ip = entry
    if ":" in ip:
        return b"6" + ipaddress.IPv6Address(ip).packed + name.encode()
    return b"4" + bytes(map(int, ip.split("."))) + name.encode()  # `ipaddress` is slow


@dataclass(frozen=True)
class HostsStatus:
    """The hosts file, and our section as it should be there."""

    path: str
    section: HostsSection
    published: bool = True  # the file has exactly this section
    problem: str = ""  # why not; or, though it has it now, who disputes it
    # (hostname, address) of all that is there for us, as far as it could last be read.
    standing: frozenset[tuple[str, str]] = frozenset()
    is_marked: bool = False  # a section of ours is there, or what is left of one

    @property
    def missing(self) -> int:
        """How many names should be there and are not."""
        return len(self.section.names.items() - self.standing)

    @property
    def stale(self) -> int:
        """How many names are there that should not be, or not so."""
        return len(self.standing - self.section.names.items())


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


class EndpointStatus(NamedTuple):
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
    registration: str = ""  # a word of `cloud.registration.RegistrationState`
    ingress_endpoint: str = ""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what is as it was asked for, and yet is to be known
    certificate_not_after: Optional[float] = None  # Unix seconds
    certificates_installed: int = 0  # since the start
    api_last_success: Optional[float] = None  # Unix seconds
    api_last_error: str = ""
    poll_problem: str = ""  # that one of `problems` that says why the last poll failed
    next_poll: Optional[float] = None  # Unix seconds
    interface: Optional[InterfaceStatus] = None
    endpoints: tuple[EndpointStatus, ...] = ()
    hosts: Optional[HostsStatus] = None  # None: no endpoints have been applied yet
    hosts_writes: int = 0
    started_at: float = 0.0  # Unix seconds
    api_requests: tuple[tuple[str, int], ...] = field(default=())  # (HTTP status or "error", count)
    shadowed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # addresses elsewhere
    config: str = ""  # the file it was started with; "": none

    @property
    def registered(self) -> bool:
        """ngrok knows us: an operator id and a certificate are held."""
        return bool(self.operator_id) and self.certificate_not_after is not None

    @property
    def ready(self) -> bool:
        """Registered, and one poll has been applied."""
        return self.state in (State.READY, State.DEGRADED)
