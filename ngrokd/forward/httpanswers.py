"""Which HTTP/1 answer belongs to which request: whether one agreed to speak something else."""

from __future__ import annotations

import enum
from collections import deque
from typing import Optional

from ngrokd.errors import ProtocolError
from ngrokd.forward.httpbody import Body, body_of
from ngrokd.forward.httphead import Answer, HeadReader, Request, parse_answer

MAX_EXPECTED = 1024  # requests of a connection without an answer; pipelines have a few dozen
SWITCHING_PROTOCOLS = 101
BODILESS = frozenset({204, 304})


class Course(enum.Enum):
    """What is known about the answers of a connection."""

    FOLLOWED = "followed"  # each belongs to a request, and no switch is asked for
    UNDECIDED = "undecided"  # the last request asks for a switch and has no final answer yet
    SWITCHED = "switched"  # the server agreed: from here on it is no HTTP/1
    LOST = "lost"  # what came cannot be matched to requests any more


class Answers:
    """Sees the server's bytes and keeps none but those of a head. Owner: the one it belongs to."""

    def __init__(self) -> None:
        self.course = Course.FOLLOWED
        self._expected: deque[Request] = deque()
        self._heads = HeadReader()
        self._body: Optional[Body] = None

    def expect(self, request: Request) -> None:
        """It goes to the server now. None may follow before the end of `UNDECIDED`."""
        if self.course is not Course.FOLLOWED:
            return
        if len(self._expected) == MAX_EXPECTED:
            self._lose()
            return
        self._expected.append(request)
        if request.asks_to_switch:
            self.course = Course.UNDECIDED

    @property
    def unread(self) -> int:
        """How many of the server's next bytes pass without a look."""
        return self._body.left if self._body else 0

    def receive_data(self, data: memoryview) -> None:
        """Bytes of the server (empty: its end)."""
        at = 0
        try:
            while at < len(data) and self.course in (Course.FOLLOWED, Course.UNDECIDED):
                at = self._read_body(data, at) if self._body else self._read_head(data, at)
        except ProtocolError:
            self._lose()
        if not len(data) and self.course is not Course.SWITCHED:
            self._lose()

    def _read_body(self, data: memoryview, at: int) -> int:
        assert self._body is not None
        at = self._body.skip(data, at)
        if self._body.done:
            self._body = None
        return at

    def _read_head(self, data: memoryview, at: int) -> int:
        if not self._expected:
            raise ProtocolError("an answer that nobody asked for")
        count, head = self._heads.receive_data(data[at:])
        if head is not None:
            answer = parse_answer(head)
            if answer is None:
                raise ProtocolError("not an answer")
            self._take(answer)
        return at + count

    def _take(self, answer: Answer) -> None:
        request = self._expected[0]
        if answer.status == SWITCHING_PROTOCOLS:
            if not request.asks_to_switch:
                raise ProtocolError("a switch that nobody asked for")
            self.course = Course.SWITCHED
        elif answer.status >= 200:
            self._expected.popleft()
            self._take_final(request, answer)

    def _take_final(self, request: Request, answer: Answer) -> None:
        if request.method == b"CONNECT" and answer.status < 300:
            self.course = Course.SWITCHED
            return
        if request.asks_to_switch:
            self.course = Course.FOLLOWED
        if request.method == b"HEAD" or answer.status in BODILESS:
            return
        if answer.until_close:
            self._lose()
        else:
            self._body = body_of(answer.length)

    def _lose(self) -> None:
        self.course = Course.LOST
        self._expected.clear()
        self._heads = HeadReader()
        self._body = None
