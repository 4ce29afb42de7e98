"""What `config.yml` may hold: every key with its check and what that check allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

from ngrokd.config import Config
from ngrokd.configtext import checks
from ngrokd.configtext.checks import Check

NameCheck = Callable[[object], str]

_PATH = "an absolute path of a file"
_DAY_S = 86400


@dataclass(frozen=True)
class Key:
    """One setting. `name_check` is set where the value is itself a table of names."""

    section: str  # "" for a key at the top level
    name: str
    allowed: str
    check: Check
    name_check: Optional[NameCheck] = None
    attribute: str = ""  # in Config, where it is not `name`

    @property
    def dotted(self) -> str:
        """As it is called in messages: `net.subnet`."""
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def field(self) -> str:
        """Its name in the dataclass."""
        return self.attribute or self.name


def _seconds(section: str, name: str, low: float, high: float, note: str = "") -> Key:
    allowed = f"a number of seconds from {low} to {high}{note}"
    return Key(section, name, allowed, checks.number(low, high))


def _whole(section: str, name: str, low: int, high: int, note: str = "") -> Key:
    allowed = f"a whole number from {low} to {high}{note}"
    return Key(section, name, allowed, checks.number(low, high, whole=True))


def _choice(section: str, name: str, *words: str) -> Key:
    return Key(section, name, " or ".join(words), checks.choice(*words))


_LISTEN_INTERFACE = "`virtual`, an IPv4 address, or the name of an interface"

KEYS = (
    Key("api", "url", "https://HOST[:PORT], or http:// for a loopback host", checks.api_url),
    Key("api", "key", "an ngrok API key, or nothing", checks.api_key),
    Key(
        "",
        "ingressEndpoint",
        "HOST[:PORT] or [IPV6][:PORT], or nothing",
        checks.ingress_endpoint,
        attribute="ingress_endpoint",
    ),
    _choice("server", "log_level", "debug", "info", "warning", "error"),
    _choice("server", "log_format", "text", "json"),
    Key(
        "server", "log_file", f"{_PATH}, `syslog`, or nothing", checks.path("syslog", empty=True)
    ),
    Key(
        "server",
        "socket_path",
        f"{_PATH} of at most {checks.MAX_SOCKET_PATH_BYTES} bytes",
        checks.path(max_bytes=checks.MAX_SOCKET_PATH_BYTES),
    ),
    Key("server", "socket_group", "the name of a group, or nothing", checks.group),
    Key("server", "pid_file", _PATH, checks.path()),
    Key("server", "client_cert", _PATH, checks.path()),
    Key("server", "client_key", _PATH, checks.path()),
    Key("server", "ca_file", f"{_PATH}, or nothing", checks.path(empty=True)),
    _seconds("server", "cert_refresh_interval", 1, 7 * _DAY_S),
    Key("server", "health_address", "an IPv4 address of this machine", checks.ipv4),
    _whole("server", "health_port", 0, 65535, " (0: off)"),
    _seconds("bound_endpoints", "poll_interval", 1, _DAY_S),
    Key(
        "bound_endpoints",
        "selectors",
        "a list of CEL expressions in quotes, such as ['true']",
        checks.selectors,
    ),
    Key(
        "net",
        "interface_name",
        "1 to 15 letters, digits, `.`, `_` and `-`, not starting with `-`",
        checks.interface_name,
    ),
    Key("net", "subnet", "an IPv4 network with a prefix from /8 to /30", checks.subnet),
    Key("net", "listen_interface", _LISTEN_INTERFACE, checks.listen_interface),
    _whole("net", "start_port", 1, 65535),
    Key(
        "net",
        "overrides",
        f"`hostname: value` lines, each value {_LISTEN_INTERFACE}",
        checks.listen_interface,
        name_check=checks.hostname,
    ),
    Key("net", "hosts_file", _PATH, checks.path()),
    _choice("net", "flush_resolver_cache", "auto", "off"),
    _seconds("forward", "connect_timeout", 0.1, 300),
    _seconds("forward", "half_close_timeout", 0.1, _DAY_S),
    _seconds("forward", "idle_timeout", 0, 30 * _DAY_S, " (0: never)"),
    _seconds("forward", "drain_timeout", 0, 3600),
    _whole("forward", "max_connections", 0, 1_000_000, " (0: what the descriptor limit allows)"),
    Key(
        "forward",
        "warm_connections",
        "`off`, `auto`, or a whole number from 1 to 1000",
        checks.warm_connections,
    ),
)
SECTIONS = tuple(dict.fromkeys(key.section for key in KEYS if key.section))


def value_in(config: Config, key: Key) -> object:
    """What `config` has for `key`."""
    return getattr(getattr(config, key.section) if key.section else config, key.field)
