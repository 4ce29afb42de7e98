"""Decides when to talk to the ngrok API: to enrol, and to ask which endpoints exist."""

from __future__ import annotations

import functools
import logging
import time
from concurrent.futures import Future
from typing import Any, Callable, Optional

from ngrokd.cloud.identity import Identity
from ngrokd.cloud.polling import Polled, poll
from ngrokd.cloud.registration import RegistrationState
from ngrokd.cloud.transport import is_loopback
from ngrokd.config import Config
from ngrokd.errors import ApiError, ControlError, OperatorLost
from ngrokd.messages import JobDone, JobKind, Message
from ngrokd.model import Discovered
from ngrokd.process.workers import Job
from ngrokd.upkeep.access import Access
from ngrokd.upkeep.enrolment import Enrolment
from ngrokd.upkeep.keycheck import KeyCheck
from ngrokd.upkeep.pace import Pace
from ngrokd.upkeep.tries import UNBOUNDED, Tries

logger = logging.getLogger(__name__)

# A poll is mostly one request, a step two: together far below what an account may, and more than a
# `poll_interval` of 1 s needs.
POLLS_A_MINUTE, STEPS_A_MINUTE = 65, 12

Submit = Callable[[JobKind, Job], None]


class Poller:
    """Owner: main thread. Network work goes through `submit`; its answers come to `handle`.

    Times inside are `time.monotonic()` seconds unless a name says otherwise.
    """

    def __init__(
        self,
        config: Config,
        identity: Identity,
        submit: Submit,
        post: Callable[[Message], None],
        random: Callable[[], float],
    ) -> None:
        self._config = config
        self._identity = identity
        self._submit = submit
        interval = config.bound_endpoints.poll_interval
        self._paces = {kind: Pace(interval, random) for kind in (JobKind.ENROL, JobKind.POLL)}
        enrolling, self._polls = (
            Tries(kind.value, pace, self._request_count) for kind, pace in self._paces.items()
        )
        self._enrolling = enrolling
        self._bound(config)
        self._access = Access(config, identity, post)
        self._enrolment = Enrolment(config, identity, self._access, submit, enrolling)
        self._keys = KeyCheck(
            identity, self._access, submit, self._enrolment.let_in, self._joined
        )
        self._about = ""  # the operator of the poll that is under way
        self._seen = Polled()  # by the last good poll
        self._again = False  # a poll was asked for while one was under way
        self.requests: dict[str, int] = {}  # HTTP status or "error": how many
        self.last_success: Optional[float] = None  # Unix seconds
        self.last_error = ""

    # What others may ask

    @property
    def has_key(self) -> bool:
        """There is something to register with, and nobody has taken this machine out."""
        return self._enrolment.active

    @property
    def registration(self) -> RegistrationState:
        """How we stand with ngrok."""
        return self._enrolment.state

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps us from talking to the API, for a person."""
        polling = (self._polls.problem,) if self._polls.problem else ()
        return (*self._enrolment.problems, *polling)

    @property
    def spacing_s(self) -> float:
        """What is between two polls while nothing fails."""
        return self._paces[JobKind.POLL].spacing_s

    def next_poll(self, now: float) -> Optional[float]:
        """Seconds until the next poll; None while nothing can be polled."""
        if not self.has_key:
            return None
        return self._polls.wait_s(now) if self._can_poll() else self._enrolment.next_try(now)

    def wait_s(self, now: float) -> float:
        """Seconds until `tick` has something to do again."""
        waits = [self._enrolment.wait_s(now)]
        wait = self._polls.wait_s(now)
        if self.has_key and not self.polling and wait:
            waits.append(wait)
        return max(0.0, min(waits))

    @property
    def polling(self) -> bool:
        """A poll is under way: its answer may be older than what was asked for since."""
        return self._polls.busy

    # What happens

    def take_up_key(self) -> None:
        """The key set at run time, else the configured one. Raises StateError."""
        self._access.take_up_key()
        self._enrolment.start()

    def tick(self, now: float) -> None:
        """Starts what is due."""
        self._enrolment.tick(now)
        if self._can_poll() and self._polls.due(now):
            self._polls.begin(now)
            self._about = self._identity.operator_id
            job = functools.partial(poll, self._access.api(), self._about, self._seen)
            self._submit(JobKind.POLL, job)

    def settle(self, uptime_s: float, serving: bool) -> None:
        """At the start; `serving`: what the last run knew is served until ngrok answers."""
        wait = self._paces[JobKind.POLL].first_s(uptime_s, serving)
        self._polls.not_before = uptime_s + wait

    def poll_now(self) -> None:
        """The next `tick` polls, after enrolling if that is due, whatever the schedule said."""
        self._enrolment.ask_now()
        self._poll_soon()

    def hasten(self) -> None:
        """A person asks, or a network has come: `poll_now`, and the back-off begins anew."""
        self._enrolment.hasten()
        self._polls.hasten()
        self._again = self.polling

    def look_at_operator(self) -> None:
        """What ngrok says of it is asked for soon: the ingress may have moved."""
        self._enrolment.look_at_operator()

    @property
    def registrations(self) -> int:
        """How often this machine has been registered since the start."""
        return self._enrolment.registrations

    def look_again(self) -> None:
        """The clock may be another one: the certificate's age is judged at the next `tick`."""
        self._enrolment.look_again()

    def rotate_certificate(self, reply: Future[Any]) -> None:
        """Renews the certificate, however young it is; `reply` gets the new one's end
        (Unix seconds)."""
        self._enrolment.rotate(reply)

    def leave(self, reply: Future[Any]) -> None:
        """Deletes the operator and everything that says who we are; `reply` gets its id."""
        if self._keys.busy:
            reply.set_exception(ControlError("busy", "an API key is being checked: try again"))
            return
        self._enrolment.leave(reply)

    def configure(self, config: Config) -> None:
        """A new configuration: what it changes is asked for at the next `tick`."""
        old, self._config = self._config, config
        for pace in self._paces.values():
            pace.configure(config.bound_endpoints.poll_interval)
        self._bound(config)
        another_api = self._access.configure(config)
        self._enrolment.configure(config, another_api)
        if another_api or config.bound_endpoints != old.bound_endpoints:
            self.poll_now()

    def count_request(self, outcome: str) -> None:
        """One HTTP request ended with this status, or "error"."""
        self.requests[outcome] = self.requests.get(outcome, 0) + 1

    def set_key(self, key: str, reply: Future[Any]) -> None:
        """Asks ngrok about the key before it replaces another one; `reply` gets the outcome."""
        if self._enrolment.leaving:
            text = "this machine is just being taken out of ngrok: try again"
            reply.set_exception(ControlError("busy", text))
            return
        self._keys.ask(key, reply)

    def handle(self, done: JobDone, now: float) -> Optional[Discovered]:
        """Takes a finished job; returns endpoints to apply if it was a good poll."""
        if done.kind is JobKind.CHECK_KEY:
            self._keys.done(done.error)
            self.last_error = self._keys.refusal or self.last_error
        elif done.kind is JobKind.LEAVE:
            if self._enrolment.left(done.result, done.error):
                self._polls.forgive()
        elif done.kind is JobKind.ENROL:
            if self._enrolment.done(done.result, done.error, now):
                self._poll_soon()
            elif done.error is not None:
                self.last_error = str(done.error)
        else:
            return self._polled(done, now)
        return None

    # How

    def _can_poll(self) -> bool:
        return self.has_key and bool(self._identity.operator_id)

    def _bound(self, config: Config) -> None:
        """Whoever asks, however often: ngrok grants an account 120 requests a minute. An API on
        this machine is nobody's account."""
        bounded = not is_loopback(config.api.url)
        self._polls.most_a_minute = POLLS_A_MINUTE if bounded else UNBOUNDED
        self._enrolling.most_a_minute = STEPS_A_MINUTE if bounded else UNBOUNDED

    def _poll_soon(self) -> None:
        self._polls.ask_now()
        self._again = self.polling

    def _joined(self) -> None:
        self._enrolment.keyed()
        self._polls.forgive()

    def _polled(self, done: JobDone, now: float) -> Optional[Discovered]:
        self._polls.busy = False
        asked_again, self._again = self._again, False
        if done.error is not None:
            self._poll_failed(done.error, now, asked_again)
            return None
        assert isinstance(done.result, Polled)
        if not self.has_key:
            return None  # it was under way when this machine was taken out
        wait = self._polls.succeeded()
        self._enrolment.confirmed()
        self.last_success, self.last_error = time.time(), ""
        self._polls.not_before = now if asked_again else now + wait
        self._seen = done.result
        return done.result.discovered

    def _poll_failed(self, error: BaseException, now: float, asked_again: bool) -> None:
        if not isinstance(error, ApiError):
            raise error
        self._access.renew()
        if isinstance(error, OperatorLost) and self._about != self._identity.operator_id:
            self._polls.ask_now()  # a late answer, about an operator that was lost already
            return
        wait = self._polls.wait_after(error)
        if isinstance(error, OperatorLost) and self.has_key:
            self._enrolment.lost(self._about, now, wait)
            wait = self._enrolment.next_try(now)
        self._polls.failed(error, now, 0.0 if asked_again else wait)
        self.last_error = str(error)

    def _request_count(self) -> int:
        return sum(self.requests.values())
