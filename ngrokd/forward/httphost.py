"""The Host field of every HTTP/1 request of a connection, without a socket.

Theory of operation. `receive_data` takes the client's bytes and gives what is to be sent in their
place: heads with another Host, everything else as it came. Only a head is ever held back, until it
is whole; a body goes on as slices of the buffer that it came in. Where a request could be read in
two ways, or is none, the rest of the connection goes on untouched (`finished`): framing it by one
reading is how requests are smuggled past whoever reads it by the other.

After an Upgrade or a CONNECT only the answer tells whether the next bytes are a request. So the
server's bytes are shown to `observe`, and until the answer is there the client's are held back.
"""

from __future__ import annotations

import enum
import re
from typing import Optional, Union

from ngrokd.errors import ProtocolError
from ngrokd.forward.httpanswers import Answers, Course
from ngrokd.forward.httpbody import Body, body_of
from ngrokd.forward.httphead import HeadReader, Request, may_become_request, parse_request

# Few clients send anything before they have the answer. The one read during which this is reached
# is held, too.
HELD_BYTES = 64 * 1024

# What is looked at byte by byte, in one event: a millisecond or two even of the smallest chunks and
# requests, for which every other connection waits.
LOOK_BYTES = 4 * 1024

Piece = Union[bytes, memoryview]

_EMPTY_LINES = re.compile(rb"(?:\r\n)+")
_CR, _LF = b"\r\n"


class _State(enum.Enum):
    """What the client's next bytes are."""

    BETWEEN = "between"  # a request, or an empty line before it (RFC 9112 section 2.2)
    EMPTY_LINE = "empty line"  # the second half of one
    HEAD = "head"  # the rest of a request head
    BODY = "body"  # the rest of a request body
    HELD = "held"  # what they are is for the server to say
    RAW = "raw"  # nobody's business


class HostRewriter:
    """One connection's. Owner: the tunnel it belongs to.

    Pieces that are memoryviews are borrowed from what was received: they count until the next call.
    """

    def __init__(self, host: str) -> None:
        """`host` is what the Host field shall say: `name` or `name:port`."""
        self._host = host.encode("ascii")
        self._state = _State.BETWEEN
        self._heads = HeadReader()
        self._body: Optional[Body] = None
        self._held = bytearray()
        self._answers = Answers()
        self._asks_to_switch = False  # the request that is passing, or passed last

    @property
    def wants_data(self) -> bool:
        """Whether the client is to be read."""
        return len(self._held) < HELD_BYTES

    @property
    def client_step(self) -> int:
        """How many bytes of the client are to be given at once at most."""
        return max(LOOK_BYTES, self._body.left if self._body is not None else 0)

    @property
    def server_step(self) -> int:
        """Likewise of the server."""
        return max(LOOK_BYTES, self._answers.unread)

    @property
    def holds(self) -> bool:
        """Whether bytes wait here, for the rest of a head or for an answer."""
        return bool(self._held or self._heads.begun)

    @property
    def finished(self) -> bool:
        """Nothing is held, and whatever comes goes on untouched: it needs no rewriter any more."""
        return self._state is _State.RAW

    def receive_data(self, data: memoryview) -> list[Piece]:
        """What is to be sent for these bytes of the client (empty: its end)."""
        pieces: list[Piece] = []
        if len(data):
            self._go_on(data, pieces)
        else:
            self._let_go(pieces)
        return pieces

    def observe(self, data: memoryview) -> list[Piece]:
        """What is to be sent to the server now that it has said this (empty: its end)."""
        pieces: list[Piece] = []
        if self._state is not _State.RAW:
            self._answers.receive_data(data)
            if self._state is _State.HELD and self._answers.course is not Course.UNDECIDED:
                held, self._held = self._held, bytearray()
                self._end_request()
                self._go_on(memoryview(held), pieces)
        return pieces

    def _go_on(self, data: memoryview, pieces: list[Piece]) -> None:
        at = 0
        while at < len(data):
            if self._state is _State.RAW:
                pieces.append(data[at:])
                return
            if self._state is _State.HELD:
                self._held += data[at:]
                return
            try:
                at = self._step(data, at, pieces)
            except ProtocolError:
                self._let_go(pieces)

    def _step(self, data: memoryview, at: int, pieces: list[Piece]) -> int:
        """One thing of what comes; where the next one begins. ProtocolError: it took nothing."""
        if self._state is _State.BODY:
            return self._read_body(data, at, pieces)
        if self._state is _State.EMPTY_LINE:
            if data[at] != _LF:
                raise ProtocolError("a bare CR")
            self._state = _State.BETWEEN
            pieces.append(data[at : at + 1])
            return at + 1
        if self._state is _State.BETWEEN and data[at] == _CR:
            return self._read_empty_lines(data, at, pieces)
        return self._read_head(data, at, pieces)

    def _read_empty_lines(self, data: memoryview, at: int, pieces: list[Piece]) -> int:
        lines = _EMPTY_LINES.match(data, at)
        if lines is not None:
            end = lines.end()
        else:
            end = at + 1
            self._state = _State.EMPTY_LINE
        pieces.append(data[at:end])
        return end

    def _read_head(self, data: memoryview, at: int, pieces: list[Piece]) -> int:
        self._state = _State.HEAD
        judged = len(self._heads.begun)
        count, head = self._heads.receive_data(data[at:])
        if head is not None:
            self._take(head, pieces)
        elif not may_become_request(self._heads.begun, judged):
            self._let_go(pieces)
        return at + count

    def _take(self, head: bytes, pieces: list[Piece]) -> None:
        request = parse_request(head)
        if request is None:
            pieces.append(head)
            self._let_go(pieces)
            return
        pieces.append(self._rewritten(head, request))
        self._answers.expect(request)
        self._asks_to_switch = request.asks_to_switch
        self._body = body_of(request.length)
        self._state = _State.BODY
        if self._body is None:
            self._end_request()

    def _rewritten(self, head: bytes, request: Request) -> bytes:
        if request.host is None:
            return head
        start, end = request.host
        return head[:start] + self._host + head[end:]

    def _read_body(self, data: memoryview, at: int, pieces: list[Piece]) -> int:
        assert self._body is not None
        end = self._body.skip(data, at)
        pieces.append(data[at:end])
        if self._body.done:
            self._body = None
            self._end_request()
        return end

    def _end_request(self) -> None:
        """The last one is through: what its answer has to say decides what comes next."""
        course = self._answers.course
        if not self._asks_to_switch or course is Course.FOLLOWED:
            self._state = _State.BETWEEN
        elif course is Course.UNDECIDED:
            self._state = _State.HELD
        else:
            self._state = _State.RAW

    def _let_go(self, pieces: list[Piece]) -> None:
        """Whatever is held goes out as it came, and so does what follows."""
        for held in (self._heads.begun, self._held):
            if held:
                pieces.append(bytes(held))
        self._heads, self._held = HeadReader(), bytearray()
        self._state = _State.RAW
