"""Where the body of an HTTP/1 message ends (RFC 9112 sections 6 and 7)."""

from __future__ import annotations

import re
from typing import Optional, Union

from ngrokd.errors import ProtocolError

MAX_LINE_BYTES = 8 * 1024  # a chunk's size with its extensions: a dozen bytes in practice
MAX_TRAILER_BYTES = 64 * 1024  # as much as a head may have

_LINE_FEED = re.compile(rb"\n")
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\r\n\0]*)?\r\n")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\0]*\r\n")
_BLANK = b"\r\n"


class Sized:
    """A body of known length. Owner: whoever made it."""

    def __init__(self, length: int) -> None:
        self.left = length  # bytes that pass unread

    @property
    def done(self) -> bool:
        """It has passed."""
        return not self.left

    def skip(self, data: memoryview, at: int) -> int:
        """The place in `data` where the body, which goes on at `at`, ends; else its length."""
        count = min(self.left, len(data) - at)
        self.left -= count
        return at + count


class Chunked:
    """A chunked body with its trailers. Owner: whoever made it."""

    def __init__(self) -> None:
        self.done = False
        self.left = 0  # bytes of this chunk, which pass unread
        self._line = bytearray()  # of a line that is not whole yet
        self._in_chunk = False  # the line that comes ends a chunk
        self._trailer: Optional[int] = None  # bytes of the trailers so far; None: not there yet

    def skip(self, data: memoryview, at: int) -> int:
        """As `Sized.skip`. Raises ProtocolError where readers could differ."""
        while at < len(data) and not self.done:
            if self.left:
                count = min(self.left, len(data) - at)
                self.left -= count
                at += count
            else:
                at = self._read_line(data, at)
        return at

    def _read_line(self, data: memoryview, at: int) -> int:
        found = _LINE_FEED.search(data, at)
        end = found.end() if found is not None else len(data)
        if len(self._line) + end - at > MAX_LINE_BYTES:
            raise ProtocolError(f"a line of more than {MAX_LINE_BYTES} bytes in a chunked body")
        self._line += data[at:end]
        if found is not None:
            line = bytes(self._line)
            self._line.clear()
            self._take(line)
        return end

    def _take(self, line: bytes) -> None:
        if self._trailer is not None:
            self._take_trailer(line, self._trailer + len(line))
        elif self._in_chunk:
            if line != _BLANK:
                raise ProtocolError("a chunk that is longer than it says")
            self._in_chunk = False
        else:
            self._take_size(line)

    def _take_size(self, line: bytes) -> None:
        size = _SIZE_LINE.fullmatch(line)
        if size is None:
            raise ProtocolError("not the size of a chunk")
        self.left = int(size[1], 16)
        if self.left:
            self._in_chunk = True
        else:
            self._trailer = 0

    def _take_trailer(self, line: bytes, count: int) -> None:
        if line == _BLANK:
            self.done = True
        elif _TRAILER_LINE.fullmatch(line) is None or count > MAX_TRAILER_BYTES:
            raise ProtocolError("not a trailer")
        self._trailer = count


Body = Union[Sized, Chunked]


def body_of(length: Optional[int]) -> Optional[Body]:
    """What follows a head that says so (`None`: chunked); `None`: nothing."""
    if length is None:
        return Chunked()
    return Sized(length) if length else None
