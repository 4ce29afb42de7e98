"""Gives what happens to everyone who follows it, each at the reader's own pace.

Theory of operation. The main thread puts lines into each reader's own bounded queue and rings; the
reader's thread takes them out. Nobody waits for anybody: what finds no room in a queue is lost for
that reader alone. Every event has a number, so a reader sees by the gap that, where and how many
were lost, without a counter that two threads would write.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Optional

from ngrokd import __version__
from ngrokd.control import events
from ngrokd.control.protocol import BUSY, encode_event
from ngrokd.control.report import iso
from ngrokd.errors import ControlError
from ngrokd.model import Status

MAX_READERS = 16  # of the 64 places of the socket: the others are for requests
# Lines that wait for one reader; with some 300 bytes each, and shared by all readers who wait for
# them. More than a thousand endpoints make when they all come at once.
MAX_WAITING = 4096

Numbered = tuple[int, bytes]


class Subscription:
    """One reader of the feed. Main: `offer`, `end`. The reader's thread: the rest."""

    def __init__(
        self,
        bell: socket.socket,
        ring: Callable[[], None],
        leave: Callable[[Subscription], None],
    ) -> None:
        """`ring` makes `bell` readable, from any thread; `leave` tells main that nobody reads."""
        self.bell = bell
        self.began: Mapping[str, object] = {}
        self._ring = ring
        self._leave = leave
        self._waiting: deque[Numbered] = deque()
        self._offered = 0  # the last number; written by main, after the line is there or lost
        self._seen = 0
        self._ended = False

    # ON MAIN

    def begin(self, number: int, began: Mapping[str, object]) -> None:
        """Before anything is offered: what is true now, and the number of the last event."""
        self._offered = self._seen = number
        self.began = began

    def offer(self, lines: Sequence[Numbered], last: int) -> None:
        """Those that find no room are lost, and so are those after them up to number `last`."""
        self._waiting.extend(lines[: max(0, MAX_WAITING - len(self._waiting))])
        self._offered = last
        self._ring()

    def end(self, last: Numbered) -> None:
        """The last line always finds room."""
        self._waiting.append(last)
        self._offered = last[0]
        self._ended = True
        self._ring()

    # ON THE READER'S THREAD

    @property
    def ended(self) -> bool:
        """Nothing will come but what waits."""
        return self._ended

    def take(self) -> bytes:
        """The next line, behind one that tells of a loss before it; `b""`: nothing waits."""
        offered = self._offered  # asked before the queue: all up to it are there, or lost
        try:
            number, line = self._waiting.popleft()
            lost = number - self._seen - 1
        except IndexError:
            number, line = offered, b""
            lost = number - self._seen
        last_lost = self._seen + lost
        self._seen = number
        return (_lost(last_lost, lost) if lost else b"") + line

    def close(self) -> None:
        """The reader has gone."""
        self.bell.close()
        self._leave(self)


class Feed:
    """Owner: main thread."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._readers: list[Subscription] = []
        self._status = Status()
        self._number = 0

    def add(self, reader: Subscription, reply: Future[Any]) -> None:
        """From now on it is told everything; the reply is the reader itself."""
        if len(self._readers) >= MAX_READERS:
            text = f"{MAX_READERS} programs follow the events already; end one of them"
            reply.set_exception(ControlError(BUSY, text))
            return
        began = events.began(self._status, __version__, os.getpid())
        reader.begin(self._number, self._dated(self._number, began))
        self._readers.append(reader)
        reply.set_result(reader)

    def remove(self, reader: Subscription) -> None:
        """It has gone. Twice is harmless."""
        if reader in self._readers:
            self._readers.remove(reader)

    def look(self, status: Status) -> None:
        """Tells everyone what is new in it."""
        before, self._status = self._status, status
        if not self._readers:
            return
        changes = events.changes(before, status)
        if not changes:
            return
        lines = [self._line(event) for event in changes[:MAX_WAITING]]
        self._number += len(changes) - len(lines)  # nobody has room for more, so they are no lines
        for reader in self._readers:
            reader.offer(lines, self._number)

    def end(self) -> None:
        """The daemon has stopped: everyone is told. Twice is harmless."""
        readers, self._readers = self._readers, []
        last = self._line({"event": events.STOPPED})
        for reader in readers:
            reader.end(last)

    def _line(self, event: Mapping[str, object]) -> Numbered:
        self._number += 1
        return self._number, encode_event(self._dated(self._number, event))

    def _dated(self, number: int, event: Mapping[str, object]) -> dict[str, object]:
        return _numbered(number, event, self._now())


def _lost(number: int, count: int) -> bytes:
    return encode_event(_numbered(number, events.lost(count), time.time()))


def _numbered(number: int, event: Mapping[str, object], now: Optional[float]) -> dict[str, object]:
    return {"event": event["event"], "seq": number, "time": iso(now), **event}
