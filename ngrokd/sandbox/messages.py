"""An HTTP request and its answer, as values."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

JSON_TYPE = "application/json"


@dataclass(frozen=True)
class Request:
    """`headers` have lower-case names; `path` has no query."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def parts(self) -> list[str]:
        """The path's segments: "/a/b" -> ["a", "b"]."""
        return [part for part in self.path.split("/") if part]


@dataclass(frozen=True)
class Reply:
    """What to answer. `content` empty: no body."""

    status: int
    content: bytes = b""
    content_type: str = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()


class Manner(enum.Enum):
    """How an answer is sent."""

    WHOLE = "whole"  # as it should be
    HALF = "half"  # half of the content, under the length of the whole
    NOT = "not"  # the connection is closed without an answer
    DRIP = "drip"  # the content a byte at a time
    DRIP_HEAD = "drip_head"  # everything a byte at a time
    ENDLESS = "endless"  # the content, and white space for ever


@dataclass(frozen=True)
class Delivery:
    """How to answer: after `delay_s`; if the answer drips, each byte after `delay_s`."""

    reply: Reply
    delay_s: float = 0
    manner: Manner = Manner.WHOLE


def json_reply(status: int, value: object, *headers: tuple[str, str]) -> Reply:
    """A reply that carries a JSON value."""
    return Reply(status, json.dumps(value).encode() + b"\n", JSON_TYPE, headers)
