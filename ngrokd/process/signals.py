"""Signals and dying threads become messages in the main thread's mailbox."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, Callable

from ngrokd.logs import report_uncaught
from ngrokd.messages import Crashed, DumpStatus, Message, Reload, Stop

READ_BYTES = 4096  # one for each signal

Handlers = dict[int, Any]


def _those_there_are(*names: str) -> set[int]:
    """Not every system has every signal."""
    return {getattr(signal, name) for name in names if hasattr(signal, name)}


_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, *_those_there_are("SIGPWR", "SIGXCPU"))
# Their default is to end the process, and with it the chance to take our names away.
_MEANINGLESS = {
    *_those_there_are("SIGPIPE", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO"),
    *range(getattr(signal, "SIGRTMIN", 0), getattr(signal, "SIGRTMAX", -1) + 1),
}
_IGNORED: Handlers = dict.fromkeys(_MEANINGLESS, signal.SIG_IGN)

_MESSAGES: dict[int, Callable[[], Message]] = {
    **{number: functools.partial(Stop, signal.Signals(number).name) for number in _ENDS},
    signal.SIGHUP: Reload,
    signal.SIGUSR1: DumpStatus,
}


def ignore_at_the_end() -> None:
    """For a process's outermost level: once the contexts below have put this back, the exit status
    is decided, and one more signal must not turn it into another."""
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """While starting: what stops a daemon ends it, taking away what there is already."""

    def end(*_: object) -> None:
        raise SystemExit(0)

    ends: Handlers = dict.fromkeys(_ENDS, end)
    idle: Handlers = dict.fromkeys((signal.SIGHUP, signal.SIGUSR1), signal.SIG_IGN)
    with _handling({**ends, **_IGNORED, **idle}):
        yield


class Pending:
    """Which requests wait in the mailbox already: a thousand hangups are one reload.

    Without it a stop would have to wait behind them all. Main takes out, the thread `signals` puts
    in; each is one step of the interpreter.
    """

    def __init__(self) -> None:
        self._kinds: set[type] = set()

    def is_new(self, message: Message) -> bool:
        """On `signals`: it is to be posted. Stops are counted: the second one ends at once."""
        if isinstance(message, Stop):
            return True
        new = type(message) not in self._kinds
        self._kinds.add(type(message))
        return new

    def taken(self, message: Message) -> None:
        """On main, before it acts: one that comes from now on is another request."""
        self._kinds.discard(type(message))


@contextlib.contextmanager
def posted(post: Callable[[Message], None]) -> Iterator[Pending]:
    """TERM, INT, QUIT, PWR and XCPU stop, HUP reloads, USR1 writes the status into the log.

    Call on the main thread. What was in force before is put back at the end.

    A handler in Python would run on the main thread, when that next runs Python code: a signal that
    the kernel delivers to another thread does not wake it from its mailbox. The byte that the
    interpreter writes from whichever thread was hit wakes the thread below at once.
    """
    handlers: Handlers = dict.fromkeys(_MESSAGES, lambda number, frame: None)
    # A pipe has room for 64 thousand signals, a socket for some hundred: what does not fit is lost.
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def died(thread: str, error: BaseException) -> None:
        post(Crashed(thread, error))

    pending = Pending()
    arguments = (reading, post, pending)
    reader = threading.Thread(target=_post_signals, args=arguments, name="signals")
    # Before the handlers, which do nothing: a signal between the two would be lost.
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        with _handling({**handlers, **_IGNORED}), report_uncaught(died):
            reader.start()
            yield pending
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        if reader.ident is not None:
            reader.join()
        os.close(reading)


def _post_signals(reading: int, post: Callable[[Message], None], pending: Pending) -> None:
    """On the thread `signals`, until the other end is closed: one byte is one signal's number."""
    while True:
        numbers = os.read(reading, READ_BYTES)
        if not numbers:
            return
        for number in numbers:
            message = _MESSAGES[number]() if number in _MESSAGES else None
            if message is not None and pending.is_new(message):
                post(message)


@contextlib.contextmanager
def _handling(handlers: Handlers) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
