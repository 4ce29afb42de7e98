"""What each message in the main thread's mailbox does."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import time
from collections.abc import Mapping
from typing import Any, Callable, Optional
from urllib.parse import urlsplit

from ngrokd import logs, snapshot
from ngrokd.awaited import Awaited
from ngrokd.cloud import transport
from ngrokd.cloud.identity import Identity
from ngrokd.config import Config
from ngrokd.configfile import Source
from ngrokd.control.feed import Feed
from ngrokd.hands import Hands
from ngrokd.healthpages import HealthPages
from ngrokd.host import command
from ngrokd.memory import Memory
from ngrokd.messages import (
    ApiAnswered,
    DumpStatus,
    Follow,
    JobDone,
    JobKind,
    Message,
    Reload,
    Trust,
    Unfollow,
)
from ngrokd.model import Discovered, EndpointState, State, Status
from ngrokd.process import limits
from ngrokd.process.workers import Job
from ngrokd.reconcile.reconciler import Reconciler
from ngrokd.reconcile.serving import Room
from ngrokd.reloader import Reloader
from ngrokd.snapshot import Board
from ngrokd.upkeep.ingress import JOBS as INGRESS_JOBS
from ngrokd.upkeep.ingress import IngressLink
from ngrokd.upkeep.poller import Poller
from ngrokd.upkeep.shadows import Shadows
from ngrokd.upkeep.waking import Waking
from ngrokd.wishes import Wishes

logger = logging.getLogger(__name__)

ANSWER_S = 1.0  # an API that is well answers within this


class Conductor:
    """Owner: main thread. Other threads read only `status`, which is replaced as a whole."""

    def __init__(
        self,
        config: Config,
        source: Source,
        hands: Hands,
    ) -> None:
        forwarder, submit = hands.forwarder, hands.submit
        self._forwarder = forwarder
        self._submit = submit
        self._identity = Identity(config.server, command.run)
        self._memory = Memory(config.state_folder)
        self.reconciler = Reconciler(
            hands.machine,
            forwarder,
            self._memory,
            Room(limits.listeners_allowed(), limits.too_many(source.environ, os.getpid())),
        )
        self._ingress = IngressLink(config, self._identity, forwarder, submit)
        self._poller = Poller(config, self._identity, self._ask, hands.post, random.random)
        self.waking = Waking(
            self._ask_anew,
            self._awake,
            forwarder.distrust_warm,
            lambda: self._poller.spacing_s,
        )
        self._fetched: Optional[Discovered] = None  # to be applied
        self._applied: Optional[Discovered] = None
        self._hold_until = 0.0  # monotonic: so long what the last run knew may be older than needed
        self._polled = False  # what is or will be applied came from ngrok, not from the disk
        self._fresh = False  # what is to be applied is an answer that nobody has been told of
        self._awaited = Awaited()
        self.status = Status()
        self.feed = Feed()
        self.pages = HealthPages(lambda: self.status, forwarder)
        self._reloader = Reloader(config, source, self.pages, self._take_up)
        self._shadows = Shadows(submit)
        self._board = Board(
            self._identity,
            self._poller,
            self.reconciler,
            self._ingress,
            self.pages,
            self._reloader,
            self._shadows,
        )

        wishes = Wishes(self._poller, self._identity, self._awaited, self._withdraw)
        self._deeds: Mapping[type, Callable[[Any], None]] = {
            JobDone: self._job_done,
            **wishes.deeds(),
            Reload: lambda message: self._reloader.reload(message.reply),
            Trust: self._ingress.install,
            DumpStatus: lambda message: self._dump_status(),
            Follow: lambda message: self.feed.add(message.reader, message.reply),
            Unfollow: lambda message: self.feed.remove(message.reader),
        }

    @property
    def config(self) -> Config:
        """The one in force."""
        return self._reloader.config

    def recall(self) -> None:
        """Takes up what the last run left on disk. Raises StateError if the folder is unusable."""
        for note in self._identity.load():
            logger.warning("%s", note)
        self._poller.take_up_key()
        self.reconciler.recall()
        self._reloader.advise()
        if not self._poller.has_key:
            waits = "no API key yet: waiting for `ngrokctl set-api-key`"
            logger.warning("%s", "; ".join(self._poller.problems) or waits)

    def begin(self) -> None:
        """The last good answer of ngrok is served until the next one comes."""
        if self._identity.registered and not self._identity.left:
            self._recall_endpoints()
        if self._fetched is None:  # what a crashed run left leads nowhere, and nothing follows soon
            self.reconciler.apply(Discovered(), self.config.net, self._loops())
        self._resolve()
        now = time.monotonic()
        self._poller.settle(now, serving=self._fetched is not None)
        if not self._poller.next_poll(now):
            self._hold_until = now + ANSWER_S
        self.publish()

    def _recall_endpoints(self) -> None:
        self._fetched = self._memory.endpoints()
        if self._fetched is None or self._memory.answered_at is None:
            return
        when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(self._memory.answered_at))
        self._board.recalled = (
            f"ngrok has not answered since the start: the endpoints of {when} UTC are served"
        )

    def complain(self, problem: str) -> None:
        """Something that was found at start and stays so until the end."""
        logger.warning("%s", problem)
        self._board.standing.append(problem)

    def publish(self, state: Optional[State] = None) -> None:
        """Gives other threads what is true now."""
        applied = self._polled and self._applied is not None
        self.status = self._board.snapshot(applied, state)
        self.feed.look(self.status)

    def tick(self, now: float) -> float:
        """Starts what is due; returns the seconds until something is due again."""
        self._reloader.tick(now)
        self.waking.tick()  # before the poller, which it may hasten
        self._ingress.tick(now)
        self._poller.tick(now)
        self._awaited.expire(now)
        self.pages.tick(self.config.server, now)
        self._apply_what_may_be()
        self.publish()  # what was due may have failed before anything was sent
        parts = (
            self._poller,
            self._reloader,
            self._ingress,
            self._awaited,
            self.pages,
            self.waking,
        )
        held = self._hold_until - now
        return min(*(part.wait_s(now) for part in parts), held if held > 0 else math.inf)

    def handle(self, message: Message) -> None:
        """Does what one message asks for, and publishes what came of it."""
        if isinstance(message, ApiAnswered):  # one of the 80 of a long list: what follows is told
            self._poller.count_request(message.outcome)
            return
        deed = self._deeds.get(type(message))
        if deed is not None:
            deed(message)
        self._apply_what_may_be()
        self.publish()

    def _apply_what_may_be(self) -> None:
        held = not self._polled and time.monotonic() < self._hold_until
        if self._fetched is not None and self._ingress.answered and not held:
            self._apply(self._fetched)

    def _dump_status(self) -> None:
        answer = snapshot.status_json(
            self.status, self._forwarder.snapshot(), self.pages.verdict()
        )
        logger.info("status: %s", json.dumps(answer))

    # Questions to the network, and its answers

    def _ask(self, kind: JobKind, job: Job) -> None:
        self.waking.asked(kind)
        self._submit(kind, job)

    def _ask_anew(self) -> bool:
        """What was judged and asked before is not to be relied on any more."""
        self._poller.look_again()
        self._poller.hasten()
        return self._poller.has_key

    def _awake(self) -> None:
        if self._identity.registered:
            self._ingress.awake()

    def _resolve(self) -> None:
        """Points new connections at where the ingress is now."""
        if self._identity.registered:
            self._ingress.refresh()

    def _job_done(self, done: JobDone) -> None:
        if done.kind in INGRESS_JOBS:
            was_wrong = self._ingress.wrong
            self._ingress.handle(done, time.monotonic())
            if self._ingress.wrong and not was_wrong:
                self._poller.look_at_operator()  # it may have moved
            return
        if done.kind is JobKind.SHADOWS:
            self._shadows.handle(done)
            return
        self.waking.answered(done)
        registrations = self._poller.registrations
        fetched = self._poller.handle(done, time.monotonic())
        if done.kind in (JobKind.ENROL, JobKind.POLL):
            self._resolve()
        if self._poller.registrations != registrations:
            self._ingress.enrolled()
        if fetched is not None:
            self._fetched, self._polled, self._fresh = fetched, True, True
        elif done.error is not None and done.kind in (JobKind.ENROL, JobKind.POLL):
            self._hold_until = 0.0  # no answer comes soon
            # What others did to this machine is mended, and what it refused tried, without ngrok.
            self._fetched = self._fetched or self._applied
            self._apply_what_may_be()
            self._awaited.failed(done.error)

    def _apply(self, discovered: Discovered) -> None:
        fresh, self._fresh = self._fresh, False
        self._fetched, self._applied = None, discovered
        change = self.reconciler.apply(discovered, self.config.net, self._loops())
        if fresh:
            self._memory.save_endpoints(discovered, time.time())
            self._board.recalled = ""
            self._look_for_shadows()
        self.publish()
        if fresh:
            self._awaited.applied(change, self._open_count())

    def _look_for_shadows(self) -> None:
        net, interface = self.config.net, self.reconciler.interface
        subnet = interface.subnet if interface else net.subnet
        self._shadows.look_at(self.reconciler.endpoints, net.hosts_file, subnet)

    def _open_count(self) -> int:
        return sum(e.state is EndpointState.OPEN for e in self.status.endpoints)

    def _loops(self) -> set[str]:
        """Names that must never lead back to us: the API's, its proxy's and the ingress's."""
        api = urlsplit(self.config.api.url).hostname or ""
        return {api, self._ingress.host, *transport.proxy_hosts()}

    def _withdraw(self) -> None:
        """Of a machine that was taken out of ngrok."""
        self._forwarder.set_ingress(None)  # it would refuse our certificate from now on
        self._apply(Discovered())
        self._memory.forget_endpoints()
        self._polled = False

    def _take_up(self, config: Config) -> None:
        """Gives the parts a new configuration; none of them can refuse it."""
        logs.reopen()
        self._forwarder.configure(config.forward)
        self._ingress.configure(config)
        self._poller.configure(config)
        self._resolve()
        if self._fetched is None:
            self._fetched = self._applied

