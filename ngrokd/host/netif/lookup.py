"""What there is on this machine under an interface's name, whoever made it."""

from __future__ import annotations

from typing import Optional

from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import iproute
from ngrokd.host.netif.iproute import Held, Link


def find(name: str, run: Runner) -> Optional[Link]:
    """The interface of this name; None: there is none. Raises CommandError."""
    try:
        return iproute.link(run(iproute.show_link(name)))
    except CommandError as exc:
        if iproute.is_missing(exc.stderr):
            return None
        if not iproute.is_busybox(exc.stderr):
            raise
    try:
        return iproute.link_of_busybox(run(iproute.show_link_of_busybox(name)))
    except CommandError as exc:
        if iproute.is_missing(exc.stderr):
            return None
        raise


def held_by(name: str, run: Runner) -> list[Held]:
    """Its addresses of both families; none if there is no such interface. Raises CommandError."""
    try:
        answer = run(iproute.show_addresses_of(name))
    except CommandError as exc:
        if iproute.is_missing(exc.stderr):
            return []
        raise
    return iproute.held_addresses(answer)
