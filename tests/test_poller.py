"""When the API is asked for what, and what its answers change."""

from __future__ import annotations

import dataclasses
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from ngrokd import logs
from ngrokd.cloud.certificate import Validity
from ngrokd.cloud.identity import Identity
from ngrokd.cloud.operators import Operator
from ngrokd.cloud.polling import Polled
from ngrokd.cloud.registration import Profile, Record, RegistrationState, Step
from ngrokd.config import ApiSettings, Config, PollSettings, ServerSettings
from ngrokd.errors import (
    ApiRefused,
    ApiUnavailable,
    ControlError,
    OperatorLost,
    StateError,
)
from ngrokd.messages import JobDone, JobKind
from ngrokd.model import Discovered
from ngrokd.upkeep.poller import Poller

INTERVAL = 30.0
NOW = 1000.0
OLD_KEY, NEW_KEY, ANOTHER_KEY = "old-key-0123456789", "new-key-0123456789", "two-key-0123456789"


LASTING = Validity(0, 1e11)


class FakeIdentity:
    """The state folder's answers, in memory. `full` makes every write fail."""

    def __init__(self) -> None:
        self.operator_id = ""
        self.validity: Optional[Validity] = None
        self.next_validity: Optional[Validity] = LASTING  # of the certificate that comes next
        self.installation_id = "mark"
        self.left = False
        self.told: Optional[Profile] = None
        self.kept_key = ""
        self.full = False
        self.begun: list[Step] = []

    @property
    def certificate_not_after(self) -> Optional[float]:
        return self.validity.not_after if self.validity else None

    def saved_api_key(self) -> str:
        return self.kept_key

    def save_api_key(self, key: str) -> None:
        if self.full:
            raise StateError("no space left on device")
        self.kept_key = key

    def recorded(self, record: Record, selectors: tuple[str, ...]) -> Record:
        return dataclasses.replace(
            record,
            operator_id=self.operator_id,
            validity=self.validity,
            told=self.told,
            wanted=Profile(selectors, "host-1", "1"),
        )

    def begin(self, step: Step, api: Any, profile: Profile) -> Callable[[], Operator]:
        if self.full:
            raise StateError("/etc/ngrokd is read-only")
        self.begun.append(step)
        self.told = profile
        return lambda: Operator("k8sop_1")

    def finish(self, operator: Operator, now: float) -> None:
        self.operator_id, self.validity = operator.id, self.next_validity

    def lost(self) -> None:
        self.operator_id = ""

    def mark_left(self, left: bool) -> None:
        if self.full:
            raise StateError("no space left on device")
        self.left = left

    def forget(self) -> None:
        self.operator_id, self.validity, self.kept_key = "", None, ""


def of_short_life(left: float) -> Validity:
    """Due for renewal, with `left` seconds to go."""
    return Validity(time.time() - 4 * left, time.time() + left)


class Desk:
    """A poller whose jobs are only noted down."""

    def __init__(self, key: str = "k") -> None:
        self.identity = FakeIdentity()
        self.submitted: list[JobKind] = []
        config = Config(
            api=ApiSettings(key=key), bound_endpoints=PollSettings(poll_interval=INTERVAL)
        )
        self.poller = Poller(
            config,
            self.identity,  # type: ignore[arg-type]
            lambda kind, job: self.submitted.append(kind),
            lambda message: None,
            lambda: 0.5,
        )
        self.poller.take_up_key()

    def started(self, now: float = NOW) -> list[JobKind]:
        """What a tick starts."""
        self.submitted.clear()
        self.poller.tick(now)
        return list(self.submitted)

    def done(
        self,
        kind: JobKind,
        result: object = None,
        error: Optional[BaseException] = None,
        now: float = NOW,
    ) -> Optional[Discovered]:
        return self.poller.handle(JobDone(kind, result, error), now)

    def enrolled(self) -> Desk:
        self.started()
        self.done(JobKind.ENROL, Operator("k8sop_1"))
        return self


def test_without_a_key_nothing_is_asked() -> None:
    assert Desk(key="").started() == []


def test_with_a_key_it_registers_and_then_polls() -> None:
    desk = Desk()
    assert desk.started() == [JobKind.ENROL]
    assert desk.started() == [], "one registration at a time"
    desk.done(JobKind.ENROL, Operator("k8sop_1"))
    assert desk.started() == [JobKind.POLL]


def test_the_second_poll_comes_after_a_part_of_the_interval_and_the_third_after_all_of_it() -> None:
    desk = Desk().enrolled()
    desk.started()
    assert desk.done(JobKind.POLL, Polled()) == Discovered()
    assert desk.started(NOW + INTERVAL / 2 - 1) == []
    assert desk.started(NOW + INTERVAL / 2) == [JobKind.POLL]
    desk.done(JobKind.POLL, Polled())
    assert desk.started(NOW + INTERVAL - 1) == []
    assert desk.started(NOW + INTERVAL) == [JobKind.POLL]


def test_a_poll_of_many_requests_is_not_soon_followed_by_another() -> None:
    desk = Desk().enrolled()
    desk.started()
    for _ in range(100):
        desk.poller.count_request("200")
    desk.done(JobKind.POLL, Polled())
    assert desk.started(NOW + 99) == []
    assert desk.started(NOW + 100) == [JobKind.POLL]


def test_a_machine_that_has_just_booted_and_serves_what_it_knew_puts_its_first_poll_off() -> None:
    desk = Desk()
    desk.enrolled()
    desk.poller.settle(20.0, serving=True)
    assert desk.started(20.0 + INTERVAL / 2 - 1) == []
    assert desk.started(20.0 + INTERVAL / 2) == [JobKind.POLL]


@pytest.mark.parametrize(("uptime_s", "serving"), [(20.0, False), (301.0, True)])
def test_any_other_start_polls_at_once(uptime_s: float, serving: bool) -> None:
    desk = Desk()
    desk.enrolled()
    desk.poller.settle(uptime_s, serving)
    assert desk.started(uptime_s) == [JobKind.POLL]


def test_a_refresh_polls_at_once() -> None:
    desk = Desk().enrolled()
    desk.started()
    desk.done(JobKind.POLL, Polled())
    desk.poller.poll_now()
    assert desk.started(NOW + 1) == [JobKind.POLL]


def test_a_refresh_during_a_poll_polls_again_because_the_answer_may_be_older() -> None:
    desk = Desk().enrolled()
    desk.started()
    desk.poller.poll_now()
    assert desk.started() == [], "one poll at a time"
    desk.done(JobKind.POLL, Polled())
    assert desk.started() == [JobKind.POLL]
    desk.done(JobKind.POLL, Polled())
    assert desk.started() == []


def test_a_refresh_registers_at_once_where_that_was_put_off() -> None:
    desk = Desk()
    desk.started()
    desk.done(JobKind.ENROL, error=ApiUnavailable("503"))
    assert desk.started(NOW + 1) == []
    desk.poller.poll_now()
    assert desk.started(NOW + 1) == [JobKind.ENROL]


def test_what_a_person_asks_for_does_not_lengthen_the_back_off() -> None:
    desk = Desk().enrolled()
    for _ in range(9):
        desk.poller.hasten()
        assert desk.started() == [JobKind.POLL]
        desk.done(JobKind.POLL, error=ApiUnavailable("503"))
    assert desk.started(NOW + INTERVAL) == [JobKind.POLL]


def test_a_certificate_that_is_due_as_it_comes_is_not_renewed_in_a_loop() -> None:
    desk = Desk()
    desk.identity.next_validity = of_short_life(1e6)
    desk.enrolled()
    assert "clock" in desk.poller.problems[0]
    assert JobKind.ENROL not in desk.started(NOW + 59)
    assert JobKind.ENROL in desk.started(NOW + 60)
    desk.done(JobKind.ENROL, Operator("k8sop_1"), now=NOW + 60)
    assert JobKind.ENROL not in desk.started(NOW + 60 + 119)
    desk.identity.next_validity = LASTING
    assert JobKind.ENROL in desk.started(NOW + 60 + 120)
    desk.done(JobKind.ENROL, Operator("k8sop_1"))
    assert not desk.poller.problems


def test_a_short_life_is_renewed_before_it_ends() -> None:
    desk = Desk()
    desk.identity.next_validity = of_short_life(40)
    desk.enrolled()
    assert JobKind.ENROL not in desk.started(NOW + 10)
    assert JobKind.ENROL in desk.started(NOW + 21)


def test_a_failed_poll_gives_nothing_to_apply_and_backs_off() -> None:
    desk = Desk().enrolled()
    desk.started()
    assert desk.done(JobKind.POLL, error=ApiUnavailable("503")) is None
    assert desk.poller.problems == ("poll failed: 503",)
    assert desk.started(NOW + INTERVAL) == [JobKind.POLL]
    desk.done(JobKind.POLL, error=ApiUnavailable("503"), now=NOW + INTERVAL)
    assert desk.started(NOW + 2 * INTERVAL) == []
    assert desk.started(NOW + 3 * INTERVAL) == [JobKind.POLL]
    desk.done(JobKind.POLL, Polled())
    assert not desk.poller.problems


def test_a_fault_that_stays_is_one_line_whatever_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk().enrolled()
    for operation in ("op_1", "op_2"):
        desk.done(JobKind.POLL, error=ApiUnavailable(f"503 {operation}", 503))
    desk.done(JobKind.POLL, error=ApiUnavailable("429", 429))
    told = [r for r in caplog.records if r.levelname == "WARNING"]
    assert len(told) == 2
    assert desk.poller.problems == ("poll failed: 429",)


def test_an_operator_lost_at_ngrok_is_registered_again_at_once_but_not_for_ever() -> None:
    desk = Desk().enrolled()
    desk.started()
    desk.done(JobKind.POLL, error=OperatorLost("gone", 404))
    assert desk.started() == [JobKind.ENROL]
    desk.done(JobKind.ENROL, Operator("k8sop_2"))
    assert desk.started() == [JobKind.POLL]
    desk.done(JobKind.POLL, error=OperatorLost("gone", 404))
    assert desk.started() == [], "an operator that keeps vanishing is not made anew each time"
    assert desk.started(NOW + 2 * INTERVAL) == [JobKind.ENROL]


def test_two_answers_about_one_lost_operator_are_one_loss() -> None:
    desk = Desk().enrolled()
    desk.identity.told = None
    assert desk.started(NOW + 2) == [JobKind.ENROL, JobKind.POLL]
    desk.done(JobKind.POLL, error=OperatorLost("gone", 404))
    desk.done(JobKind.ENROL, error=OperatorLost("gone", 404))
    assert desk.started() == [JobKind.ENROL]
    desk.done(JobKind.ENROL, Operator("k8sop_2"))
    assert desk.identity.operator_id == "k8sop_2"


def test_a_late_answer_about_the_operator_before_does_not_lose_the_new_one() -> None:
    desk = Desk().enrolled()
    desk.identity.told = None
    assert desk.started(NOW + 2) == [JobKind.ENROL, JobKind.POLL]
    desk.done(JobKind.ENROL, error=OperatorLost("gone", 404))
    assert desk.started() == [JobKind.ENROL]
    desk.done(JobKind.ENROL, Operator("k8sop_2"))
    desk.done(JobKind.POLL, error=OperatorLost("gone", 404))
    assert desk.identity.operator_id == "k8sop_2"
    assert desk.poller.registration is RegistrationState.REGISTERED


def test_a_folder_that_cannot_be_written_sends_nothing_and_is_tried_again() -> None:
    desk = Desk()
    desk.identity.full = True
    assert desk.started() == []
    assert "read-only" in desk.poller.problems[0]
    desk.identity.full = False
    assert desk.started(NOW * 1e9) == [JobKind.ENROL]


def test_an_error_that_nobody_foresaw_is_let_out() -> None:
    desk = Desk().enrolled()
    desk.started()
    with pytest.raises(ZeroDivisionError):
        desk.done(JobKind.POLL, error=ZeroDivisionError())


def test_rotation_renews_a_young_certificate_and_tells_its_end() -> None:
    desk = Desk().enrolled()
    reply: Future[Any] = Future()
    desk.poller.rotate_certificate(reply)
    desk.started()
    assert desk.poller.registration is RegistrationState.RENEWING and not reply.done()
    desk.identity.next_validity = Validity(0, 2e11)
    desk.done(JobKind.ENROL, Operator("k8sop_1"))
    assert desk.identity.begun == [Step.REGISTER, Step.RENEW]
    assert reply.result(0) == 2e11


def test_a_rotation_that_fails_is_told_and_goes_on() -> None:
    desk = Desk().enrolled()
    reply: Future[Any] = Future()
    desk.poller.rotate_certificate(reply)
    desk.started()
    desk.done(JobKind.ENROL, error=ApiUnavailable("503"))
    with pytest.raises(ControlError, match="old certificate stays in use: 503"):
        reply.result(0)
    assert JobKind.ENROL in desk.started(NOW + INTERVAL)


def test_a_rotation_is_not_lost_to_an_update_that_is_under_way() -> None:
    desk = Desk().enrolled()
    desk.identity.told = None
    assert JobKind.ENROL in desk.started(NOW + 2)
    reply: Future[Any] = Future()
    desk.poller.rotate_certificate(reply)
    desk.done(JobKind.ENROL, Operator("k8sop_1"))
    assert not reply.done() and JobKind.ENROL in desk.started(NOW + 2)
    assert desk.identity.begun == [Step.REGISTER, Step.UPDATE, Step.RENEW]


def test_a_certificate_that_is_not_renewed_is_told_of_in_steps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk()
    day = 86400.0
    end = time.time() + 8 * day
    desk.identity.next_validity = Validity(end - 90 * day, end)
    desk.enrolled()
    for at, days in ((1, 8), (2, 7.5), (3, 6.9), (4, 6), (5, 2.5), (6, 0.5), (7, -1)):
        desk.identity.validity = Validity(end - 90 * day, time.time() + days * day)
        now = NOW + at * 10_000
        desk.poller.look_again()
        desk.started(now)
        desk.done(JobKind.ENROL, error=ApiUnavailable("no network"), now=now)
    told = [r.getMessage() for r in caplog.records if "could not be renewed" in r.getMessage()]
    assert [text.split()[4] for text in told] == ["8.0", "6.9", "2.5", "12.0", "and"]
    assert "has ended" in told[-1] and "no network" in told[-1]


def years_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock jumps to ten days before the certificate's end."""
    monkeypatch.setattr(time, "time", lambda: LASTING.not_after - 10 * 86400)


def test_the_age_is_looked_at_when_the_clock_may_be_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk().enrolled()
    desk.started()
    years_later(monkeypatch)
    assert JobKind.ENROL not in desk.started(NOW + 1)
    desk.poller.look_again()
    assert JobKind.ENROL in desk.started(NOW + 1)
    assert desk.identity.begun[-1] is Step.RENEW


def test_the_age_is_looked_at_every_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk().enrolled()
    years_later(monkeypatch)
    assert JobKind.ENROL not in desk.started(NOW + 3599)
    assert JobKind.ENROL in desk.started(NOW + 3600)


def test_a_registration_that_is_lost_while_something_was_asked_is_not_brought_back() -> None:
    desk = Desk().enrolled()
    desk.identity.told = None
    assert desk.started(NOW + 2) == [JobKind.ENROL, JobKind.POLL]
    desk.done(JobKind.POLL, error=OperatorLost("gone", 404))
    desk.done(JobKind.ENROL, Operator("k8sop_1"))
    assert desk.identity.operator_id == ""
    assert desk.poller.registration is RegistrationState.LOST
    assert desk.started(NOW + 2) == [JobKind.ENROL] and desk.identity.begun[-1] is Step.REGISTER


def test_a_folder_that_cannot_be_written_is_no_reason_to_wait_for_days() -> None:
    desk = Desk().enrolled()
    for _ in range(5000):
        desk.poller.count_request("200")
    desk.identity.full = True
    reply: Future[Any] = Future()
    desk.poller.rotate_certificate(reply)
    desk.started()
    assert reply.exception(0) is not None
    desk.identity.full = False
    assert JobKind.ENROL in desk.started(NOW + INTERVAL)


def test_what_is_granted_and_cannot_be_used_is_not_asked_for_in_a_loop() -> None:
    desk = Desk()
    desk.identity.next_validity = None
    desk.enrolled()
    assert desk.poller.problems and JobKind.ENROL not in desk.started(NOW + 9)
    asked = 0
    for second in range(10, 3600):
        if JobKind.ENROL in desk.started(NOW + second):
            asked += 1
            desk.done(JobKind.ENROL, Operator("k8sop_1"), now=NOW + second)
    assert asked < 10


def test_an_operator_is_looked_at_once_at_the_start_and_then_every_hour() -> None:
    desk = Desk().enrolled()
    assert desk.started(NOW + 3599) == [JobKind.POLL]
    desk.started(NOW + 3600)
    assert desk.identity.begun[-1] is Step.LOOK
    desk.done(JobKind.ENROL, Operator("k8sop_1"), now=NOW + 3600)
    desk.poller.look_at_operator()
    desk.started(NOW + 3602)
    assert desk.identity.begun[-1] is Step.LOOK and len(desk.identity.begun) == 3
    assert desk.poller.registration is RegistrationState.REGISTERED


def test_whoever_asks_and_however_often_ngrok_is_not_asked_more_than_it_grants() -> None:
    desk = Desk().enrolled()
    begun = []
    for tick in range(1200):
        now = NOW + tick / 10
        reply: Future[Any] = Future()
        desk.poller.hasten()
        desk.poller.rotate_certificate(reply)
        begun += [(now, kind) for kind in desk.started(now)]
        if JobKind.POLL in desk.submitted:
            desk.done(JobKind.POLL, Polled(), now=now)
        if JobKind.ENROL in desk.submitted:
            desk.done(JobKind.ENROL, Operator("k8sop_1"), now=now)
    costs = {JobKind.POLL: 1, JobKind.ENROL: 2}
    for start, _ in begun:
        assert sum(costs[kind] for at, kind in begun if start <= at < start + 60) < 100


def test_a_renewal_tells_what_ngrok_took_before_and_not_what_it_may_refuse() -> None:
    desk = Desk().enrolled()
    told = desk.identity.told
    desk.poller.configure(
        dataclasses.replace(
            Config(api=ApiSettings(key="k")), bound_endpoints=PollSettings(selectors=("bad",))
        )
    )
    desk.identity.validity = of_short_life(1000)
    desk.started(NOW + 2)
    assert desk.identity.begun[-1] is Step.RENEW and desk.identity.told == told


def test_another_fault_than_the_last_one_is_told(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk().enrolled()
    for text in ("it sent HTML", "it sent HTML", "it sent JSON cut short", "op_2Nc8x4kFq ended"):
        desk.done(JobKind.POLL, error=ApiUnavailable(text, 200))
    desk.done(JobKind.POLL, error=ApiUnavailable("op_9Zc8x4kFq ended", 200))
    told = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(told) == 3


@pytest.mark.parametrize("why", ["no key", "left"])
def test_a_rotation_that_cannot_be_is_answered_at_once(why: str) -> None:
    desk = left() if why == "left" else Desk(key="")
    reply: Future[Any] = Future()
    desk.poller.rotate_certificate(reply)
    with pytest.raises(ControlError, match="not registered"):
        reply.result(0)


def test_a_fault_of_files_that_somebody_has_put_right_is_no_problem_at_the_next_look(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    desk = Desk().enrolled()
    desk.identity.validity, desk.identity.full = None, True
    desk.started(NOW + 1)
    assert any("/etc/ngrokd is read-only" in text for text in desk.poller.problems)
    assert desk.poller.registration.value == "registering"
    desk.started(NOW + 1.5)
    assert desk.poller.problems, "what it failed for is still so"
    desk.identity.validity, desk.identity.full = LASTING, False
    assert JobKind.ENROL not in desk.started(NOW + 1.5), "it is there: nothing is asked for"
    assert desk.poller.problems == ()
    assert desk.poller.registration.value == "registered"
    assert caplog.messages[-1] == "registration is not needed any more, after 1 failure"


# Leaving


def test_keys_and_leave_takings_do_not_cross() -> None:
    desk = Desk().enrolled()
    key: Future[Any] = Future()
    out: Future[Any] = Future()
    desk.poller.set_key(NEW_KEY, key)
    desk.poller.leave(out)
    with pytest.raises(ControlError, match="being checked"):
        out.result(0)
    desk.done(JobKind.CHECK_KEY)
    assert key.result(0)["checked"]
    desk.poller.leave(Future())
    second: Future[Any] = Future()
    desk.poller.set_key(ANOTHER_KEY, second)
    with pytest.raises(ControlError, match="taken out"):
        second.result(0)


def test_a_leave_taking_that_failed_is_not_obeyed_later_whatever_the_folder_does() -> None:
    desk = Desk().enrolled()
    reply: Future[Any] = Future()
    desk.poller.leave(reply)
    desk.identity.full = True
    desk.done(JobKind.LEAVE, error=ApiUnavailable("no network; it is tried again"))
    with pytest.raises(ControlError, match="no network; `ngrokctl deregister` tries again"):
        reply.result(0)
    assert any("restart" in text for text in desk.poller.problems)
    desk.identity.full = False
    desk.started(NOW + 10)
    assert not desk.identity.left and not desk.poller.problems


def left() -> Desk:
    desk = Desk().enrolled()
    desk.identity.kept_key = OLD_KEY
    reply: Future[Any] = Future()
    desk.poller.leave(reply)
    assert desk.identity.left, "a crash from here on must not bring it back"
    desk.done(JobKind.LEAVE, "k8sop_1")
    assert reply.result(0) == {"operator_id": "k8sop_1"}
    return desk


def test_a_leave_taking_tells_of_no_trouble_and_is_over_before_anybody_hears_of_it() -> None:
    desk = Desk().enrolled()
    seen: list[RegistrationState] = []
    reply: Future[Any] = Future()
    reply.add_done_callback(lambda done: seen.append(desk.poller.registration))
    desk.poller.leave(reply)
    assert desk.identity.left and desk.poller.problems == ()
    desk.done(JobKind.LEAVE, "k8sop_1")
    assert seen == [RegistrationState.LEFT]
    assert len(desk.poller.problems) == 1


def test_one_that_a_crash_cut_short_is_told_until_it_is_finished() -> None:
    desk = Desk().enrolled()
    desk.identity.left = True  # as a run that was killed has left it
    desk.poller.take_up_key()
    assert any("cut short" in text for text in desk.poller.problems)
    desk.poller.leave(Future())
    assert any("cut short" in text for text in desk.poller.problems)
    desk.done(JobKind.LEAVE, "k8sop_1")
    assert not any("cut short" in text for text in desk.poller.problems)


def test_who_tries_again_to_leave_is_not_taken_for_out_when_that_fails_too() -> None:
    desk = Desk().enrolled()
    desk.poller.leave(Future())
    desk.identity.full = True
    desk.done(JobKind.LEAVE, error=ApiUnavailable("no network"))
    desk.identity.full = False
    desk.poller.leave(Future())
    desk.started(NOW + 10)
    assert desk.identity.left, "a crash from here on must not bring it back"
    desk.done(JobKind.LEAVE, error=ApiUnavailable("no network"))
    assert not desk.identity.left and not desk.poller.problems


def test_who_has_left_asks_nothing_until_a_key_is_set() -> None:
    desk = left()
    assert desk.identity.operator_id == "" and not desk.poller.has_key
    assert desk.started(NOW + 1e6) == [] and desk.poller.next_poll(NOW) is None
    assert "deregister" in desk.poller.problems[0]
    reply: Future[Any] = Future()
    desk.poller.set_key(NEW_KEY, reply)
    desk.done(JobKind.CHECK_KEY)
    assert reply.result(0)["checked"] and not desk.identity.left
    assert desk.started() == [JobKind.ENROL] and not desk.poller.problems


def test_who_has_left_stays_out_over_a_restart_with_a_key_in_the_configuration() -> None:
    desk = left()
    desk.poller.take_up_key()
    assert desk.started(NOW + 1e6) == [] and not desk.poller.has_key


def test_a_poll_that_was_under_way_brings_nothing_back() -> None:
    desk = Desk().enrolled()
    assert desk.started() == [JobKind.POLL]
    desk.poller.leave(Future())
    desk.done(JobKind.LEAVE, "k8sop_1")
    assert desk.done(JobKind.POLL, Polled()) is None
    desk.done(JobKind.POLL, error=OperatorLost("gone", 404))
    assert desk.started(NOW + 1e6) == []


def test_leaving_without_an_answer_changes_nothing() -> None:
    desk = Desk().enrolled()
    reply: Future[Any] = Future()
    desk.poller.leave(reply)
    assert desk.started() == [JobKind.POLL]
    desk.done(JobKind.LEAVE, error=ApiUnavailable("no network"))
    with pytest.raises(ControlError, match="still registered: no network"):
        reply.result(0)
    assert desk.poller.has_key and not desk.identity.left and desk.identity.operator_id


def test_leaving_during_a_step_is_put_off_by_a_word() -> None:
    desk = Desk()
    desk.started()
    reply: Future[Any] = Future()
    desk.poller.leave(reply)
    with pytest.raises(ControlError, match="try again"):
        reply.result(0)
    assert not desk.identity.left


# Keys


def test_a_key_that_ngrok_refuses_does_not_replace_the_one_in_use() -> None:
    desk = Desk(key=OLD_KEY)
    reply: Future[Any] = Future()
    desk.poller.set_key(NEW_KEY, reply)
    desk.done(JobKind.CHECK_KEY, error=ApiRefused("ngrok refuses this key", 401))
    with pytest.raises(ControlError, match="ngrok refuses this key"):
        reply.result(0)
    assert desk.poller.last_error == "ngrok refuses this key"
    assert desk.identity.kept_key == ""


def test_a_key_that_cannot_be_checked_does_not_replace_a_working_one() -> None:
    desk = Desk(key=OLD_KEY)
    reply: Future[Any] = Future()
    desk.poller.set_key(NEW_KEY, reply)
    desk.done(JobKind.CHECK_KEY, error=ApiUnavailable("no network"))
    with pytest.raises(ControlError, match="kept"):
        reply.result(0)


def test_the_first_key_is_taken_even_without_network() -> None:
    desk = Desk(key="")
    reply: Future[Any] = Future()
    desk.poller.set_key(NEW_KEY, reply)
    desk.done(JobKind.CHECK_KEY, error=ApiUnavailable("no network"))
    assert reply.result(0) == {"checked": False, "note": "no network"}
    assert desk.started() == [JobKind.ENROL]


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What the log blanks out."""
    kept: set[str] = set()
    monkeypatch.setattr(logs, "keep_secret", kept.add)
    monkeypatch.setattr(logs, "forget_secret", kept.discard)
    return kept


@pytest.mark.parametrize("error", [ApiRefused("refused", 401), ApiUnavailable("no network")])
def test_a_key_that_was_tried_in_vain_blanks_out_nothing_for_good(
    secrets: set[str], error: Exception
) -> None:
    desk = Desk(key=OLD_KEY)
    for tried in (NEW_KEY, OLD_KEY):
        desk.poller.set_key(tried, Future())
        assert tried in secrets
        desk.poller.set_key(ANOTHER_KEY, Future())  # while the other is being checked
        desk.done(JobKind.CHECK_KEY, error=error)
    assert secrets == {OLD_KEY}


def test_a_key_that_is_taken_stays_out_of_the_log(secrets: set[str]) -> None:
    desk = Desk(key=OLD_KEY)
    desk.poller.set_key(NEW_KEY, Future())
    desk.done(JobKind.CHECK_KEY)
    assert secrets == {OLD_KEY, NEW_KEY}


def test_two_keys_at_once_are_not_both_checked() -> None:
    desk = Desk()
    first: Future[Any] = Future()
    second: Future[Any] = Future()
    desk.poller.set_key(NEW_KEY, first)
    desk.poller.set_key(ANOTHER_KEY, second)
    with pytest.raises(ControlError, match="being checked"):
        second.result(0)
    desk.done(JobKind.CHECK_KEY)
    assert first.result(0)["checked"] and desk.identity.kept_key == NEW_KEY


def test_the_key_set_at_run_time_wins_over_the_configured_one(tmp_path: Path) -> None:
    identity = Identity(ServerSettings(client_cert=str(tmp_path / "tls.crt")))
    identity.save_api_key("set-at-run-time-0123456789")
    assert identity.saved_api_key() == "set-at-run-time-0123456789"


def test_a_look_at_the_operator_that_fails_is_no_problem_and_comes_again() -> None:
    desk = Desk().enrolled()
    desk.poller.look_at_operator()
    desk.started(NOW + 2)
    desk.done(JobKind.ENROL, error=ApiUnavailable("503"), now=NOW + 2)
    assert not desk.poller.problems
    assert JobKind.ENROL not in desk.started(NOW + 61)
    assert JobKind.ENROL in desk.started(NOW + 62)
