"""Signals reach the mailbox whichever thread the kernel gives them to."""

from __future__ import annotations

import os
import queue
import signal
import threading

import pytest

from ngrokd.messages import Crashed, DumpStatus, Message, Reload, Stop
from ngrokd.process.signals import Pending, ending_at_once, posted

TIMEOUT_S = 10


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGTERM, Stop("SIGTERM")),
        (signal.SIGINT, Stop("SIGINT")),
        (signal.SIGQUIT, Stop("SIGQUIT")),
        (signal.SIGHUP, Reload()),
        (signal.SIGUSR1, DumpStatus()),
    ],
)
def test_each_signal_is_its_message(number: signal.Signals, expected: Message) -> None:
    mailbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    with posted(mailbox.put):
        os.kill(os.getpid(), number)
        assert mailbox.get(timeout=TIMEOUT_S) == expected


def test_a_signal_that_another_thread_gets_wakes_the_main_thread_from_its_mailbox() -> None:
    mailbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    done = threading.Event()
    with posted(mailbox.put):
        other = threading.Thread(target=done.wait)
        other.start()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # so the kernel must choose it
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            assert mailbox.get(timeout=TIMEOUT_S) == Stop("SIGTERM")
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            done.set()
            other.join()


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE])
def test_signals_of_no_meaning_do_not_end_it(number: signal.Signals) -> None:
    mailbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    with posted(mailbox.put):
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGHUP)
        assert mailbox.get(timeout=TIMEOUT_S) == Reload()


def test_a_thread_that_dies_is_a_message() -> None:
    mailbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    with posted(mailbox.put):
        threading.Thread(target=lambda: 1 / 0, name="doomed").start()
        message = mailbox.get(timeout=TIMEOUT_S)
    assert isinstance(message, Crashed)
    assert (message.thread, type(message.error)) == ("doomed", ZeroDivisionError)


def test_afterwards_everything_is_as_before() -> None:
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)]
    with ending_at_once(), posted(lambda message: None):
        pass
    after = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)]
    assert after == before
    assert not [thread for thread in threading.enumerate() if thread.name == "signals"]


def test_while_starting_a_signal_unwinds_what_there_is_and_requests_are_ignored() -> None:
    with pytest.raises(SystemExit) as ended, ending_at_once():
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], TIMEOUT_S)  # the handler runs before this returns
    assert ended.value.code == 0


def test_a_flood_of_requests_is_one_of_each_until_it_is_taken_and_stops_are_counted() -> None:
    pending = Pending()
    assert [pending.is_new(Reload()) for _ in range(3)] == [True, False, False]
    assert pending.is_new(DumpStatus())
    assert [pending.is_new(Stop("SIGTERM")) for _ in range(2)] == [True, True]
    pending.taken(Reload())
    assert pending.is_new(Reload())
    assert not pending.is_new(DumpStatus())


def test_a_stop_does_not_wait_behind_a_thousand_hangups() -> None:
    mailbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    with posted(mailbox.put):
        for _ in range(1000):
            os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        seen = [mailbox.get(timeout=TIMEOUT_S) for _ in range(2)]
    assert seen == [Reload(), Stop("SIGTERM")]


def test_a_signal_between_two_ways_of_handling_it_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel may deliver it right after any of the calls that install a handler."""
    mailbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    install = signal.signal

    def interrupted(number: int, handler: object) -> object:
        before = install(number, handler)  # type: ignore[arg-type]
        if number == signal.SIGTERM:
            monkeypatch.setattr(signal, "signal", install)
            os.kill(os.getpid(), signal.SIGTERM)
        return before

    monkeypatch.setattr(signal, "signal", interrupted)
    with posted(mailbox.put):
        assert mailbox.get(timeout=TIMEOUT_S) == Stop("SIGTERM")
