"""One JSON line in, one JSON line out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.control import protocol
from ngrokd.control.protocol import (
    MAX_REQUEST_BYTES,
    Request,
    RequestReader,
    encode_error,
    encode_request,
    encode_success,
    parse_request,
    parse_response,
)
from ngrokd.errors import ControlError, ProtocolError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def _lines(reader: RequestReader) -> list[bytes]:
    return list(iter(reader.next_line, None))


def test_a_command_with_its_arguments_is_understood() -> None:
    assert parse_request(b'{"command": "set-api-key", "args": ["k"]}') == Request(
        "set-api-key", ("k",)
    )


@pytest.mark.parametrize("line", [b'{"command":"list"}', b'{"command":"list","args":null}\r'])
def test_arguments_may_be_left_out(line: bytes) -> None:
    assert parse_request(line) == Request("list", ())


def test_a_request_shows_no_argument_in_a_log() -> None:
    assert "secret" not in repr(parse_request(b'{"command":"set-api-key","args":["secret"]}'))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"null",
        b'{"command": 1}',
        b'{"command": ""}',
        b'{"command": "list", "args": "x"}',
        b'{"command": "list", "args": [1]}',
        b'{"command": "list", "args": {}}',
        b'{"command": "list"',
        b'{"command": "list"} {"command": "list"}',
        b'{"command": "\\ud800"}',
        b'{"command": "list", "args": ["\\udfff"]}',
        b"[" * MAX_REQUEST_BYTES,
        b'{"command":' * 5000,
        b"1" * 10000,
    ],
)
def test_anything_else_is_a_bad_request(line: bytes) -> None:
    with pytest.raises(ControlError) as refused:
        parse_request(line)
    assert refused.value.code == "bad_request"


@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_input_gives_anything_but_a_request_or_a_bad_request(line: bytes) -> None:
    try:
        request = parse_request(line)
    except ControlError as exc:
        assert exc.code == "bad_request"
        assert encode_error(exc.code, str(exc)).count(b"\n") == 1
    else:
        assert parse_request(encode_request(request.command, request.args)) == request


def test_lines_are_cut_wherever_the_bytes_were() -> None:
    whole = b'{"a":1}\n\n \r\n{"b":2} \r\nrest'
    for cut in range(1, len(whole)):
        reader = RequestReader()
        got = []
        for piece in (whole[:cut], whole[cut:]):
            reader.receive_data(piece)
            got += _lines(reader)
        reader.receive_data(b"")
        got += _lines(reader)
        assert [line.strip() for line in got] == [b'{"a":1}', b"", b"", b'{"b":2}', b"rest"]


@pytest.mark.parametrize("rest", [b"\n", b"\r\n", b" \n", b""])
def test_the_end_of_the_line_of_an_object_already_taken_is_no_request(rest: bytes) -> None:
    reader = RequestReader()
    reader.receive_data(b'{"a":1}')
    assert _lines(reader) == [b'{"a":1}']
    for byte in rest:
        reader.receive_data(bytes([byte]))
        assert _lines(reader) == []
    reader.receive_data(b'{"b":2}')
    assert _lines(reader) == [b'{"b":2}']
    reader.receive_data(b"\n\n ")
    assert _lines(reader) == [b""]
    reader.receive_data(b"")
    assert _lines(reader) == [b" "]


def test_blank_bytes_without_a_newline_are_bounded_too() -> None:
    reader = RequestReader()
    reader.receive_data(b'{"a":1}')
    assert _lines(reader) == [b'{"a":1}']
    reader.receive_data(b" " * (MAX_REQUEST_BYTES + 1))
    with pytest.raises(ControlError):
        _lines(reader)


def test_one_byte_at_a_time_gives_the_same_lines() -> None:
    reader = RequestReader()
    got = []
    for byte in b'{"a":{"b":1}}\nx\n':
        reader.receive_data(bytes([byte]))
        got += _lines(reader)
    assert got == [b'{"a":{"b":1}}', b"x"]


def test_an_object_without_a_newline_is_a_request_once_it_is_complete() -> None:
    reader = RequestReader()
    reader.receive_data(b'{"command":"list","args":[{}')
    assert reader.next_line() is None
    reader.receive_data(b"]}")
    assert reader.next_line() == b'{"command":"list","args":[{}]}'


def test_an_object_that_python_does_not_take_is_a_request_too_and_a_bad_one() -> None:
    for text in (b'{"command":' * 5_000 + b"1" + b"}" * 5_000, b'{"x":' + b"9" * 60_000 + b"}"):
        reader = RequestReader()
        reader.receive_data(text)
        assert reader.next_line() == text
        with pytest.raises(ControlError):
            parse_request(text)


def test_a_request_that_drips_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def note(line: bytes) -> bool:
        parsed.append(line)
        return True

    monkeypatch.setattr(protocol, "_is_object", note)
    reader = RequestReader()
    for piece in [b'{"a":[', *[b"{}", b","] * 1_000, b"{}]", b" "]:
        reader.receive_data(piece)
        assert reader.next_line() is None
    assert parsed == []
    reader.receive_data(b"}")
    assert reader.next_line() is not None
    assert len(parsed) == 1


def test_the_end_of_data_ends_the_last_line_too() -> None:
    reader = RequestReader()
    reader.receive_data(b"half")
    assert reader.next_line() is None
    reader.receive_data(b"")
    assert reader.next_line() == b"half"
    assert reader.next_line() is None


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_of_the_largest_size_passes_and_one_more_byte_does_not(end: bytes) -> None:
    reader = RequestReader()
    reader.receive_data(b"x" * MAX_REQUEST_BYTES + b"\n")
    assert reader.next_line() == b"x" * MAX_REQUEST_BYTES
    reader.receive_data(b"x" * (MAX_REQUEST_BYTES + 1) + end)
    with pytest.raises(ControlError) as refused:
        reader.next_line()
    assert refused.value.code == "too_large"
    with pytest.raises(ProtocolError):
        reader.next_line()


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_the_reader_never_loses_or_invents_a_byte_of_a_line(pieces: list[bytes]) -> None:
    reader = RequestReader()
    got = []
    for piece in pieces:
        if piece:
            reader.receive_data(piece)
            got += _lines(reader)
    reader.receive_data(b"")
    got += _lines(reader)
    assert b"".join(b"".join(got).split()) == b"".join(b"".join(pieces).split())


@given(json_values)
def test_an_answer_is_one_line_and_reads_back(data: object) -> None:
    try:
        line = encode_success(data)
    except ValueError:
        return  # NaN and infinity are not JSON
    assert line.count(b"\n") == 1
    assert parse_response(line) == data


def test_a_refusal_keeps_its_code_and_text() -> None:
    with pytest.raises(ControlError, match="no\nway") as refused:
        parse_response(encode_error("busy", "no\nway"))
    assert refused.value.code == "busy"


@pytest.mark.parametrize("line", [b"", b"x\n", b"[]\n", b"{}\n", b'{"success":1}\n', b"[" * 9999])
def test_what_is_no_answer_of_ours_is_told(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_response(line)
