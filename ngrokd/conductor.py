"""What each message in the main thread's mailbox does."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import random
import time
from concurrent.futures import Future
from typing import Any, Callable, Optional
from urllib.parse import urlsplit

from ngrokd import __version__, configfile, limits, logs
from ngrokd.cloud.identity import Identity
from ngrokd.config import Config
from ngrokd.configfile import Source
from ngrokd.control import report
from ngrokd.errors import ConfigError, ControlError
from ngrokd.forward.forwarder import Forwarder
from ngrokd.host.machine import Machine
from ngrokd.ingress import IngressLink
from ngrokd.memory import Memory
from ngrokd.messages import (
    ApiAnswered,
    DumpStatus,
    JobDone,
    JobKind,
    Message,
    Refresh,
    Reload,
    RotateCertificate,
    SetApiKey,
)
from ngrokd.model import Discovered, EndpointState, State, Status
from ngrokd.outcome import Change
from ngrokd.poller import Poller, Submit
from ngrokd.reconciler import Reconciler
from ngrokd.reload import effective, needs_restart
from ngrokd.snapshot import Board

logger = logging.getLogger(__name__)


class Conductor:
    """Owner: main thread. Other threads read only `status`, which is replaced as a whole."""

    def __init__(
        self,
        config: Config,
        source: Source,
        forwarder: Forwarder,
        submit: Submit,
        post: Callable[[Message], None],
    ) -> None:
        self.config = config
        self._source = source
        self._forwarder = forwarder
        self._identity = Identity(config.server)
        self._memory = Memory(config.state_folder)
        self.reconciler = Reconciler(
            Machine(config.net), forwarder, self._memory, limits.listeners_allowed()
        )
        self._ingress = IngressLink(config, self._identity, forwarder, submit)
        self._poller = Poller(config, self._identity, submit, post, random.random)
        self._fetched: Optional[Discovered] = None  # to be applied
        self._applied: Optional[Discovered] = None
        self._polled = False  # what is or will be applied came from ngrok, not from the disk
        self._refreshes: list[Future[Any]] = []  # answered by the poll that comes next
        self._later: list[Future[Any]] = []  # answered by the poll after the one under way
        self._board = Board(self._identity, self._poller, self.reconciler, self._ingress)
        self.status = Status()

    def recall(self) -> None:
        """Takes up what the last run left on disk. Raises StateError if the folder is unusable."""
        for note in self._identity.load():
            logger.warning("%s", note)
        self._poller.take_up_key()
        self.reconciler.recall()
        self.advise()
        if not self._poller.has_key:
            logger.warning("no API key yet: waiting for `ngrokctl set-api-key`")

    def begin(self) -> None:
        """The last good answer of ngrok is served until the next one comes."""
        if self._identity.registered:
            self._fetched = self._memory.endpoints()
            self._ingress.refresh()
        self.publish()

    def advise(self) -> None:
        """Warns of settings that are allowed and yet seldom meant."""
        for line in self._source.advice(self.config):
            logger.warning("%s", line)

    def complain(self, problem: str) -> None:
        """Something that was found at start and stays so until the end."""
        logger.warning("%s", problem)
        self._board.standing.append(problem)

    def publish(self, state: Optional[State] = None) -> None:
        """Gives other threads what is true now."""
        applied = self._polled and self._applied is not None
        self.status = self._board.snapshot(applied, state)

    def tick(self, now: float) -> float:
        """Starts what is due; returns the seconds until something is due again."""
        self._poller.tick(now)
        self.publish()  # what was due may have failed before anything was sent
        return self._poller.deadline(now)

    def handle(self, message: Message) -> None:
        """Does what one message asks for, and publishes what came of it."""
        if isinstance(message, JobDone):
            self._job_done(message)
        elif isinstance(message, ApiAnswered):
            self._poller.count_request(message.outcome)
        elif isinstance(message, SetApiKey):
            self._poller.set_key(message.key, message.reply)
        elif isinstance(message, Refresh):
            self._refresh(message.reply)
        elif isinstance(message, Reload):
            self._reload(message.reply)
        elif isinstance(message, RotateCertificate):
            self._rotate(message.reply)
        elif isinstance(message, DumpStatus):
            logger.info("status: %s", json.dumps(self._status_json()))
        if self._fetched is not None and self._ingress.answered:
            self._apply(self._fetched)
        self.publish()

    def _status_json(self) -> dict[str, object]:
        counters = self._forwarder.counters()
        return report.status_json(self.status, counters, __version__, os.getpid(), time.time())

    # Answers of the network

    def _job_done(self, done: JobDone) -> None:
        if done.kind is JobKind.RESOLVE:
            self._ingress.handle(done)
            return
        fetched = self._poller.handle(done, time.monotonic())
        if done.kind in (JobKind.ENROL, JobKind.POLL) and self._identity.registered:
            self._ingress.refresh()
        if fetched is not None:
            self._fetched, self._polled = fetched, True
        elif done.error is not None:
            self._answer_refreshes(ControlError("poll_failed", str(done.error)))

    def _apply(self, discovered: Discovered) -> None:
        self._fetched, self._applied = None, discovered
        change = self.reconciler.apply(discovered, self.config.net, self._loops())
        self._memory.save_endpoints(discovered)
        self.publish()
        self._answer_refreshes(change)

    def _answer_refreshes(self, outcome: object) -> None:
        replies, self._refreshes, self._later = self._refreshes, self._later, []
        for reply in replies:
            if isinstance(outcome, ControlError):
                reply.set_exception(outcome)
            elif isinstance(outcome, Change):
                count = sum(e.state is EndpointState.OPEN for e in self.status.endpoints)
                reply.set_result({"endpoints": count, **dataclasses.asdict(outcome)})

    def _loops(self) -> set[str]:
        """Names that must never lead back to us: the API's and the ingress's."""
        api = urlsplit(self.config.api.url).hostname or ""
        return {api, self._ingress.host}

    # What people ask for

    def _refresh(self, reply: Future[Any]) -> None:
        if not self._poller.has_key:
            text = "there is no API key to ask ngrok with: `ngrokctl set-api-key`"
            reply.set_exception(ControlError("no_api_key", text))
            return
        # What a poll under way brings may be older than what this one asks for.
        (self._later if self._poller.polling else self._refreshes).append(reply)
        self._poller.hasten()

    def _rotate(self, reply: Future[Any]) -> None:
        if not self._identity.registered:
            text = "not registered with ngrok now; `ngrokctl status` says why"
            reply.set_exception(ControlError("not_registered", text))
            return
        self._poller.rotate_certificate()
        reply.set_result({"requested": True})

    def _reload(self, reply: Optional[Future[Any]]) -> None:
        """All at once or not at all: a faulty file changes nothing."""
        try:
            new = self._source.load()
        except ConfigError as exc:
            logger.error("the configuration is not taken, the old one stays: %s", exc)
            if reply is not None:
                reply.set_exception(ControlError("bad_configuration", str(exc)))
            return
        changed = configfile.changes(self.config, new)
        waiting = tuple(key for key in changed if needs_restart(key))
        live = tuple(key for key in changed if not needs_restart(key))
        self.config = effective(self.config, new)
        self._configure_parts()
        self.advise()
        logger.info("configuration read again, changed: %s", ", ".join(live) or "nothing")
        if waiting:
            logger.warning("needs a restart: %s", ", ".join(waiting))
        if reply is not None:
            reply.set_result({"changed": live, "needs_restart": waiting})

    def _configure_parts(self) -> None:
        logs.set_level(self.config.server.log_level)
        logs.reopen()
        self._forwarder.configure(self.config.forward)
        self._ingress.configure(self.config)
        self._poller.configure(self.config)
        if self._identity.registered:
            self._ingress.refresh()
        if self._fetched is None:
            self._fetched = self._applied
