"""What another process is and whose, where there is no /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.host.command import CommandError
from ngrokd.process import identity

WORDS = ["ps", "-ww", "-o", "uid=", "-o", "command=", "-p"]
FRAMEWORK = "/opt/homebrew/Cellar/python@3.13/3.13.1/Frameworks/Python.framework/Versions/3.13/"


class Ps:
    """Prints that line, as for `-o uid= -o command=`; none: it knows no such process."""

    def __init__(self, line: str) -> None:
        self._line = line

    def __call__(self, argv: Sequence[str], text: str = "") -> str:
        assert list(argv) == [*WORDS, str(os.getpid())]
        if not self._line:
            raise CommandError("`ps`: exit status 1", 1)
        return f"{self._line}\n"


@pytest.mark.parametrize(
    ("line", "is_ngrokd"),
    [
        (f"    0 {FRAMEWORK}Resources/Python.app/Contents/MacOS/Python -I /usr/local/bin/ngrokd "
         "--config=/etc/ngrokd/config.yml", True),
        ("    0 /usr/bin/python3 /Users/x/ngrokd.py --foreground", True),
        ("  501 /usr/local/bin/ngrokd", True),
        ("    0 /usr/bin/tail -f /var/log/ngrokd.log", False),
        ("    0 /usr/bin/python3 -m http.server 80 ngrokd", False),
        ("    0 (ngrokd)", False),
        ("", True),  # it cannot be told: respected
    ],
)  # fmt: skip
def test_without_proc_ps_says_what_a_process_is(
    line: str, is_ngrokd: bool, tmp_path: Path
) -> None:
    assert identity.is_ngrokd(os.getpid(), tmp_path, Ps(line)) is is_ngrokd


def test_with_proc_ps_is_not_asked(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()  # and our own process is not shown: hidepid
    assert identity.is_ngrokd(os.getpid(), tmp_path, Ps("0 /usr/bin/tail"))


def test_the_ps_of_this_machine_takes_the_words(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "input()", "ngrokd"], stdin=subprocess.PIPE
    ) as process:
        found = identity.is_ngrokd(process.pid, tmp_path), identity.owner(process.pid, tmp_path)
        process.communicate(b"\n")
    assert found == (True, os.geteuid())
    assert identity.is_ngrokd(process.pid, tmp_path) is False
    assert identity.owner(process.pid, tmp_path) is None


@given(st.text())
def test_whatever_it_prints_nothing_is_raised(text: str) -> None:
    told = identity.parse(text)
    assert told is None or told.uid >= 0
