"""The event loop of the forwarding thread: sockets, timers and calls from other threads.

Theory of operation. One turn: wait for the selector (until the next timer, a call from elsewhere,
or HEARTBEAT_S), run the calls, hand each ready descriptor to its participant, run the timers that
are due.

- What is waited for with no bits is not registered, so nobody hears of a reset there: who wants to
  know must wait for READ, or ask the socket now and then.
- A descriptor closed during a turn may be taken by a new socket while an event of the old one is
  still in this turn's list (kqueue lists READ and WRITE apart, so it may even be the next one, and
  of the same participant). So what comes for a number given up in this turn is not delivered; what
  was really ready on the new socket is reported again at the next turn.
- An exception out of a participant goes to that participant's `on_fault`; it ends one connection.
  An exception out of a call or out of `on_fault` itself is a bug of ours and ends the loop.
- Calls outlive the loop: what it left, and what is called after it, is run by `retire` and then by
  whoever calls. No lock: a caller queues, then looks at `retired`; `retire` sets that, then empties
  the queue. So one of the two sees the call, and taking it out of the queue decides who runs it.
  Another thread may be about to write to the wake-up socket at any time, so the loop only lets go
  of it: whoever does so last closes it, and the number cannot be somebody else's by then.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Optional, Protocol

from ngrokd.forward.interest import READ
from ngrokd.forward.waker import Waker

HEARTBEAT_S = 1.0  # the loop turns at least this often
WAKE_BYTES = 4096  # read from the wake-up socket at once
HEAVY_A_TURN = 8  # steps of half a millisecond or so, for all of which a small request may wait
HEAVY_PART = 64  # of what is ready: who is put off is looked at again at every turn
TIMERS_KEPT = 256  # cancelled timers are swept out once they are this many and the majority


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

    __slots__ = ("_cancelled", "participant")

    def __init__(self, participant: Participant, cancelled: Callable[[], None]) -> None:
        self.participant: Optional[Participant] = participant
        self._cancelled = cancelled

    def cancel(self) -> None:
        """Do not call; harmless when it has been called or cancelled."""
        if self.participant is not None:
            self.participant = None
            self._cancelled()


class Loop:
    """Owner: the thread in `run`. Any thread: `call_soon`, `stop`, `heartbeat`, `retired`."""

    def __init__(
        self, make_selector: Callable[[], selectors.BaseSelector] = selectors.DefaultSelector
    ) -> None:
        self._make_selector = make_selector
        self._participants: dict[int, Participant] = {}  # by the numbers the selector knows
        self._given_up: set[int] = set()  # numbers closed in this turn
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_numbers = itertools.count()
        self._timers_cancelled = 0
        self._waker: Optional[Waker] = None
        self._running = True
        self.retired = False  # every thread runs its calls itself
        self.now = time.monotonic()  # of this turn
        self.date = time.time()  # of this turn, Unix seconds
        self.heartbeat = self.now  # any thread may read it
        self.load = 0  # how many descriptors are ready in this turn
        self.heavy_left = HEAVY_A_TURN

    # Any thread

    def call_soon(self, call: Callable[[], None]) -> None:
        """Run `call` on the loop's thread, in order. Kept for later if the loop is not open yet.

        Once the loop is retired, it has been run when this returns, or another thread is at it.
        """
        self._calls.append(call)
        if self.retired:
            self._run_calls_left()
        else:
            self._wake()

    def stop(self) -> None:
        """Leave `run` after this turn."""
        self._running = False
        self._wake()

    def _wake(self) -> None:
        waker = self._waker
        if waker is not None:
            waker.wake()

    def _run_calls_left(self) -> None:
        while True:
            try:
                call = self._calls.popleft()
            except IndexError:
                return
            call()

    # The loop's thread

    def watch(self, fd: int, events: int, participant: Participant) -> None:
        """Wait for `events` (not 0) on `fd`, in place of what was waited for."""
        if fd in self._participants:
            self._selector.modify(fd, events)
        else:
            self._selector.register(fd, events)
        self._participants[fd] = participant

    def hand_over(self, fd: int, participant: Participant) -> None:
        """What is waited for on `fd` is another one's from now on."""
        self._participants[fd] = participant

    def unwatch(self, fd: int) -> None:
        """Wait for nothing on `fd`; harmless when nothing was."""
        if self._participants.pop(fd, None) is not None:
            self._selector.unregister(fd)

    def give_up(self, sock: socket.socket) -> None:
        """Unwatch and close `sock`; twice is harmless."""
        fd = sock.fileno()
        self.unwatch(fd)
        self._given_up.add(fd)
        sock.close()

    def call_at(self, when: float, participant: Participant) -> Timer:
        """Call `participant.on_timer` at the monotonic time `when`."""
        timer = Timer(participant, self._count_cancelled)
        heapq.heappush(self._timers, (when, next(self._timer_numbers), timer))
        return timer

    def may_do_heavy(self) -> bool:
        """Whether this turn has room for one more step of half a millisecond.

        Who is told no leaves the event as it is: it is reported again at the next turn.
        """
        self.heavy_left -= 1
        return self.heavy_left >= 0

    def guard(self, call: Callable[[], None], participant: Participant) -> None:
        """Call something of `participant`'s; what goes wrong there is its own affair."""
        try:
            call()
        except Exception as exc:  # noqa: BLE001 - the boundary: a fault ends one connection
            participant.on_fault(exc)

    def run(self) -> None:
        """Turn until `stop`. Makes the descriptors it needs, and closes them."""
        with ExitStack() as stack:
            self._selector = stack.enter_context(self._make_selector())
            sleeper, waker = socket.socketpair()
            stack.callback(self._participants.clear)  # nothing to unregister any more
            stack.callback(sleeper.close)
            stack.callback(setattr, self, "_waker", None)
            sleeper.setblocking(False)
            self._waker = Waker(waker)
            del waker
            self.watch(sleeper.fileno(), READ, _Sleeper(sleeper))
            while self._running:
                self._turn()

    def retire(self) -> None:
        """After `run`, once everything that calls may touch belongs to no thread any more."""
        self.retired = True
        self._run_calls_left()

    def _turn(self) -> None:
        self._given_up.clear()
        ready = self._selector.select(self._time_to_wait())
        self.now = self.heartbeat = time.monotonic()
        self.date = time.time()
        self.load = len(ready)
        self.heavy_left = max(HEAVY_A_TURN, self.load // HEAVY_PART)
        # The calls come first: what was called before a client came holds for that client.
        for _ in range(len(self._calls)):
            self._calls.popleft()()
        for key, events in ready:
            fd = key.fd
            participant = self._participants.get(fd)
            if participant is None or fd in self._given_up:
                continue  # nobody waits any more, or somebody who knows nothing of the old socket
            try:
                participant.on_ready(fd, events)
            except Exception as exc:  # noqa: BLE001 - as in `guard`, which costs a closure
                participant.on_fault(exc)
        self._run_timers()

    def _run_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self.now:
            timer = heapq.heappop(self._timers)[2]
            participant, timer.participant = timer.participant, None
            if participant is None:
                self._timers_cancelled -= 1
                continue
            self.guard(participant.on_timer, participant)

    def _time_to_wait(self) -> float:
        """Seconds until there is something to do even if no descriptor is ready."""
        seconds = 0.0 if self._calls else HEARTBEAT_S
        if self._timers:
            seconds = min(max(self._timers[0][0] - time.monotonic(), 0.0), seconds)
        return seconds

    def _count_cancelled(self) -> None:
        """Sweep, so that a long idle timeout does not keep a timer for every past connection."""
        self._timers_cancelled += 1
        if self._timers_cancelled > max(TIMERS_KEPT, len(self._timers) // 2):
            self._timers = [entry for entry in self._timers if entry[2].participant is not None]
            heapq.heapify(self._timers)
            self._timers_cancelled = 0


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
