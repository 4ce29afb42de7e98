"""One listening socket: accepts its target's clients, and copes when there is no room for them."""

from __future__ import annotations

import logging
import os
import socket
from typing import Optional

from ngrokd.forward import sockets
from ngrokd.forward.connection import Connection
from ngrokd.forward.faults import exhausted
from ngrokd.forward.interest import READ
from ngrokd.forward.opening import Opening
from ngrokd.forward.pool import Pool
from ngrokd.forward.switchboard import Switchboard
from ngrokd.model import Address, Cause, Failure, Route, Target

ACCEPTS_PER_TURN = 32  # so that a flood of clients leaves time for those already here
PAUSE_S = 0.1  # without descriptors or memory; clients meanwhile wait in the kernel's queue

NO_INGRESS = Failure(
    Cause.NO_INGRESS,
    "no ingress is known yet to carry the connection: `ngrokctl status` shows what ngrokd waits "
    "for",
)

LOOPBACK, LOOPBACK_RANGE = "127.0.0.1", "127."
FOREIGN = (
    "turned away {}, another machine or a container: {} is for this machine's own programs. To "
    "serve others, set net.listen_interface, or net.overrides for this hostname"
)

logger = logging.getLogger(__name__)


class SpareDescriptor:
    """A descriptor kept back to turn a client away with when none is left. Owner: forward.

    Without it the client could not even be accepted, and its listener would be ready for ever.
    """

    def __init__(self) -> None:
        self._fd: Optional[int] = None

    def take(self) -> None:
        """Have it in reserve, if the kernel has one."""
        if self._fd is None:
            try:
                self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as exc:
                if exc.errno not in sockets.NO_DESCRIPTOR:
                    raise  # else: the next call may find one

    def release(self) -> None:
        """Give it back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Listener:
    """Owner: forward. `route` may change; it counts for the next client."""

    def __init__(
        self,
        sock: socket.socket,
        route: Route,
        board: Switchboard,
        pool: Pool,
        spare: SpareDescriptor,
    ) -> None:
        self.route = route
        name = sock.getsockname()
        self.address = Address(name[0], name[1])
        # What the kernel gives a client of this machine that binds to none: the address that it
        # connects to; in the loopback range the first one of all.
        self._usual = LOOPBACK if name[0].startswith(LOOPBACK_RANGE) else name[0]
        self._sock = sock
        self._board = board
        self._pool = pool
        self._spare = spare
        sock.setblocking(False)
        self._listen()

    @property
    def target(self) -> Target:
        """Whose clients come."""
        return self.route.target

    def close(self) -> None:
        """Accept nobody any more."""
        self._board.loop.give_up(self._sock)

    def on_ready(self, fd: int, events: int) -> None:
        """Clients wait."""
        for _ in range(ACCEPTS_PER_TURN):
            try:
                client, peer = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in sockets.ACCEPT_AGAIN:
                    continue
                if exc.errno not in sockets.NO_DESCRIPTOR | sockets.NO_MEMORY:
                    raise
                self._no_room(exc)
                return
            if peer[0] == self._usual or self.route.exposed or self._admits(client, peer[0]):
                self._welcome(client)

    def on_timer(self) -> None:
        """The pause is over."""
        if self._sock.fileno() >= 0:
            self._spare.take()
            self._listen()

    def on_fault(self, fault: Exception) -> None:
        """Something nobody expected: it is said, and the listener tries again after a pause."""
        failure = Failure(Cause.INTERNAL_ERROR, f"listener {self.address}: {fault!r}")
        self._board.failed(self.target, failure, fault)
        self._pause()

    def _listen(self) -> None:
        self._board.loop.watch(self._sock.fileno(), READ, self)

    def _pause(self) -> None:
        self._board.loop.unwatch(self._sock.fileno())
        self._board.loop.call_at(self._board.loop.now + PAUSE_S, self)

    def _admits(self, client: socket.socket, ip: str) -> bool:
        """Whether the client is a program of this machine; else it is turned away.

        The kernel takes a packet to any of this machine's addresses from any interface (the weak
        host model of RFC 1122, 3.3.4.2): a neighbour or a container with a route to our subnet
        gets here, too. One that claims an address of ours has been dropped on its way in.
        """
        try:
            if sockets.is_of_this_machine(ip):
                return True
            failure = Failure(Cause.FOREIGN_CLIENT, FOREIGN.format(ip, self.address))
        except OSError as exc:
            why = exhausted(exc)
            text = f"a client was turned away because {why.text}"
            failure = Failure(why.cause, text)
        self._board.ledger.of(self.target).total += 1
        try:
            sockets.reset_on_close(client)
        except OSError as exc:  # macOS: EINVAL for a client that has already left
            logger.debug("%s: %s has left: %s", self.address, ip, exc)
        self._turn_away(client, failure)
        return False

    def _welcome(self, client: socket.socket) -> None:
        self._board.ledger.of(self.target).total += 1
        limit = self._board.limit()
        ingress = self._board.ingress
        if len(self._board.connections) >= limit:
            set_by = (
                "`forward.max_connections`"
                if self._board.settings.max_connections == limit
                else "what the limit of open files allows: `ulimit -n`, LimitNOFILE"
            )
            text = f"turned away: {limit} connections are open ({set_by})"
            self._turn_away(client, Failure(Cause.CONNECTION_LIMIT, text))
        elif ingress is None:
            self._turn_away(client, NO_INGRESS)
        else:
            try:
                sockets.prepare(client)
            except OSError as exc:  # macOS: EINVAL for a client that has already left
                client.close()
                failure = Failure(Cause.CLIENT_LEFT, f"the client left at once: {exc}")
                self._board.ledger.of(self.target).fail(failure)
                return
            opening = Opening(client, Connection(self.route, self._board), ingress, self._pool)
            self._board.loop.guard(opening.begin, opening)

    def _turn_away(self, client: socket.socket, failure: Failure) -> None:
        client.close()
        self._board.failed(self.target, failure)

    def _no_room(self, fault: OSError) -> None:
        """Turn one client away with the descriptor kept for it, and let others finish.

        Warm connections go first: there may be room for the clients who wait now.
        """
        self._pool.shed()
        self._spare.release()
        try:
            client, _address = self._sock.accept()
        except OSError:
            logger.debug("%s: %s, and the client has left", self.address, fault)
        else:
            self._board.ledger.of(self.target).total += 1
            why = exhausted(fault)
            text = f"a client was turned away because {why.text}"
            self._turn_away(client, Failure(why.cause, text))
        self._spare.take()
        self._pause()
