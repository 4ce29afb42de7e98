"""What every command of `ngrokctl` prints is as it was when somebody last read it."""

from __future__ import annotations

import sys

import pytest

from ngrokd.control.arguments import Arguments
from tests.outputs.cases import CASES, FOLDER, made, shown

HELP_IS_LAID_OUT_SO = (3, 10) <= sys.version_info[:2] <= (3, 12)  # by argparse
ELSEWHERE = {"completion", "trust"}  # scripts of init/completions; not run here, but in `made`


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.txt")))
def test_the_output_of_a_command_is_the_one_that_was_reviewed(name: str) -> None:
    reviewed = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    if name == "help" and not HELP_IS_LAID_OUT_SO:
        reviewed = now = ""
    elif name in CASES:
        now = "\n".join(map(shown, CASES[name]))
    else:
        now = made()[f"{name}.txt"]
    assert now == reviewed, "if that is meant: make outputs, and read what git diff shows"


def test_every_command_has_its_output_reviewed() -> None:
    commands = set(Arguments()._commands.choices)
    reviewed = {path.stem for path in FOLDER.glob("*.txt")}
    assert commands - reviewed == {"completion"}
    assert set(CASES) <= reviewed and commands - set(CASES) == ELSEWHERE
