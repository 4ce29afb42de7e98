"""Encodes large answers in small pieces, between which other threads get their turn. Pure."""

from __future__ import annotations

import json

MANY = 64  # members; what has no more is encoded at once, in which time no other thread runs


def text(data: object) -> str:
    """As `json.dumps` has it, where keys are texts.

    Raises TypeError, ValueError or RecursionError if JSON has no such.
    """
    if isinstance(data, list) and _is_long(data):
        return f"[{', '.join(map(text, data))}]"
    if isinstance(data, dict) and (_is_long(data) or any(map(_is_long, data.values()))):
        return f"{{{', '.join(f'{json.dumps(key)}: {text(data[key])}' for key in data)}}}"
    return json.dumps(data, allow_nan=False)


def _is_long(data: object) -> bool:
    return isinstance(data, (list, dict)) and len(data) > MANY
