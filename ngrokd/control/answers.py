"""Reads the daemon's answers, which may come from an older or a newer daemon. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Optional

from ngrokd.errors import ProtocolError

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
MAX_NUMBER = 1e18  # JSON of Python's may hold NaN, Infinity and integers of any length

_STRANGE = "the daemon's answer is not {}; is it an ngrokd of this version?"


def mapping(data: object) -> dict[str, object]:
    """An answer that is an object. Raises ProtocolError."""
    if not isinstance(data, dict):
        raise ProtocolError(_STRANGE.format("an object"))
    return data


def mappings(data: object) -> list[dict[str, object]]:
    """An answer that is a list of objects. Raises ProtocolError."""
    if not isinstance(data, list):
        raise ProtocolError(_STRANGE.format("a list"))
    return [mapping(item) for item in data]


def at(data: object, *path: str) -> object:
    """What stands at a path of keys, None if nothing does."""
    for key in path:
        if not isinstance(data, dict):
            return None
        data = data.get(key)
    return data


def text(data: object, *path: str) -> str:
    """What stands there in words, "" for nothing."""
    found = at(data, *path)
    return "" if found is None else str(found)


def number(data: object, *path: str) -> float:
    """A number, 0 for anything else and for what is out of all bounds."""
    found = at(data, *path)
    if not isinstance(found, (int, float)) or not -MAX_NUMBER < found < MAX_NUMBER:
        return 0.0
    return float(found)


def texts(data: object, *path: str) -> list[str]:
    """A list in words, empty for anything else."""
    found = at(data, *path)
    return [str(item) for item in found] if isinstance(found, list) else []


def moment(data: object, *path: str) -> Optional[float]:
    """Unix seconds of an ISO 8601 time in UTC, None for anything else."""
    found = text(data, *path)
    if not _MOMENT.fullmatch(found):
        return None
    try:
        # `strptime` takes ten times as long, and thousands of endpoints have one each.
        parsed = datetime.fromisoformat(found[:-1])
    except ValueError:
        return None
    return parsed.replace(tzinfo=timezone.utc).timestamp()
