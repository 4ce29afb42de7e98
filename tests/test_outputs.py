"""What every command of `ngrokctl` prints is as it was when somebody last read it."""

from __future__ import annotations

import sys

import pytest

from ngrokd.control.arguments import Arguments
from tests.outputs.cases import CASES, ELSEWHERE, FOLDER, made

FILES = {path.stem: path for path in FOLDER.glob("*.txt")}


@pytest.mark.parametrize("name", sorted({*CASES, *ELSEWHERE}))
def test_the_output_of_a_command_is_the_one_that_was_reviewed(name: str) -> None:
    if name == "help" and not (3, 10) <= sys.version_info[:2] <= (3, 12):
        pytest.skip("the argparse of this Python lays help out in another way")
    reviewed = FILES[name].read_text(encoding="utf-8")
    assert made(name) == reviewed, "if that is meant: make outputs, and read what git diff shows"


def test_every_command_has_its_output_reviewed_and_no_other_text_is_there() -> None:
    commands = set(Arguments()._commands.choices)
    assert commands - set(FILES) == {"completion"}, "its scripts are in init/completions"
    assert set(FILES) == {*CASES, *ELSEWHERE}
