"""Which endpoints other hosts can reach, and how that is told. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping

from ngrokd.model import Address, Target
from ngrokd.reconcile.plan import Listeners

SHOWN = 5  # names in one line; `ngrokctl list` has all

Exposed = Mapping[Target, Address]


def exposed(listeners: Listeners, own_ips: Collection[str]) -> Exposed:
    """What listens on an address that is neither of `own_ips` nor of the loopback range."""
    ips = {at.ip for at in listeners} - set(own_ips)
    open_ips = {ip for ip in ips if not ipaddress.ip_address(ip).is_loopback}
    return {route.target: at for at, route in listeners.items() if at.ip in open_ips}


def warning(before: Exposed, now: Exposed) -> str:
    """Names what can be reached newly, or elsewhere; "": nothing."""
    new = {target: at for target, at in now.items() if before.get(target) != at}
    if not new:
        return ""
    return f"other hosts can reach {_named(new)}: net.listen_interface and net.overrides say so"


def note(now: Exposed) -> str:
    """For the status; "": nothing is exposed."""
    return f"other hosts can reach {_named(now)}" if now else ""


def _named(found: Exposed) -> str:
    first = sorted(found.items())[:SHOWN]
    names = ", ".join(f"{target} on {at}" for target, at in first)
    more = f" and {len(found) - len(first)} more" if len(found) > len(first) else ""
    return names + more
