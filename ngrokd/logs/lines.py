"""How a log line looks: text or JSON, on one line, bounded, without a secret."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import dataclass

from ngrokd.logs.redaction import Redactor
from ngrokd.logs.repeats import Entry, Line

# What a peer sends must not fill the disk. Bytes of the message as it is written, and again of the
# trace: together less than the 48 KiB at which the journal makes two lines of one.
FIELD_BYTES = 16 * 1024
_CUT = "..."
_JSON_BYTES = 12  # at most, of one character: two surrogates, escaped

# Levels of syslog(3), which systemd reads from the start of a line, too: sd-daemon(3).
_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
_DEBUG_PRIORITY = 7

_plain_formatter = logging.Formatter()  # has no state; only its traces are used


@dataclass(frozen=True)
class Style:
    """How the lines of one place look."""

    as_json: bool = False
    with_time: bool = True  # in text; JSON always has it
    with_priority: bool = False  # `<6>` in front, for the journal
    field_bytes: int = FIELD_BYTES


def priority(level: int) -> int:
    """The level of syslog(3) for one of `logging`, 2 (critical) to 7 (debug)."""
    return next((number for least, number in _PRIORITIES if level >= least), _DEBUG_PRIORITY)


def line_of(record: logging.LogRecord, redactor: Redactor) -> Line:
    """What the record says. What its arguments raise when they are shown is let out."""
    message = redactor.clean(_message(record))
    trace = redactor.clean(_trace(record))
    if len(message) > FIELD_BYTES:
        message = message[:FIELD_BYTES] + _CUT
    if len(trace) > FIELD_BYTES:  # its end names the fault
        trace = _CUT + trace[-FIELD_BYTES:]
    return Line(record.created, record.levelno, record.name, message, trace)


def rendered(entry: Entry, style: Style) -> str:
    """The whole line, without its end."""
    text = _json(entry, style) if style.as_json else _text(entry, style)
    return f"<{priority(entry.line.level)}>{text}" if style.with_priority else text


def _text(entry: Entry, style: Style) -> str:
    line = entry.line
    limit = style.field_bytes
    text = f"{logging.getLevelName(line.level)} {_fitted(_escaped(_said(entry)), limit)}"
    if line.trace and entry.count == 1:
        text += f": {_fitted(_escaped(line.trace), limit, from_end=True)}"
    return f"{_utc(line.created)}Z {text}" if style.with_time else text


def _json(entry: Entry, style: Style) -> str:
    line = entry.line
    fields: dict[str, object] = {
        "time": _precise(line.created),
        "level": logging.getLevelName(line.level).lower(),
        "logger": line.logger,
        "message": _json_fitted(_said(entry), style.field_bytes),
    }
    if entry.count > 1:
        fields.update(repeated=entry.count, since=_precise(entry.since))
    elif line.trace:
        fields["exception"] = _json_fitted(line.trace, style.field_bytes, from_end=True)
    return json.dumps(fields)  # ASCII, so no control character is left bare


def _said(entry: Entry) -> str:
    message = entry.line.message
    if entry.count == 1:
        return message
    return f"repeated {entry.count} times within {max(1, math.ceil(entry.span_s))} s: {message}"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # a mistake in a format must not lose the line
        return f"{record.msg} {record.args!r}"


def _trace(record: logging.LogRecord) -> str:
    trace = _plain_formatter.formatException(record.exc_info) if record.exc_info else ""
    return f"{trace}\n{record.stack_info}" if record.stack_info else trace


def _utc(created: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created))


def _precise(created: float) -> str:
    return f"{_utc(created)}.{int(created % 1 * 1000):03}Z"


def _escaped(text: str) -> str:
    """Without control characters and the like: what a peer sends must not make lines of its own."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _fitted(text: str, limit: int, from_end: bool = False) -> str:
    data = text.encode()
    if len(data) <= limit + len(_CUT):
        return text
    if from_end:
        return _CUT + data[-limit:].decode(errors="ignore")
    return data[:limit].decode(errors="ignore") + _CUT


def _json_fitted(text: str, limit: int, from_end: bool = False) -> str:
    if len(json.dumps(text)) <= limit + len(_CUT) + 2:
        return text
    kept = limit // _JSON_BYTES if not text.isascii() or not text.isprintable() else limit
    return _CUT + text[-kept:] if from_end else text[:kept] + _CUT
