"""DNS messages: a question for a name's addresses, and what an answer says. Pure.

RFC 1035 section 4. An answer comes from whoever can reach our port: every length in it is checked,
and nothing of it is believed that was not asked.
"""

from __future__ import annotations

import enum
import ipaddress
import struct
from dataclasses import dataclass

from ngrokd.errors import ProtocolError

MAX_MESSAGE = 4096  # bytes; without EDNS a server sends at most 512 over UDP

_HEADER = struct.Struct("!6H")  # number, flags, and how many of four kinds of records
_QUESTION_END = struct.Struct("!2H")
_RECORD = struct.Struct("!2HIH")  # behind its name: type, class, time to live, length of data

_INTERNET = 1
_MAX_NAME = 255  # bytes with all lengths: RFC 1035 section 2.3.4
_POINTER = 0xC0

_IS_ANSWER = 0x8000
_IS_CUT = 0x0200
_RECURSION_DESIRED = 0x0100
_RESULT = 0x000F
_NO_ERROR, _NO_SUCH_NAME = 0, 3


class Kind(enum.IntEnum):
    """The types of record that hold an address; each with the length of its data in bytes."""

    A = 1
    AAAA = 28

    @property
    def length(self) -> int:
        """Of the address, in bytes."""
        return 4 if self is Kind.A else 16


@dataclass(frozen=True)
class Question:
    """`number` is what the answer must bear."""

    number: int
    name: str
    kind: Kind


@dataclass(frozen=True)
class Answer:
    """What a server said. Not `certain`: it could not find out, or sent only a part."""

    certain: bool
    addresses: tuple[str, ...] = ()


def encode(question: Question) -> bytes:
    """The message to send. The name is one that `names.Rules` let pass."""
    header = _HEADER.pack(question.number, _RECURSION_DESIRED, 1, 0, 0, 0)
    return header + _encoded(question.name, question.kind)


def number_of(message: bytes) -> int:
    """Which question this claims to answer. Raises ProtocolError."""
    if len(message) < _HEADER.size:
        raise ProtocolError("a DNS message without a whole header")
    return int(_HEADER.unpack_from(message)[0])


def decode(message: bytes, question: Question) -> Answer:
    """The answer to `question`; raises ProtocolError if it is none.

    Every address in it counts, whichever alias it belongs to: a resolver answers with the chain.
    """
    if number_of(message) != question.number:
        raise ProtocolError("an answer to another question")
    _, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
    if not flags & _IS_ANSWER or questions != 1:
        raise ProtocolError("not an answer to one question")
    asked = _encoded(question.name, question.kind)
    end = _HEADER.size + len(asked)
    # 0x20 encoders and some servers change capitals; the rest must come back byte for byte.
    if message[_HEADER.size : end].lower() != asked.lower():
        raise ProtocolError("an answer about another name")
    result = flags & _RESULT
    if result == _NO_SUCH_NAME:
        return Answer(certain=True)
    if result != _NO_ERROR:
        return Answer(certain=False)
    addresses = _addresses(message, end, answers, question.kind)
    return Answer(bool(addresses) or not flags & _IS_CUT, addresses)


def _encoded(name: str, kind: Kind) -> bytes:
    labels = name.encode("ascii").split(b".")
    text = b"".join(bytes([len(label)]) + label for label in labels)
    return text + b"\0" + _QUESTION_END.pack(kind, _INTERNET)


def _addresses(message: bytes, at: int, count: int, kind: Kind) -> tuple[str, ...]:
    """A message that was cut may end within a record: what came before it is true."""
    found: list[str] = []
    for _ in range(count):
        at = _behind_name(message, at)
        if at + _RECORD.size > len(message):
            break
        record, family, _, length = _RECORD.unpack_from(message, at)
        at += _RECORD.size
        data = message[at : at + length]
        at += length
        if len(data) < length:
            break
        if (record, family) == (kind, _INTERNET):
            if length != kind.length:
                raise ProtocolError("an address of a wrong length")
            found.append(str(ipaddress.ip_address(data)))
    return tuple(dict.fromkeys(found))


def _behind_name(message: bytes, at: int) -> int:
    """Where the name at `at` ends. A pointer ends it, and is not followed: so none can loop."""
    start = at
    while at < len(message):
        length = message[at]
        if length & _POINTER == _POINTER:
            return at + 2
        if length & _POINTER or at - start >= _MAX_NAME:
            raise ProtocolError("a name that is none")
        at += 1 + length
        if length == 0:
            return at
    return len(message)
