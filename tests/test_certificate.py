"""A certificate's dates, read from its own bytes, and what may replace what."""

from __future__ import annotations

import base64
import contextlib
import time
from datetime import datetime, timezone
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.cloud import expiry
from ngrokd.cloud.certificate import (
    MAX_CHARACTERS,
    Validity,
    certificates_of,
    pem_of,
    replacement_fault,
    validity,
)
from ngrokd.cloud.keys import new_key, signing_request
from ngrokd.cloud.registration import DAY_S
from tests.cloud_fake import Authority


def test_the_dates_of_a_certificate_are_those_it_was_signed_with() -> None:
    pem = Authority().sign(signing_request(new_key()))
    assert validity(pem) == Validity(1704067200, 2335219200)
    assert validity("junk\n" + pem + pem) == Validity(1704067200, 2335219200)
    assert validity(Authority().root_pem()) == Validity(1704067200, 2335219200)


def test_dates_of_both_centuries_are_read() -> None:
    early, late = (datetime(year, 6, 1, tzinfo=timezone.utc) for year in (1970, 2055))
    pem = Authority().sign(signing_request(new_key()), early, late)
    assert validity(pem) == Validity(early.timestamp(), late.timestamp())


@given(st.binary(max_size=300))
def test_any_bytes_in_a_pem_are_dates_or_a_value_error(content: bytes) -> None:
    pem = f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(content).decode()}\n"
    pem += "-----END CERTIFICATE-----\n"
    try:
        validity(pem)
    except ValueError as exc:
        assert str(exc)


PEM = Authority().sign(signing_request(new_key()))


@given(st.integers(0, len(PEM) - 1), st.characters(codec="ascii"))
def test_a_certificate_with_one_wrong_character_is_read_or_a_value_error(
    place: int, char: str
) -> None:
    try:
        found = validity(PEM[:place] + char + PEM[place + 1 :])
    except ValueError as exc:
        assert str(exc).startswith(("its certificate", "it holds"))
        return
    assert isinstance(found.not_after, float)


# Not a test for each length: they must be the same in every worker, and certificates differ.
@pytest.mark.parametrize("first", range(7))
def test_a_certificate_cut_short_is_a_value_error(first: int) -> None:
    for length in range(first, len(PEM.rstrip()), 7):
        with pytest.raises(ValueError):
            validity(PEM[:length])


# What comes in an answer

BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
KEY = new_key().decode()


def test_nothing_but_the_certificates_of_an_answer_is_kept() -> None:
    chain = PEM + Authority().intermediate_pem()
    assert certificates_of(chain) == chain
    assert certificates_of(f"a name\n{KEY}{chain}{KEY}\nmore") == chain
    assert certificates_of(PEM.replace("\n", "\r\n")) == PEM


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no PEM certificate"),
        (KEY, "no PEM certificate"),
        (BEGIN, "no end"),
        (PEM + BEGIN, "no end"),
        (f"{BEGIN}\n{KEY}{END}", "."),
        ("\ud800" + PEM, "not ASCII"),
        ("\u00e9" + PEM, "not ASCII"),
        (PEM + "x\n" * (MAX_CHARACTERS // 2), "longer than 64 KiB"),
    ],
)
def test_a_text_that_is_not_certificates_is_a_value_error(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        certificates_of(text)


PIECES = st.sampled_from([BEGIN, END, PEM, KEY, "=A \ud800"])


@given(st.text(max_size=300) | st.lists(PIECES).map("".join))
def test_any_text_in_place_of_a_certificate_is_one_or_a_value_error(text: str) -> None:
    try:
        kept = certificates_of(text)
    except ValueError as exc:
        assert str(exc)
        return
    assert "PRIVATE" not in kept and certificates_of(kept) == kept


def test_what_is_written_as_pem_is_read_as_it_was() -> None:
    for length in (0, 1, 47, 48, 49, 500):
        pem = pem_of(bytes(length))
        assert certificates_of(pem) == pem
        assert max(map(len, pem.splitlines())) <= 64


@pytest.mark.parametrize("piece", [" ", "\n", "A ", f"{BEGIN}A", f"{END}", f"{BEGIN}{END}"])
def test_a_long_hostile_text_takes_no_time(piece: str) -> None:
    text = BEGIN + piece * ((1 << 20) // len(piece))
    started = time.process_time()
    with contextlib.suppress(ValueError):
        validity(text)
    with contextlib.suppress(ValueError):
        certificates_of(text[:MAX_CHARACTERS])
    assert time.process_time() - started < 1


# What may replace what

OLD = Validity(0, 100 * DAY_S)


@pytest.mark.parametrize(
    ("old", "new", "now", "taken"),
    [
        (OLD, Validity(50 * DAY_S, 150 * DAY_S), 80 * DAY_S, True),
        (OLD, Validity(80 * DAY_S + 60, 150 * DAY_S), 80 * DAY_S, True),
        (OLD, Validity(90 * DAY_S, 150 * DAY_S), 80 * DAY_S, False),
        (OLD, Validity(0, 70 * DAY_S), 80 * DAY_S, False),
        (OLD, Validity(150 * DAY_S, 250 * DAY_S), 120 * DAY_S, True),
        (None, Validity(90 * DAY_S, 150 * DAY_S), 80 * DAY_S, True),
    ],
    ids=["valid", "a little skew", "not yet", "ended", "old has ended too", "there was none"],
)
def test_only_a_valid_certificate_is_kept_from_being_replaced_by_one_that_is_not(
    old: Optional[Validity], new: Validity, now: float, taken: bool
) -> None:
    fault = replacement_fault(old, new, now)
    assert (fault == "") is taken
    assert taken or "clock" in fault


@pytest.mark.parametrize(
    ("days", "reached"), [(15, None), (14, 14), (8, 14), (7, 7), (2, 3), (0.5, 1), (0, 0), (-9, 0)]
)
def test_an_end_that_comes_near_is_told_in_steps(days: float, reached: Optional[int]) -> None:
    assert expiry.threshold(Validity(0, 100 * DAY_S), (100 - days) * DAY_S) == reached


@pytest.mark.parametrize(
    ("left", "words"),
    [(6.9 * DAY_S, "6.9 days"), (7200, "2.0 hours"), (59, "59 s"), (0, "has ended")],
)
def test_what_is_left_is_said_in_the_unit_that_fits(left: float, words: str) -> None:
    assert words in expiry.left_in_words(Validity(0, 1e9), 1e9 - left)
