"""Keeps this machine registered and certified at ngrok, or out of it."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from concurrent.futures import Future
from typing import Any, Callable, Optional

from ngrokd.cloud.identity import Identity
from ngrokd.cloud.operators import Operator
from ngrokd.cloud.registration import Answer, Record, RegistrationState, Step, judge, next_step
from ngrokd.config import Config
from ngrokd.errors import ApiError, ApiRefused, ApiUnavailable, OperatorLost, StateError
from ngrokd.messages import JobKind
from ngrokd.process.workers import Job
from ngrokd.upkeep import stepwords
from ngrokd.upkeep.access import Access
from ngrokd.upkeep.agewatch import AgeWatch
from ngrokd.upkeep.backoff import renewal_gap_s
from ngrokd.upkeep.leaving import Leaving
from ngrokd.upkeep.rotations import Rotations
from ngrokd.upkeep.tries import Tries

logger = logging.getLogger(__name__)

SHORTEST_GAP_S = 1.0  # from one step that was granted to the next
LOOK_AGAIN_S = 60.0
SEEN_S = 3600.0  # what ngrok says of our operator is asked for again after so long


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
        self._missed = False  # what is missing was asked for, and did not come
        self._about = ""  # the operator that it concerns
        self._age = AgeWatch()
        self._rotations = Rotations()
        self._leaving = Leaving(identity, access, submit)
        self._seen_until = -math.inf  # so long it is known what ngrok has of our operator
        self.registrations = 0  # so many operators and certificates were got by registering
        self._losses = 0  # of the operator, since the last good poll
        self._early_steps = 0  # in a row, that left something missing or due

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
        failed = (self._tries.problem,) if self._tries.problem else ()
        return (*self._leaving.problems(), *failed)

    def wait_s(self, now: float) -> float:
        """Seconds until `tick` has something to do again."""
        seen = self._seen_until - now
        trying = self._tries.wait_s(now) if self.active and not self._tries.busy else 0.0
        waits = (self._age.wait_s(now), self._leaving.wait_s, trying or math.inf)
        return max(0.0, min(*waits, seen if seen > 0 else math.inf))

    def next_try(self, now: float) -> float:
        """Seconds until ngrok is asked for what is missing."""
        return self._tries.wait_s(now)

    @property
    def leaving(self) -> bool:
        """ngrok is being asked to delete the operator."""
        return self._leaving.under_way

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
        if not self._access.key:
            self._rotations.refuse("there is no API key")

    def let_in(self) -> None:
        """A person gives a key: a machine that was taken out comes back. Raises StateError."""
        if self._identity.left:
            self._identity.mark_left(False)

    def configure(self, config: Config, another_api: bool) -> None:
        """A new configuration: what it changes is asked for at the next `tick`."""
        old, self._config = self._config, config
        if another_api and self.state is not RegistrationState.LEFT:
            self.keyed()
        if another_api or config.bound_endpoints != old.bound_endpoints:
            self._tries.forgive()  # what fails from now on is told, whatever was told before
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

    def look_at_operator(self) -> None:
        """What ngrok says of it is asked for at the next `tick`: the ingress may have moved."""
        self._seen_until = -math.inf

    def tick(self, now: float) -> None:
        """Starts what is due."""
        self._leaving.tick()
        if self._age.due(now):
            self._look(now)
        self._record = dataclasses.replace(self._record, seen=now < self._seen_until)
        step = self._take(None)
        if self._missed and step is not Step.REGISTER:
            self._missed = False
            self._tries.spare()
        if step is not None and not self._leaving.under_way and self._tries.due(now):
            self._begin(step, now)

    def rotate(self, reply: Future[Any]) -> None:
        """A new certificate at the next `tick`; `reply` gets its end (Unix seconds)."""
        self._rotations.add(reply)
        self._take(Answer.ROTATE)
        if not self.active or self._leaving.under_way:
            self._rotations.refuse("this machine is not registered with ngrok now")
        self.ask_now()

    def leave(self, reply: Future[Any]) -> None:
        """The operator is deleted at ngrok, then all that says who we are; `reply` gets its id."""
        self._leaving.begin(reply, self._tries.busy)

    def left(self, result: object, error: Optional[BaseException]) -> bool:
        """ngrok's answer to `leave`; whether this machine is out."""
        if not self._leaving.done(result, error):
            return False
        self._take(Answer.LEFT)
        self._rotations.refuse("this machine was taken out of ngrok")
        self._tries.forgive()
        self._leaving.answer(result)
        return True

    def done(self, result: object, error: Optional[BaseException], now: float) -> bool:
        """Takes a step's outcome; whether ngrok gave what was asked for."""
        self._tries.busy = False
        step, self._step = self._step, None
        assert step is not None
        if isinstance(result, Operator) and result.id == self._about != self._identity.operator_id:
            self.ask_now()  # late: about an operator that was lost while this was asked
            return False
        if error is None:
            assert isinstance(result, Operator)
            try:
                self._identity.finish(result, time.time())
            except (StateError, ApiError) as exc:
                error = exc
        if step is Step.LOOK and isinstance(error, ApiUnavailable):
            self._seen_until = now + LOOK_AGAIN_S  # nothing depends on it: no problem, no line
            return False
        if error is not None:
            self._failed(error, now, step)
            return False
        self._missed = False
        self._tries.succeeded()
        self._tries.not_before = now + SHORTEST_GAP_S
        self._seen_until = now + SEEN_S
        self._record = dataclasses.replace(self._record, seen=True)
        self._look(now)
        if step in (Step.REGISTER, Step.RENEW):  # the others change only what the record says now
            self._take(Answer.GRANTED)
        self._tell(step)
        self._space_steps(now)
        return True

    def confirmed(self) -> None:
        """A poll was answered: ngrok knows our operator."""
        self._losses = 0

    def lost(self, operator_id: str, now: float, wait: float) -> None:
        """ngrok answered that it does not know this operator. The first loss is mended at once; an
        operator that keeps vanishing is not made anew at every poll."""
        if operator_id != self._identity.operator_id:
            return  # a late answer, about the one before
        self._identity.lost()
        self._losses += 1
        self._take(Answer.GONE)
        self._tries.not_before = now if self._losses == 1 else now + wait

    # How

    def _take(self, answer: Optional[Answer]) -> Optional[Step]:
        """Everything that happens goes through here; what is to be asked next."""
        before = self._record.state
        selectors = self._config.bound_endpoints.selectors
        recorded = self._identity.recorded(self._record, selectors)
        self._record, step = next_step(recorded, answer, self._age.wall)
        if self._record.state is not before:
            logger.debug("registration: %s, was %s", self._record.state.value, before.value)
        return step

    def _begin(self, step: Step, now: float) -> None:
        # What ngrok refuses to be told must not keep the certificate from being renewed.
        told = self._record.told if step is Step.RENEW else None
        profile = told or self._record.wanted
        assert profile is not None
        self._tries.name = stepwords.NAMES[step]
        self._tries.begin(now)
        self._step, self._about = step, self._identity.operator_id
        try:
            job = self._identity.begin(step, self._access.api(), profile)
        except StateError as exc:
            self._tries.busy = False
            self._failed(exc, now, step)
            return
        level = logging.DEBUG if self._tries.failing else stepwords.LEVELS[step]
        logger.log(level, stepwords.BEGINS[step], self._access.url)
        self._submit(JobKind.ENROL, job)

    def _failed(self, error: BaseException, now: float, step: Step) -> None:
        if not isinstance(error, (ApiError, StateError)):
            raise error
        self._missed = step is Step.REGISTER
        self._access.renew()
        wait = self._tries.wait_after(error)
        if isinstance(error, OperatorLost):
            self.lost(self._about, now, wait)
            wait = max(0.0, self._tries.not_before - now)
        else:
            self._take(Answer.REFUSED if isinstance(error, ApiRefused) else Answer.UNAVAILABLE)
        self._tries.failed(error, now, wait)
        self._rotations.failed(error)
        self._warn()

    def _tell(self, step: Step) -> None:
        end = self._identity.certificate_not_after
        text = stepwords.granted(step, self._identity.operator_id, end or 0.0)
        logger.log(stepwords.LEVELS[step], "%s", text)
        self.registrations += step is Step.REGISTER
        if step in (Step.REGISTER, Step.RENEW):
            self._rotations.granted(end)

    def _look(self, now: float) -> None:
        """Judge the certificate's age, and say when to do it again."""
        self._age.look()
        self._take(None)
        self._age.plan(self._record.validity, now, self._config.server.cert_refresh_interval)
        self._warn()

    def _warn(self) -> None:
        self._age.warn(self._record.validity, self._tries.problem if self._tries.failing else "")

    def _space_steps(self, now: float) -> None:
        """What a granted step left missing or due is not asked for anew at once."""
        found = judge(self._record, self._age.wall)
        if found not in (Answer.DUE, Answer.MISSING):
            self._early_steps = 0
            return
        self._early_steps += 1
        left = (self._identity.certificate_not_after or math.inf) - self._age.wall
        self._tries.not_before = now + renewal_gap_s(self._early_steps, left)
        self._tries.problem = stepwords.early(found)
        if self._early_steps == 1:
            logger.warning("%s", self._tries.problem)
