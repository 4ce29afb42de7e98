"""The event loop: descriptors, timers and calls from other threads."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Optional

import pytest

from ngrokd.forward.interest import READ, WRITE
from ngrokd.forward.loop import HEARTBEAT_S, TIMERS_KEPT, Loop
from tests.fair import Stopwatch
from tests.macos.kqueue import KqueueLike

TIMEOUT_S = 10.0


class Recorder:
    """A participant that writes down what it is called with, and may do more. Owner: forward."""

    def __init__(self, also: Optional[Callable[[], None]] = None) -> None:
        self.ready: list[tuple[int, int]] = []
        self.timers = 0
        self.faults: list[Exception] = []
        self.called = threading.Event()
        self._also = also or (lambda: None)

    def on_ready(self, fd: int, events: int) -> None:
        self.ready.append((fd, events))
        self.called.set()
        self._also()

    def on_timer(self) -> None:
        self.timers += 1
        self.called.set()
        self._also()

    def on_fault(self, fault: Exception) -> None:
        self.faults.append(fault)


SELECTORS = [
    selectors.DefaultSelector,
    selectors.PollSelector,
    selectors.SelectSelector,
    KqueueLike,
]


@pytest.fixture(params=SELECTORS, ids=lambda made: str(made.__name__))
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    made = Loop(request.param)
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.stop()
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def on_loop(loop: Loop, call: Callable[[], object]) -> None:
    """Run `call` there, and wait until it has."""
    done = threading.Event()
    loop.call_soon(lambda: (call(), done.set())[1])  # type: ignore[func-returns-value]
    assert done.wait(TIMEOUT_S)


def test_interest_is_said_in_the_bits_of_the_standard_library() -> None:
    assert (READ, WRITE) == (selectors.EVENT_READ, selectors.EVENT_WRITE)


def test_a_call_from_another_thread_is_run_at_once_and_in_order(loop: Loop) -> None:
    seen: list[int] = []
    watch = Stopwatch()
    for number in range(1000):
        loop.call_soon(lambda number=number: seen.append(number))  # type: ignore[misc]
    on_loop(loop, lambda: None)

    assert seen == list(range(1000))
    assert watch.own() < HEARTBEAT_S / 2


def test_calls_made_before_the_loop_runs_are_kept() -> None:
    loop = Loop()
    seen: list[str] = []
    loop.call_soon(lambda: seen.append("early"))
    loop.call_soon(loop.stop)

    loop.run()

    assert seen == ["early"]


def test_a_ready_descriptor_is_reported(
    loop: Loop, sockets: tuple[socket.socket, socket.socket]
) -> None:
    one, other = sockets
    seen = Recorder(lambda: loop.unwatch(one.fileno()))
    on_loop(loop, lambda: loop.watch(one.fileno(), READ, seen))
    other.send(b"x")

    assert seen.called.wait(TIMEOUT_S)
    assert seen.ready == [(one.fileno(), READ)]


def test_what_is_watched_can_be_changed(
    loop: Loop, sockets: tuple[socket.socket, socket.socket]
) -> None:
    one, _ = sockets
    seen = Recorder(lambda: loop.unwatch(one.fileno()))
    on_loop(loop, lambda: loop.watch(one.fileno(), READ, seen))
    on_loop(loop, lambda: loop.watch(one.fileno(), READ | WRITE, seen))

    assert seen.called.wait(TIMEOUT_S)
    assert seen.ready == [(one.fileno(), WRITE)]


@pytest.mark.parametrize("interest", [READ, WRITE, READ | WRITE])
def test_a_reset_is_reported_to_who_waits_for_anything(loop: Loop, interest: int) -> None:
    with reset_connection() as accepted:
        seen = Recorder(lambda: loop.unwatch(accepted.fileno()))
        on_loop(loop, lambda: loop.watch(accepted.fileno(), interest, seen))

        assert seen.called.wait(TIMEOUT_S)
        # kqueue tells one after the other, and nobody waits for the second any more.
        is_first = loop._make_selector is KqueueLike and interest & READ
        assert seen.ready == [(accepted.fileno(), READ if is_first else interest)]


def test_who_waits_for_nothing_any_more_is_not_called_and_costs_no_turn(loop: Loop) -> None:
    with reset_connection() as accepted:
        seen = Recorder()

        def come_and_go() -> None:
            loop.watch(accepted.fileno(), READ, seen)
            loop.unwatch(accepted.fileno())
            loop.unwatch(accepted.fileno())

        on_loop(loop, come_and_go)
        beat = loop.heartbeat
        threading.Event().wait(0.1)  # thousands of turns, if it spins

        assert loop.heartbeat - beat < 0.05
        assert seen.ready == []


@contextlib.contextmanager
def reset_connection() -> Iterator[socket.socket]:
    """Our end of a connection that its peer has reset."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with accepted:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
            yield accepted


def test_timers_run_in_the_order_of_their_times(loop: Loop) -> None:
    seen: list[str] = []
    last = Recorder(lambda: seen.append("late"))

    def arm() -> None:
        loop.call_at(loop.now + 0.05, last)
        loop.call_at(loop.now + 0.02, Recorder(lambda: seen.append("early")))

    on_loop(loop, arm)

    assert last.called.wait(TIMEOUT_S)
    assert seen == ["early", "late"]


def test_a_cancelled_timer_does_not_run(loop: Loop) -> None:
    cancelled, last = Recorder(), Recorder()

    def arm() -> None:
        timer = loop.call_at(loop.now + 0.01, cancelled)
        loop.call_at(loop.now + 0.05, last)
        timer.cancel()
        timer.cancel()

    on_loop(loop, arm)

    assert last.called.wait(TIMEOUT_S)
    assert cancelled.timers == 0


def test_cancelled_timers_are_not_kept_for_ever(loop: Loop) -> None:
    def churn() -> None:
        for _ in range(10 * TIMERS_KEPT):
            loop.call_at(loop.now + 3600, Recorder()).cancel()

    on_loop(loop, churn)

    assert len(loop._timers) <= TIMERS_KEPT + 1


def test_a_fault_of_one_participant_leaves_the_others_alone(
    loop: Loop, sockets: tuple[socket.socket, socket.socket]
) -> None:
    one, other = sockets

    def fail() -> None:
        loop.unwatch(one.fileno())
        raise ValueError("a bug")

    bad, good = Recorder(fail), Recorder()
    on_loop(loop, lambda: loop.watch(one.fileno(), READ, bad))
    other.send(b"x")
    assert bad.called.wait(TIMEOUT_S)
    on_loop(loop, lambda: loop.call_at(loop.now, good))

    assert good.called.wait(TIMEOUT_S)
    assert [str(fault) for fault in bad.faults] == ["a bug"]


def test_a_fault_in_a_timer_goes_to_its_participant(loop: Loop) -> None:
    def fail() -> None:
        raise ValueError("a bug")

    bad, good = Recorder(fail), Recorder()

    def arm() -> None:
        loop.call_at(loop.now, bad)
        loop.call_at(loop.now + 0.01, good)

    on_loop(loop, arm)

    assert good.called.wait(TIMEOUT_S)
    assert [str(fault) for fault in bad.faults] == ["a bug"]


@pytest.mark.parametrize("own", [False, True], ids=["another participant", "the same"])
def test_an_event_of_a_closed_descriptor_is_not_given_to_its_successor(
    loop: Loop, own: bool
) -> None:
    """An address that fails is followed by the next, whose socket may have the same number."""
    pairs = [socket.socketpair() for _ in range(2)]
    fresh = socket.socketpair()  # never ready
    numbers = [one.fileno() for one, _ in pairs]
    another = Recorder()
    taken: list[int] = []

    def replace() -> None:
        """At the first event both are closed, and the fresh one takes the other's number."""
        if not taken:
            taken.append(numbers[1 - numbers.index(first.ready[0][0])])
            for one, _ in pairs:
                loop.give_up(one)
            os.dup2(fresh[0].fileno(), taken[0])
            loop.watch(taken[0], READ, first if own else another)

    first = Recorder(replace)

    def arm() -> None:
        for one, peer in pairs:
            peer.send(b"x")
            loop.watch(one.fileno(), READ, first)

    on_loop(loop, arm)
    assert first.called.wait(TIMEOUT_S)
    on_loop(loop, lambda: loop.unwatch(taken[0]))
    os.close(taken[0])
    for sock in (*fresh, pairs[0][1], pairs[1][1]):
        sock.close()

    assert len(first.ready) == 1
    assert another.ready == []


def test_the_heart_beats_though_nothing_happens(loop: Loop) -> None:
    first = loop.heartbeat
    deadline = time.monotonic() + 3 * HEARTBEAT_S
    while loop.heartbeat == first and time.monotonic() < deadline:
        threading.Event().wait(0.05)

    assert first < loop.heartbeat


def test_an_exception_in_a_call_ends_the_loop() -> None:
    def fail() -> None:
        raise ValueError("a bug of ours")

    loop = Loop()
    loop.call_soon(fail)

    with pytest.raises(ValueError, match="a bug of ours"):
        loop.run()


def test_a_retired_loop_runs_what_it_left_and_what_still_comes() -> None:
    loop = Loop()
    seen: list[str] = []
    loop.call_soon(loop.stop)
    loop.run()
    loop.call_soon(lambda: seen.append("left"))
    assert seen == []

    loop.retire()
    assert seen == ["left"]
    loop.call_soon(lambda: seen.append("late"))
    assert seen == ["left", "late"]


def test_calls_while_the_loop_ends_are_all_run_and_none_fails() -> None:
    for _ in range(60):
        end_while_called()


def end_while_called() -> None:
    loop = Loop()
    called: list[int] = []
    made = [0, 0, 0]
    faults: list[BaseException] = []

    def run() -> None:
        loop.run()
        loop.retire()

    def call(number: int) -> None:
        try:
            while not loop.retired or made[number] < 10:
                loop.call_soon(lambda: called.append(1))
                made[number] += 1
        except OSError as exc:
            faults.append(exc)

    threads = [threading.Thread(target=run)]
    threads += [threading.Thread(target=call, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    loop.call_soon(loop.stop)
    for thread in threads:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()
    assert faults == []
    assert len(called) == sum(made)


def test_no_descriptor_of_the_loop_is_left() -> None:
    before = set(os.listdir("/proc/self/fd"))
    loop = Loop()
    loop.call_soon(loop.stop)
    loop.run()

    assert set(os.listdir("/proc/self/fd")) == before
