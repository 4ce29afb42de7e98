"""The running daemon: start order, the main thread's loop, stop order."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from ngrokd import __version__, logs
from ngrokd.cloud import statefile
from ngrokd.commands import Commands
from ngrokd.conductor import Conductor
from ngrokd.config import Config
from ngrokd.configfile import Source
from ngrokd.control import socketfile
from ngrokd.control.server import ControlServer
from ngrokd.errors import ControlError, HostError, StateError
from ngrokd.forward.forwarder import Forwarder
from ngrokd.hands import Hands
from ngrokd.host.machine import Machine
from ngrokd.host.netif.watch import NetworkWatch
from ngrokd.messages import (
    ApiAnswered,
    Crashed,
    Drained,
    JobDone,
    JobKind,
    Message,
    Reload,
    Stop,
)
from ngrokd.model import State, Status
from ngrokd.process import limits, signals
from ngrokd.process.mailbox import Mailbox
from ngrokd.process.notify import Notifier
from ngrokd.process.supervision import Supervision
from ngrokd.process.workers import Job, Workers

logger = logging.getLogger(__name__)

COUNTING_S = 0.1  # so long what is only counted is not seen by others


def _no_status(_status: Status) -> None:
    """Nobody wants to see it."""


@dataclass(frozen=True)
class Occasions:
    """What is to be done once, in the main thread: when it answers, and when names are there."""

    up: Callable[[], None] = lambda: None
    first_poll: Callable[[Status], None] = _no_status


class Daemon:
    """Owner: main thread, which calls `run` once. Other threads only `post`."""

    def __init__(
        self,
        config: Config,
        source: Source,
        occasions: Optional[Occasions] = None,
        notes: Sequence[str] = (),
        machine: Optional[Machine] = None,
    ) -> None:
        """`notes`: problems known already, to be told in the log and the status. `machine`: None:
        this one."""
        limits.leave_no_core()
        limits.raise_descriptor_limit()  # before anything plans with it
        self._occasions = occasions or Occasions()
        self._told_first_poll = False
        self._mailbox = Mailbox()
        self._workers = Workers()
        self._forwarder = Forwarder(config.forward, self._forward_died)
        self._machine = machine or Machine(config.net, state_folder=config.state_folder)
        hands = Hands(self._forwarder, self._machine, self._submit, self.post)
        self._conductor = Conductor(config, source, hands)
        pages = self._conductor.pages
        self._pulse = pages.pulse
        self._commands = Commands(
            lambda: self._conductor.status, self._forwarder, self.post, pages.verdict
        )
        self._server = config.server
        self._notes = notes
        self._supervision = Supervision(
            Notifier(source.environ), self._pulse.forwarding, time.monotonic()
        )
        self._pending = signals.Pending()
        self._stopping = False
        self._failed = False  # a thread died, or something of ours could not be taken away

    def post(self, message: Message) -> None:
        """Any thread."""
        self._mailbox.post(message)

    def run(self) -> int:
        """Until stopped; the exit status. Raises StateError or HostError if it cannot start."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._mailbox.close)
            self._start(stack)
            while not self._stopping:
                self._turn()
            self._shut_down()
        logger.info("stopped")
        return 1 if self._failed else 0

    # Start

    def _start(self, stack: contextlib.ExitStack) -> None:
        """What can refuse comes first, and touches nothing: state folder, then socket."""
        logger.info("ngrokd %s starts", __version__)
        self._pending = stack.enter_context(signals.posted(self.post))
        for note in self._notes:
            self._conductor.complain(note)
        self._hold_state_folder(stack)
        self._conductor.recall()
        self._conductor.publish()  # before anybody can ask
        control = ControlServer(
            self._server.socket_path,
            self._server.socket_group,
            self._commands.table(),
            self._commands.table_for_owner(),
        )
        control.start()
        stack.callback(control.stop)
        stack.callback(self._conductor.feed.end)  # before the connections that tell it are ended
        stack.callback(self._clean_up)
        self._conductor.reconciler.prepare()
        self._watch_networks(stack)
        self._forwarder.start()
        stack.callback(self._forwarder.stop)
        self._workers.start()
        stack.callback(self._conductor.pages.stop)
        self._beat()
        self._conductor.pages.open(self._server, time.monotonic())
        self._conductor.begin()
        self._occasions.up()

    def _watch_networks(self, stack: contextlib.ExitStack) -> None:
        watch = self._machine.watch_networks()
        if watch is not None:
            stack.callback(watch.close)
            self._mailbox.watch(watch.fileno(), functools.partial(self._networks_changed, watch))

    def _hold_state_folder(self, stack: contextlib.ExitStack) -> None:
        """Before it is read, which mends what a crash left there."""
        try:
            stack.enter_context(statefile.held(self._conductor.config.state_folder))
        except StateError as exc:
            living = socketfile.who_listens(self._server.socket_path)
            if living:  # the same daemon a second time: that tells more
                raise HostError(f"control socket {self._server.socket_path}: {living}") from exc
            raise

    # The loop

    def _beat(self) -> None:
        self._pulse.beat(self._conductor.config.bound_endpoints.poll_interval)

    def _turn(self) -> None:
        now = time.monotonic()
        self._beat()
        wait = self._conductor.tick(now)
        self._supervision.tick(self._conductor.status, now)
        wait = min(wait, self._supervision.wait_s(now), logs.flush_repeats(now), self._pulse.nap_s)
        message = self._next_to_handle(wait)
        if message is None:
            return
        if isinstance(message, (Stop, Crashed)):
            self._end(message)
            return
        was_ready = self._conductor.status.ready
        if isinstance(message, Reload):
            self._supervision.reloading()
        self._conductor.handle(message)
        if isinstance(message, Reload):
            self._supervision.reloaded(self._conductor.status)
        if self._conductor.status.ready and not was_ready:
            self._ready()

    def _next_to_handle(self, wait: float) -> Optional[Message]:
        """Past answers of the API, which are only counted: a list of thousands has 80 of them, and
        a turn for each would take as long as the list."""
        due = time.monotonic() + wait
        message = self._next(wait)
        until = min(due, time.monotonic() + COUNTING_S)
        while isinstance(message, ApiAnswered) and (left := until - time.monotonic()) > 0:
            self._conductor.handle(message)
            message = self._next(left)
        return message

    def _networks_changed(self, watch: NetworkWatch) -> bool:
        """Within `get`; whether it is to return, so that a turn sees to it."""
        try:
            came = watch.read()
        except HostError as exc:
            logger.debug("%s", exc)
            self._mailbox.unwatch(watch.fileno())
            watch.close()
            return False
        if came is not None:
            self._conductor.waking.came(came)
        return came is not None

    def _ready(self) -> None:
        if not self._told_first_poll:
            self._told_first_poll = True
            self._occasions.first_poll(self._conductor.status)

    def _end(self, message: Message) -> None:
        self._stopping = True
        if isinstance(message, Crashed):
            self._failed = True
            logger.error("stopping, because thread %s died", message.thread)
        elif isinstance(message, Stop):
            logger.info("stopping: %s", message.reason)

    def _forward_died(self, error: BaseException) -> None:
        """On that thread, whose loop ends with it."""
        logger.critical("thread forward died", exc_info=error)
        self.post(Crashed("forward", error))

    def _submit(self, kind: JobKind, job: Job) -> None:
        self._workers.submit(job, lambda result, error: self.post(JobDone(kind, result, error)))

    # Stop

    def _shut_down(self) -> None:
        """Names and listeners go at once; open connections get `forward.drain_timeout`."""
        timeout = self._conductor.config.forward.drain_timeout
        self._supervision.stopping(timeout)
        self._conductor.publish(State.STOPPING)
        self._conductor.reconciler.stop_accepting()
        self._conductor.publish(State.STOPPING)  # nothing is open any more
        left = self._forwarder.open_connections()
        if not left or self._failed:
            return
        logger.info("draining %s for up to %g s", _connections(left), timeout)
        self._forwarder.when_idle(lambda: self.post(Drained()))
        until = time.monotonic() + timeout
        while (now := time.monotonic()) < until:
            self._beat()
            self._supervision.show_life(now)
            wait = min(until - now, self._supervision.wait_s(now), self._pulse.nap_s)
            message = self._next(wait)
            if isinstance(message, (Drained, Stop, Crashed)):
                break
            if message is not None:
                _turn_away(message)
        left = self._forwarder.open_connections()
        if left:
            logger.warning("%s cut: forward.drain_timeout is over", _connections(left))

    def _next(self, wait: float) -> Optional[Message]:
        message = self._mailbox.get(wait)
        if message is not None:
            self._pending.taken(message)
        return message

    def _clean_up(self) -> None:
        try:
            self._conductor.reconciler.close()
        except HostError as exc:
            self._failed = True
            logger.error("%s", exc)


def _turn_away(message: Message) -> None:
    """While draining nothing else is begun."""
    reply = getattr(message, "reply", None)
    if reply is not None:
        reply.set_exception(ControlError("stopping", "the daemon is stopping"))


def _connections(count: int) -> str:
    return f"{count} connection" if count == 1 else f"{count} connections"
