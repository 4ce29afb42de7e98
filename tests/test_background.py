"""Becoming a background process: who is told what, and that there is only one."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TIMEOUT_S = 20
ROOT = Path(__file__).parent.parent
PROC = Path("/proc")
needs_proc = pytest.mark.skipif(not (PROC / "self" / "fd").exists(), reason="needs /proc")

# Its file is named like the command, which is how a living pid is known to be one of ours.
SCRIPT = """
import os, signal, sys
from ngrokd.process.background import run_in_background
from ngrokd.errors import HostError

def serve(up):
    if sys.argv[2] == "refuse":
        raise HostError("the socket is taken: stop the other one")
    if sys.argv[2] == "crash":
        raise ZeroDivisionError
    if sys.argv[2].startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))
    if sys.argv[2] == "wait":
        open(sys.argv[3], "w").close()
        open(sys.argv[4]).read()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    up()
    if sys.argv[2] == "wait":
        open(sys.argv[5], "w").close()
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
        with self.begin(how) as process:
            output, errors = process.communicate(timeout=TIMEOUT_S)
        return subprocess.CompletedProcess([], process.returncode, output, errors)

    def begin(self, *how: object, **options: Any) -> subprocess.Popen[str]:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(
            [sys.executable, str(self._script), str(self.pid_file), *map(str, how)],
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            **options,
        )

    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def stop(self) -> None:
        if self.pid_file.is_file() and self.pid_file.read_text().strip().isdigit():
            pid = self.pid()
            gone = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
            os.kill(pid, signal.SIGTERM)
            if gone is not None:
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


def test_of_several_starts_at_once_one_is_up_and_the_others_name_it(program: Program) -> None:
    program.pid_file.write_text("99999999\n")
    starts = [program.begin("serve") for _ in range(5)]
    results = []
    for process in starts:
        with process:
            _, errors = process.communicate(timeout=TIMEOUT_S)
            results.append((process.returncode, errors))
    refused = f"ngrokd: ngrokd already runs with pid {program.pid()} ({program.pid_file}): "
    assert sorted(results) == [(0, "")] + [(1, f"{refused}stop it first\n")] * 4


@needs_proc
def test_it_depends_on_nothing_of_who_started_it(program: Program, tmp_path: Path) -> None:
    kept = tmp_path / "kept-open"
    before = os.umask(0o077)
    try:
        with open(kept, "w") as file:
            options = {"stdin": subprocess.PIPE, "pass_fds": [file.fileno()]}
            with program.begin("serve", **options) as process:
                process.communicate(timeout=TIMEOUT_S)
    finally:
        os.umask(before)
    folder = PROC / str(program.pid())
    status = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    # pid (comm) state ppid pgrp session tty_nr: proc(5)
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    parent, group, session, terminal = (int(word) for word in fields[1:5])
    opened = {link.name: str(link.readlink()) for link in (folder / "fd").iterdir()}

    assert status["Umask"].strip() == "0022"
    assert (folder / "cwd").readlink() == Path("/")
    assert [opened[name] for name in "012"] == ["/dev/null"] * 3
    assert str(kept) not in opened.values()
    assert terminal == 0
    assert session == group != program.pid(), "a session's leader can get a terminal again"
    assert session not in (os.getsid(0), parent)
    assert _state(session) in ("", "Z"), "the process in between is still there"
    assert not [path for path in opened.values() if path.startswith("pipe:")]


def _state(pid: int) -> str:
    """A letter of proc(5); "": there is no such process. Z: process 1 has yet to wait for it."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _pipes(folder: Path) -> list[Path]:
    """What the daemon opens once it starts to serve, what it then waits for, and opens once up."""
    pipes = [folder / "serving", folder / "go-on", folder / "up"]
    for pipe in pipes:
        os.mkfifo(pipe)
    return pipes


def test_a_parent_that_is_killed_does_not_take_the_daemon_along(
    program: Program, tmp_path: Path
) -> None:
    """An init script's own timeout, or a terminal that is closed."""
    with program.begin("wait", *_pipes(tmp_path)) as parent:
        (tmp_path / "serving").read_text()
        parent.kill()
        parent.wait(TIMEOUT_S)
        (tmp_path / "go-on").write_text("")
        assert (tmp_path / "up").read_text() == "", "it came up all the same"
        os.kill(program.pid(), 0)


def test_a_stopped_parent_does_not_hold_the_daemon_up(program: Program, tmp_path: Path) -> None:
    with program.begin("wait", *_pipes(tmp_path)) as parent:
        (tmp_path / "serving").read_text()
        parent.send_signal(signal.SIGSTOP)
        (tmp_path / "go-on").write_text("")
        (tmp_path / "up").read_text()
        program.stop()
        assert not program.pid_file.exists()
        parent.send_signal(signal.SIGCONT)
        assert parent.wait(TIMEOUT_S) == 0


def test_a_daemon_that_is_killed_while_starting_is_told_and_can_be_started_again(
    program: Program,
) -> None:
    result = program.start("SIGKILL")
    assert result.returncode == 1
    assert "without a word" in result.stderr and "--foreground" in result.stderr
    assert program.pid_file.exists()
    assert program.start().returncode == 0


def test_a_daemon_that_is_stopped_while_starting_says_so_and_leaves_nothing(
    program: Program,
) -> None:
    result = program.start("SIGTERM")
    assert result.returncode == 1
    assert result.stderr == "ngrokd: a signal ended the daemon while it was starting\n"
    assert not program.pid_file.exists()
