"""An HTTP request and its answer, as values."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Delivery:
    """How to answer: after `delay_s`, and only the first `cut_at` bytes of the content if set.

    `dropped`: the connection is closed without an answer.
    """

    reply: Reply
    delay_s: float = 0
    cut_at: int = -1  # -1: everything
    dropped: bool = False


def json_reply(status: int, value: object, *headers: tuple[str, str]) -> Reply:
    """A reply that carries a JSON value."""
    return Reply(status, json.dumps(value).encode() + b"\n", JSON_TYPE, headers)
