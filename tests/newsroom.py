"""A control socket whose events come from a main thread of the test's own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import queue
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable

from ngrokd.commands import Commands
from ngrokd.control.feed import Feed
from ngrokd.control.server import Command
from ngrokd.messages import Follow, Message, Unfollow
from ngrokd.model import State, Status
from tests.closing import Closing
from tests.control_room import PATIENCE_S, connect, serving

EVENTS = b'{"command":"events"}\n'


class Newsroom:
    """Any thread: `tell`, `end` and what else has to be done on main."""

    def __init__(self) -> None:
        self.feed = Feed(lambda: 0.0)
        self.status = Status(state=State.READY)
        self.feed.look(self.status)
        self.followers: queue.SimpleQueue[int] = queue.SimpleQueue()  # how many, at each change
        self._work: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="newsroom", daemon=True)

    def commands(self) -> Mapping[str, Command]:
        table = Commands(lambda: self.status, None, self._post, None).table()  # type: ignore[arg-type]
        return {"events": table["events"], "list": lambda _: ["ep_1"]}

    def do(self, act: Callable[[], object]) -> object:
        """On main, once what was posted before is done."""
        done: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._work.put(lambda: done.put(act()))
        return done.get(timeout=PATIENCE_S)

    def tell(self, *problems: str) -> None:
        """Each is one event: a problem, and from the second on also the end of the last one."""
        for problem in problems:
            self.do(lambda problem=problem: self._look(problem))  # type: ignore[misc]

    def count(self, number: int) -> None:
        """So many events, at once."""
        texts = tuple(f"problem {i}" for i in range(number))
        self.do(lambda: self._look(*texts))

    def end(self) -> None:
        self.do(self.feed.end)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._work.put(lambda: "stop")
        self._thread.join(PATIENCE_S)

    def _look(self, *problems: str) -> None:
        self.status = dataclasses.replace(self.status, problems=problems)
        self.feed.look(self.status)

    def _run(self) -> None:
        while self._work.get()() != "stop":
            pass

    def _post(self, message: Message) -> None:
        self._work.put(lambda: self._handle(message))

    def _handle(self, message: Message) -> None:
        if isinstance(message, Follow):
            self.feed.add(message.reader, message.reply)
        elif isinstance(message, Unfollow):
            self.feed.remove(message.reader)
        self.followers.put(len(self.feed._readers))


@contextlib.contextmanager
def newsroom(path: Path) -> Iterator[Newsroom]:
    """Serves `events` there; ends them at the end."""
    room = Newsroom()
    room.start()
    with serving(path, room.commands()):
        try:
            yield room
        finally:
            room.end()
    room.stop()


class Reader(Closing):
    """A raw client that follows."""

    def __init__(self, path: Path, sent: bytes = EVENTS) -> None:
        self.conn = connect(path)
        self.conn.sendall(sent)
        self._lines = self.conn.makefile("rb")
        answer = json.loads(self._lines.readline())
        assert answer["success"], answer
        self.began: dict[str, Any] = answer["data"]

    def next(self) -> dict[str, Any]:
        """The next event; {}: the end."""
        line = self._lines.readline()
        return dict(json.loads(line)) if line else {}

    def rest(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._lines]

    def close(self) -> None:
        self._lines.close()
        self.conn.close()


def half_closed(path: Path) -> Reader:
    """A reader that has ended its own side, as `nc -N` does."""
    reader = Reader(path)
    reader.conn.shutdown(socket.SHUT_WR)
    return reader
