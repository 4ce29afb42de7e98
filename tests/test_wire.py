"""The upgrade frames, as bytes."""

from __future__ import annotations

from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.errors import ProtocolError
from ngrokd.forward import wire
from ngrokd.model import Target

REQUEST = bytes.fromhex("0900 0a04612e6e73 108927".replace(" ", ""))  # seen on a real wire

REFUSED = wire.ConnResponse(error_code="ERR_NGROK_706", error_message="not found")
ACCEPTED = wire.ConnResponse("ep_1", "tcp", notices=("first", "second"))

UNKNOWN_FIELDS = {
    "varint": b"\x50\x96\x01",
    "fixed64": b"\x51" + bytes(8),
    "bytes": b"\x52\x03abc",
    "group": b"\x53" + b"\x08\x01" + b"\x0b\x12\x01x\x0c" + b"\x54",
    "fixed32": b"\x55" + bytes(4),
    "a known number as a varint": b"\x08\x07",
}


def frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(2, "little") + payload


def read_response(data: bytes, size: Optional[int] = None) -> tuple[wire.ConnResponse, bytes]:
    """What a reader makes of `data` fed in pieces of `size`, and what came after the frame."""
    reader = wire.ResponseReader()
    size = size or len(data)
    for start in range(0, len(data), size):
        response = reader.receive_data(data[start : start + size])
        if response is not None:
            return response, reader.leftover + data[start + size :]
    raise AssertionError("the reader wanted more")


def test_a_request_is_encoded_as_the_go_client_does() -> None:
    assert wire.encode_request(Target("a.ns", 5001)) == REQUEST


def test_a_request_is_decoded() -> None:
    assert wire.RequestReader().receive_data(REQUEST) == Target("a.ns", 5001)


def test_a_request_with_an_empty_pod_identity_is_decoded() -> None:
    assert wire.RequestReader().receive_data(frame(REQUEST[2:] + b"\x1a\x00")) == Target(
        "a.ns", 5001
    )


@pytest.mark.parametrize("response", [REFUSED, ACCEPTED, wire.ConnResponse()])
@pytest.mark.parametrize("size", [None, 1, 3])
@pytest.mark.parametrize("trailing", [b"", b"payload"])
def test_a_response_is_read_however_it_is_cut(
    response: wire.ConnResponse, size: Optional[int], trailing: bytes
) -> None:
    assert read_response(wire.encode_response(response) + trailing, size) == (response, trailing)


@pytest.mark.parametrize("unknown", UNKNOWN_FIELDS.values(), ids=UNKNOWN_FIELDS.keys())
def test_unknown_fields_are_skipped_before_between_and_after(unknown: bytes) -> None:
    code, message = b"\x1a\x01E", b"\x22\x01m"

    response, _ = read_response(frame(unknown + code + unknown + message + unknown))

    assert response == wire.ConnResponse(error_code="E", error_message="m")


@pytest.mark.parametrize("response", [wire.ConnResponse(error_message="m"), REFUSED])
def test_either_error_field_refuses(response: wire.ConnResponse) -> None:
    assert response.refused


def test_notices_alone_do_not_refuse() -> None:
    assert not ACCEPTED.refused


def test_the_last_of_a_repeated_single_field_counts() -> None:
    assert read_response(frame(b"\x1a\x01A\x1a\x01B"))[0].error_code == "B"


def test_damaged_utf8_in_a_message_is_shown_rather_than_lost() -> None:
    assert read_response(frame(b"\x22\x02m\xff"))[0].error_message == "m\ufffd"


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\x0a\x05ab", id="a string longer than its message"),
        pytest.param(b"\x08" + b"\xff" * 11, id="a varint without end"),
        pytest.param(b"\x08" + b"\xff" * 9 + b"\x7f", id="a varint of more than 64 bits"),
        pytest.param(b"\x08", id="a key without a value"),
        pytest.param(b"\x02\x00", id="field number 0"),
        pytest.param(b"\x0c", id="the end of a group that is not open"),
        pytest.param(b"\x0b", id="a group without end"),
        pytest.param(b"\x0b\x14", id="a group that ends as another"),
        pytest.param(b"\x0b" * 200, id="groups nested deeply"),
        pytest.param(b"\x0e", id="wire type 6"),
        pytest.param(b"\x0f", id="wire type 7"),
        pytest.param(b"\x51" + bytes(7), id="a short fixed64"),
        pytest.param(b"\x55" + bytes(3), id="a short fixed32"),
        pytest.param(b"\x2a\x02\x0a\x09", id="a damaged notice"),
    ],
)
def test_a_broken_message_is_a_protocol_error(payload: bytes) -> None:
    reader = wire.ResponseReader()

    with pytest.raises(ProtocolError):
        reader.receive_data(frame(payload))
    with pytest.raises(ProtocolError):
        reader.receive_data(b"more")


@pytest.mark.parametrize("received", [b"", b"\x09", REQUEST[:-1]])
def test_the_end_of_the_connection_before_the_frame_is_whole_is_a_protocol_error(
    received: bytes,
) -> None:
    reader = wire.RequestReader()
    for byte in received:
        assert reader.receive_data(bytes([byte])) is None

    with pytest.raises(ProtocolError, match="ended"):
        reader.receive_data(b"")


@pytest.mark.parametrize("hostname", ["x" * 65531, "\ud800"])
def test_a_target_that_fits_no_frame_is_refused(hostname: str) -> None:
    with pytest.raises(ProtocolError):
        wire.encode_request(Target(hostname, 1))


def test_the_largest_frame_is_read_back() -> None:
    target = Target("x" * 65525, 443)

    assert wire.RequestReader().receive_data(wire.encode_request(target)) == target


TEXTS = st.text(max_size=60)


@given(st.builds(Target, TEXTS, st.integers(0, 65535)))
def test_every_request_comes_back(target: Target) -> None:
    assert wire.RequestReader().receive_data(wire.encode_request(target)) == target


@given(
    st.builds(
        wire.ConnResponse, TEXTS, TEXTS, TEXTS, TEXTS, st.lists(TEXTS, max_size=4).map(tuple)
    )
)
def test_every_response_comes_back(response: wire.ConnResponse) -> None:
    assert wire.ResponseReader().receive_data(wire.encode_response(response)) == response


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_random_bytes_give_a_value_none_or_a_protocol_error(pieces: list[bytes]) -> None:
    for reader in (wire.ResponseReader(), wire.RequestReader()):
        try:
            for piece in pieces:
                assert isinstance(
                    reader.receive_data(piece), (type(None), wire.ConnResponse, Target)
                )
        except ProtocolError:
            continue


@given(st.binary(max_size=80))
def test_random_messages_give_a_value_or_a_protocol_error(payload: bytes) -> None:
    for reader in (wire.ResponseReader(), wire.RequestReader()):
        try:
            assert reader.receive_data(frame(payload)) is not None
        except ProtocolError:
            continue
