"""Becoming a background process: who is told what, and that there is only one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TIMEOUT_S = 20

# Its file is named like the command, which is how a living pid is known to be one of ours.
SCRIPT = """
import signal, sys
from ngrokd.background import run_in_background
from ngrokd.errors import HostError

def serve(up):
    if sys.argv[2] == "refuse":
        raise HostError("the socket is taken: stop the other one")
    if sys.argv[2] == "crash":
        raise ZeroDivisionError
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    up()
    signal.sigwait({signal.SIGTERM})
    return 0

sys.exit(run_in_background(sys.argv[1], serve))
"""


class Program:
    """The script above with a pid file of its own; ends what it started."""

    def __init__(self, folder: Path) -> None:
        self._script = folder / "ngrokd"
        self._script.write_text(SCRIPT)
        self.pid_file = folder / "ngrokd.pid"

    def start(self, how: str = "serve") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(self._script), str(self.pid_file), how],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            cwd=Path(__file__).parent.parent,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
            check=False,
        )

    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def stop(self) -> None:
        if self.pid_file.is_file() and self.pid_file.read_text().strip().isdigit():
            pid = self.pid()
            gone = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
            os.kill(pid, signal.SIGTERM)
            if gone is not None:
                import select

                assert select.select([gone], [], [], TIMEOUT_S)[0], "it does not stop"
                os.close(gone)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    it = Program(tmp_path)
    yield it
    it.stop()


def test_it_returns_0_once_the_daemon_is_up_and_leaves_a_pid_file(program: Program) -> None:
    result = program.start()
    assert (result.returncode, result.stderr) == (0, "")
    os.kill(program.pid(), 0)
    assert os.getsid(program.pid()) != os.getsid(0), "it still hangs on our terminal"


def test_a_second_one_is_refused_with_the_pid_and_the_first_lives_on(program: Program) -> None:
    program.start()
    second = program.start()
    assert second.returncode == 1
    assert f"already runs with pid {program.pid()}" in second.stderr
    os.kill(program.pid(), 0)


def test_why_it_did_not_come_up_reaches_the_person_who_typed(program: Program) -> None:
    result = program.start("refuse")
    assert result.returncode == 1
    assert result.stderr == "ngrokd: the socket is taken: stop the other one\n"
    assert not program.pid_file.exists()


def test_a_crash_while_starting_is_told(program: Program) -> None:
    result = program.start("crash")
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr


@pytest.mark.parametrize("content", ["999999999\n", "1\n", "9" * 20, "", "\n", "\0\0\0\0"])
def test_a_stale_pid_file_is_broken(program: Program, content: str) -> None:
    program.pid_file.write_text(content)
    result = program.start()
    assert (result.returncode, result.stderr) == (0, "")
    assert program.pid() > 1


def test_a_folder_of_folders_that_are_not_there_is_named(program: Program) -> None:
    program.pid_file = program.pid_file.parent / "missing" / "too" / "ngrokd.pid"
    result = program.start()
    assert result.returncode == 1
    assert "server.pid_file" in result.stderr
