"""`ngrokctl events`: prints what happens as it comes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Optional

from ngrokd.control import eventpages
from ngrokd.control.answers import text
from ngrokd.control.following import events
from ngrokd.control.text import clean


def watch(socket_path: str, as_json: bool, say: Callable[[str], None]) -> None:
    """Until the daemon has stopped; `say` gets each line. Raises what `following.events` does."""
    lines = _json if as_json else _words
    with _bell() as bell:
        for event in events(socket_path, _output(), bell):
            for line in lines(event):
                say(line)


@contextlib.contextmanager
def _bell() -> Iterator[int]:
    """Readable once a signal has come. Main thread only.

    Python raises KeyboardInterrupt once a system call returns: one that begins just after Ctrl-C
    waits for the next event, which may take days.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)


def _output() -> Optional[int]:
    try:
        return sys.stdout.fileno()
    except (OSError, AttributeError):  # it is no file, as in tests, or there is none
        return None


def _json(event: Mapping[str, object]) -> list[str]:
    return [json.dumps(event)]


def _words(event: Mapping[str, object]) -> list[str]:
    """Each with its time, as the log has it."""
    return [f"{clean(text(event, 'time'))}  {line}" for line in eventpages.lines(event)]
