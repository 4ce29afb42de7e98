"""The forwarding thread as other threads see it: what it is told, and what it tells."""

from __future__ import annotations

import functools
import ipaddress
import logging
import queue
import selectors
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Optional, TypeVar

from ngrokd.config import ForwardSettings
from ngrokd.forward.ledger import Snapshot
from ngrokd.forward.listener import Listener, SpareDescriptor
from ngrokd.forward.loop import Loop
from ngrokd.forward.pool import Pool
from ngrokd.forward.switchboard import Switchboard
from ngrokd.model import Address, Counters, Ingress, Route, Target

GLANCE_S = 0.5  # others ask behind whoever waits, some of whom have a second, as probes do
ANSWER_TIMEOUT_S = 5.0  # what another thread waits for this one, whose turns take milliseconds

Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)


class Forwarder:
    """Owner: main. Any thread may call what is noted so.

    What it holds belongs to the forward thread while that runs.
    """

    def __init__(
        self,
        settings: ForwardSettings,
        on_crash: Callable[[BaseException], None],
        make_selector: Callable[[], selectors.BaseSelector] = selectors.DefaultSelector,
    ) -> None:
        self._on_crash = on_crash
        self._loop = Loop(make_selector)
        self._board = Switchboard(self._loop, settings)
        self._pool = Pool(self._board)
        self._spare = SpareDescriptor()
        self._listeners: dict[Address, Listener] = {}
        self._thread: Optional[threading.Thread] = None
        self.last = Snapshot()  # any thread: what `snapshot` gave the last time
        self._still_since: Optional[float] = None  # any thread: the heartbeat when it told nothing
        self._closed = False  # what still comes is not taken any more

    # Main

    def start(self) -> None:
        """Start the thread. Once."""
        self._thread = threading.Thread(target=self._run, name="forward", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close everything and join the thread; twice is harmless."""
        thread = self._thread
        if thread is None:
            self._close_all()
            return
        self._loop.call_soon(self._stop_loop)
        thread.join(ANSWER_TIMEOUT_S)
        if thread.is_alive():
            logger.error("the forwarding thread does not stop; it ends with ngrokd itself")

    # Any thread: what counts from now on

    def set_ingress(self, ingress: Optional[Ingress]) -> None:
        """Where new connections go. `ValueError` for an address that would need resolving."""
        for address in ingress.addresses if ingress else ():
            ipaddress.ip_address(address.ip)
        self._loop.call_soon(functools.partial(self._set_ingress, ingress))

    def distrust_warm(self, addresses: Optional[frozenset[str]]) -> None:
        """The network is another for what was made from these addresses; `None`: from any."""
        self._loop.call_soon(functools.partial(self._pool.distrust, addresses))

    def configure(self, settings: ForwardSettings) -> None:
        """New settings, for new connections."""
        self._loop.call_soon(functools.partial(self._configure, settings))

    def add_listener(self, listening: socket.socket, route: Route) -> None:
        """Serve `route` on a bound and listening socket, which is ours from now on."""
        self._loop.call_soon(functools.partial(self._add_listener, listening, route))

    def retarget(self, address: Address, route: Route) -> None:
        """New connections to `address` take `route`."""
        self._loop.call_soon(functools.partial(self._retarget, address, route))

    # Any thread but forward: these wait for it, with a bound

    def remove_listeners(self, addresses: Iterable[Address]) -> None:
        """Return when these accept nobody any more; their running connections go on."""
        self._ask(functools.partial(self._remove_listeners, tuple(addresses)), None)

    def listening(self) -> Optional[frozenset[Address]]:
        """Where clients are accepted now; None if the forward thread does not answer."""
        return self._ask(self._addresses, None)

    def snapshot(self) -> Snapshot:
        """All its numbers at one moment."""
        self.last = self._ask(self._freeze, self.last)
        return self.last

    def glance(self) -> Snapshot:
        """As `snapshot`, but soon: a thread that stands still is waited for once, and not long."""
        beat = self._loop.heartbeat
        if beat != self._still_since:
            seen = self._answers_within(GLANCE_S, self._freeze)
            if seen:
                (self.last,) = seen
            else:
                self._still_since = beat
        return self.last

    def counters(self) -> dict[Target, Counters]:
        """What each target's connections did since start, running ones included."""
        return self.snapshot().counters

    def open_connections(self) -> int:
        """How many connections are open, opening ones included."""
        return self.snapshot().open

    # Any thread

    def when_idle(self, done: Callable[[], None]) -> None:
        """`done` is called once no connection is open: on the forward thread, while that runs."""
        if self._alive():
            self._loop.call_soon(lambda: self._board.when_empty(done))
        else:
            done()

    def verdicts(self) -> tuple[int, int, int]:
        """How often the ingress's certificate was verified, refused, and not even reached."""
        board = self._board
        return board.verified, board.distrusted, board.unreached

    def heartbeat(self) -> float:
        """`time.monotonic()` of the loop's last turn."""
        return self._loop.heartbeat

    # How other threads get an answer

    def _alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _ask(self, call: Callable[[], Answer], otherwise: Answer) -> Answer:
        """What `call` gives on the forward thread; `otherwise` if that does not answer."""
        answers = self._answers_within(ANSWER_TIMEOUT_S, call)
        if not answers:
            logger.error("the forwarding thread has not answered for %g s", ANSWER_TIMEOUT_S)
        return answers[0] if answers else otherwise

    def _answers_within(self, seconds: float, call: Callable[[], Answer]) -> tuple[Answer, ...]:
        """The answer, or none."""
        if not self._alive():
            return (call(),)  # what it owned is nobody's now
        answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._loop.call_soon(lambda: answers.put(call()))
        try:
            return (answers.get(timeout=seconds),)
        except queue.Empty:
            return ()

    # The forward thread

    def _run(self) -> None:
        try:
            with ExitStack() as stack:
                stack.callback(self._spare.release)
                self._spare.take()
                self._loop.run()
        except BaseException as exc:
            logger.critical("the forwarding thread crashed", exc_info=exc)
            with ExitStack() as stack:
                stack.callback(self._on_crash, exc)
                stack.callback(self._loop.retire)
                self._close_all()
        else:
            self._loop.retire()

    def _stop_loop(self) -> None:
        self._close_all()
        self._loop.stop()

    def _close_all(self) -> None:
        self._closed = True
        self._remove_listeners(tuple(self._listeners))
        self._pool.close()
        for connection in list(self._board.connections):
            connection.abandon()

    def _freeze(self) -> Snapshot:
        self._settle()
        return self._board.ledger.freeze(self._pool.status())

    def _set_ingress(self, ingress: Optional[Ingress]) -> None:
        is_another = self._board.set_ingress(ingress)
        self._pool.serve(ingress, is_another)

    def _configure(self, settings: ForwardSettings) -> None:
        self._board.settings = settings
        self._pool.configure(settings.warm_connections)

    def _add_listener(self, listening: socket.socket, route: Route) -> None:
        if self._closed:
            listening.close()
            return
        try:
            listener = Listener(listening, route, self._board, self._pool, self._spare)
        except OSError as exc:  # epoll_ctl(2): no memory, or the user's watches are used up
            logger.error("%s cannot be listened on: %s", route.target, exc.strerror)
            listening.close()
            return
        self._listeners[listener.address] = listener
        self._count_listeners()

    def _addresses(self) -> Optional[frozenset[Address]]:
        return frozenset(self._listeners)

    def _retarget(self, address: Address, route: Route) -> None:
        listener = self._listeners.get(address)
        if listener is None:
            logger.error("nothing listens on %s, which was to serve %s", address, route.target)
        else:
            listener.route = route

    def _remove_listeners(self, addresses: tuple[Address, ...]) -> None:
        for address in addresses:
            listener = self._listeners.pop(address, None)
            if listener is not None:
                listener.close()
        self._settle()
        self._count_listeners()

    def _settle(self) -> None:
        served = {listener.target for listener in self._listeners.values()}
        self._board.ledger.settle(served, self._loop.now)

    def _count_listeners(self) -> None:
        self._board.listeners = len(self._listeners)
        self._pool.tend_soon()  # without a listener nobody will come
