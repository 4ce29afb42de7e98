"""Acts when the machine wakes, its clock was set, or a network came."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Callable, Optional, Protocol

from ngrokd.clock import ClockWatch
from ngrokd.messages import JobDone, JobKind
from ngrokd.model import NetworkCame
from ngrokd.wake import Todo, Wake

LOOK_S = 2.0  # how often the clocks are compared
ASKING = frozenset({JobKind.ENROL, JobKind.POLL})

logger = logging.getLogger(__name__)


class Poller(Protocol):
    """The part of `poller.Poller` that is needed here."""

    def hasten(self) -> None: ...
    def look_again(self) -> None: ...
    @property
    def spacing_s(self) -> float: ...


class Forwarder(Protocol):
    """The part of `forward.forwarder.Forwarder` that is needed here."""

    def distrust_warm(self, addresses: Optional[frozenset[str]]) -> None: ...


@dataclass(frozen=True)
class Clocks:
    """Of this machine, unless a test has others."""

    wall: Callable[[], float] = time.time  # Unix seconds
    monotonic: Callable[[], float] = time.monotonic


class Waking:
    """Owner: main thread."""

    def __init__(
        self,
        poller: Poller,
        resolve: Callable[[], None],
        forwarder: Forwarder,
        clocks: Optional[Clocks] = None,
    ) -> None:
        """`resolve`: the ingress's name, again."""
        self._poller = poller
        self._resolve = resolve
        self._forwarder = forwarder
        self._clocks = clocks or Clocks()
        self._clock_watch = ClockWatch()
        self._wake = Wake()

    def tick(self) -> None:
        """Compares the clocks, and does what is due."""
        clocks = self._clocks
        jump_s = self._clock_watch.look(clocks.monotonic(), clocks.wall(), clocks.monotonic())
        if jump_s:
            self._wake.jumped(jump_s)
        todo = self._wake.due(clocks.monotonic(), self._poller.spacing_s)
        if todo is not None:
            self._act(todo)

    def wait_s(self, now: float) -> float:
        """Seconds until `tick` has something to do again."""
        return min(LOOK_S, self._wake.wait_s(now, self._poller.spacing_s))

    def came(self, network: NetworkCame) -> None:
        """A network came; what follows is done by `tick`."""
        self._wake.came(network, self._clocks.monotonic())

    def asked(self, kind: JobKind) -> None:
        """A job begins."""
        if kind in ASKING:
            self._wake.asked(self._clocks.monotonic())

    def answered(self, done: JobDone) -> None:
        """A job has ended."""
        if done.kind in ASKING:
            self._wake.answered(done.error)

    def _act(self, todo: Todo) -> None:
        asks = "; ngrok is asked at once" if todo.poll else ""
        logger.log(logging.INFO if todo.is_news else logging.DEBUG, "%s%s", todo.why, asks)
        if todo.poll:
            self._poller.look_again()
            self._poller.hasten()
        if todo.resolve:
            self._resolve()
        if todo.judge:
            self._forwarder.distrust_warm(todo.addresses)
