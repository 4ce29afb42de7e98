"""The verbs of the control socket, as they reach the running daemon."""

from __future__ import annotations

import concurrent.futures
import socket
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Callable

from ngrokd import logs, snapshot
from ngrokd.cloud import ngrokca
from ngrokd.control import report
from ngrokd.control.feed import Subscription
from ngrokd.control.protocol import BAD_ARGUMENTS, BUSY, NEEDS_OWNER
from ngrokd.control.server import Command
from ngrokd.errors import ControlError
from ngrokd.forward.forwarder import Forwarder
from ngrokd.forward.waker import Waker
from ngrokd.messages import (
    Deregister,
    Follow,
    Message,
    Refresh,
    Reload,
    RotateCertificate,
    SetApiKey,
    Stop,
    Trust,
    Unfollow,
)
from ngrokd.model import Status

REPLY_TIMEOUT_S = 45.0  # one API request may take 30 s


@dataclass(frozen=True)
class Commands:
    """Any thread: reads the published `Status`, and posts what changes something to main."""

    status: Callable[[], Status]
    forwarder: Forwarder
    post: Callable[[Message], None]
    verdict: Callable[[], report.Verdict]

    def table(self) -> Mapping[str, Command]:
        """Verb by verb, for the control server."""
        return {
            "ping": lambda args: "pong",
            "status": lambda args: self.report_status(),
            "list": self._list,
            "hosts": lambda args: report.hosts_lines_json(self.status()),
            "set-api-key": self._set_api_key,
            "refresh": lambda args: self._ask(Refresh(Future())),
            "reload": lambda args: self._ask(Reload(Future())),
            "rotate-cert": lambda args: self._rotate_certificate(),
            "deregister": lambda args: self._ask(Deregister(Future())),
            "log-level": self._log_level,
            "events": lambda args: self._events(),
            "trust": lambda args: self._trust(args, any_authority=False),
            "stop": self._stop,
        }

    def table_for_owner(self) -> Mapping[str, Command]:
        """Verbs that do more for root and the daemon's own user."""
        return {"trust": lambda args: self._trust(args, any_authority=True)}

    def report_status(self) -> dict[str, Any]:
        """The answer to `status`."""
        return snapshot.status_json(self.status(), self.forwarder.glance(), self.verdict())

    def _list(self, args: list[str]) -> object:
        if args and args != ["bound-endpoints"]:
            raise ControlError("bad_arguments", "list takes no argument, or bound-endpoints")
        return report.endpoints_json(self.status(), self.forwarder.glance().counters)

    def _set_api_key(self, args: list[str]) -> object:
        if len(args) != 1 or not args[0].strip():
            raise ControlError("bad_arguments", "set-api-key takes one argument: the API key")
        return self._ask(SetApiKey(args[0].strip(), Future()))

    def _rotate_certificate(self) -> object:
        not_after: Any = self._ask(RotateCertificate(Future()))
        return {"not_after": report.iso(not_after)}

    def _log_level(self, args: list[str]) -> object:
        if len(args) != 1:
            raise ControlError(
                "bad_arguments", f"log-level takes one of {', '.join(logs.LEVELS)}"
            )
        try:
            logs.set_level(args[0])
        except ValueError as exc:
            raise ControlError("bad_arguments", str(exc)) from exc
        return {"log_level": args[0]}

    def _trust(self, args: list[str], any_authority: bool) -> object:
        """Whoever may command the daemon may have it trust ngrok; only its owner anybody else."""
        if not 1 <= len(args) <= 2:
            raise ControlError(
                BAD_ARGUMENTS, "trust takes a PEM certificate, and its SHA-256 if not ngrok's"
            )
        try:
            sha256 = ngrokca.normal_fingerprint(args[1]) if args[1:] else ngrokca.SHA256
        except ValueError as exc:
            raise ControlError(BAD_ARGUMENTS, str(exc)) from exc
        if sha256 != ngrokca.SHA256 and not any_authority:
            raise ControlError(
                NEEDS_OWNER,
                "only root, or the user that ngrokd runs as, may have it trust another CA than"
                " ngrok's: repeat it with sudo",
            )
        return self._ask(Trust(args[0], sha256, Future()))

    def _events(self) -> object:
        """What happens from now on, until the client leaves."""
        try:
            bell, waker = socket.socketpair()
        except OSError as exc:
            raise ControlError(BUSY, f"no socket for the events: {exc.strerror}") from exc
        bell.setblocking(False)
        reader = Subscription(bell, Waker(waker).wake, lambda left: self.post(Unfollow(left)))
        try:
            return self._ask(Follow(reader, Future()))
        except ControlError:
            reader.close()
            raise

    def _stop(self, args: list[str]) -> object:
        self.post(Stop("asked through the control socket"))
        return {"stopping": True}

    def _ask(self, message: Any) -> object:
        self.post(message)
        reply: Future[Any] = message.reply
        try:
            return reply.result(REPLY_TIMEOUT_S)
        except concurrent.futures.TimeoutError as exc:
            text = f"the daemon did not finish within {REPLY_TIMEOUT_S:.0f} s; see its log"
            raise ControlError("timeout", text) from exc
