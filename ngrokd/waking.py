"""Acts when the machine wakes, its clock was set, or a network came."""

from __future__ import annotations

import logging
import time
from typing import Callable, Optional

from ngrokd.clock import ClockWatch
from ngrokd.messages import JobDone, JobKind
from ngrokd.model import NetworkCame
from ngrokd.wake import Todo, Wake

LOOK_S = 2.0  # how often the clocks are compared
ASKING = frozenset({JobKind.ENROL, JobKind.POLL})

Clocks = tuple[Callable[[], float], Callable[[], float]]  # wall (Unix seconds), monotonic

logger = logging.getLogger(__name__)


class Waking:
    """Owner: main thread."""

    def __init__(
        self,
        ask: Callable[[], bool],
        resolve: Callable[[], None],
        distrust: Callable[[Optional[frozenset[str]]], None],
        spacing_s: Callable[[], float],
        clocks: Clocks = (time.time, time.monotonic),
    ) -> None:
        """`ask`: judge the certificate's age and poll, both now; whether there is a key to do so.
        `resolve`: the ingress's name, again. `distrust`: warm connections from these addresses;
        `None`: all. `spacing_s`: what is between two polls while nothing fails."""
        self._ask = ask
        self._resolve = resolve
        self._distrust = distrust
        self._spacing_s = spacing_s
        self._wall, self._monotonic = clocks
        self._clock_watch = ClockWatch()
        self._wake = Wake()

    def tick(self) -> None:
        """Compares the clocks, and does what is due."""
        jump_s = self._clock_watch.look(self._monotonic(), self._wall(), self._monotonic())
        if jump_s:
            self._wake.jumped(jump_s)
        todo = self._wake.due(self._monotonic(), self._spacing_s())
        if todo is not None:
            self._act(todo)

    def wait_s(self, now: float) -> float:
        """Seconds until `tick` has something to do again."""
        return min(LOOK_S, self._wake.wait_s(now, self._spacing_s()))

    def came(self, network: NetworkCame) -> None:
        """A network came; what follows is done by `tick`."""
        self._wake.came(network, self._monotonic())

    def asked(self, kind: JobKind) -> None:
        """A job begins."""
        if kind in ASKING:
            self._wake.asked(self._monotonic())

    def answered(self, done: JobDone) -> None:
        """A job has ended."""
        if done.kind in ASKING:
            self._wake.answered(done.error)

    def _act(self, todo: Todo) -> None:
        asks = "; ngrok is asked at once" if todo.poll and self._ask() else ""
        logger.log(logging.INFO if todo.is_news else logging.DEBUG, "%s%s", todo.why, asks)
        if todo.resolve:
            self._resolve()
        if todo.judge:
            self._distrust(todo.addresses)
