"""Signals reach the mailbox whichever thread the kernel gives them to."""

from __future__ import annotations

import os
import queue
import signal
import threading

import pytest

from ngrokd.messages import Crashed, DumpStatus, Message, Reload, Stop
from ngrokd.signals import ending_at_once, posted

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
