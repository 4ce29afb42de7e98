"""A connection to the ingress before it carries a client's bytes: handshaked, asked, left."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Optional

from ngrokd.errors import ProtocolError
from ngrokd.forward.bare import bare
from ngrokd.forward.leg import Leg, LegLost
from ngrokd.forward.tls import STEP_BYTES
from ngrokd.forward.tunnel import EMPTY, Tunnel
from ngrokd.model import Address, Ingress


@dataclass
class Uplink:
    """A connection that has shaken hands with the ingress. Owner: forward, who holds it.

    Its handshake's last bytes may still wait in the tunnel, to go out with the request.
    """

    tunnel: Tunnel
    leg: Leg
    ingress: Ingress
    address: Address
    since: float  # monotonic
    deadline: float  # monotonic; what is left of its attempt's time

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it. LegLost."""
        flush(self.tunnel, self.leg)

    def receive(self, raw: memoryview) -> memoryview:
        """Take a step of what has come; what of it is the client's. As `receive` below."""
        return receive(self.tunnel, self.leg, raw)

    def leave(self) -> None:
        """Close, and tell the ingress why, if it still listens."""
        leave(self.tunnel, self.leg)


def flush(tunnel: Tunnel, leg: Leg) -> int:
    """Send what waits for the ingress until the socket takes no more; how many bytes. LegLost."""
    backlog = tunnel.to_remote
    total = 0
    while backlog:
        offered = backlog.first()
        count = leg.send(offered)
        backlog.sent(count)
        total += count
        if count < len(offered):
            break
    return total


def leave(tunnel: Optional[Tunnel], leg: Leg) -> None:
    """Close, and tell the ingress why, if it still listens. `None`: TLS has not begun."""
    try:
        if tunnel is not None:
            flush(tunnel, leg)
    except LegLost:
        return  # it does not, and what brought us here is already known
    finally:
        leg.give_up()


def receive(tunnel: Tunnel, leg: Leg, raw: memoryview) -> memoryview:
    """Take at most STEP_BYTES of what has come. LegLost, ssl.SSLError, ProtocolError."""
    count = leg.receive_into(raw[:STEP_BYTES])
    return EMPTY if count is None else tunnel.receive_remote(raw[:count])


def last_words(lost: LegLost, tunnel: Tunnel, raw: memoryview) -> Exception:
    """The better reason for a lost ingress: what it said before it left.

    A failed write comes before the alert or answer that has already arrived is read. What is read
    here goes the usual way into the tunnel, to be sent with what waits.
    """
    try:
        count = lost.leg.receive_into(raw[:STEP_BYTES])
        if count:  # 0 is no end: the fault has been taken off the socket
            tunnel.to_local.put(tunnel.receive_remote(raw[:count]))
    except LegLost:
        return lost.fault
    except (ssl.SSLError, ProtocolError) as better:
        return bare(better)
    return lost.fault
