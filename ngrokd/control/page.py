"""What the health pages take and give. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MAX_HEAD_BYTES = 16 * 1024  # a scraper's request has some hundred; this bounds its memory


@dataclass(frozen=True)
class Page:
    """What one path answers."""

    code: int
    body: str
    content_type: str = "text/plain; charset=utf-8"
