"""docs/troubleshooting.md has a row for whatever ngrokd says when something is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from ngrokd.configtext.schema import KEYS
from ngrokd.control.arguments import Arguments
from tests.messages import HOLE, QUIET, RELAYS, Message, read

PAGE = Path(__file__).parent.parent / "docs" / "troubleshooting.md"
LEAST_LETTERS = 6  # of a row's text, so that it does not stand for everything
IN_CODE = re.compile(r"`([^`]*)`")


@dataclass(frozen=True)
class Said:
    """What the code says, as tests/messages.py reads it."""

    messages: list[Message]
    relayed: set[tuple[str, str]]
    at_will: set[str]


@pytest.fixture(scope="module")
def said() -> Said:
    """Read by the one process that has these tests, not by all that collect them."""
    return Said(*read())


def rows() -> list[list[str]]:
    """The cells of every row of every table."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def texts() -> list[str]:
    """What the first cells have."""
    return [text for row in rows() for text in IN_CODE.findall(row[0])]


def covers(row: str, text: str) -> bool:
    """All parts of the row's text stand in that text, in their order."""
    pattern = ".*".join(re.escape(part.strip()) for part in row.split(HOLE))
    return re.search(pattern, " ".join(text.split())) is not None


def test_every_message_has_a_row(said: Said) -> None:
    known = texts()
    missing = [m for m in said.messages if not any(covers(row, m.text) for row in known)]
    assert missing == [], "a row for each of these is missing in docs/troubleshooting.md"


def test_every_row_is_of_a_message_that_exists(said: Said) -> None:
    stale = [row for row in texts() if not any(covers(row, m.text) for m in said.messages)]
    assert stale == [], "ngrokd does not say this any more"


def test_every_place_that_hands_a_text_on_is_known(said: Said) -> None:
    assert not said.relayed - RELAYS, "complete RELAYS, and TELLERS, in tests/messages.py"
    assert not RELAYS - said.relayed, "these are no more in the code"
    assert said.at_will == QUIET, "a level that is not to be seen: see QUIET in tests/messages.py"


def test_every_row_says_cause_and_mend_and_stands_once() -> None:
    assert all(len(row) == 3 and all(row) for row in rows())
    assert len(texts()) == len(set(texts()))


def test_no_row_stands_for_everything() -> None:
    assert [text for text in texts() if len(re.findall("[A-Za-z]", text)) < LEAST_LETTERS] == []


def test_the_reader_finds_what_is_logged_and_what_is_raised(said: Said) -> None:
    found = {(m.where.split(":")[0], m.text) for m in said.messages}
    assert ("daemon.py", "stopping, because thread … died") in found
    assert ("control/client.py", "no ngrokd answers on … (…)") in found
    assert ("forward/faults.py", "ngrok refused: …") in found
    assert ("snapshot.py", "endpoints failed: …; `ngrokctl list` says why") in {
        (m.where.split(":")[0], m.text) for m in said.messages
    }


@pytest.mark.parametrize(
    ("row", "text", "does"),
    [
        ("… is gone", "ngrokd0 is gone: made again", True),
        ("a … b", "a\n b", True),
        ("b … a", "a b", False),
        ("a …, allowed: …", "a, allowed: b", True),
    ],
)
def test_a_row_covers_a_text_by_its_parts_in_order(row: str, text: str, does: bool) -> None:
    assert covers(row, Message("", text).text) is does


def test_settings_and_commands_that_mend_exist() -> None:
    page = PAGE.read_text() + (PAGE.parent / "metrics.md").read_text()
    page += (PAGE.parent / "prometheus" / "ngrokd-alerts.yml").read_text()
    sections = "|".join(sorted({key.section for key in KEYS if key.section}))
    named = set(re.findall(rf"\b(?:{sections})\.(?!ipv4|ngrok)[a-z_]+\b", page))
    assert named - {key.dotted for key in KEYS} == set()
    assert len(named) > 10
    words = set(re.findall(r"`ngrokctl ([a-z][a-z-]*)", page))
    assert words - set(Arguments()._commands.choices) == set()
