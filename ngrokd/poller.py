"""Decides when to talk to the ngrok API: to register, to renew, to ask which endpoints exist."""

from __future__ import annotations

import functools
import logging
import time
from concurrent.futures import Future
from typing import Any, Callable, Optional

from ngrokd import __version__, logs
from ngrokd.backoff import renewal_gap_s
from ngrokd.cloud.api import Api
from ngrokd.cloud.apierrors import key_fault
from ngrokd.cloud.identity import Identity
from ngrokd.cloud.polling import poll
from ngrokd.cloud.registration import Operator, Step
from ngrokd.config import Config
from ngrokd.errors import ApiError, ApiRefused, ControlError, OperatorLost, StateError
from ngrokd.messages import ApiAnswered, JobDone, JobKind, Message
from ngrokd.model import Discovered
from ngrokd.pace import Pace
from ngrokd.workers import Job

logger = logging.getLogger(__name__)

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
        self._post = post
        self._paces = {kind: Pace(config.bound_endpoints.poll_interval, random) for kind in JobKind}
        self._key = ""
        self._base: Optional[Api] = None  # made anew after a failure: a new CA may be why
        self._busy: set[JobKind] = set()
        self._not_before = dict.fromkeys(JobKind, 0.0)
        self._problems: dict[JobKind, str] = {}
        self._faults: dict[JobKind, object] = {}  # told in the log already
        self._outages = dict.fromkeys(JobKind, 0)  # failures since it last worked
        self._checking: Optional[tuple[str, Future[Any]]] = None
        self._rotate = False
        self._again = False  # a poll was asked for while one was under way
        self._losses = 0  # of the operator, since the last good poll
        self._early_renewals = 0  # in a row, of certificates that were due as they came
        self.requests: dict[str, int] = {}  # HTTP status or "error": how many
        self.last_success: Optional[float] = None  # Unix seconds
        self.last_error = ""

    # What others may ask

    @property
    def has_key(self) -> bool:
        """There is something to register with."""
        return bool(self._key)

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps us from talking to the API, for a person."""
        return tuple(self._problems.values())

    def next_poll(self, now: float) -> Optional[float]:
        """Seconds until the next poll; None while nothing can be polled."""
        if not self._key or not self._identity.operator_id:
            return None
        return max(0.0, self._not_before[JobKind.POLL] - now)

    def wait_s(self, now: float) -> float:
        """Seconds until `tick` has something to do again."""
        waits = [self._config.server.cert_refresh_interval]
        if self._key:
            waits += [
                self._not_before[kind] - now
                for kind in (JobKind.ENROL, JobKind.POLL)
                if kind not in self._busy and self._not_before[kind] > now
            ]
        return max(0.0, min(waits))

    # What happens

    def take_up_key(self) -> None:
        """The key set at run time, else the configured one. Raises StateError."""
        self._key = self._identity.saved_api_key() or self._config.api.key
        logs.keep_secret(self._key)

    def tick(self, now: float) -> None:
        """Starts what is due."""
        if not self._key:
            return
        if self._due(JobKind.ENROL, now):
            self._enrol()
        if self._due(JobKind.POLL, now) and self._identity.operator_id:
            job = functools.partial(poll, self._api(), self._identity.operator_id)
            self._start(JobKind.POLL, job)

    def settle(self, uptime_s: float, serving: bool) -> None:
        """At the start; `serving`: what the last run knew is served until ngrok answers."""
        wait = self._paces[JobKind.POLL].first_s(uptime_s, serving)
        self._not_before[JobKind.POLL] = uptime_s + wait

    def poll_now(self) -> None:
        """The next `tick` polls, after registering if that is due, whatever the schedule said."""
        self._paces[JobKind.POLL].hurry()
        self._not_before[JobKind.ENROL] = self._not_before[JobKind.POLL] = 0.0
        self._again = self.polling

    def hasten(self) -> None:
        """A person asks, or the network is back: `poll_now`, and the back-off begins anew."""
        for pace in self._paces.values():
            pace.begin_anew()
        self.poll_now()

    @property
    def polling(self) -> bool:
        """A poll is under way: its answer may be older than what was asked for since."""
        return JobKind.POLL in self._busy

    def rotate_certificate(self) -> None:
        """The next `tick` renews the certificate, however young it is."""
        self._rotate = True
        self._not_before[JobKind.ENROL] = 0.0

    def configure(self, config: Config) -> None:
        """A new configuration: what it changes is asked for at the next `tick`."""
        old, self._config, self._base = self._config, config, None
        for pace in self._paces.values():
            pace.configure(config.bound_endpoints.poll_interval)
        if config.api != old.api:
            self.take_up_key()
        if config.api != old.api or config.bound_endpoints != old.bound_endpoints:
            self._not_before[JobKind.ENROL] = 0.0
            self.poll_now()

    def count_request(self, outcome: str) -> None:
        """One HTTP request ended with this status, or "error"."""
        self.requests[outcome] = self.requests.get(outcome, 0) + 1

    def set_key(self, key: str, reply: Future[Any]) -> None:
        """Asks ngrok about the key before it replaces another one; `reply` gets the outcome."""
        fault = key_fault(key)
        if fault:
            reply.set_exception(ControlError("bad_arguments", fault))
            return
        logs.keep_secret(key)
        if self._checking is not None:
            reply.set_exception(ControlError("busy", "another API key is being checked"))
            return
        self._checking = (key, reply)
        api = self._api(key)
        self._submit(JobKind.CHECK_KEY, api.list_operators)

    def handle(self, done: JobDone, now: float) -> Optional[Discovered]:
        """Takes a finished job; returns endpoints to apply if it was a good poll."""
        if done.kind is JobKind.CHECK_KEY:
            self._key_checked(done.error)
            return None
        self._busy.discard(done.kind)
        if done.error is not None:
            self._failed(done.kind, done.error, now)
            return None
        if done.kind is JobKind.ENROL:
            self._enrolled(done.result, now)
            return None
        assert isinstance(done.result, Discovered)
        wait = self._succeeded(JobKind.POLL)
        self.last_success, self.last_error = time.time(), ""
        self._losses = 0
        self._not_before[JobKind.POLL] = now if self._again else now + wait
        self._again = False
        return done.result

    # How

    def _due(self, kind: JobKind, now: float) -> bool:
        return kind not in self._busy and now >= self._not_before[kind]

    def _api(self, key: str = "") -> Api:
        if self._base is None:
            url, told = self._config.api.url, lambda outcome: self._post(ApiAnswered(outcome))
            self._base = Api(url, "", __version__, on_request=told)
        return self._base.with_key(key or self._key)

    def _start(self, kind: JobKind, job: Job) -> None:
        self._busy.add(kind)
        self._paces[kind].begins(sum(self.requests.values()))
        self._submit(kind, job)

    def _enrol(self) -> None:
        selectors = self._config.bound_endpoints.selectors
        step = self._identity.next_step(time.time(), selectors)
        if step is None and self._rotate and self._identity.registered:
            step = Step.RENEW
        if step is None:
            return
        self._rotate = False
        try:
            job = self._identity.begin(step, self._api(), selectors)
        except StateError as exc:
            self._failed(JobKind.ENROL, exc, time.monotonic())
            return
        level = logging.DEBUG if JobKind.ENROL in self._faults else logging.INFO
        logger.log(level, "%s with the ngrok API at %s", step.value, self._config.api.url)
        self._start(JobKind.ENROL, job)

    def _enrolled(self, result: object, now: float) -> None:
        assert isinstance(result, Operator)
        try:
            self._identity.finish(result)
        except (StateError, ApiError) as exc:
            self._failed(JobKind.ENROL, exc, now)
            return
        self._succeeded(JobKind.ENROL)
        logger.info("registered as %s", self._identity.operator_id)
        self.poll_now()
        self._space_renewals(now)

    def _space_renewals(self, now: float) -> None:
        """A certificate that is due as it comes (a wrong clock, a short life) is not asked for anew
        at once: every host of the account would be shut out by the API's request limit."""
        step = self._identity.next_step(time.time(), self._config.bound_endpoints.selectors)
        if step is not Step.RENEW:
            self._early_renewals = 0
            return
        self._early_renewals += 1
        left = (self._identity.certificate_not_after or 0.0) - time.time()
        self._not_before[JobKind.ENROL] = now + renewal_gap_s(self._early_renewals, left)
        text = "the new certificate is due for renewal already: compare this machine's clock"
        if self._problems.get(JobKind.ENROL) != text:
            logger.warning("%s", text)
        self._problems[JobKind.ENROL] = text

    def _succeeded(self, kind: JobKind) -> float:
        """The seconds until it is due again."""
        if self._faults.pop(kind, None) is not None:
            logger.info("%s works again after %d failures", kind.value, self._outages[kind])
        self._outages[kind] = 0
        self._problems.pop(kind, None)
        return self._paces[kind].after_success(sum(self.requests.values()))

    def _failed(self, kind: JobKind, error: BaseException, now: float) -> None:
        if not isinstance(error, (ApiError, StateError)):
            raise error
        self._base = None
        self._outages[kind] += 1
        wait = self._paces[kind].after_failure(error, sum(self.requests.values()))
        self._not_before[kind] = now if self._again else now + wait
        self._again = False
        if isinstance(error, OperatorLost):
            self._identity.lost()
            self._losses += 1
            # The first loss is mended at once; an operator that keeps vanishing is not made anew
            # at every poll.
            self._not_before[JobKind.ENROL] = now if self._losses == 1 else now + wait
        text = f"{kind.value} failed: {error}"
        if self._faults.get(kind) != error.fault:
            logger.warning("%s; next try in %.0f s", text, wait)
        self._faults[kind] = error.fault
        self._problems[kind] = text
        self.last_error = str(error)

    def _key_checked(self, error: Optional[BaseException]) -> None:
        assert self._checking is not None
        (key, reply), self._checking = self._checking, None
        if isinstance(error, ApiRefused):
            self.last_error = str(error)
            logger.warning("an API key is not taken: %s", error)
            reply.set_exception(ControlError("refused", str(error)))
        elif error is not None and self._key:
            text = f"the key in use is kept, because the new one could not be checked: {error}"
            reply.set_exception(ControlError("unchecked", text))
        else:
            self._take_key(key, reply, error)

    def _take_key(self, key: str, reply: Future[Any], error: Optional[BaseException]) -> None:
        try:
            self._identity.save_api_key(key)
        except (StateError, ApiError) as exc:
            reply.set_exception(ControlError("failed", f"the API key could not be kept: {exc}"))
            return
        self._key = key
        self._problems.clear()
        self._faults.clear()
        self._not_before = dict.fromkeys(JobKind, 0.0)
        logger.info("a new API key was set")
        reply.set_result({"checked": error is None, "note": str(error) if error else ""})
