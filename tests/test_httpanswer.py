"""HTTP answers: whole, byte by byte, cut anywhere, and what is none."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.cloud.apierrors import Answer
from ngrokd.cloud.httpanswer import MAX_HEAD_BYTES, read_answer, read_head
from ngrokd.errors import ProtocolError

LIMIT = 1 << 20


class _Pieces(io.RawIOBase):
    """What a socket gives: a piece at each read."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = next(self._pieces, b"")
        buffer[: len(piece)] = piece
        return len(piece)


def whole(data: bytes) -> Answer:
    return read_answer(io.BytesIO(data), LIMIT)


def byte_by_byte(data: bytes) -> Answer:
    pieces = (data[at : at + 1] for at in range(len(data)))
    return read_answer(io.BufferedReader(_Pieces(pieces)), LIMIT)


ANSWERS = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Answer(200, b"{}")),
    (b"HTTP/1.1 200 OK\r\ncontent-LENGTH:2\r\n\r\n{}", Answer(200, b"{}")),
    (b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}", Answer(200, b"{}")),
    (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Answer(200)),
    (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(204)),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", Answer(304)),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n",
        Answer(200, b"{}"),
    ),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
        b"0A\r\n0123456789\r\n000\r\nT: x\r\n\r\n",
        Answer(200, b"0123456789"),
    ),
    (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        b"HTTP/1.1 401 No\r\nContent-Length: 1\r\n\r\nx",
        Answer(401, b"x"),
    ),
    (
        b"HTTP/1.1 429 Slow\r\nContent-Type: application/json\r\nRetry-After: 7\r\n"
        b"ngrok-operation-id: op_1\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
        Answer(429, b"", "application/json", "7", "/x", "op_1"),
    ),
    (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html;\r\n  charset=x\r\nContent-Length: 0\r\n\r\n",
        Answer(200, b"", "text/html; charset=x"),
    ),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}", Answer(200, b"{}")),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}", Answer(200, b"{}")),
    (b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\n{}", Answer(200, b"{}")),
    (b"HTTP/1.1 200 OK\r\n : \r\nX: \xff\r\nContent-Length: 2\r\n\r\n{}", Answer(200, b"{}")),
]
WITHOUT_LENGTH = b"HTTP/1.0 200 OK\r\n\r\nall that comes"


@pytest.mark.parametrize(("data", "answer"), ANSWERS)
def test_an_answer_is_read_whole_byte_by_byte_and_no_further(data: bytes, answer: Answer) -> None:
    assert whole(data) == byte_by_byte(data) == whole(data + b"HTTP/1.1 500 no\r\n\r\n") == answer


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    assert whole(WITHOUT_LENGTH) == byte_by_byte(WITHOUT_LENGTH) == Answer(200, b"all that comes")


@pytest.mark.parametrize("data", [data for data, _ in ANSWERS])
def test_an_answer_that_is_cut_short_is_never_taken_for_a_whole_one(data: bytes) -> None:
    answer = whole(data)
    # The end of the last chunk's trailers is not waited for.
    needed = data.index(b"0\r\n\r\n") if data.endswith(b"0\r\n\r\n") else len(data)
    needed = data.index(b"000\r\n") if b"000\r\n" in data else needed
    for end in range(needed):
        try:
            assert byte_by_byte(data[:end]) != answer
        except ProtocolError as exc:
            assert "cut short" in str(exc) or "closed" in str(exc) or "no size" in str(exc)


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n{} ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}garbage0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 9000 + b"\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(data: bytes) -> None:
    for read in (whole, byte_by_byte):
        with pytest.raises(ProtocolError):
            read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 " + b"a" * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * MAX_HEAD_BYTES + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n" + b"X: y\r\n" * MAX_HEAD_BYTES,
    ],
)
def test_a_head_without_an_end_is_given_up(data: bytes) -> None:
    stream = io.BytesIO(data)
    with pytest.raises(ProtocolError, match="more than 64 KiB"):
        read_answer(stream, LIMIT)
    assert stream.tell() <= MAX_HEAD_BYTES


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (LIMIT + 1),
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (LIMIT + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n%x\r\n" % LIMIT,
    ],
)
def test_an_answer_over_the_limit_is_not_kept(head: bytes) -> None:
    with pytest.raises(ProtocolError, match="larger than 1 MiB"):
        whole(head + b"x" * (LIMIT + 1))


def test_an_answer_at_the_limit_is_taken() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LIMIT
    assert len(whole(head + b"x" * LIMIT).body) == LIMIT


def test_a_proxys_head_is_read_and_nothing_behind_it() -> None:
    stream = io.BytesIO(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n\x16\x03\x01")
    assert read_head(stream) == (200, {"via": "x"})
    assert stream.read() == b"\x16\x03\x01"


_WORDS = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 100 x",
    b"\r\n",
    b"\n",
    b" ",
    b":",
    b"Content-Length: 3",
    b"Transfer-Encoding: chunked",
    b"3",
    b"0",
    b"abc",
    b"\xff",
]


@given(st.binary(max_size=300) | st.lists(st.sampled_from(_WORDS)).map(b"".join))
def test_whatever_comes_is_an_answer_or_a_protocol_error_and_the_same_in_any_pieces(
    data: bytes,
) -> None:
    results = []
    for read in (whole, byte_by_byte):
        try:
            results.append(str(read(data)))
        except ProtocolError as exc:
            results.append(str(exc))
    assert results[0] == results[1]
