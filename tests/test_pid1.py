"""The first process of a container, in pid namespaces of the tests' own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from ngrokd.process import pid1
from tests.namespace import why_not

PATIENCE_S = 10
ROOT = Path(__file__).parent.parent

# `serve` writes what happens to it to standard output.
_PROLOGUE = """
import os, signal, subprocess, sys
from ngrokd.process import pid1

def say(*words):
    print(*words, flush=True)

def handler(number, frame):
    say("got", signal.Signals(number).name)
    if number == signal.SIGTERM:
        sys.exit(0)

def take_signals():
    for number in pid1.PASSED_ON:
        signal.signal(number, handler)

def wait():
    take_signals()
    say("up", os.getpid(), os.getppid(), os.getsid(0))
    while True:
        signal.pause()
"""
_EPILOGUE = """
sys.exit(pid1.run_under_init(serve, pid=int(sys.argv[1]) if sys.argv[1:] else None))
"""


def script(serve: str) -> str:
    return _PROLOGUE + serve + _EPILOGUE


def pretending(code: str) -> list[str]:
    """Told that it is process 1, which needs no rights."""
    return [sys.executable, "-c", code, "1"]


def really(code: str) -> list[str]:
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    return [*unshare, sys.executable, "-c", code]


def ended(argv: Sequence[str]) -> tuple[int, str]:
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, text=True, cwd=ROOT, timeout=PATIENCE_S, check=False
    )
    return done.returncode, done.stdout


class Pair:
    """An init and what it tends, seen from outside; both are gone at the end."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        up, child, parent, session = self.line()
        assert up == "up"
        self.child, self.parent, self.session = int(child), int(parent), int(session)

    def line(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def status(self) -> int:
        return self.process.wait(PATIENCE_S)

    def __enter__(self) -> Pair:
        return self

    def __exit__(self, *_: object) -> None:
        ended = self.process.poll() is not None
        if self.parent == self.process.pid and not ended:  # not a number of a namespace
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()


def test_another_process_than_the_first_serves_itself() -> None:
    assert pid1.run_under_init(os.getpid) == os.getpid()


@pytest.mark.parametrize("status", [0, 1, 2, 255])
def test_the_exit_status_is_that_of_the_child(status: int) -> None:
    assert ended(pretending(script(f"serve = lambda: {status}")))[0] == status


def test_an_exception_of_the_child_is_told_once_and_is_a_failure() -> None:
    code = script("def serve():\n    say('once')\n    sys.exit(3)")
    assert ended(pretending(code)) == (3, "once\n")


def test_what_was_printed_before_is_printed_once() -> None:
    code = script("sys.stdout.write('before ')\nserve = lambda: say('after') or 0")
    assert ended(pretending(code)) == (0, "before after\n")


def test_signals_reach_the_child() -> None:
    with Pair(pretending(script("serve = wait"))) as pair:
        assert pair.parent == pair.process.pid
        for number in sorted(pid1.PASSED_ON - {signal.SIGTERM}):
            os.kill(pair.parent, number)
            assert pair.line() == ["got", number.name]
        os.kill(pair.parent, signal.SIGTERM)
        assert pair.line() == ["got", "SIGTERM"]
        assert pair.status() == 0


def test_a_terminal_that_signals_its_whole_group_does_not_signal_the_child_twice() -> None:
    with Pair(pretending(script("serve = wait"))) as pair:
        assert pair.session == pair.child


def test_a_child_that_is_killed_is_told_as_a_shell_would() -> None:
    with Pair(pretending(script("serve = wait"))) as pair:
        os.kill(pair.child, signal.SIGKILL)
        assert pair.status() == 128 + signal.SIGKILL


def test_the_mask_of_blocked_signals_is_as_before_in_the_child() -> None:
    code = script("serve = lambda: say(*signal.pthread_sigmask(signal.SIG_BLOCK, ())) or 0")
    assert ended(pretending(code)) == (0, "\n")


# In a pid namespace: the rules of the kernel for process 1


in_a_pid_namespace = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")

ORPHANS = """
import time

def serve():
    for _ in range(20):  # each leaves a grandchild, which outlives its parent and then ends
        subprocess.run(["sh", "-c", "sleep 0.05 & exit 0"], check=True)
    say("up", os.getpid(), os.getppid(), os.getsid(0))
    deadline = time.monotonic() + 8
    while len(others()) and time.monotonic() < deadline:
        time.sleep(0.02)
    say(*others())
    return 0

def others():
    numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [number for number in numbers if number not in (1, os.getpid())]
"""


@in_a_pid_namespace
def test_orphans_are_buried_while_the_child_goes_on() -> None:
    status, output = ended(really(script(ORPHANS)))
    assert status == 0
    assert output.splitlines() == ["up 2 1 2", ""]


@in_a_pid_namespace
def test_process_1_is_ended_by_term_although_the_kernel_protects_it() -> None:
    with Pair(really(script("serve = wait"))) as pair:
        assert (pair.child, pair.parent) == (2, 1)
        os.kill(child_of(pair.process.pid), signal.SIGTERM)
        assert pair.line() == ["got", "SIGTERM"]
        assert pair.status() == 0


@in_a_pid_namespace
def test_process_1_ends_with_what_it_tends() -> None:
    with Pair(really(script("serve = wait"))) as pair:
        first = child_of(pair.process.pid)
        os.kill(child_of(first), signal.SIGKILL)
        assert pair.status() == 128 + signal.SIGKILL


def child_of(pid: int) -> int:
    """Of a process with one child, seen from outside the namespace."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            words = file.read_text().rpartition(")")[2].split()
            if int(words[1]) == pid:
                return int(file.parent.name)
    raise AssertionError(f"process {pid} has no child")
