"""The event loop of the forwarding thread: sockets, timers and calls from other threads.

Theory of operation. One turn: wait for the poller (until the next timer, a call from elsewhere, or
HEARTBEAT_S), run the calls, hand each ready descriptor to its participant, run the timers that are
due.

- epoll and poll are used directly, not through `selectors`: a descriptor that is waited for with no
  bits at all still reports a reset, which is how a client that gives up while its tunnel is being
  made is noticed. `selectors` refuses such a registration.
- A descriptor closed during a turn may be taken by a new socket while an event of the old one is
  still in this turn's list. So an event is delivered only to who was watching when it was reported.
- An exception out of a participant goes to that participant's `on_fault`; it ends one connection.
  An exception out of a call or out of `on_fault` itself is a bug of ours and ends the loop.
"""

from __future__ import annotations

import errno
import functools
import heapq
import itertools
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Optional, Protocol

from ngrokd.forward.interest import READ

HEARTBEAT_S = 1.0  # the loop turns at least this often
WAKE_BYTES = 4096  # read from the wake-up socket at once
TIMERS_KEPT = 256  # cancelled timers are swept out once they are this many and the majority


class Poller(Protocol):
    """What epoll and poll objects have in common, except for the unit of the timeout."""

    def register(self, fd: int, eventmask: int) -> None: ...

    def modify(self, fd: int, eventmask: int) -> None: ...

    def unregister(self, fd: int) -> None: ...

    def poll(self, timeout: float) -> list[tuple[int, int]]: ...


class Participant(Protocol):
    """Something the loop calls. Owner: forward."""

    def on_ready(self, fd: int, events: int) -> None:
        """`fd` is ready as `events` says; may be stale, so EAGAIN is no surprise."""

    def on_timer(self) -> None:
        """The time is up that was asked for last."""

    def on_fault(self, fault: Exception) -> None:
        """`on_ready` or `on_timer` raised this."""


class Timer:
    """A call at a time, until cancelled. Owner: forward."""

    def __init__(self, participant: Participant, cancelled: Callable[[], None]) -> None:
        self.participant: Optional[Participant] = participant
        self._cancelled = cancelled

    def cancel(self) -> None:
        """Do not call; harmless when it has been called or cancelled."""
        if self.participant is not None:
            self.participant = None
            self._cancelled()


class Loop:
    """Owner: the thread in `run`. Any thread: `call_soon`, `stop`, `heartbeat`."""

    def __init__(self, epoll: bool = hasattr(select, "epoll")) -> None:
        self._epoll = epoll
        self._participants: dict[int, Participant] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_numbers = itertools.count()
        self._timers_cancelled = 0
        self._waker: Optional[socket.socket] = None
        self._running = True
        self.now = time.monotonic()  # of this turn
        self.heartbeat = self.now  # any thread may read it

    # Any thread

    def call_soon(self, call: Callable[[], None]) -> None:
        """Run `call` on the loop's thread, in order. Kept for later if the loop is not open yet."""
        self._calls.append(call)
        self._wake()

    def stop(self) -> None:
        """Leave `run` after this turn."""
        self._running = False
        self._wake()

    def _wake(self) -> None:
        waker = self._waker
        if waker is None:
            return
        try:
            waker.send(b"\0")
        except BlockingIOError:
            return  # enough wake-ups are waiting already
        except OSError as exc:
            if exc.errno != errno.EBADF:
                raise  # else: the loop has ended just now, and nobody runs what was called

    # The loop's thread

    def watch(self, fd: int, events: int, participant: Participant) -> None:
        """Wait for `events` on `fd` (0: only for a reset), in place of what was waited for."""
        if fd in self._participants:
            self._poller.modify(fd, events)
        else:
            self._poller.register(fd, events)
        self._participants[fd] = participant

    def unwatch(self, fd: int) -> None:
        """Wait for nothing on `fd`; harmless when nothing was."""
        if self._participants.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def give_up(self, sock: socket.socket) -> None:
        """Unwatch and close `sock`; twice is harmless."""
        self.unwatch(sock.fileno())
        sock.close()

    def call_at(self, when: float, participant: Participant) -> Timer:
        """Call `participant.on_timer` at the monotonic time `when`."""
        timer = Timer(participant, self._count_cancelled)
        heapq.heappush(self._timers, (when, next(self._timer_numbers), timer))
        return timer

    def guard(self, call: Callable[[], None], participant: Participant) -> None:
        """Call something of `participant`'s; what goes wrong there is its own affair."""
        try:
            call()
        except Exception as exc:  # noqa: BLE001 - the boundary: a fault ends one connection
            participant.on_fault(exc)

    def run(self) -> None:
        """Turn until `stop`. Makes the descriptors it needs, and closes them."""
        with ExitStack() as stack:
            self._poller = self._open_poller(stack)
            sleeper, self._waker = socket.socketpair()
            stack.callback(self._participants.clear)  # nothing to unregister any more
            stack.callback(self._sleep_for_ever)
            stack.callback(sleeper.close)
            sleeper.setblocking(False)
            self._waker.setblocking(False)
            self.watch(sleeper.fileno(), READ, _Sleeper(sleeper))
            while self._running:
                self._turn()

    def _turn(self) -> None:
        ready = [
            (self._participants.get(fd), fd, events)
            for fd, events in self._poller.poll(self._time_to_wait())
        ]
        self.now = self.heartbeat = time.monotonic()
        # The calls come first: what was called before a client came holds for that client.
        for _ in range(len(self._calls)):
            self._calls.popleft()()
        for participant, fd, events in ready:
            if participant is None or self._participants.get(fd) is not participant:
                continue  # given up earlier in this turn
            self.guard(functools.partial(participant.on_ready, fd, events), participant)
        self._run_timers()

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self.now:
            timer = heapq.heappop(self._timers)[2]
            participant, timer.participant = timer.participant, None
            if participant is None:
                self._timers_cancelled -= 1
                continue
            self.guard(participant.on_timer, participant)

    def _open_poller(self, stack: ExitStack) -> Poller:
        if not self._epoll:
            return select.poll()
        poller = select.epoll()
        stack.callback(poller.close)
        return poller

    def _time_to_wait(self) -> float:
        """In the poller's unit: seconds for epoll, milliseconds for poll."""
        seconds = 0.0 if self._calls else HEARTBEAT_S
        if self._timers:
            seconds = min(max(self._timers[0][0] - time.monotonic(), 0.0), seconds)
        return seconds if self._epoll else seconds * 1000

    def _count_cancelled(self) -> None:
        """Sweep, so that a long idle timeout does not keep a timer for every past connection."""
        self._timers_cancelled += 1
        if self._timers_cancelled > max(TIMERS_KEPT, len(self._timers) // 2):
            self._timers = [entry for entry in self._timers if entry[2].participant is not None]
            heapq.heapify(self._timers)
            self._timers_cancelled = 0

    def _sleep_for_ever(self) -> None:
        waker, self._waker = self._waker, None
        if waker is not None:
            waker.close()


class _Sleeper:
    """The end of the wake-up socket that the loop waits on. Owner: forward."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def on_ready(self, fd: int, events: int) -> None:
        self._sock.recv(WAKE_BYTES)  # what is left wakes the next turn

    def on_timer(self) -> None:
        raise AssertionError("the wake-up socket asks for no timer")

    def on_fault(self, fault: Exception) -> None:
        raise fault  # without it no other thread is heard: that is the end of the loop
