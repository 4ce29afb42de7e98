"""Who has locked a file, in the words of each kernel."""

from __future__ import annotations

import fcntl
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from ngrokd.process import filelock

LOCK = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, getattr(fcntl, sys.argv[2]))
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("kind", "is_writer"), [("LOCK_EX", True), ("LOCK_SH", False)])
def test_this_kernel_names_who_has_it(tmp_path: Path, kind: str, is_writer: bool) -> None:
    path = tmp_path / "locked"
    path.touch()
    argv = [sys.executable, "-c", LOCK, str(path), kind]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "locked\n"
        with path.open("r+") as file:
            assert filelock.writer(file.fileno()) == (other.pid if is_writer else None)
            assert filelock.is_only_read(file.fileno()) is not is_writer
        other.communicate("")
    with path.open("r+") as file:
        assert filelock.writer(file.fileno()) is None
    assert filelock.IS_BSD is (fcntl.F_RDLCK == 1)


def test_the_layout_of_macos_is_that_of_its_header() -> None:
    """<sys/fcntl.h>: off_t l_start, off_t l_len, pid_t l_pid, short l_type, short l_whence."""
    assert filelock.question(3, bsd=True) == struct.pack("<qqihh", 0, 0, 0, 3, 0)
    assert filelock.answer(struct.pack("<qqihh", 0, 0, 4711, 3, 0), bsd=True) == (3, 4711)
    assert filelock.answer(struct.pack("<qqihh", 0, 0, 0, 2, 0), bsd=True) == (2, 0)
    assert len(filelock.question(3, bsd=True)) == 24
