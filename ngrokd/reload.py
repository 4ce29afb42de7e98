"""What a new configuration changes in a running daemon, and what needs a restart. Pure."""

from __future__ import annotations

import dataclasses

from ngrokd.config import Config, NetSettings, ServerSettings

# Everything else is taken up while running.
RESTART_SERVER = frozenset(
    {
        "socket_path",
        "socket_group",
        "pid_file",
        "client_cert",
        "client_key",
    }
)
RESTART_NET = frozenset(
    {"interface_name", "subnet", "hosts_file", "flush_resolver_cache"}
)


def effective(old: Config, new: Config) -> Config:
    """`new`, but with the old value of what needs a restart."""
    server: ServerSettings = dataclasses.replace(
        new.server, **{name: getattr(old.server, name) for name in RESTART_SERVER}
    )
    net: NetSettings = dataclasses.replace(
        new.net, **{name: getattr(old.net, name) for name in RESTART_NET}
    )
    return dataclasses.replace(new, server=server, net=net)


def needs_restart(key: str) -> bool:
    """Whether the dotted configuration key cannot change while running."""
    section, _, name = key.partition(".")
    return (section == "server" and name in RESTART_SERVER) or (
        section == "net" and name in RESTART_NET
    )
