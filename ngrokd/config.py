"""The configuration as the daemon uses it: frozen sections with their defaults.

Reading, checking and writing `config.yml` is `configfile`'s job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_CONFIG_PATH = "/etc/ngrokd/config.yml"
DEFAULT_SOCKET_PATH = "/var/run/ngrokd.sock"
DEFAULT_INGRESS = "kubernetes-binding-ingress.ngrok.io:443"
DEFAULT_LOG_FILE = "/var/log/ngrokd.log"


@dataclass(frozen=True)
class ApiSettings:
    """Section `api`."""

    url: str = "https://api.ngrok.com"
    key: str = field(default="", repr=False)


@dataclass(frozen=True)
class ServerSettings:
    """Section `server`."""

    log_level: str = "info"
    log_format: str = "text"
    log_file: str = ""
    socket_path: str = DEFAULT_SOCKET_PATH
    socket_group: str = ""
    pid_file: str = "/var/run/ngrokd.pid"
    client_cert: str = "/etc/ngrokd/tls.crt"
    client_key: str = "/etc/ngrokd/tls.key"
    ca_file: str = ""
    cert_refresh_interval: float = 3600  # seconds
    health_address: str = "127.0.0.1"
    health_port: int = 8081  # 0: off


@dataclass(frozen=True)
class PollSettings:
    """Section `bound_endpoints`."""

    poll_interval: float = 30  # seconds
    selectors: tuple[str, ...] = ("true",)


@dataclass(frozen=True)
class NetSettings:
    """Section `net`."""

    interface_name: str = "ngrokd0"
    subnet: str = "10.107.0.0/16"
    listen_interface: str = "virtual"
    start_port: int = 9080
    overrides: Mapping[str, str] = field(default_factory=dict)  # hostname: listen_interface
    hosts_file: str = "/etc/hosts"
    flush_resolver_cache: str = "auto"  # or off


@dataclass(frozen=True)
class ForwardSettings:
    """Section `forward`; times in seconds."""

    connect_timeout: float = 10
    half_close_timeout: float = 60
    idle_timeout: float = 0  # 0: never
    drain_timeout: float = 10
    max_connections: int = 0  # 0: what the descriptor limit allows
    warm_connections: str = "auto"  # "off", "auto" or a number in digits


@dataclass(frozen=True)
class Config:
    """The whole configuration."""

    api: ApiSettings = field(default_factory=ApiSettings)
    ingress_endpoint: str = ""  # `ingressEndpoint`; HOST:PORT once checked
    server: ServerSettings = field(default_factory=ServerSettings)
    bound_endpoints: PollSettings = field(default_factory=PollSettings)
    net: NetSettings = field(default_factory=NetSettings)
    forward: ForwardSettings = field(default_factory=ForwardSettings)

    @property
    def state_folder(self) -> Path:
        """Where what must survive a restart is kept: the folder of `server.client_cert`."""
        return Path(self.server.client_cert).parent
