"""Requests on their way to the server: their Host changes, and nothing else, whatever comes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngrokd.forward.httpanswers import MAX_EXPECTED
from ngrokd.forward.httpbody import MAX_LINE_BYTES, MAX_TRAILER_BYTES
from ngrokd.forward.httphead import MAX_HEAD_BYTES
from ngrokd.forward.httphost import HELD_BYTES, HostRewriter, Piece

HOST = "web.ns:8000"
SPLITS = [None, 1, 2, 3, 7]
in_pieces = pytest.mark.parametrize("size", SPLITS, ids=lambda size: f"by {size or 'all'}")

GET = b"GET / HTTP/1.1\r\nHost: localhost:9080\r\n\r\n"
GOT = b"GET / HTTP/1.1\r\nHost: web.ns:8000\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
)
CONNECT = b"CONNECT a.ns:443 HTTP/1.1\r\nHost: x\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def joined(pieces: Iterable[Piece]) -> bytes:
    return b"".join(bytes(piece) for piece in pieces)


def parts(data: bytes, size: Optional[int]) -> Iterator[memoryview]:
    step = size or max(len(data), 1)
    return (memoryview(data[at : at + step]) for at in range(0, len(data), step))


class Client:
    """A rewriter with what came out of it."""

    def __init__(self, host: str = HOST) -> None:
        self.rewriter = HostRewriter(host)
        self.out = b""

    def says(self, data: bytes, size: Optional[int] = None) -> bytes:
        """What goes on to the server at once."""
        before = len(self.out)
        for part in parts(data, size):
            self.out += joined(self.rewriter.receive_data(part))
        return self.out[before:]

    def ends(self) -> bytes:
        self.out += joined(self.rewriter.receive_data(memoryview(b"")))
        return self.out

    def hears(self, data: bytes, size: Optional[int] = None) -> bytes:
        """What goes on to the server after its answer."""
        before = len(self.out)
        for part in parts(data, size):
            self.out += joined(self.rewriter.observe(part))
        return self.out[before:]


# What is rewritten

REWRITTEN = {
    "a plain request": (GET, GOT),
    "any case, any place, white space kept": (
        b"GET / HTTP/1.1\r\nACCEPT:*/*\r\nhOsT:\t localhost \t\r\nX:  y \r\n\r\n",
        b"GET / HTTP/1.1\r\nACCEPT:*/*\r\nhOsT:\t web.ns:8000 \t\r\nX:  y \r\n\r\n",
    ),
    "an empty Host": (
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:web.ns:8000\r\n\r\n",
    ),
    "a Host of white space": (
        b"GET / HTTP/1.1\r\nHost: \t\r\nA: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \tweb.ns:8000\r\nA: b\r\n\r\n",
    ),
    "HTTP/1.0": (
        b"GET / HTTP/1.0\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: web.ns:8000\r\n\r\n",
    ),
    "lines that all end in LF, as typed into nc": (
        b"GET / HTTP/1.1\nHost: x\nA: b\n\n",
        b"GET / HTTP/1.1\nHost: web.ns:8000\nA: b\n\n",
    ),
    "a URL as target, and the odd method": (
        b"!#$%&'*+-.^_`|~9z http://a/?b=\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"!#$%&'*+-.^_`|~9z http://a/?b=\xc3\xa4 HTTP/1.1\r\nHost: web.ns:8000\r\n\r\n",
    ),
    "a folded field of no consequence": (
        b"GET / HTTP/1.1\r\nA: b\r\n Host: no\r\n\t c\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n Host: no\r\n\t c\r\nHost: web.ns:8000\r\n\r\n",
    ),
    "names that only look like Host": (
        b"GET / HTTP/1.1\r\nX-Host: x\r\nHost-: y\r\nHost: z\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-Host: x\r\nHost-: y\r\nHost: web.ns:8000\r\n\r\n",
    ),
    "a body of known length": (
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 38\r\n\r\n" + GET[:38],
        b"PUT / HTTP/1.1\r\nHost: web.ns:8000\r\nContent-Length: 38\r\n\r\n" + GET[:38],
    ),
    "a chunked body with extensions and trailers": (
        b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n"
        b'3;a="b;c"\r\nHos\r\n00B \t; x\r\nt: a\r\n\r\nabc\r\n0\r\nHost: trailer\r\n\r\n',
        b"PUT / HTTP/1.1\r\nHost: web.ns:8000\r\nTransfer-Encoding: Chunked\r\n\r\n"
        b'3;a="b;c"\r\nHos\r\n00B \t; x\r\nt: a\r\n\r\nabc\r\n0\r\nHost: trailer\r\n\r\n',
    ),
    "empty lines before a request": (b"\r\n" + GET + b"\r\n\r\n", b"\r\n" + GOT + b"\r\n\r\n"),
    "no Host, none is made": (
        b"GET / HTTP/1.0\r\nAccept: */*\r\n\r\n",
        b"GET / HTTP/1.0\r\nAccept: */*\r\n\r\n",
    ),
    "no fields at all": (b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"),
}
rewritten = pytest.mark.parametrize("sent, expected", REWRITTEN.values(), ids=REWRITTEN)


@in_pieces
@rewritten
def test_a_request_gets_the_host_and_nothing_else_changes(
    sent: bytes, expected: bytes, size: Optional[int]
) -> None:
    client = Client()
    client.says(sent, size)
    assert client.out == expected


@in_pieces
@rewritten
def test_the_next_request_of_the_connection_gets_it_too(
    sent: bytes, expected: bytes, size: Optional[int]
) -> None:
    client = Client()
    client.says(sent * 2 + GET, size)
    assert client.out == expected * 2 + GOT
    assert not client.rewriter.finished


@in_pieces
@rewritten
def test_the_end_in_the_middle_of_a_request_lets_out_what_was_held(
    sent: bytes, expected: bytes, size: Optional[int]
) -> None:
    for end in range(len(GET)):
        client = Client()
        client.says(sent + GET[:end], size)
        assert client.ends() == expected + GET[:end]
        assert client.rewriter.finished


@pytest.mark.parametrize("host", ["web.ns", "a-very.long.name.ns:65535"])
def test_the_host_is_what_it_was_given(host: str) -> None:
    client = Client(host)
    client.says(GET)
    assert client.out == GET.replace(b"localhost:9080", host.encode())


def test_a_body_is_passed_on_without_a_copy() -> None:
    sent = bytearray(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(70_000))
    head, body = HostRewriter(HOST).receive_data(memoryview(sent))
    assert head == b"PUT / HTTP/1.1\r\nHost: web.ns:8000\r\nContent-Length: 100000\r\n\r\n"
    assert isinstance(body, memoryview) and body.obj is sent and len(body) == 70_000


def test_only_a_head_waits_to_be_whole() -> None:
    client = Client()
    assert client.says(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r") == b""
    assert client.says(b"\n").endswith(b"Content-Length: 5\r\n\r\n")
    assert client.says(b"a") == b"a"
    assert client.says(b"bcde") == b"bcde"
    assert client.says(b"G") == b""


# What is left alone

OTHER_PROTOCOLS = {
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\n",
    "HTTP/1.10": b"GET / HTTP/1.10\r\n",
    "a response": b"HTTP/1.1 200 OK\r\n",
    "no method": b" / HTTP/1.1\r\n",
    "a method without end": b"A" * 33,
    "no target": b"GET HTTP/1.1\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\n",
    "a tab": b"GET\t/ HTTP/1.1\r\n",
    "a control character in the target": b"GET /\x01",
    "white space at the end": b"GET / HTTP/1.1 \r\n",
    "a bare CR in the line": b"GET / HTTP/1.1\rHost: x\r\r",
    "a bare CR before it": b"\rGET",
    "an LF before it": b"\nGET / HTTP/1.1\n",
    "zeros": bytes(10),
}


@in_pieces
@pytest.mark.parametrize("sent", OTHER_PROTOCOLS.values(), ids=OTHER_PROTOCOLS)
def test_what_is_no_request_goes_on_untouched_and_at_once(sent: bytes, size: Optional[int]) -> None:
    client = Client()
    client.says(sent, size)
    assert client.out == sent, "nothing is held back until the end of the connection"
    assert client.rewriter.finished
    assert client.says(GET) == GET


@in_pieces
@pytest.mark.parametrize("sent", OTHER_PROTOCOLS.values(), ids=OTHER_PROTOCOLS)
def test_the_same_after_a_request(sent: bytes, size: Optional[int]) -> None:
    client = Client()
    client.says(GET + sent, size)
    assert client.out == GOT + sent
    assert client.says(GET) == GET


def head(*fields: bytes, version: bytes = b"1.1", method: bytes = b"POST") -> bytes:
    return b"".join(
        (method, b" / HTTP/", version, b"\r\n", *(f + b"\r\n" for f in fields), b"\r\n")
    )


SMUGGLED = {
    "two Hosts": head(b"Host: a", b"Host: b"),
    "two Hosts alike": head(b"Host: a", b"host: a"),
    "a folded Host": head(b"Host: a\r\n b"),
    "a Host that is all fold": head(b"Host:\r\n b"),
    "white space before the colon": head(b"Host : a"),
    "white space before another field's colon": head(b"Host: a", b"Content-Length : 3"),
    "a fold before the first field": head(b" Host: b", b"Host: a"),
    "a line without a colon": head(b"Host: a", b"Content-Length"),
    "a field without a name": head(b"Host: a", b": b"),
    "a NUL": head(b"Host: a", b"A: \0"),
    "a bare CR in a value": head(b"Host: a", b"A: b\rContent-Length: 3"),
    "a bare CR in a fold": head(b"Host: a", b"A: b\r\n c\rContent-Length: 3"),
    "a NUL in a fold": head(b"Host: a", b"A: b\r\n c\0"),
    "a CR before a CRLF": head(b"Host: a", b"A: b\r"),
    "a bare LF among CRLFs": head(b"Host: a", b"A: b\nC: d"),
    "a CRLF among LFs": b"GET / HTTP/1.1\nHost: a\r\nA: b\n\n",
    "a blank line of LF only": b"GET / HTTP/1.1\r\nHost: a\n\n",
    "a blank line of CRLF only": b"GET / HTTP/1.1\nHost: a\n\r\n",
    "two lengths": head(b"Host: a", b"Content-Length: 3", b"Content-Length: 4"),
    "two lengths alike": head(b"Host: a", b"Content-Length: 3", b"content-length: 3"),
    "a list of lengths": head(b"Host: a", b"Content-Length: 3, 3"),
    "a length with a sign": head(b"Host: a", b"Content-Length: +3"),
    "a negative length": head(b"Host: a", b"Content-Length: -3"),
    "a hexadecimal length": head(b"Host: a", b"Content-Length: 0x3"),
    "a length with a space": head(b"Host: a", b"Content-Length: 1 0"),
    "digits of another script": head(b"Host: a", b"Content-Length: \xd9\xa3"),
    "an empty length": head(b"Host: a", b"Content-Length:"),
    "a huge length": head(b"Host: a", b"Content-Length: " + b"9" * 19),
    "a folded length": head(b"Host: a", b"Content-Length:\r\n 3"),
    "a length and a coding": head(b"Host: a", b"Content-Length: 3", b"Transfer-Encoding: chunked"),
    "a coding and a length": head(b"Transfer-Encoding: chunked", b"Host: a", b"Content-Length: 3"),
    "two codings": head(b"Host: a", b"Transfer-Encoding: gzip, chunked"),
    "chunked twice": head(b"Host: a", b"Transfer-Encoding: chunked, chunked"),
    "two coding fields": head(b"Host: a", *[b"Transfer-Encoding: chunked"] * 2),
    "identity": head(b"Host: a", b"Transfer-Encoding: identity"),
    "almost chunked": head(b"Host: a", b"Transfer-Encoding: xchunked"),
    "chunked behind a control character": head(b"Host: a", b"Transfer-Encoding: \x0bchunked"),
    "chunked in quotes": head(b"Host: a", b'Transfer-Encoding: "chunked"'),
    "an empty coding": head(b"Host: a", b"Transfer-Encoding:"),
    "a folded coding": head(b"Host: a", b"Transfer-Encoding:\r\n chunked"),
    "a coding in HTTP/1.0": head(b"Host: a", b"Transfer-Encoding: chunked", version=b"1.0"),
    "a folded Upgrade": head(b"Host: a", b"Upgrade: a,\r\n b"),
    "CONNECT with a length": head(b"Host: a", b"Content-Length: 3", method=b"CONNECT"),
    "CONNECT with a coding": head(b"Host: a", b"Transfer-Encoding: chunked", method=b"CONNECT"),
    "a head without bound": b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * MAX_HEAD_BYTES,
    "a head one byte too long": head(b"Host: a", b"A: " + b"b" * (MAX_HEAD_BYTES - 32)),
}


@pytest.mark.parametrize("size", [None, 1, 997])
@pytest.mark.parametrize("sent", SMUGGLED.values(), ids=SMUGGLED)
def test_what_could_be_read_in_two_ways_goes_on_as_it_came_and_the_rest_is_raw(
    sent: bytes, size: Optional[int]
) -> None:
    client = Client()
    client.says(GET + sent + b"3\r\nabc\r\n0\r\n\r\n" + GET, size)
    assert client.out == GOT + sent + b"3\r\nabc\r\n0\r\n\r\n" + GET
    assert client.rewriter.finished


def test_the_longest_head_is_still_rewritten() -> None:
    longest = head(b"Host: a", b"A: " + b"b" * (MAX_HEAD_BYTES - 33))
    assert len(longest) == MAX_HEAD_BYTES
    client = Client()
    client.says(longest, 1000)
    assert client.out == longest.replace(b"Host: a", b"Host: web.ns:8000")


BAD_CHUNKS = {
    "no size": b"\r\n",
    "no hexadecimal size": b"g\r\n",
    "a size with a prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a size with a sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "white space before it": b" 3\r\nabc\r\n0\r\n\r\n",
    "white space after it": b"3 \r\nabc\r\n0\r\n\r\n",
    "a huge size": b"1" * 16 + b"\r\n",
    "an LF after it": b"3\nabc\r\n0\r\n\r\n",
    "a CR in an extension": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "an LF in an extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "an extension without bound": b"3;" + b"a" * MAX_LINE_BYTES + b"\r\nabc\r\n0\r\n\r\n",
    "a chunk that is longer than it says": b"3\r\nabcd\r\n0\r\n\r\n",
    "an LF after a chunk": b"3\r\nabc\n0\r\n\r\n",
    "a CR after a chunk": b"3\r\nabc\r0\r\n\r\n",
    "a request among the trailers": b"0\r\nGET / HTTP/1.1\r\n\r\n",
    "a fold among the trailers": b"0\r\nA: b\r\n c\r\n\r\n",
    "an LF among the trailers": b"0\r\nA: b\n\r\n",
    "a blank line of LF": b"0\r\n\n",
    "trailers without bound": b"0\r\n" + b"A: b\r\n" * (MAX_TRAILER_BYTES // 6 + 1) + b"\r\n",
}


@in_pieces
@pytest.mark.parametrize("body", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
def test_a_body_that_could_end_in_two_places_leaves_the_rest_raw(
    body: bytes, size: Optional[int]
) -> None:
    start = b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
    client = Client()
    client.says(start + body + GET, size)
    assert client.out == start.replace(b"Host: x", b"Host: web.ns:8000") + body + GET
    assert client.rewriter.finished


# What the answer decides


def asked(sent: bytes) -> bytes:
    return sent.replace(b"Host: x", b"Host: web.ns:8000")


@in_pieces
@pytest.mark.parametrize("answer", [SWITCHING, b"HTTP/1.1 100 \r\n\r\n" + SWITCHING])
def test_after_a_switch_nothing_is_touched_any_more(answer: bytes, size: Optional[int]) -> None:
    client = Client()
    client.says(UPGRADE, size)
    assert client.out == asked(UPGRADE)
    client.hears(answer + b"\x81\x02hi", size)
    assert client.rewriter.finished
    assert client.says(GET, size) == GET


@in_pieces
def test_what_a_client_says_before_the_switch_waits_for_it_and_comes_out_untouched(
    size: Optional[int],
) -> None:
    client = Client()
    client.says(UPGRADE + GET + b"\0", size)
    assert client.out == asked(UPGRADE)
    assert client.hears(SWITCHING, size) == GET + b"\0"


@in_pieces
def test_a_server_that_ignores_the_upgrade_gets_the_host_in_the_next_request(
    size: Optional[int],
) -> None:
    client = Client()
    client.says(UPGRADE + GET, size)
    assert client.out == asked(UPGRADE)
    assert client.hears(OK, size) == GOT
    assert client.says(GET, size) == GOT


def test_upgrade_may_come_in_several_fields() -> None:
    sent = head(b"Host: x", b"Upgrade: h2c", b"upgrade: websocket")
    client = Client()
    client.says(sent + GET)
    assert client.out == asked(sent)
    assert client.hears(OK) == GOT


@in_pieces
def test_each_of_several_upgrades_waits_for_its_own_answer(size: Optional[int]) -> None:
    client = Client()
    client.says(GET + UPGRADE + UPGRADE + GET, size)
    assert client.out == GOT + asked(UPGRADE)
    assert client.hears(OK, size) == b"", "that was the answer to the first"
    assert client.hears(OK, size) == asked(UPGRADE)
    assert client.hears(OK, size) == GOT


@in_pieces
def test_the_body_of_a_request_that_asks_to_switch_does_not_wait(size: Optional[int]) -> None:
    sent = head(b"Host: x", b"Upgrade: h2c", b"Content-Length: 40") + GET
    client = Client()
    client.says(sent + GET, size)
    assert client.out == asked(sent)
    assert client.hears(OK, size) == GOT


@pytest.mark.parametrize("answer, after", [(SWITCHING, GET), (OK, GOT)])
def test_the_answer_may_come_before_the_body_is_through(answer: bytes, after: bytes) -> None:
    sent = head(b"Host: x", b"Upgrade: h2c", b"Content-Length: 4")
    client = Client()
    client.says(sent + b"ab")
    client.hears(answer)
    assert client.says(b"cd" + GET) == b"cd" + after


@in_pieces
@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 \r\n\r\n", b"HTTP/1.1 204 Yes\r\n\r\n"])
def test_after_a_connect_that_succeeds_nothing_is_touched(
    answer: bytes, size: Optional[int]
) -> None:
    client = Client()
    client.says(CONNECT + GET, size)
    assert client.out == asked(CONNECT)
    assert client.hears(answer, size) == GET


@in_pieces
def test_after_a_connect_that_is_refused_comes_another_request(size: Optional[int]) -> None:
    client = Client()
    client.says(CONNECT + GET, size)
    assert client.hears(b"HTTP/1.1 405 No\r\nContent-Length: 2\r\n\r\nno", size) == GOT


ANSWERS = {
    "a length": (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\nHTTP/1.1 200 OK\r\n"),
    "no body": (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "chunks": (
        GET,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"13\r\nHTTP/1.1 101 No\r\n\r\n\r\n0\r\nA: b\r\n\r\n",
    ),
    "HEAD": (GET.replace(b"GET", b"HEAD"), b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n"),
    "HEAD of chunks": (
        GET.replace(b"GET", b"HEAD"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    "HEAD of the unknown": (GET.replace(b"GET", b"HEAD"), b"HTTP/1.1 200\r\n\r\n"),
    "204": (GET, b"HTTP/1.1 204 No Content\r\n\r\n"),
    "304": (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 17\r\n\r\n"),
    "100 and 103 before it": (
        GET,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK,
    ),
    "LF only": (GET, b"HTTP/1.0 200 OK\nContent-Length: 2\n\nok"),
}


@in_pieces
@pytest.mark.parametrize("request_, answer", ANSWERS.values(), ids=ANSWERS)
def test_answers_are_matched_to_their_requests_before_an_upgrade(
    request_: bytes, answer: bytes, size: Optional[int]
) -> None:
    client = Client()
    client.says(request_ * 2 + UPGRADE + GET)
    client.out = b""
    assert client.hears(answer * 2, size) == b""
    assert client.hears(SWITCHING, size) == GET


@in_pieces
@pytest.mark.parametrize("request_, answer", ANSWERS.values(), ids=ANSWERS)
def test_no_answer_before_it_is_taken_for_that_of_the_upgrade(
    request_: bytes, answer: bytes, size: Optional[int]
) -> None:
    client = Client()
    client.says(request_)
    assert client.hears(answer, size) == b""
    client.says(UPGRADE + GET)
    client.out = b""
    assert client.hears(answer if request_ == GET else OK, size) == GOT


UNCLEAR_ANSWERS = {
    "until the connection closes": b"HTTP/1.1 200 OK\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "a length and a coding": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    ),
    "an unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "a folded length": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok",
    "no HTTP": b"220 smtp.ns ESMTP\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "a status of no class": b"HTTP/1.1 600 What\r\n\r\n",
    "bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n",
    "two answers": OK + OK,
    "a switch that nobody asked for": SWITCHING,
    "a head without bound": b"HTTP/1.1 200 OK\r\nA: " + b"b" * MAX_HEAD_BYTES,
}


@pytest.mark.parametrize("size", [None, 1, 997])
@pytest.mark.parametrize("answer", UNCLEAR_ANSWERS.values(), ids=UNCLEAR_ANSWERS)
def test_where_answers_cannot_be_told_apart_an_upgrade_leaves_the_rest_raw_at_once(
    answer: bytes, size: Optional[int]
) -> None:
    client = Client()
    client.says(GET)
    client.hears(answer, size)
    assert client.says(GET) == GOT, "as long as nobody asks for a switch they do not matter"
    assert client.says(UPGRADE + GET) == asked(UPGRADE) + GET
    assert client.rewriter.finished


@pytest.mark.parametrize("size", [None, 1, 997])
@pytest.mark.parametrize(
    "answer",
    [each for name, each in UNCLEAR_ANSWERS.items() if name not in ("two answers", "bad chunks")],
)
def test_what_waits_for_an_answer_comes_out_untouched_when_it_cannot_be_told(
    answer: bytes, size: Optional[int]
) -> None:
    client = Client()
    client.says(GET + UPGRADE + GET)
    assert client.hears(answer, size) == GET


def test_the_end_of_the_server_lets_out_what_waits() -> None:
    client = Client()
    client.says(UPGRADE + GET)
    client.out = joined(client.rewriter.observe(memoryview(b"")))
    assert client.out == GET
    assert client.rewriter.finished


def test_the_end_of_the_server_after_its_answer_leaves_requests_as_they_were() -> None:
    client = Client()
    client.says(UPGRADE)
    client.hears(OK)
    assert client.rewriter.observe(memoryview(b"")) == []
    assert client.says(GET) == GOT


def test_the_end_of_the_client_lets_out_what_waits() -> None:
    client = Client()
    client.says(UPGRADE + GET)
    assert client.ends() == asked(UPGRADE) + GET
    assert client.hears(OK) == b""
    assert client.rewriter.finished


def test_a_client_that_says_much_before_the_answer_is_not_read_until_it_is_there() -> None:
    client = Client()
    client.says(UPGRADE)
    assert client.rewriter.wants_data
    client.says(bytes(HELD_BYTES - 1))
    assert client.rewriter.wants_data
    client.says(b"x")
    assert not client.rewriter.wants_data
    assert client.hears(SWITCHING) == bytes(HELD_BYTES - 1) + b"x"
    assert client.rewriter.wants_data


def test_what_waited_can_ask_for_the_next_switch() -> None:
    client = Client()
    client.says(UPGRADE + (UPGRADE + GET) * 600)
    assert not client.rewriter.wants_data
    client.hears(OK)
    client.hears(OK)
    for _ in range(599):
        client.hears(OK + OK)
    assert client.out == asked(UPGRADE) + (asked(UPGRADE) + GOT) * 600
    assert client.rewriter.wants_data


def test_more_requests_without_an_answer_than_are_counted_are_still_rewritten() -> None:
    client = Client()
    client.says(GET * (MAX_EXPECTED + 1))
    client.says(GET)
    assert client.out == GOT * (MAX_EXPECTED + 2)
    assert client.says(UPGRADE + GET) == asked(UPGRADE) + GET


# Any stream, split anywhere

tokens = st.from_regex(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,12}", fullmatch=True)
values = st.from_regex(rb"[ \t]{0,3}[\x21-\x7e\x80-\xff \t]{0,20}", fullmatch=True)
MATTERS = {b"host", b"content-length", b"transfer-encoding", b"upgrade"}
fields = st.lists(
    st.tuples(tokens.filter(lambda name: name.lower() not in MATTERS), values), max_size=4
)
cases = st.integers(0, (1 << 20) - 1)  # a bit for each letter of a name


def in_case(name: bytes, upper: int) -> bytes:
    chars = enumerate(name.decode())
    return "".join(char.upper() if upper >> at & 1 else char for at, char in chars).encode()


@dataclass(frozen=True)
class Told:
    """One request: as the client sends it, as the server gets it, and the answer."""

    sent: bytes
    expected: bytes
    answer: bytes = b""


@st.composite
def bodies(draw: st.DrawFn, upper: int) -> tuple[list[bytes], bytes]:
    """Field lines, and the body that they announce."""
    kind = draw(st.sampled_from(["none", "length", "chunked"]))
    if kind == "none":
        return [], b""
    if kind == "length":
        body = draw(st.binary(max_size=60) | st.just(GET))
        return [in_case(b"content-length", upper) + b": %d \t" % len(body)], body
    chunks = draw(st.lists(st.binary(min_size=1, max_size=20) | st.just(GET), max_size=3))
    extension = draw(st.sampled_from([b"", b";a", b' ; a="b"', b"; Host: x"]))
    trailers = draw(st.sampled_from([b"", b"Host: x\r\n", b"A:b\r\nC: d \r\n"]))
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    return (
        [in_case(b"transfer-encoding", upper) + b":" + in_case(b"chunked", upper)],
        body + b"0" * draw(st.integers(1, 3)) + extension + b"\r\n" + trailers + b"\r\n",
    )


@st.composite
def requests(draw: st.DrawFn, switch: bool = False) -> Told:
    upper = draw(cases)
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"M-SEARCH"]))
    lines = [name + b":" + value for name, value in draw(fields)]
    framing, body = draw(bodies(upper))
    lines += framing
    if switch:
        lines.append(in_case(b"upgrade", upper) + b": h2c")
    start = draw(st.sampled_from([b"", b"\r\n"])) + method + b" /%b HTTP/1.1\r\n" % draw(tokens)
    rest = b"".join(line + b"\r\n" for line in lines)
    if not draw(st.booleans()):
        return Told(start + rest + b"\r\n" + body, start + rest + b"\r\n" + body)
    name = in_case(b"host", upper) + b":" + draw(st.sampled_from([b"", b" ", b" \t "]))
    given_ = draw(st.sampled_from([b"localhost:9080", b"[::1]:9080", b"x", b"a, b"]))
    at = draw(st.integers(0, len(lines)))
    sent, expected = (
        start
        + b"".join(line + b"\r\n" for line in [*lines[:at], name + value, *lines[at:]])
        + b"\r\n"
        + body
        for value in (given_, HOST.encode())
    )
    return Told(sent, expected)


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """`data` in pieces, none of them empty."""
    places = draw(st.sets(st.integers(1, max(len(data) - 1, 1)), max_size=12))
    ends = [*sorted(places), len(data)]
    return [data[a:b] for a, b in zip([0, *ends], ends) if a < b]


@settings(max_examples=150)
@given(st.data())
def test_any_pipeline_split_anywhere_is_rewritten_as_if_each_request_came_alone(
    data: st.DataObject,
) -> None:
    told = data.draw(st.lists(requests(), min_size=1, max_size=4))
    client = Client()
    for piece in data.draw(cut(b"".join(each.sent for each in told))):
        client.says(piece)
    assert client.out == b"".join(each.expected for each in told)
    assert not client.rewriter.finished


@st.composite
def answered(draw: st.DrawFn) -> Told:
    """A request that may ask for a switch, and an answer that does not agree."""
    told = draw(requests(switch=draw(st.booleans())))
    body = draw(st.binary(max_size=30) | st.just(SWITCHING))
    before = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    status = before + b"HTTP/1.1 200 OK\r\n"
    if told.sent.lstrip().startswith(b"HEAD"):
        answer = status + b"Content-Length: 7\r\n\r\n"
    elif draw(st.booleans()):
        answer = status + b"Content-Length: %d\r\n\r\n" % len(body) + body
    else:
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        answer = status + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n"
    return Told(told.sent, told.expected, answer)


@settings(max_examples=150)
@given(st.data())
def test_whenever_answers_come_every_request_gets_its_host_until_one_switches(
    data: st.DataObject,
) -> None:
    told = data.draw(st.lists(answered(), min_size=1, max_size=5))
    switches = data.draw(st.booleans())
    tail = b""
    if switches:
        told.append(Told(UPGRADE, asked(UPGRADE), SWITCHING))
        tail = data.draw(st.binary(max_size=20) | st.just(GET))
    client = Client()
    pending = data.draw(cut(b"".join(each.sent for each in told) + tail))
    unanswered, got = list(told), 0
    while pending or unanswered:
        if pending:
            client.says(pending.pop(0))
        while unanswered and len(client.out) >= got + len(unanswered[0].expected):
            if len(pending) and data.draw(st.booleans()):
                break
            got += len(unanswered[0].expected)
            for piece in data.draw(cut(unanswered.pop(0).answer)):
                client.hears(piece)
    assert client.out == b"".join(each.expected for each in told) + tail
    assert client.rewriter.finished is switches


# Whatever comes

SCRAPS = [
    *(GET, UPGRADE, CONNECT, OK, SWITCHING),
    *(b"\r\n", b"\n", b"\r", b" ", b":", b"\0", b"Host: x", b"5\r\nabcde\r\n", b"0\r\n\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"GET / HTTP/1.1\r\n"),
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
]
scraps = st.lists(st.sampled_from(SCRAPS) | st.binary(max_size=8), max_size=12).map(b"".join)
REQUEST_LINE = re.compile(rb"(?:\r\n)*[!-~]+ [!-~\x80-\xff]+ HTTP/1\.[01]\r?\n")


@settings(max_examples=300)
@given(st.data())
def test_where_the_host_is_already_right_anything_goes_through_unchanged(
    data: st.DataObject,
) -> None:
    sent = data.draw(scraps)
    sent = re.sub(rb"(?i)(host:[ \t]*)[^\r\n]*", lambda m: m[1] + HOST.encode(), sent)
    answers = data.draw(st.lists(scraps, max_size=3))
    client = Client()
    for piece in data.draw(cut(sent)):
        client.says(piece)
        if len(answers) and data.draw(st.booleans()):
            client.hears(answers.pop())
    assert sent.startswith(client.out)
    assert client.ends() == sent


@settings(max_examples=300)
@given(st.data())
def test_garbage_comes_out_as_it_went_in(data: st.DataObject) -> None:
    sent = data.draw((st.binary(max_size=80) | scraps).filter(lambda s: not REQUEST_LINE.match(s)))
    client = Client()
    for piece in data.draw(cut(sent)):
        client.says(piece)
    assert client.ends() == sent


@settings(max_examples=200)
@given(st.data())
def test_how_it_is_split_makes_no_difference(data: st.DataObject) -> None:
    sent = data.draw(scraps)
    whole, split = Client(), Client()
    whole.says(sent)
    for piece in data.draw(cut(sent)):
        split.says(piece)
    assert (split.out, split.rewriter.finished) == (whole.out, whole.rewriter.finished)
    assert split.ends() == whole.ends()
