"""How log lines look, and what they never show."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.cloud.apierrors import key_fault
from ngrokd.logs.lines import FIELD_BYTES, Style, line_of, priority, rendered
from ngrokd.logs.redaction import Redactor
from ngrokd.logs.repeats import Entry
from tests.logs_room import SECRET

JSON = Style(as_json=True)
BARE = Style(with_time=False)


def record(message: object, *args: object, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("ngrokd.x", logging.INFO, "", 0, message, args, None)
    vars(made).update(fields)
    return made


def shown(made: logging.LogRecord, style: Style = BARE, secrets: tuple[str, ...] = ()) -> str:
    return rendered(Entry(line_of(made, Redactor(secrets))), style)


def fault(text: str) -> Any:
    try:
        raise OSError(text)
    except OSError:
        return sys.exc_info()


# How they look


def test_the_documented_line() -> None:
    made = record("endpoint api.ns:80 open at 10.107.0.2", created=1769860800)
    assert shown(made, Style()) == "2026-01-31T12:00:00Z INFO endpoint api.ns:80 open at 10.107.0.2"


def test_the_documented_count() -> None:
    line = line_of(record("no route to %s", "10.107.0.2", created=1769860800.25), Redactor())
    entry = Entry(line, 57, 57.2, 1769860743.05)
    assert rendered(entry, Style()) == (
        "2026-01-31T12:00:00Z INFO repeated 57 times within 58 s: no route to 10.107.0.2"
    )
    assert json.loads(rendered(entry, JSON)) == {
        "time": "2026-01-31T12:00:00.250Z",
        "level": "info",
        "logger": "ngrokd.x",
        "message": "repeated 57 times within 58 s: no route to 10.107.0.2",
        "repeated": 57,
        "since": "2026-01-31T11:59:03.049Z",
    }


def test_a_line_of_json_is_one_object() -> None:
    line = shown(record("caf\u00e9\n%s", "b", created=1769860800.0), JSON)
    assert line.isascii()
    assert json.loads(line) == {
        "time": "2026-01-31T12:00:00.000Z",
        "level": "info",
        "logger": "ngrokd.x",
        "message": "caf\u00e9\nb",
    }


@pytest.mark.parametrize("style", [BARE, JSON], ids=["text", "json"])
def test_an_exception_is_in_the_same_line(style: Style) -> None:
    line = shown(record("it failed", exc_info=fault("no such thing")), style)
    assert line.isprintable()
    for part in ("it failed", "Traceback", "OSError: no such thing"):
        assert part in line


def test_a_count_does_not_show_the_trace_again() -> None:
    line = line_of(record("it failed", exc_info=fault("x")), Redactor())
    for style in (BARE, JSON):
        assert "Traceback" not in rendered(Entry(line, 2), style)


def test_what_a_peer_sends_makes_no_line_of_its_own() -> None:
    made = record("from %s", "a\r\nb\x1b[2J\x00\x85\u2028\u202e\t\udcff")
    assert shown(made) == r"INFO from a\r\nb\x1b[2J\x00\x85\u2028\u202e\t\udcff"


@given(st.text(), st.booleans())
def test_any_message_is_one_line(message: str, as_json: bool) -> None:
    style = Style(as_json, with_time=True, with_priority=True)
    assert shown(record("%s", message), style).isprintable()


@pytest.mark.parametrize("letter", ["x", "\u20ac", "\n", "\U0001f600", "\U000e0001"])
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("limit", [3000, FIELD_BYTES])
def test_no_line_is_longer_than_its_place_takes(letter: str, as_json: bool, limit: int) -> None:
    text = letter * 100_000
    style = Style(as_json, field_bytes=limit)
    line = shown(record(text, exc_info=fault(text)), style)
    assert limit / 6 < len(line.encode()) < 2 * limit + 300
    if as_json:
        assert letter * 10 in json.loads(line)["message"]


def test_a_very_long_trace_keeps_its_end() -> None:
    line = shown(record("failed", exc_info=fault("x" * 100_000 + " at last")))
    assert line.endswith("x at last")


def test_a_mistake_in_a_format_neither_loses_the_line_nor_shows_a_secret() -> None:
    line = shown(record("%d endpoints", f"many {SECRET}"), BARE, (SECRET,))
    assert line == "INFO %d endpoints ('many [redacted]',)"


def test_the_levels_of_syslog() -> None:
    levels = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
    assert [priority(level) for level in levels] == [7, 6, 4, 3, 2]
    assert [priority(level + 5) for level in levels] == [7, 6, 4, 3, 2]


# Secrets


@given(st.text(), st.text(), st.booleans())
def test_a_secret_is_in_no_line_and_no_exception(before: str, after: str, as_json: bool) -> None:
    made = record(f"{before}{SECRET}{after}", exc_info=fault(f"{after}{SECRET}{before}"))
    assert SECRET not in shown(made, Style(as_json), (SECRET,))


@given(st.lists(st.from_regex(r"[A-Za-z0-9_.-]{8,30}", fullmatch=True), max_size=5), st.data())
def test_none_of_several_secrets_is_in_a_line(secrets: list[str], data: st.DataObject) -> None:
    words = data.draw(st.lists(st.sampled_from([*secrets, " ", "key="]), max_size=20))
    text = Redactor(secrets).clean("".join(words))
    assert not any(secret in text for secret in secrets if secret not in "[redacted]")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"'Authorization': 'Bearer {SECRET}', 'x': 1", "'Authorization': 'Bearer [redacted] 'x'"),
        (f"bearer  {SECRET}", "bearer [redacted]"),
        (f"by http://me:{SECRET}@proxy:3128/ ", "by http://me:[redacted]@proxy:3128/ "),
        (f"by http://:{SECRET}@proxy", "by http://:[redacted]@proxy"),
        ("at https://api.ngrok.com:443/x@y", "at https://api.ngrok.com:443/x@y"),
        (
            f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n-----END EC PRIVATE KEY-----\n",
            "-----BEGIN EC PRIVATE KEY-----[redacted]-----END EC PRIVATE KEY-----",
        ),
        (f"-----BEGIN PRIVATE KEY-----\n{SECRET}", "-----BEGIN PRIVATE KEY-----[redacted]"),
    ],
)
def test_what_looks_like_a_secret_is_redacted_unasked(text: str, left: str) -> None:
    clean = Redactor().clean(text)
    assert SECRET not in clean
    assert left in clean


def test_looking_for_secrets_takes_no_longer_than_the_text_is_long() -> None:
    for text in ("://" * 100_000, "://a:" + "b:" * 200_000, "-----BEGIN PRIVATE KEY-----" * 20_000):
        Redactor().clean(text)  # a quadratic search would take minutes


def test_a_secret_that_is_part_of_another_leaves_nothing_of_it() -> None:
    redactor = Redactor()
    for secret in ("abcdefgh", "abcdefghijkl", ""):
        redactor.keep(secret)
    assert redactor.clean("abcdefghijkl") == "[redacted]"


def test_what_turned_out_to_be_no_secret_is_seen_again() -> None:
    redactor = Redactor(["endpoint", SECRET])
    redactor.forget(" endpoint\n")
    redactor.forget("never kept")
    assert redactor.clean(f"endpoint {SECRET}") == "endpoint [redacted]"


@pytest.mark.parametrize("typed", ["a", "ngrokd", "wrong-k", " " * 20, "       a      \n"])
def test_a_text_too_short_for_a_secret_does_not_ruin_the_log(typed: str) -> None:
    text = f"ngrokd has a wrong-key:{' ' * 30}!"
    assert Redactor([typed]).clean(text) == text


def test_white_space_around_a_secret_is_no_part_of_it() -> None:
    assert Redactor([f" {SECRET}\n"]).clean(f"key {SECRET}.") == "key [redacted]."


def test_every_key_that_can_be_one_is_long_enough_to_be_blanked_out() -> None:
    shortest = next(key for key in ("k" * length for length in range(100)) if not key_fault(key))
    assert Redactor([shortest]).clean(f"key {shortest}.") == "key [redacted]."


@pytest.mark.parametrize("as_json", [False, True])
def test_a_secret_is_redacted_before_a_long_line_is_cut(as_json: bool) -> None:
    for length in range(FIELD_BYTES - len(SECRET), FIELD_BYTES + 1):
        trace = (OSError, OSError(SECRET + "x" * length), None)
        made = record("x" * length + SECRET, exc_info=trace)
        line = shown(made, Style(as_json), (SECRET,))
        assert SECRET[:8] not in line and SECRET[-8:] not in line
