"""The registration as a state machine: every state with every answer, and walks of many."""

from __future__ import annotations

import dataclasses
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.cloud.certificate import Validity
from ngrokd.cloud.registration import (
    DAY_S,
    TRANSITIONS,
    Answer,
    Profile,
    Record,
    RegistrationState,
    Step,
    diagram,
    judge,
    next_step,
    renewal_time,
)

YEAR = Validity(0, 365 * DAY_S)
EARLY, LATE = 0.0, 336 * DAY_S
NOW, TOLD = Profile(("true",), "host-1", "1.2.3"), Profile(("true",), "host-1", "1.2.2")

UNREGISTERED, REGISTERING = RegistrationState.UNREGISTERED, RegistrationState.REGISTERING
REGISTERED, RENEWING = RegistrationState.REGISTERED, RegistrationState.RENEWING
LOST, REFUSED = RegistrationState.LOST, RegistrationState.REFUSED
LEFT = RegistrationState.LEFT

# What can be on disk, by what it is called in `Answer`.
DISKS = {
    Answer.MISSING: Record(wanted=NOW),
    Answer.COMPLETE: Record(
        operator_id="k8sop_1", validity=YEAR, told=NOW, wanted=NOW, seen=True
    ),
    Answer.UNSEEN: Record(operator_id="k8sop_1", validity=YEAR, told=NOW, wanted=NOW),
    Answer.OUTDATED: Record(operator_id="k8sop_1", validity=YEAR, told=TOLD, wanted=NOW),
    Answer.DUE: Record(
        operator_id="k8sop_1", validity=Validity(0, 20 * DAY_S), told=NOW, wanted=NOW
    ),
}
AT = 14 * DAY_S
OUTSIDE = [answer for answer in Answer if answer not in DISKS]

# The whole table, written down a second time: state, answer -> state, with a complete record.
EXPECTED = """
unregistered KEY>registered NO_KEY= GRANTED= UNAVAILABLE= REFUSED= GONE= ROTATE= LEFT>left
registering  KEY>registered NO_KEY>unregistered GRANTED>registered UNAVAILABLE>registered
             REFUSED>registered GONE>lost ROTATE>registered LEFT>left
registered   KEY= NO_KEY>unregistered GRANTED= UNAVAILABLE= REFUSED>registered GONE>lost
             ROTATE>renewing LEFT>left
renewing     KEY= NO_KEY>unregistered GRANTED>registered UNAVAILABLE= REFUSED>registered GONE>lost
             ROTATE= LEFT>left
lost         KEY>registered NO_KEY>unregistered GRANTED>registered UNAVAILABLE>registered
             REFUSED>registered GONE= ROTATE>registered LEFT>left
refused      KEY>registered NO_KEY>unregistered GRANTED>registered UNAVAILABLE>registered
             REFUSED>registered GONE>lost ROTATE>renewing LEFT>left
left         KEY>registered NO_KEY= GRANTED= UNAVAILABLE= REFUSED= GONE= ROTATE= LEFT=
"""


def expected() -> list[tuple[RegistrationState, Answer, RegistrationState]]:
    found = []
    state = UNREGISTERED
    for word in EXPECTED.split():
        name, sign, target = word.replace("=", ">=").partition(">")
        if not sign:
            state = RegistrationState(name)
        else:
            to = state if target == "=" else RegistrationState(target)
            found.append((state, Answer[name], to))
    return found


def on_disk(kind: Answer, state: RegistrationState) -> Record:
    return dataclasses.replace(DISKS[kind], state=state)


def test_the_second_writing_of_the_table_is_whole() -> None:
    pairs = [(state, answer) for state, answer, _ in expected()]
    assert sorted(pairs, key=str) == sorted(
        ((state, answer) for state in RegistrationState for answer in OUTSIDE), key=str
    )


@pytest.mark.parametrize(("state", "answer", "to"), expected(), ids=str)
def test_each_answer_leads_where_it_is_written_that_it_leads(
    state: RegistrationState, answer: Answer, to: RegistrationState
) -> None:
    found, _ = next_step(on_disk(Answer.COMPLETE, state), answer, AT)
    assert found.state is to


@pytest.mark.parametrize("kind", DISKS, ids=str)
@pytest.mark.parametrize("answer", [None, *OUTSIDE], ids=str)
@pytest.mark.parametrize("state", RegistrationState, ids=str)
def test_every_state_with_every_answer_and_every_record_is_sound(
    state: RegistrationState, answer: Optional[Answer], kind: Answer
) -> None:
    found, step = next_step(on_disk(kind, state), answer, AT)
    said = judge(found, AT)
    if found.state in (UNREGISTERED, LEFT):
        assert step is None, "without a key nothing is asked"
    elif said is Answer.MISSING:
        assert step is Step.REGISTER, "what is missing is asked for"
        assert found.state in (REGISTERING, LOST, REFUSED)
    elif said is Answer.DUE:
        assert step is Step.RENEW
        assert found.state in (RENEWING, REFUSED, LOST)
    elif found.state is RENEWING:
        assert step is Step.RENEW, "a person asked"
    else:
        wanted = {Answer.OUTDATED: Step.UPDATE, Answer.UNSEEN: Step.LOOK}
        assert step is wanted.get(said)
    if answer is Answer.GONE:
        assert found.operator_id == "" and found.validity == DISKS[kind].validity, "the key stays"
    again, same = next_step(found, None, AT)
    assert (again, same) == (found, step), "where nothing happens nothing changes"


def test_an_operator_that_was_not_looked_at_for_long_is_looked_at() -> None:
    assert next_step(on_disk(Answer.UNSEEN, REGISTERED), None, AT)[1] is Step.LOOK


@pytest.mark.parametrize("kind", [Answer.MISSING, Answer.OUTDATED, Answer.DUE], ids=str)
def test_what_is_refused_stays_wanted_until_something_changes(kind: Answer) -> None:
    refused, step = next_step(on_disk(kind, REGISTERING), Answer.REFUSED, AT)
    assert refused.state is REFUSED and step is not None
    assert next_step(refused, Answer.UNAVAILABLE, AT)[0].state is REFUSED
    mended = dataclasses.replace(on_disk(Answer.COMPLETE, REFUSED))
    assert next_step(mended, None, AT) == (on_disk(Answer.COMPLETE, REGISTERED), None)


@given(answers=st.lists(st.sampled_from([None, *OUTSIDE])), kind=st.sampled_from(list(DISKS)))
def test_a_crash_forgets_the_state_and_the_record_says_it_again(
    answers: list[Optional[Answer]], kind: Answer
) -> None:
    """Whatever came before, a fresh process with a key asks for what the record lacks."""
    record = on_disk(kind, UNREGISTERED)
    for answer in answers:
        record, _ = next_step(record, answer, AT)
    fresh, step = next_step(dataclasses.replace(record, state=UNREGISTERED), Answer.KEY, AT)
    assert fresh.state in (REGISTERING, REGISTERED, RENEWING)
    assert (step is None) is (judge(record, AT) is Answer.COMPLETE)


@pytest.mark.parametrize(
    ("record", "now", "step"),
    [
        (Record(), EARLY, Step.REGISTER),
        (Record(operator_id="k8sop_1"), EARLY, Step.REGISTER),
        (Record(validity=YEAR, told=NOW), EARLY, Step.REGISTER),
        (DISKS[Answer.COMPLETE], EARLY, None),
        (DISKS[Answer.COMPLETE], 335 * DAY_S - 1, None),
        (DISKS[Answer.COMPLETE], 335 * DAY_S, Step.RENEW),
        (DISKS[Answer.COMPLETE], 400 * DAY_S, Step.RENEW),
        (DISKS[Answer.OUTDATED], EARLY, Step.UPDATE),
        (dataclasses.replace(DISKS[Answer.COMPLETE], told=None), EARLY, Step.UPDATE),
        (DISKS[Answer.OUTDATED], LATE, Step.RENEW),
    ],
)
def test_the_most_urgent_step_comes_first(
    record: Record, now: float, step: Optional[Step]
) -> None:
    assert next_step(record, Answer.KEY, now)[1] is step


@pytest.mark.parametrize(
    ("days", "renew_at"), [(365, 335), (91, 61), (90, 60), (30, 20), (3, 2), (0, 0), (-1, -1)]
)
def test_a_short_life_is_renewed_in_its_last_third(days: int, renew_at: int) -> None:
    assert renewal_time(Validity(0, days * DAY_S)) == renew_at * DAY_S


def test_the_diagram_has_every_transition_of_the_table_and_no_other() -> None:
    drawn = set()
    for line in diagram().splitlines():
        edge, _, words = line.strip().partition(": ")
        start, _, to = edge.partition(" --> ")
        active = [state.value for state in RegistrationState if state not in (UNREGISTERED, LEFT)]
        for state in active if start == "active" else [start]:
            drawn |= {(state, to, word) for word in words.split(" / ") if words}
    assert drawn == {
        (state.value, to.value, answer.value)
        for state, row in TRANSITIONS.items()
        for answer, to in row.items()
    }
