"""The control socket's wire: one JSON object a line in, one JSON line out. Sans-IO.

A request ends at a newline, at the client's end of data, or (clients of the existing daemon send no
newline and wait) where its JSON object is complete. Source: the socket protocol of the requirement.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from ngrokd.control import jsontext
from ngrokd.control.outline import Outline
from ngrokd.errors import ControlError, ProtocolError

MAX_REQUEST_BYTES = 64 * 1024  # the longest sane request is a key; this bounds a client's memory

# Stable words for scripts.
BAD_REQUEST = "bad_request"
TOO_LARGE = "too_large"
UNKNOWN_COMMAND = "unknown_command"
BAD_ARGUMENTS = "bad_arguments"
BAD_CONFIGURATION = "bad_configuration"
FORBIDDEN = "forbidden"
NEEDS_OWNER = "needs_owner"  # of those who may command, only root or the daemon's own user
RATE_LIMITED = "rate_limited"
TIMEOUT = "timeout"
BUSY = "busy"
FAILED = "failed"

_EXAMPLE = '{"command": "status", "args": []}'


@dataclass(frozen=True)
class Request:
    """What a client asks. The arguments may hold a secret, so they have no repr."""

    command: str
    args: tuple[str, ...] = field(default=(), repr=False)


class RequestReader:
    """Cuts a client's bytes into request lines. Owner: the thread that serves the connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._ended = False
        self._overflowed = False
        self._in_line = False  # the last request was taken before its newline came
        self._looked_at = 0  # bytes of the buffer in which there is no end of its first line
        self._outline = Outline()  # of those

    def receive_data(self, data: bytes) -> None:
        """Takes what was read; `b""` is the end of the client's data."""
        if not data:
            self._ended = True
        self._buffer += data

    @property
    def ended(self) -> bool:
        """The client sends nothing more."""
        return self._ended

    @property
    def holds_data(self) -> bool:
        """Something that is not blank has come and is not taken yet."""
        return bool(self._buffer.strip())

    def next_line(self) -> Optional[bytes]:
        """The next line, or None: more bytes are needed (or, after the end, nothing is left).

        Raises ControlError `too_large` once, after which the connection must be closed.
        """
        if self._overflowed:
            raise ProtocolError("next_line() after a request that was too large")
        while self._buffer:
            newline = self._buffer.find(b"\n", self._looked_at)
            length = len(self._buffer) if newline < 0 else newline
            if length > MAX_REQUEST_BYTES:
                self._overflowed = True
                raise ControlError(TOO_LARGE, f"a request may have {MAX_REQUEST_BYTES} bytes")
            if newline < 0 and not self._ended and not self._is_whole():
                return None
            line = bytes(self._buffer[:length])
            del self._buffer[: length + 1]
            self._looked_at, self._outline = 0, Outline()
            only_its_end = self._in_line and not line.strip()
            self._in_line = newline < 0
            if not only_its_end:
                return line
        return None


    def _is_whole(self) -> bool:
        """What has come now makes it an object that is complete without its newline."""
        piece = bytes(self._buffer[self._looked_at :])
        self._looked_at = len(self._buffer)
        return self._outline.ends_in(piece) and _is_object(bytes(self._buffer))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line.decode("utf-8")), dict)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return False
    except (ValueError, RecursionError):
        return True  # one that Python does not take: an integer of thousands of digits, too deep


def parse_request(line: bytes) -> Request:
    """The request that `line` is. Raises ControlError `bad_request` for anything else."""
    try:
        asked = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise ControlError(BAD_REQUEST, f"a request is one line of JSON: {_EXAMPLE}") from exc
    if not isinstance(asked, dict):
        raise ControlError(BAD_REQUEST, f"a request is a JSON object: {_EXAMPLE}")
    command = asked.get("command")
    if not isinstance(command, str) or not command:
        raise ControlError(BAD_REQUEST, f"`command` must be a text: {_EXAMPLE}")
    args = asked.get("args")
    if args is None:
        args = []
    if not isinstance(args, list) or not all(isinstance(word, str) for word in args):
        raise ControlError(BAD_REQUEST, f"`args` must be a list of texts: {_EXAMPLE}")
    if not all(_is_text(word) for word in [command, *args]):
        raise ControlError(BAD_REQUEST, "a request may not hold half of a surrogate pair")
    return Request(command, tuple(args))


def _is_text(word: str) -> bool:
    """JSON can spell code points that no file or terminal can take."""
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def encode_request(command: str, args: Sequence[str]) -> bytes:
    """A request as its line."""
    return json.dumps({"command": command, "args": list(args)}).encode("ascii") + b"\n"


def encode_success(data: object) -> bytes:
    """An answer as its line. Raises TypeError, ValueError or RecursionError if JSON has no such."""
    return f'{{"success": true, "data": {jsontext.text(data)}}}\n'.encode("ascii")


def encode_error(code: str, text: str) -> bytes:
    """A refusal as its line."""
    return json.dumps({"success": False, "error": text, "code": code}).encode("ascii") + b"\n"


def encode_event(event: Mapping[str, object]) -> bytes:
    """One line of a stream."""
    return json.dumps(event, allow_nan=False).encode("ascii") + b"\n"


def parse_event(line: bytes) -> dict[str, object]:
    """One line of a stream. Raises ProtocolError."""
    try:
        event = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise ProtocolError("an event is not a line of JSON") from exc
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise ProtocolError("an event does not say which it is")
    return event


def parse_response(line: bytes) -> object:
    """The data of an answer. Raises ControlError if it is a refusal, ProtocolError if neither."""
    try:
        answer = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise ProtocolError("the answer is not a line of JSON") from exc
    if not isinstance(answer, dict) or not isinstance(answer.get("success"), bool):
        raise ProtocolError("the answer does not say `success`")
    if answer["success"]:
        return answer.get("data")
    raise ControlError(str(answer.get("code", FAILED)), str(answer.get("error", "no reason given")))
