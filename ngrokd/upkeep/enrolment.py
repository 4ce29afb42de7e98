"""Keeps this machine registered and certified at ngrok, or out of it."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from typing import Any, Callable, Optional

from ngrokd.cloud.certificate import day
from ngrokd.cloud.identity import Identity
from ngrokd.cloud.operators import Operator
from ngrokd.cloud.registration import (
    Answer,
    Record,
    RegistrationState,
    Step,
    judge,
    next_step,
)
from ngrokd.config import Config
from ngrokd.errors import ApiError, ApiRefused, ControlError, OperatorLost, StateError
from ngrokd.messages import JobKind
from ngrokd.process.workers import Job
from ngrokd.upkeep.access import Access
from ngrokd.upkeep.agewatch import AgeWatch
from ngrokd.upkeep.backoff import renewal_gap_s
from ngrokd.upkeep.leaving import Leaving
from ngrokd.upkeep.tries import Tries

logger = logging.getLogger(__name__)

CLOCK = "the new certificate is due for renewal already: compare this machine's clock"
_BEGINS = {
    Step.REGISTER: "registering with the ngrok API at %s",
    Step.RENEW: "asking the ngrok API at %s for a new certificate",
    Step.UPDATE: "telling the ngrok API at %s the selectors, host name and version",
}


class Enrolment:
    """Owner: main thread. Drives the state machine of `cloud.registration`.

    Times are `time.monotonic()` seconds unless a name says otherwise.
    """

    def __init__(
        self,
        config: Config,
        identity: Identity,
        access: Access,
        submit: Callable[[JobKind, Job], None],
        tries: Tries,
    ) -> None:
        self._config = config
        self._identity = identity
        self._access = access
        self._submit = submit
        self._tries = tries
        self._record = Record()
        self._step: Optional[Step] = None  # that is under way
        self._about = ""  # the operator that it concerns
        self._age = AgeWatch()
        self._rotations: list[Future[Any]] = []
        self._leaving = Leaving(identity, access, submit)
        self._losses = 0  # of the operator, since the last good poll
        self._early_renewals = 0  # in a row, of certificates that were due as they came

    # What others may ask

    @property
    def state(self) -> RegistrationState:
        """How we stand with ngrok."""
        return self._record.state

    @property
    def active(self) -> bool:
        """There is a key, and nobody has taken this machine out."""
        return self.state not in (RegistrationState.UNREGISTERED, RegistrationState.LEFT)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with it, for a person."""
        if self.state is RegistrationState.LEFT:
            return self._leaving.problems()
        return (self._tries.problem,) if self._tries.problem else ()

    def wait_s(self, now: float) -> float:
        """Seconds until `tick` has something to do again."""
        waits = [self._age.wait_s(now)]
        if self.active and not self._tries.busy and self._tries.not_before > now:
            waits.append(self._tries.not_before - now)
        return max(0.0, min(waits))

    # What happens

    def start(self) -> None:
        """With what the state folder holds and the key that is there."""
        state = RegistrationState.LEFT if self._identity.left else RegistrationState.UNREGISTERED
        self._record = Record(state)
        if state is not RegistrationState.LEFT:
            self.keyed()

    def keyed(self) -> None:
        """There is another key, or none any more."""
        self._take(Answer.KEY if self._access.key else Answer.NO_KEY)
        self._tries.forgive()

    def join(self) -> None:
        """A person gives a key: a machine that was taken out comes back. Raises StateError."""
        if self._identity.left:
            self._identity.mark_left(False)
        self.keyed()

    def configure(self, config: Config, another_api: bool) -> None:
        """A new configuration: what it changes is asked for at the next `tick`."""
        old, self._config = self._config, config
        if another_api and self.state is not RegistrationState.LEFT:
            self.keyed()
        if another_api or config.bound_endpoints != old.bound_endpoints:
            self.ask_now()
        self.look_again()

    def ask_now(self) -> None:
        """What is to be asked is asked at the next `tick`."""
        self._tries.ask_now()

    def hasten(self) -> None:
        """`ask_now`, and the back-off begins anew."""
        self._tries.hasten()

    def look_again(self) -> None:
        """The certificate's age is judged at the next `tick`: the clock may be another one."""
        self._age.look_again()

    def tick(self, now: float) -> None:
        """Starts what is due."""
        if self._age.due(now):
            self._look(now)
        step = self._take(None)
        if step is not None and not self._leaving.under_way and self._tries.due(now):
            self._begin(step, now)

    def rotate(self, reply: Future[Any]) -> None:
        """A new certificate at the next `tick`; `reply` gets its end (Unix seconds)."""
        self._rotations.append(reply)
        self._take(Answer.ROTATE)
        self.ask_now()

    def leave(self, reply: Future[Any]) -> None:
        """The operator is deleted at ngrok, then all that says who we are; `reply` gets its id."""
        if self._leaving.under_way or self._tries.busy:
            reply.set_exception(ControlError("busy", "ngrok is being asked: try again in a moment"))
            return
        self._leaving.begin(reply)

    def left(self, result: object, error: Optional[BaseException]) -> bool:
        """ngrok's answer to `leave`; whether this machine is out."""
        if not self._leaving.done(result, error):
            return False
        self._take(Answer.LEFT)
        self._tries.forgive()
        return True

    def done(self, result: object, error: Optional[BaseException], now: float) -> bool:
        """Takes a step's outcome; whether ngrok gave what was asked for."""
        self._tries.busy = False
        step, self._step = self._step, None
        if error is None:
            assert isinstance(result, Operator)
            try:
                self._identity.finish(result, time.time())
            except (StateError, ApiError) as exc:
                error = exc
        if error is not None:
            self.failed(error, now)
            return False
        self._tries.succeeded()
        self._look(now)
        if step is not Step.UPDATE:  # that one was asked for nothing but what the record says now
            self._take(Answer.GRANTED)
        self._tell(step)
        self._space_renewals(now)
        return True

    def confirmed(self) -> None:
        """A poll was answered: ngrok knows our operator."""
        self._losses = 0

    def lost(self, operator_id: str, now: float, wait: float) -> None:
        """ngrok answered that it does not know this operator. The first loss is mended at once; an
        operator that keeps vanishing is not made anew at every poll."""
        if operator_id == self._identity.operator_id:  # else a late answer, about the one before
            self._identity.lost()
            self._losses += 1
            self._take(Answer.GONE)
            self._tries.not_before = now if self._losses == 1 else now + wait

    # How

    def _take(self, answer: Optional[Answer]) -> Optional[Step]:
        """Everything that happens goes through here; what is to be asked next."""
        before = self._record.state
        recorded = self._identity.recorded(
            self._record, self._config.bound_endpoints.selectors
        )
        self._record, step = next_step(recorded, answer, self._age.wall)
        if self._record.state is not before:
            logger.debug("registration: %s, was %s", self._record.state.value, before.value)
        return step

    def _begin(self, step: Step, now: float) -> None:
        profile = self._record.wanted
        assert profile is not None
        try:
            job = self._identity.begin(step, self._access.api(), profile)
        except StateError as exc:
            self.failed(exc, now)
            return
        level = logging.DEBUG if self._tries.failing else logging.INFO
        logger.log(level, _BEGINS[step], self._access.url)
        self._step, self._about = step, self._identity.operator_id
        self._tries.begin()
        self._submit(JobKind.ENROL, job)

    def failed(self, error: BaseException, now: float) -> None:
        """A step did not work."""
        if not isinstance(error, (ApiError, StateError)):
            raise error
        self._access.renew()
        wait = self._tries.wait_after(error)
        if isinstance(error, OperatorLost):
            self.lost(self._about, now, wait)
            wait = max(0.0, self._tries.not_before - now)
        else:
            self._take(Answer.REFUSED if isinstance(error, ApiRefused) else Answer.UNAVAILABLE)
        self._tries.failed(error, now, wait)
        self._answer_rotations(error)
        self._warn()

    def _tell(self, step: Optional[Step]) -> None:
        end = day(self._identity.certificate_not_after or 0.0)
        if step is Step.UPDATE:
            logger.info("ngrok knows the selectors, host name and version now")
        elif step is Step.RENEW:
            logger.info("a new certificate is in use, valid until %s", end)
        else:
            operator_id = self._identity.operator_id
            logger.info("registered as %s, with a certificate valid until %s", operator_id, end)
        if step is not Step.UPDATE:
            self._answer_rotations(None)

    def _answer_rotations(self, error: Optional[BaseException]) -> None:
        waiting, self._rotations = self._rotations, []
        for reply in waiting:
            if error is None:
                reply.set_result(self._identity.certificate_not_after)
            else:
                text = f"the old certificate stays in use: {error}"
                reply.set_exception(ControlError("failed", text))

    def _look(self, now: float) -> None:
        """Judge the certificate's age, and say when to do it again."""
        self._age.look()
        self._take(None)
        self._age.plan(self._record.validity, now, self._config.server.cert_refresh_interval)
        self._warn()

    def _warn(self) -> None:
        self._age.warn(self._record.validity, self._tries.problem if self._tries.failing else "")

    def _space_renewals(self, now: float) -> None:
        """A certificate that is due as it comes (a wrong clock, a short life) is not asked for anew
        at once: every host of the account would be shut out by the API's request limit."""
        if judge(self._record, self._age.wall) is not Answer.DUE:
            self._early_renewals = 0
            return
        self._early_renewals += 1
        left = (self._identity.certificate_not_after or 0.0) - self._age.wall
        self._tries.not_before = now + renewal_gap_s(self._early_renewals, left)
        if self._early_renewals == 1:
            logger.warning("%s", CLOCK)
        self._tries.problem = CLOCK
