"""Turns a request line into the line that answers it, whatever the command does."""

from __future__ import annotations

import contextlib
import logging
import queue
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Optional, Union

from ngrokd.control.desk import Desk
from ngrokd.control.feed import Subscription
from ngrokd.control.limit import RateLimit
from ngrokd.control.protocol import (
    BUSY,
    FAILED,
    RATE_LIMITED,
    UNKNOWN_COMMAND,
    Request,
    encode_error,
    encode_success,
    parse_request,
)
from ngrokd.errors import ControlError, NgrokdError

logger = logging.getLogger(__name__)

Command = Callable[[list[str]], object]

SET_API_KEY = "set-api-key"
KEY_CHANGES = 5
KEY_CHANGES_PERIOD_S = 60.0
MAX_ECHO = 40  # characters of a client's own words in an answer

SLOW_AT_ONCE = 32  # half of the places: others can still ask what all of those wait for

# They change nothing, and answer everybody the same.
_READING = frozenset({"status", "list", "hosts", "ping"})
_QUICK = _READING | {"log-level", "stop"}  # they wait for nobody


@dataclass(frozen=True)
class Caller:
    """Who asks. `name` is for the log; `brief`: everybody waits while this one is served."""

    name: str
    is_owner: bool = False
    brief: bool = False


@dataclass(frozen=True)
class Answer:
    """One line of JSON, and what is to follow it, if anything."""

    line: bytes
    stream: Optional[Subscription] = None


class Dispatcher:
    """Runs commands: those that only read at the desk, the others on the calling thread.

    Any thread; what it holds are two limits.
    """

    def __init__(
        self,
        desk: Desk,
        commands: Mapping[str, Command],
        for_owner: Optional[Mapping[str, Command]] = None,
    ) -> None:
        """`for_owner`: what takes the place of a command for root and the daemon's own user."""
        self._desk = desk
        self._commands = dict(commands)
        self._for_owner = {**commands, **(for_owner or {})}
        self._key_changes = RateLimit(KEY_CHANGES, KEY_CHANGES_PERIOD_S)
        self._slow: queue.SimpleQueue[None] = queue.SimpleQueue()  # one entry for each permit
        for _ in range(SLOW_AT_ONCE):
            self._slow.put(None)

    def answer(self, line: bytes, caller: Caller) -> Answer:
        """Exactly one line of JSON, whatever came."""
        found = self._desk.ask(lambda: self._read(line, caller))
        return found if isinstance(found, Answer) else self._carry_out(found, caller)

    def _read(self, line: bytes, caller: Caller) -> Union[Answer, Request]:
        """At the desk: what can be answered there, else what is asked."""
        try:
            request = parse_request(line)
        except ControlError as exc:
            return Answer(encode_error(exc.code, str(exc)))
        if request.command not in _READING:
            return request
        if request.args:
            return self._carry_out(request, caller)
        return self._desk.shared(request.command, lambda: self._carry_out(request, caller))

    def _carry_out(self, request: Request, caller: Caller) -> Answer:
        try:
            found = self._run(request, caller)
            if isinstance(found, Subscription):
                return Answer(encode_success(found.began), found)
            return Answer(encode_success(found))
        except ControlError as exc:
            return Answer(encode_error(exc.code, str(exc)))
        except NgrokdError as exc:
            return Answer(encode_error(FAILED, str(exc)))
        except Exception as exc:  # noqa: BLE001 - a bug in one command costs that answer only
            _log_crash(request.command, exc)
            text = f"`{request.command}` met a fault of ngrokd's own; its log has the details"
            return Answer(encode_error(FAILED, text))

    def _run(self, request: Request, caller: Caller) -> object:
        command = (self._for_owner if caller.is_owner else self._commands).get(request.command)
        if command is None:
            known = ", ".join(sorted(self._commands))
            raise ControlError(
                UNKNOWN_COMMAND,
                f"unknown command {request.command[:MAX_ECHO]!a}; there are: {known}",
            )
        with self._permit(request.command, caller.brief):
            if request.command == SET_API_KEY:
                self._count_key_change(caller)
            level = logging.DEBUG if request.command in _READING else logging.INFO
            logger.log(level, "control: %s, asked by %s", request.command, caller.name)
            return command(list(request.args))

    @contextlib.contextmanager
    def _permit(self, command: str, brief: bool) -> Iterator[None]:
        """What waits for ngrok takes no more than its part of the places."""
        if command in _QUICK:
            yield
            return
        if brief:
            quick = ", ".join(sorted(_QUICK))
            text = f"ngrokd has no file descriptor left (ulimit -n), and answers only {quick} now"
            raise ControlError(BUSY, text)
        try:
            self._slow.get_nowait()
        except queue.Empty:
            text = f"{SLOW_AT_ONCE} such requests wait for their answers already; try again"
            raise ControlError(BUSY, text) from None
        try:
            yield
        finally:
            self._slow.put(None)

    def _count_key_change(self, caller: Caller) -> None:
        wait = self._key_changes.seconds_to_wait()
        if wait:
            logger.warning("control: too many API keys are tried, now by %s", caller.name)
            raise ControlError(
                RATE_LIMITED,
                f"the API key may be set {KEY_CHANGES} times a minute; "
                f"try again in {int(wait) + 1} s",
            )


def _log_crash(command: str, exc: Exception) -> None:
    """A traceback without the exception's own words where those could quote a key."""
    words = "" if command == SET_API_KEY else f": {exc}"
    frames = "".join(traceback.format_tb(exc.__traceback__))
    logger.error("control: %s failed: %s%s\n%s", command, type(exc).__name__, words, frames)
