"""Turns a request line into the line that answers it, whatever the command does."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from typing import Optional

from ngrokd.control.limit import RateLimit
from ngrokd.control.protocol import (
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

_READING = frozenset({"status", "list", "hosts", "ping"})


class Dispatcher:
    """Runs commands on the calling thread. Any thread; it holds no state but the rate limit."""

    def __init__(
        self, commands: Mapping[str, Command], for_owner: Optional[Mapping[str, Command]] = None
    ) -> None:
        """`for_owner`: what takes the place of a command for root and the daemon's own user."""
        self._commands = dict(commands)
        self._for_owner = {**commands, **(for_owner or {})}
        self._key_changes = RateLimit(KEY_CHANGES, KEY_CHANGES_PERIOD_S)

    def answer(self, line: bytes, who: str, is_owner: bool = False) -> bytes:
        """Exactly one line of JSON. `who` is for the log."""
        try:
            request = parse_request(line)
        except ControlError as exc:
            return encode_error(exc.code, str(exc))
        try:
            return encode_success(self._run(request, who, is_owner))
        except ControlError as exc:
            return encode_error(exc.code, str(exc))
        except NgrokdError as exc:
            return encode_error(FAILED, str(exc))
        except Exception as exc:  # noqa: BLE001 - a bug in one command costs that answer only
            _log_crash(request.command, exc)
            return encode_error(
                FAILED, f"`{request.command}` met a fault of ngrokd's own; its log has the details"
            )

    def _run(self, request: Request, who: str, is_owner: bool) -> object:
        command = (self._for_owner if is_owner else self._commands).get(request.command)
        if command is None:
            known = ", ".join(sorted(self._commands))
            raise ControlError(
                UNKNOWN_COMMAND,
                f"unknown command {request.command[:MAX_ECHO]!a}; there are: {known}",
            )
        if request.command == SET_API_KEY:
            self._count_key_change()
        level = logging.DEBUG if request.command in _READING else logging.INFO
        logger.log(level, "control: %s, asked by %s", request.command, who)
        return command(list(request.args))

    def _count_key_change(self) -> None:
        wait = self._key_changes.seconds_to_wait()
        if wait:
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
