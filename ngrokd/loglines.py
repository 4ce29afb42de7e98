"""A log record as one line of text or JSON that holds no secret and no control character."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable

_MAX_CHARACTERS = 16 * 1024  # of a message: what a peer sends must not fill the disk
_MIN_SECRET_CHARACTERS = 8  # a shorter text is no secret, and blanking it out garbles every line
_REDACTED = "[redacted]"
_BEARER = re.compile(r"(?i)\b(bearer)\s+\S+")
# Levels of syslog(3), which systemd reads from the start of a line: sd-daemon(3).
_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


class LineFormatter(logging.Formatter):
    """A record as one line of text or JSON. Owner: the handler, whose lock guards each call."""

    def __init__(
        self, as_json: bool, with_time: bool, with_priority: bool, secrets: Iterable[str] = ()
    ) -> None:
        super().__init__()
        self._as_json = as_json
        self._with_time = with_time
        self._with_priority = with_priority
        self._secrets: tuple[str, ...] = ()  # longest first: one may be a part of another
        for secret in secrets:
            self.keep_secret(secret)

    def keep_secret(self, secret: str) -> None:
        """Any thread: readers see the old or the new tuple. What is too short is let be."""
        secret = secret.strip()
        if len(secret) >= _MIN_SECRET_CHARACTERS:
            known = {*self._secrets, secret}
            self._secrets = tuple(sorted(known, key=len, reverse=True))

    def format(self, record: logging.LogRecord) -> str:
        """The whole line, without its end."""
        message = self._clean(_message(record))
        trace = self._clean(self._trace(record))
        line = self._json(record, message, trace) if self._as_json else ""
        if not line:
            line = f"{record.levelname} {_escaped(message)}"
            line += f": {_escaped(trace)}" if trace else ""
            line = f"{_utc(record.created)}Z {line}" if self._with_time else line
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{line}" if self._with_priority else line

    def _json(self, record: logging.LogRecord, message: str, trace: str) -> str:
        fields = {
            "time": f"{_utc(record.created)}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        if trace:
            fields["exception"] = trace
        return json.dumps(fields)  # ASCII, so no control character is left bare

    def _trace(self, record: logging.LogRecord) -> str:
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        return f"{trace}\n{record.stack_info}" if record.stack_info else trace

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _REDACTED)
        text = _BEARER.sub(rf"\1 {_REDACTED}", text)
        # Cut last: half a secret would not be recognised.
        return text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + "..."


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # a mistake in a format must not lose the line
        return f"{record.msg} {record.args!r}"


def _utc(created: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created))


def _escaped(text: str) -> str:
    """Without control characters and the like: what a peer sends must not make lines of its own."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
