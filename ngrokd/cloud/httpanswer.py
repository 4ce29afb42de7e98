"""One HTTP answer, read from a stream of bytes (RFC 9112).

`http.client` does it with the whole of `email`: 1 MB of memory, in a daemon that asks one server
for JSON. Little of HTTP is needed for that: each connection is for one request, no redirect is
followed, and of the headers a few are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

from ngrokd.cloud.apierrors import Answer
from ngrokd.errors import ProtocolError

# What the API sends before a body is far below this; a head without an end must not fill memory.
MAX_HEAD_BYTES = 64 << 10
# A size in hexadecimal, and extensions that nobody sends.
MAX_CHUNK_LINE_BYTES = 4 << 10

_STATUS_LINE = re.compile(r"HTTP/1\.[0-9] ([1-9][0-9]{2})(?: .*)?")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?\r?\n")
_BODILESS = frozenset({204, 304})


class Stream(Protocol):
    """What is read from: `io.BufferedReader`, `io.BytesIO`. b"" is the end."""

    def readline(self, limit: int, /) -> bytes:
        """A line with its end, or as much of it as the limit allows."""
        ...

    def read(self, size: int, /) -> bytes:
        """So many bytes, less only at the end."""
        ...


def read_answer(stream: Stream, max_body_bytes: int) -> Answer:
    """The whole answer. ProtocolError: it is not HTTP, cut short, or too large."""
    status, headers = read_head(stream)
    body = b"" if status in _BODILESS else _body(stream, headers, max_body_bytes)
    return Answer(
        status=status,
        body=body,
        content_type=headers.get("content-type", ""),
        retry_after=headers.get("retry-after", ""),
        location=headers.get("location", ""),
        operation_id=headers.get("ngrok-operation-id", ""),
    )


def read_head(stream: Stream) -> tuple[int, dict[str, str]]:
    """The status, and the headers by their names in lower case. ProtocolError: it is no head."""
    while True:
        lines = list(_lines(stream))
        known = _STATUS_LINE.fullmatch(lines[0])
        if known is None:
            raise ProtocolError("what came is not HTTP")
        status = int(known.group(1))
        if not 100 <= status < 200 or status == 101:
            return status, _headers(lines[1:])
        # RFC 9110 section 15.2: 100 and 103 come before the answer.


def _lines(stream: Stream) -> Iterator[str]:
    """Those up to the empty one, at least one."""
    left = MAX_HEAD_BYTES
    first = True
    while True:
        line = stream.readline(left)
        left -= len(line)
        if not line.endswith(b"\n"):
            raise ProtocolError(_unfinished_head(left, line if first else b"-"))
        text = line.rstrip(b"\r\n").decode("latin-1")
        if not text and not first:
            return
        yield text
        first = False


def _unfinished_head(left: int, came: bytes) -> str:
    if not left:
        return f"what came is not HTTP: its head has more than {MAX_HEAD_BYTES >> 10} KiB"
    return "the answer was cut short" if came else "the connection was closed without an answer"


def _headers(lines: list[str]) -> dict[str, str]:
    """The first of a name counts, but for those that say where the body ends: see `_length`."""
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        if line[0] in " \t":  # RFC 9112 section 5.2: the line before goes on
            if name:
                found[name] += " " + line.strip()
            continue
        name, _, value = line.partition(":")
        name = name.strip().lower()
        if name in ("content-length", "transfer-encoding") and name in found:
            found[name] += ", " + value.strip()
        else:
            found.setdefault(name, value.strip())
    return found


def _body(stream: Stream, headers: dict[str, str], limit: int) -> bytes:
    coding = headers.get("transfer-encoding", "identity").lower()
    if coding == "chunked":
        return b"".join(_chunks(stream, limit))
    if coding != "identity":
        raise ProtocolError(f"its transfer coding {coding[:40]!r} was not asked for")
    if "content-length" not in headers:  # HTTP/1.0: all that comes
        return _within(stream.read(limit + 1), limit)
    length = _length(headers["content-length"])
    if length > limit:
        raise _too_large(limit)
    content = stream.read(length)
    if len(content) < length:
        raise ProtocolError(f"the answer was cut short: {len(content)} of {length} bytes came")
    return content


def _length(value: str) -> int:
    """RFC 9110 section 8.6: repeated it must be the same."""
    (first, *others) = (each.strip() for each in value.split(","))
    if not re.fullmatch(r"[0-9]{1,18}", first) or any(each != first for each in others):
        raise ProtocolError(f"what came is not HTTP: its length is {value[:40]!r}")
    return int(first)


def _chunks(stream: Stream, limit: int) -> Iterator[bytes]:
    """RFC 9112 section 7.1. What follows the last one is of no use: the connection is closed."""
    left = limit
    while True:
        line = stream.readline(MAX_CHUNK_LINE_BYTES)
        known = _CHUNK_SIZE.fullmatch(line)
        if known is None:
            raise ProtocolError(
                "what came is not HTTP: a chunk has no size" if line else "the answer was cut short"
            )
        size = int(known.group(1), 16)
        if not size:
            return
        left -= size
        if left < 0:
            raise _too_large(limit)
        content = stream.read(size)
        if len(content) < size or not stream.readline(2).endswith(b"\n"):
            raise ProtocolError("the answer was cut short in a chunk")
        yield content


def _within(content: bytes, limit: int) -> bytes:
    if len(content) > limit:
        raise _too_large(limit)
    return content


def _too_large(limit: int) -> ProtocolError:
    return ProtocolError(f"the answer is larger than {limit >> 20} MiB")
