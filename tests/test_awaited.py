"""Who waits for a poll is answered by one that began after the question, or told that it waits."""

from __future__ import annotations

import math
from concurrent.futures import Future
from typing import Any

import pytest

from ngrokd.awaited import Awaited
from ngrokd.errors import ControlError
from ngrokd.reconcile.outcome import Change

CHANGE = Change(opened=("api.ns:80",))


def test_the_next_poll_answers() -> None:
    awaited, reply = Awaited(), Future[Any]()
    awaited.add(reply, polling=False, until=10.0)
    awaited.applied(CHANGE, 3)
    assert reply.result()["endpoints"] == 3
    assert reply.result()["opened"] == ("api.ns:80",)


def test_a_poll_under_way_does_not_answer_what_was_asked_after_it_began() -> None:
    awaited, reply = Awaited(), Future[Any]()
    awaited.add(reply, polling=True, until=10.0)
    awaited.applied(CHANGE, 3)
    assert not reply.done()
    awaited.applied(CHANGE, 4)
    assert reply.result()["endpoints"] == 4


def test_a_failure_is_told() -> None:
    awaited, reply = Awaited(), Future[Any]()
    awaited.add(reply, polling=False, until=10.0)
    awaited.failed(OSError("no network"))
    with pytest.raises(ControlError, match="no network"):
        reply.result()


@pytest.mark.parametrize("polling", [True, False])
def test_nobody_waits_longer_than_wanted(polling: bool) -> None:
    awaited, reply, patient = Awaited(), Future[Any](), Future[Any]()
    awaited.add(reply, polling, until=10.0)
    awaited.add(patient, polling, until=20.0)
    awaited.expire(9.0)
    assert not reply.done()
    assert awaited.wait_s(9.0) == 1.0
    awaited.expire(10.0)
    with pytest.raises(ControlError) as caught:
        reply.result()
    assert caught.value.code == "timeout"
    assert not patient.done()
    assert awaited.wait_s(12.0) == 8.0


def test_without_anybody_there_is_nothing_to_do() -> None:
    assert Awaited().wait_s(5.0) == math.inf
