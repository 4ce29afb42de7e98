"""DNS answers from anybody: what is asked is understood, and nothing else is believed."""

from __future__ import annotations

import contextlib
import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ngrokd.errors import ProtocolError
from ngrokd.host.dns import Answer, Kind, Question, decode, encode, number_of

ASKED = Question(0x1234, "db.example.com", Kind.A)
NAME = b"\x02db\x07example\x03com\x00"
POINTER = b"\xc0\x0c"  # to the name of the question
CNAME = 5


def record(kind: int, data: bytes, name: bytes = POINTER, family: int = 1) -> bytes:
    return name + struct.pack("!2HIH", kind, family, 300, len(data)) + data


def message(*records: bytes, flags: int = 0x8180, asked: bytes = NAME, count: int = -1) -> bytes:
    count = len(records) if count < 0 else count
    header = struct.pack("!6H", ASKED.number, flags, 1, count, 0, 0)
    return header + asked + struct.pack("!2H", Kind.A, 1) + b"".join(records)


def test_a_question_is_what_a_resolver_sends() -> None:
    assert encode(ASKED) == b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0" + NAME + b"\0\x01\0\x01"
    assert encode(Question(1, "a.b", Kind.AAAA)).endswith(b"\x01a\x01b\0\0\x1c\0\x01")


def test_addresses_are_read_also_behind_aliases() -> None:
    alias = record(CNAME, b"\x03web" + POINTER)
    answer = message(alias, record(1, bytes([93, 184, 216, 34]), name=b"\x03web" + POINTER))
    assert decode(answer, ASKED) == Answer(True, ("93.184.216.34",))


def test_addresses_of_ipv6_are_read() -> None:
    asked = Question(ASKED.number, ASKED.name, Kind.AAAA)
    raw = ipaddress.ip_address("2001:db8::1").packed
    header = struct.pack("!6H", ASKED.number, 0x8180, 1, 1, 0, 0)
    answer = header + NAME + b"\0\x1c\0\x01" + record(28, raw)
    assert decode(answer, asked) == Answer(True, ("2001:db8::1",))


@pytest.mark.parametrize(
    ("flags", "certain"),
    [
        (0x8183, True),  # no such name
        (0x8180, True),  # no address of this kind
        (0x8182, False),  # the server failed
        (0x8185, False),  # refused
        (0x8380, False),  # cut before the first record
    ],
)
def test_nothing_is_told_from_not_known(flags: int, certain: bool) -> None:
    assert decode(message(flags=flags), ASKED) == Answer(certain)


def test_capitals_in_the_name_that_comes_back_are_no_other_name() -> None:
    assert decode(message(asked=NAME.replace(b"db", b"dB")), ASKED) == Answer(True)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x12\x34",
        message(flags=0x0100),  # our own question
        message(asked=b"\x02xx\x07example\x03com\x00"),
        b"\x43\x21" + message()[2:],
        message(record(1, b"\x01\x02\x03")),
        message(record(1, b"abcd", name=b"\x80x")),
        message(record(1, b"abcd", name=b"\x3f" + b"x" * 63 + b"\x3f" * 300)),
    ],
)
def test_what_is_no_answer_to_the_question_is_refused(answer: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(answer, ASKED)


@pytest.mark.parametrize("at", [0, 12, 33, 0x3FFF])
def test_a_pointer_to_anywhere_loops_nowhere(at: int) -> None:
    pointer = struct.pack("!H", 0xC000 | at)
    answer = message(record(1, bytes([192, 0, 2, 1]), name=pointer))
    assert decode(answer, ASKED) == Answer(True, ("192.0.2.1",))


def test_of_a_message_that_was_cut_what_is_whole_counts() -> None:
    whole = message(record(1, bytes([192, 0, 2, 1])), record(1, bytes([192, 0, 2, 2])))
    cut = [decode(whole[:end], ASKED).addresses for end in range(len(message()), len(whole))]
    assert set(cut) == {(), ("192.0.2.1",)}


def test_more_records_than_there_are_can_be_promised() -> None:
    answer = message(record(1, bytes([192, 0, 2, 1])), count=0xFFFF)
    assert decode(answer, ASKED) == Answer(True, ("192.0.2.1",))


def test_records_of_other_classes_and_kinds_are_passed_over() -> None:
    others = record(1, b"abcd", family=3), record(16, b"\x04text")
    assert decode(message(*others), ASKED) == Answer(True)


@given(st.binary(max_size=600), st.integers(0, 0xFFFF))
@example(b"\xc0\x0c" * 200, 0xFFFF)
def test_any_bytes_behind_a_right_question_are_an_answer_or_a_protocol_error(
    tail: bytes, count: int
) -> None:
    try:
        answer = decode(message(tail, count=count), ASKED)
    except ProtocolError:
        return
    for address in answer.addresses:
        ipaddress.IPv4Address(address)


@given(st.binary(max_size=600))
def test_any_bytes_at_all_are_an_answer_or_a_protocol_error(data: bytes) -> None:
    for ask in (number_of, lambda raw: decode(raw, ASKED)):
        with contextlib.suppress(ProtocolError):
            ask(data)
