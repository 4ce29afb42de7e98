"""The root logger's one handler: makes lines of records, and outlives a place that takes none."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from ngrokd.config import ServerSettings
from ngrokd.logs.lines import Style, line_of, rendered
from ngrokd.logs.redaction import Redactor
from ngrokd.logs.repeats import Entry, Line, Repeats
from ngrokd.logs.targets import STDERR, opened, place_of, why

RETRY_S = 10.0  # how soon a place that takes no lines is tried again when nothing is to be said

_OWN_NAME = "ngrokd.logs"


class LogHandler(logging.Handler):
    """Owner: `logging`, whose lock of this handler guards everything. Any thread."""

    def __init__(
        self, server: ServerSettings, foreground: bool, environ: Mapping[str, str]
    ) -> None:
        """Raises HostError if the place that `server` names cannot be opened."""
        super().__init__()
        self.redactor = Redactor([environ.get("NGROK_API_KEY", "")])
        self._foreground = foreground
        self._environ = environ
        self._place = place_of(server, foreground)
        self._target = opened(self._place, environ)
        self._as_json = server.log_format == "json"
        self._repeats = Repeats()
        self._lost = 0  # lines since the last one that was written
        self._lost_since = 0.0
        self._lost_why = ""
        self._busy = False
        self._later: deque[logging.LogRecord] = deque()

    @property
    def place(self) -> str:
        """`syslog` or a path."""
        return self._place

    @property
    def on_stderr(self) -> bool:
        """Whether who started us sees the lines."""
        return self._place == STDERR

    def emit(self, record: logging.LogRecord) -> None:
        """Called by `logging`, with the lock."""
        if self._busy:  # a finalizer that the collector ran in the midst of another line
            self._later.append(record)
            return
        with self._alone():
            self._take(record)

    def configure(self, server: ServerSettings) -> None:
        """Another place or format from now on. Raises HostError; then nothing has changed."""
        place, as_json = place_of(server, self._foreground), server.log_format == "json"
        if (place, as_json) == (self._place, self._as_json):
            return
        fresh = None if place == self._place else opened(place, self._environ)
        with self._alone():
            self._write(self._repeats.rest())
            self._as_json = as_json
            if fresh is not None:
                self._note(logging.INFO, f"the log goes on in {place}")
                self._target.close()
                self._target, self._place = fresh, place

    def reopen(self) -> None:
        """Raises OSError; what was open stays so."""
        with self._alone():
            self._target.reopen()

    def tell(self, now: float) -> float:
        """Writes the counts that are due; returns when to be called next, in seconds."""
        with self._alone():
            self._write(self._repeats.due(now))
            if self._lost:
                self._tell_lost()
            return min(self._repeats.wait_s(now), RETRY_S if self._lost else math.inf)

    def flush(self) -> None:
        """Writes every count. `logging.shutdown` calls it."""
        with self._alone():
            self._write(self._repeats.rest())

    def close(self) -> None:
        """`logging.shutdown` calls it."""
        with self._alone():
            self._write(self._repeats.rest())
            self._target.close()
        super().close()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._locked():
            self._busy = True
            try:
                yield
                while self._later:
                    self._take(self._later.popleft())
            finally:
                self._busy = False

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _take(self, record: logging.LogRecord) -> None:
        try:
            line = line_of(record, self.redactor)
        except Exception as exc:  # noqa: BLE001 - of an argument's __str__: it must not end us
            kind = type(exc).__name__
            line = Line(record.created, record.levelno, record.name, f"a line raised {kind}")
        self._write(self._repeats.add(line, time.monotonic()))

    def _write(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if not self._lost or self._tell_lost():
                self._put(entry)
            else:
                self._lost += entry.count

    def _tell_lost(self) -> bool:
        """Whether lines can be written again, having said how many were not."""
        lost, since = self._lost, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._lost_since))
        lines = "1 log line was" if lost == 1 else f"{lost} log lines were"
        text = f"{lines} lost since {since}: {self._lost_why}"
        if not self._put(Entry(Line(time.time(), logging.WARNING, _OWN_NAME, text))):
            self._lost = lost
            return False
        self._lost = 0
        return True

    def _note(self, level: int, text: str) -> None:
        if logging.getLogger().isEnabledFor(level):
            self._write([Entry(Line(time.time(), level, _OWN_NAME, text))])

    def _put(self, entry: Entry) -> bool:
        target = self._target
        style = Style(
            self._as_json, not target.stamps_time, target.reads_priority, target.field_bytes
        )
        try:
            target.write(rendered(entry, style), entry.line.level)
        except OSError as exc:
            self._lose(entry, exc)
            return False
        return True

    def _lose(self, entry: Entry, error: OSError) -> None:
        """Says so once, to who started us: there is no third place."""
        if not self._lost:
            self._lost_since, self._lost_why = entry.line.created, why(error)
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(f"ngrokd: log lines are being lost: {self._lost_why}\n")
        self._lost += entry.count
