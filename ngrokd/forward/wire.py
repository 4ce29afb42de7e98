"""The upgrade exchange of ngrok's binding ingress: one request frame, one response frame.

A frame is a little-endian uint16 length and that many bytes of proto3 (package `agent`). Both
messages are so small that they are coded here by hand. What follows the response is payload.
Source: ngrok-operator `internal/mux/header.go` and `internal/pb_agent/conn_header.proto`.

Theory of operation: a reader is fed by `receive_data` and gives `None` (more bytes, please), the
message (then `leftover` holds what came after the frame), or `ProtocolError`. `b""` is EOF. After a
message or an error the reader is finished, and feeding it again raises `ProtocolError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Optional, TypeVar, Union

from ngrokd.errors import ProtocolError
from ngrokd.model import Target

MAX_PAYLOAD_BYTES = 0xFFFF  # what the uint16 can say; the Go clients truncate it silently
LENGTH_BYTES = 2
MAX_VARINT_BYTES = 10  # 64 bits, 7 a byte
MAX_GROUP_DEPTH = 32  # proto2 groups are long gone; protobuf's own default limit is 100

VARINT, FIXED64, BYTES, START_GROUP, END_GROUP, FIXED32 = range(6)

REQUEST_HOST, REQUEST_PORT = 1, 2
RESPONSE_ENDPOINT_ID, RESPONSE_PROTO = 1, 2
RESPONSE_CODE, RESPONSE_MESSAGE, RESPONSE_NOTICE = 3, 4, 5
NOTICE_MESSAGE = 1

Message = TypeVar("Message")


@dataclass(frozen=True)
class ConnResponse:
    """The ingress's answer. `notices` are warnings for the operator; the connection goes on."""

    endpoint_id: str = ""
    proto: str = ""
    error_code: str = ""
    error_message: str = ""
    notices: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Either error field decides (header.go)."""
        return bool(self.error_code or self.error_message)


def encode_request(target: Target) -> bytes:
    """The whole request frame. `ProtocolError` if the target does not fit one."""
    return _frame(
        _string_field(REQUEST_HOST, target.hostname) + _varint_field(REQUEST_PORT, target.port)
    )


def decode_request(payload: bytes) -> Target:
    """The request in a frame's payload (without its length); absent fields are "" and 0."""
    hostname, port = "", 0
    for number, value in _fields(payload):
        if number == REQUEST_HOST and isinstance(value, bytes):
            hostname = _text(value)
        elif number == REQUEST_PORT and isinstance(value, int):
            port = _signed(value)
    return Target(hostname, port)


def encode_response(response: ConnResponse) -> bytes:
    """The whole response frame. `ProtocolError` if the texts do not fit one."""
    notices = (_string_field(NOTICE_MESSAGE, notice) for notice in response.notices)
    return _frame(
        _string_field(RESPONSE_ENDPOINT_ID, response.endpoint_id)
        + _string_field(RESPONSE_PROTO, response.proto)
        + _string_field(RESPONSE_CODE, response.error_code)
        + _string_field(RESPONSE_MESSAGE, response.error_message)
        + b"".join(_bytes_field(RESPONSE_NOTICE, notice) for notice in notices)
    )


def decode_response(payload: bytes) -> ConnResponse:
    """The response in a frame's payload (without its length)."""
    texts: dict[int, str] = {}
    notices: list[str] = []
    for number, value in _fields(payload):
        if not isinstance(value, bytes):
            continue
        if number == RESPONSE_NOTICE:
            notices.append(_decode_notice(value))
        elif RESPONSE_ENDPOINT_ID <= number <= RESPONSE_MESSAGE:
            texts[number] = _text(value)
    return ConnResponse(
        texts.get(RESPONSE_ENDPOINT_ID, ""),
        texts.get(RESPONSE_PROTO, ""),
        texts.get(RESPONSE_CODE, ""),
        texts.get(RESPONSE_MESSAGE, ""),
        tuple(notices),
    )


class _FrameReader(Generic[Message]):
    """One frame, read as its bytes come. Owner: whoever made it."""

    def __init__(self, decode: Callable[[bytes], Message]) -> None:
        self._decode = decode
        self._buffer = bytearray()
        self._finished = False

    @property
    def leftover(self) -> bytes:
        """The bytes after the frame; empty until the message has been given."""
        return bytes(self._buffer) if self._finished else b""

    @property
    def begun(self) -> bool:
        """A part of the frame has come."""
        return bool(self._buffer) and not self._finished

    def receive_data(self, data: Union[bytes, bytearray, memoryview]) -> Optional[Message]:
        """Feed what came (`b""`: EOF); the message once it is whole, `None` before."""
        if self._finished:
            raise ProtocolError("the frame has already been read")
        try:
            return self._read(data)
        except ProtocolError:
            self._finished = True
            self._buffer.clear()
            raise

    def _read(self, data: Union[bytes, bytearray, memoryview]) -> Optional[Message]:
        if not len(data):
            raise ProtocolError(
                "the connection ended in the middle of the upgrade"
                if self._buffer
                else "the connection ended before the upgrade"
            )
        self._buffer += data
        if len(self._buffer) < LENGTH_BYTES:
            return None
        end = LENGTH_BYTES + int.from_bytes(self._buffer[:LENGTH_BYTES], "little")
        if len(self._buffer) < end:
            return None
        message = self._decode(bytes(self._buffer[LENGTH_BYTES:end]))
        del self._buffer[:end]
        self._finished = True
        return message


class ResponseReader(_FrameReader[ConnResponse]):
    """Reads the ingress's answer. Owner: the tunnel that waits for it."""

    def __init__(self) -> None:
        super().__init__(decode_response)


class RequestReader(_FrameReader[Target]):
    """Reads a client's request, for an ingress. Owner: the connection it came on."""

    def __init__(self) -> None:
        super().__init__(decode_request)


# Writing


def _frame(payload: bytes) -> bytes:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ProtocolError(
            f"an upgrade frame of {len(payload)} bytes does not fit its {MAX_PAYLOAD_BYTES}"
        )
    return len(payload).to_bytes(LENGTH_BYTES, "little") + payload


def _string_field(number: int, text: str) -> bytes:
    try:
        raw = text.encode()
    except UnicodeEncodeError as exc:
        raise ProtocolError(f"not a text that can be sent: {text!a}") from exc
    return _bytes_field(number, raw) if raw else b""  # proto3 leaves defaults out


def _bytes_field(number: int, raw: bytes) -> bytes:
    return _varint(number << 3 | BYTES) + _varint(len(raw)) + raw


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3 | VARINT) + _varint(value) if value else b""


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # a negative int64 is its two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


# Reading


def _decode_notice(payload: bytes) -> str:
    message = ""
    for number, value in _fields(payload):
        if number == NOTICE_MESSAGE and isinstance(value, bytes):
            message = _text(value)
    return message


def _text(raw: bytes) -> str:
    """A text from the peer: damaged UTF-8 is shown as such rather than hiding what was said."""
    return raw.decode("utf-8", "replace")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _fields(payload: bytes) -> Iterator[tuple[int, Union[int, bytes]]]:
    """Each (number, value) at the top level: varint and fixed as int, length-delimited as bytes.

    Groups are skipped whole. A known number with an unexpected wire type is the caller's to ignore,
    as every protobuf library does.
    """
    at = 0
    while at < len(payload):
        number, wire_type, at = _read_key(payload, at)
        if wire_type == START_GROUP:
            at = _skip_group(payload, at, number)
        else:
            value, at = _read_value(payload, at, wire_type)
            yield number, value


def _skip_group(payload: bytes, at: int, number: int) -> int:
    """The place after the group `number`, whose start key ended at `at`."""
    open_groups = [number]
    while open_groups:
        number, wire_type, at = _read_key(payload, at)
        if wire_type == START_GROUP:
            open_groups.append(number)
            if len(open_groups) > MAX_GROUP_DEPTH:
                raise ProtocolError("groups nested too deeply")
        elif wire_type == END_GROUP:
            if number != open_groups.pop():
                raise ProtocolError("a group ends that is not open")
        else:
            _, at = _read_value(payload, at, wire_type)
    return at


def _read_key(payload: bytes, at: int) -> tuple[int, int, int]:
    key, at = _read_varint(payload, at)
    number = key >> 3
    if not 0 < number < 1 << 29:
        raise ProtocolError(f"field number {number} is not allowed")
    return number, key & 7, at


def _read_value(payload: bytes, at: int, wire_type: int) -> tuple[Union[int, bytes], int]:
    if wire_type == VARINT:
        return _read_varint(payload, at)
    if wire_type == BYTES:
        length, at = _read_varint(payload, at)
        return _read_exactly(payload, at, length)
    if wire_type in (FIXED64, FIXED32):
        raw, at = _read_exactly(payload, at, 8 if wire_type == FIXED64 else 4)
        return int.from_bytes(raw, "little"), at
    raise ProtocolError(f"wire type {wire_type} is not allowed here")


def _read_exactly(payload: bytes, at: int, length: int) -> tuple[bytes, int]:
    end = at + length
    if end > len(payload):
        raise ProtocolError("a field is longer than its message")
    return payload[at:end], end


def _read_varint(payload: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift, byte in enumerate(payload[at : at + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * shift
        if not byte & 0x80:
            if value >> 64:
                raise ProtocolError("a varint of more than 64 bits")
            return value, at + shift + 1
    raise ProtocolError("a varint without end")
