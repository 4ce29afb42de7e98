"""HTTP/1 heads: where one ends, and what it says about the bytes that follow it (RFC 9112).

Strict on purpose. What two readers could understand in two ways is understood by nobody here:
`None`, and whoever asked leaves the rest of that connection as it is.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

from ngrokd.errors import ProtocolError

MAX_HEAD_BYTES = 64 * 1024  # nginx takes 32 KiB, others less; only Go takes more by default

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_METHOD = _TOKEN + rb"{1,32}"  # the longest that is registered has 17 letters
_BLANK_LINE = re.compile(rb"\n\r?\n")
_REQUEST_LINE = re.compile(rb"(" + _METHOD + rb") [\x21-\x7e\x80-\xff]+ HTTP/1\.([01])(\r?\n)")
_METHOD_BEGUN = re.compile(_METHOD + rb"(?: |\Z)")
_NOT_IN_A_LINE = re.compile(rb"[\x00-\x0c\x0e-\x1f\x7f]|\r[^\n]")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
# All lines end alike: a bare LF among CRLFs, or any other CR, is an end for some readers only.
_FIELDS = {
    end: re.compile(
        rb"(?:" + _TOKEN + rb"+:[^\r\n\0]*" + end + rb"(?:[ \t][^\r\n\0]*" + end + rb")*)*" + end
    )
    for end in (b"\r\n", b"\n")
}
_FIELD = re.compile(
    rb"^(host|content-length|transfer-encoding|upgrade):([^\r\n]*)\r?\n([ \t]?)",
    re.IGNORECASE | re.MULTILINE,
)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_SPACE = b" \t"
_UNCLEAR = -1  # instead of a length: readers differ

Span = tuple[int, int]  # start and end of something in a head


class Request(NamedTuple):
    """What a request head says."""

    method: bytes
    host: Optional[Span]  # where the value of Host stands in the head; None: absent
    length: Optional[int]  # of the body; None: chunked
    asks_to_switch: bool  # by Upgrade or CONNECT: the answer says what the next bytes are


class Answer(NamedTuple):
    """What the head of an answer says."""

    status: int
    length: Optional[int]  # of the body, as far as the fields say; None: chunked
    until_close: bool  # they do not say, so what has a body ends with the connection


class HeadReader:
    """Collects one head after the other. Owner: whoever made it."""

    def __init__(self) -> None:
        self.begun = bytearray()  # of a head that is not whole yet

    def receive_data(self, data: memoryview) -> tuple[int, Optional[bytes]]:
        """How many bytes of `data` belong to the head, and the head once it is whole.

        Raises ProtocolError, having taken nothing, if it is longer than MAX_HEAD_BYTES.
        """
        count = self._count(data)
        if len(self.begun) + (count or len(data)) > MAX_HEAD_BYTES:
            raise ProtocolError(f"a head of more than {MAX_HEAD_BYTES} bytes")
        if not count:
            self.begun += data
            return len(data), None
        head = bytes(self.begun) + data[:count]
        self.begun.clear()
        return count, head

    def _count(self, data: memoryview) -> int:
        """How far the head goes in `data`; 0: it does not end there."""
        before = bytes(self.begun[-2:])
        if before:
            seam = _BLANK_LINE.search(before + bytes(data[:2]))
            if seam is not None:
                return seam.end() - len(before)
        found = _BLANK_LINE.search(data)
        return found.end() if found is not None else 0


def may_become_request(begun: bytearray, judged: int) -> bool:
    """Whether `begun` can still become a request head; its first `judged` bytes could."""
    end = begun.find(b"\n")
    if end >= 0:
        return end < judged or _REQUEST_LINE.match(begun) is not None
    return (
        _METHOD_BEGUN.match(begun) is not None
        and _NOT_IN_A_LINE.search(begun, max(judged - 1, 0)) is None
    )


def parse_request(head: bytes) -> Optional[Request]:
    """A whole head, its blank line included; `None`: not one that everybody reads alike."""
    line = _REQUEST_LINE.match(head)
    if line is None or _FIELDS[line[3]].fullmatch(head, line.end()) is None:
        return None
    fields = _fields(head, line.end())
    if fields is None:
        return None
    coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    method = line[1]
    if coding is not None and line[2] == b"0":  # RFC 9112 section 6.1: its framing is faulty
        return None
    if method == b"CONNECT" and (coding or length):
        return None
    body = _body_length(head, coding, length)
    if body == _UNCLEAR:
        return None
    host = fields.get(b"host")
    switch = b"upgrade" in fields or method == b"CONNECT"
    return Request(method, _trimmed(head, *host) if host else None, body, switch)


def parse_answer(head: bytes) -> Optional[Answer]:
    """A whole head, its blank line included; `None`: what follows it cannot be told."""
    line = _STATUS_LINE.match(head)
    if line is None:
        return None
    fields = _fields(head, line.end())
    if fields is None:
        return None
    coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    body = _body_length(head, coding, length)
    if body == _UNCLEAR:
        return None
    return Answer(int(line[1]), body, coding is None and length is None)


def _fields(head: bytes, start: int) -> Optional[dict[bytes, Span]]:
    """Where the values of the fields that matter stand; `None`: one comes twice, or is folded."""
    found: dict[bytes, Span] = {}
    for field in _FIELD.finditer(head, start):
        name = field[1].lower()
        if field[3]:
            return None
        if name in found and name != b"upgrade":  # that one is a list
            return None
        found[name] = field.span(2)
    return found


def _body_length(head: bytes, coding: Optional[Span], length: Optional[Span]) -> Optional[int]:
    """Bytes of the body; `None`: chunked; _UNCLEAR: readers differ."""
    if coding is not None:
        chunked = head[slice(*coding)].strip(_SPACE).lower() == b"chunked"
        return None if chunked and length is None else _UNCLEAR
    if length is None:
        return 0
    digits = head[slice(*length)].strip(_SPACE)
    return int(digits) if _LENGTH.fullmatch(digits) else _UNCLEAR


def _trimmed(head: bytes, start: int, end: int) -> Span:
    """Without the white space around it; behind that in front if there is nothing else."""
    value = head[start:end].lstrip(_SPACE)
    start = end - len(value)
    return start, start + len(value.rstrip(_SPACE))
