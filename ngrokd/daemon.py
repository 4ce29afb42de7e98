"""The running daemon: start order, the main thread's mailbox, stop order."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import queue
import random
import time
from concurrent.futures import Future
from typing import Any, Callable, Optional
from urllib.parse import urlsplit

from ngrokd import __version__, configfile, limits, logs, signals
from ngrokd.cloud.identity import Identity
from ngrokd.commands import Commands
from ngrokd.config import Config
from ngrokd.control.health import HealthServer
from ngrokd.control.report import HealthReport, health_report
from ngrokd.control.server import ControlServer
from ngrokd.errors import ConfigError, ControlError, HostError
from ngrokd.forward.forwarder import Forwarder
from ngrokd.host.machine import Machine
from ngrokd.ingress import IngressLink
from ngrokd.memory import Memory
from ngrokd.messages import (
    ApiAnswered,
    Crashed,
    Drained,
    JobDone,
    JobKind,
    Message,
    Refresh,
    Reload,
    RotateCertificate,
    SetApiKey,
    Stop,
)
from ngrokd.model import Discovered, EndpointState, State, Status
from ngrokd.outcome import Change
from ngrokd.poller import Poller
from ngrokd.reconciler import Reconciler
from ngrokd.reload import effective, needs_restart
from ngrokd.snapshot import Board
from ngrokd.workers import Job, Workers

logger = logging.getLogger(__name__)

LONGEST_NAP_S = 60.0  # the main thread looks at its deadlines at least this often
HEARTBEAT_LIMIT_S = 5.0  # a forwarding thread that has not turned for this long is stuck


class Daemon:
    """Owner: main thread, which calls `run`. Other threads only read `status` and `post`."""

    def __init__(
        self,
        config: Config,
        load_config: Callable[[], Config],
        on_up: Callable[[], None] = lambda: None,
        on_first_poll: Callable[[Status], None] = lambda status: None,
    ) -> None:
        """`on_up`: started, the control socket answers. `on_first_poll`: names are there too."""
        self._config = config
        self._load_config = load_config
        self._on_up = on_up
        self._on_first_poll = on_first_poll
        self._mailbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._workers = Workers()
        self._identity = Identity(config.server)
        self._forwarder = Forwarder(config.forward, lambda exc: self.post(Crashed("forward", exc)))
        self._memory = Memory(config.state_folder)
        self._reconciler = Reconciler(Machine(config.net), self._forwarder, self._memory)
        self._ingress = IngressLink(config, self._identity, self._forwarder, self._submit)
        self._poller = Poller(config, self._identity, self._submit, self.post, random.random)
        self._commands = Commands(lambda: self.status, self._forwarder, self.post)
        self._fetched: Optional[Discovered] = None  # to be applied
        self._applied: Optional[Discovered] = None
        self._polled = False  # one answer of the API has been applied
        self._refreshes: list[Future[Any]] = []
        self._stop: Optional[Stop] = None
        self._crash: Optional[Crashed] = None
        self._left_behind = False  # something of ours could not be taken off the machine
        self._board = Board(self._identity, self._poller, self._reconciler, self._ingress)
        self.status = Status()

    def post(self, message: Message) -> None:
        """Any thread and signal handlers."""
        self._mailbox.put(message)

    def run(self) -> int:
        """Until stopped; the exit status. Raises StateError or HostError if it cannot start."""
        with contextlib.ExitStack() as stack:
            self._start(stack)
            while self._stop is None and self._crash is None:
                self._turn()
            self._shut_down()
        if self._crash is not None:
            logger.error("stopped, because thread %s died", self._crash.thread)
            return 1
        logger.info("stopped")
        return 1 if self._left_behind else 0

    # Start and stop

    def _start(self, stack: contextlib.ExitStack) -> None:
        logger.info("ngrokd %s starts", __version__)
        stack.enter_context(signals.posted(self.post))
        limits.raise_descriptor_limit()
        for note in self._identity.load():
            logger.warning("%s", note)
        self._poller.take_up_key()
        self._reconciler.recall()
        server = self._config.server
        control = ControlServer(server.socket_path, server.socket_group, self._commands.table())
        control.start()
        stack.callback(control.stop)
        stack.callback(self._clean_up)
        self._reconciler.prepare()
        self._forwarder.start()
        stack.callback(self._forwarder.stop)
        self._workers.start()
        self._start_health(stack)
        if self._identity.registered:
            self._fetched = self._memory.endpoints()
            self._ingress.refresh()
        if not self._poller.has_key:
            logger.warning("no API key yet: waiting for `ngrokctl set-api-key`")
        self._publish()
        self._on_up()

    def _start_health(self, stack: contextlib.ExitStack) -> None:
        server = self._config.server
        if not server.health_port:
            return
        health = HealthServer(
            server.health_address, server.health_port, self._health, self._commands.render_metrics
        )
        try:
            health.start()
        except HostError as exc:
            self._board.standing.append(str(exc))
            logger.warning("%s", exc)
        else:
            stack.callback(health.stop)

    def _clean_up(self) -> None:
        try:
            self._reconciler.close()
        except HostError as exc:
            self._left_behind = True
            logger.error("%s", exc)

    def _shut_down(self) -> None:
        """Names and listeners go at once; open connections get `forward.drain_timeout`."""
        self._publish(State.STOPPING)
        self._reconciler.stop_accepting()
        left = self._forwarder.open_connections()
        if self._crash is not None or not left:
            return
        timeout = self._config.forward.drain_timeout
        logger.info("draining %d connections for up to %g s", left, timeout)
        self._forwarder.when_idle(lambda: self.post(Drained()))
        until = time.monotonic() + timeout
        while (wait := until - time.monotonic()) > 0:
            try:
                message = self._mailbox.get(timeout=wait)
            except queue.Empty:
                break
            if isinstance(message, (Drained, Stop, Crashed)):
                break
            _turn_away(message)
        logger.info("%d connections cut", self._forwarder.open_connections())

    # The mailbox

    def _turn(self) -> None:
        now = time.monotonic()
        self._poller.tick(now)
        try:
            message = self._mailbox.get(timeout=min(self._poller.deadline(now), LONGEST_NAP_S))
        except queue.Empty:
            return
        self._handle(message)
        if self._fetched is not None and self._ingress.answered:
            self._apply(self._fetched)
        if self._stop is None:
            self._publish()

    def _handle(self, message: Message) -> None:
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
        elif isinstance(message, Stop):
            logger.info("stopping: %s", message.reason)
            self._stop = message
        elif isinstance(message, Crashed):
            logger.critical("thread %s died", message.thread, exc_info=message.error)
            self._crash = message

    def _submit(self, kind: JobKind, job: Job) -> None:
        self._workers.submit(
            job, lambda result, error: self.post(JobDone(kind, result, error))
        )

    def _job_done(self, done: JobDone) -> None:
        if done.kind is JobKind.RESOLVE:
            self._ingress.handle(done)
            return
        fetched = self._poller.handle(done, time.monotonic())
        if done.kind in (JobKind.ENROL, JobKind.POLL) and self._identity.registered:
            self._ingress.refresh()
        if fetched is not None:
            self._fetched, self._polled = fetched, True
        elif done.kind is JobKind.POLL and done.error is not None:
            self._answer_refreshes(ControlError("poll_failed", str(done.error)))

    def _apply(self, discovered: Discovered) -> None:
        first = self._polled and not self.status.ready
        self._fetched, self._applied = None, discovered
        change = self._reconciler.apply(discovered, self._config.net, self._loops())
        self._memory.save_endpoints(discovered)
        self._publish()
        self._answer_refreshes(change)
        if first:
            self._on_first_poll(self.status)

    def _answer_refreshes(self, outcome: object) -> None:
        replies, self._refreshes = self._refreshes, []
        for reply in replies:
            if isinstance(outcome, ControlError):
                reply.set_exception(outcome)
            elif isinstance(outcome, Change):
                count = sum(e.state is EndpointState.OPEN for e in self.status.endpoints)
                reply.set_result({"endpoints": count, **dataclasses.asdict(outcome)})

    def _loops(self) -> set[str]:
        """Names that must never lead back to us: the API's and the ingress's."""
        api = urlsplit(self._config.api.url).hostname or ""
        return {api, self._ingress.endpoint.rpartition(":")[0]}

    # What people ask for

    def _refresh(self, reply: Future[Any]) -> None:
        if self._poller.next_poll(time.monotonic()) is None:
            text = "not registered with ngrok yet; `ngrokctl status` says what it waits for"
            reply.set_exception(ControlError("not_registered", text))
            return
        self._refreshes.append(reply)
        self._poller.poll_now()

    def _rotate(self, reply: Future[Any]) -> None:
        if not self._identity.registered:
            reply.set_exception(ControlError("not_registered", "there is no certificate to renew"))
            return
        self._poller.rotate_certificate()
        reply.set_result({"requested": True})

    def _reload(self, reply: Optional[Future[Any]]) -> None:
        try:
            new = self._load_config()
        except ConfigError as exc:
            logger.error("the configuration is not taken, the old one stays: %s", exc)
            if reply is not None:
                reply.set_exception(ControlError("bad_configuration", str(exc)))
            return
        changed = configfile.changes(self._config, new)
        waiting = tuple(key for key in changed if needs_restart(key))
        live = tuple(key for key in changed if not needs_restart(key))
        self._config = effective(self._config, new)
        logs.set_level(self._config.server.log_level)
        logs.reopen()
        self._forwarder.configure(self._config.forward)
        self._ingress.configure(self._config)
        self._poller.configure(self._config)
        if self._identity.registered:
            self._ingress.refresh()
        if self._fetched is None:
            self._fetched = self._applied
        logger.info("configuration read again, changed: %s", ", ".join(live) or "nothing")
        if waiting:
            logger.warning("needs a restart: %s", ", ".join(waiting))
        if reply is not None:
            reply.set_result({"changed": live, "needs_restart": waiting})

    # What others see

    def _health(self) -> HealthReport:
        """Any thread."""
        age = time.monotonic() - self._forwarder.heartbeat()
        return health_report(
            self.status, self._forwarder.counters(), age < HEARTBEAT_LIMIT_S, time.time()
        )

    def _publish(self, state: Optional[State] = None) -> None:
        applied = self._polled and self._applied is not None
        self.status = self._board.snapshot(applied, state)


def _turn_away(message: Message) -> None:
    """While draining nothing else is begun."""
    reply = getattr(message, "reply", None)
    if reply is not None:
        reply.set_exception(ControlError("stopping", "the daemon is stopping"))
