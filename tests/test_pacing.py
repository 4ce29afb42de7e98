"""When another warm connection may be made, after one has failed."""

from __future__ import annotations

from ngrokd.forward.pacing import AT_ONCE, FIRST_PAUSE_S, LONGEST_PAUSE_S, PROOF_S, Pacing


def failed_at(*moments: float) -> Pacing:
    pacing = Pacing()
    for moment in moments:
        pacing.failed(moment, "refused")
    return pacing


def test_while_all_is_well_some_are_made_at_once() -> None:
    assert Pacing().allowed(under_way=3, waiting=[], now=5.0) == AT_ONCE - 3


def test_after_a_failure_there_is_a_pause_and_then_one_at_a_time() -> None:
    pacing = failed_at(10.0)

    assert pacing.problem == "refused"
    assert pacing.allowed(0, [], now=10.0 + FIRST_PAUSE_S / 2) == 0
    assert pacing.allowed(0, [], now=10.0 + FIRST_PAUSE_S) == 1
    assert pacing.allowed(1, [], now=10.0 + FIRST_PAUSE_S) == 0


def test_the_next_one_waits_until_the_one_before_it_has_not_failed() -> None:
    pacing, now = failed_at(10.0), 11.5

    assert pacing.allowed(0, waiting=[now - PROOF_S / 2], now=now) == 0
    assert pacing.unproved([now - PROOF_S / 2, now - PROOF_S], now) == [now - PROOF_S / 2]


def test_pauses_double_to_a_minute_however_many_fail_in_each() -> None:
    pacing, now, pauses = Pacing(), 0.0, []
    for _ in range(8):
        for number in range(8):
            pacing.failed(now + number / 1000, "refused")
        pauses.append(pacing.not_before - now)
        now = pacing.not_before

    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


def test_one_made_since_that_has_lived_for_a_while_is_proof_and_an_older_one_is_not() -> None:
    pacing = failed_at(10.0)

    assert not pacing.is_proved_by([9.0], now=15.0)
    assert not pacing.is_proved_by([14.5], now=15.0)
    assert pacing.is_proved_by([9.0, 12.0], now=15.0)


def test_what_is_proved_ends_the_trouble_but_not_a_rest() -> None:
    pacing = failed_at(10.0)
    pacing.rest(10.0)
    pacing.proved()

    assert (pacing.in_trouble, pacing.problem) == (False, "")
    assert pacing.not_before == 10.0 + LONGEST_PAUSE_S


def test_a_failure_does_not_shorten_a_rest() -> None:
    pacing = Pacing()
    pacing.rest(10.0)
    pacing.failed(11.0, "refused")

    assert pacing.not_before == 10.0 + LONGEST_PAUSE_S
