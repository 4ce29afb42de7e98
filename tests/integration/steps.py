"""Runs the daemon from here as often as asked, and kills it before its n-th step.

A program of its own inside a namespace. A step is whatever changes a file, a socket or the machine.
Each line of standard input is {"kill_at": N, "argv": [...]}; N 0: never. The first line of the
answer is the daemon's pid, the second its exit status (or minus the signal) and its last step.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from typing import Any, Callable

from ngrokd import cli, daemon  # noqa: F401 - once here, not again in every child

WRITING = os.O_WRONLY | os.O_RDWR
EVENTS = {
    "os.chmod",
    "os.chown",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.truncate",
    "fcntl.flock",
    "fcntl.lockf",
    "socket.bind",
    "subprocess.Popen",
}
CALLS = ("fsync", "pwrite", "posix_fallocate")


class Steps:
    """Counts them, tells each before it is done, and ends the process before the n-th."""

    def __init__(self, kill_at: int, told: int) -> None:
        self._kill_at = kill_at
        self._told = told
        self._count = 0
        self._lock = threading.Lock()

    def install(self) -> None:
        for name in CALLS:
            setattr(os, name, self._counting(name, getattr(os, name)))
        sys.addaudithook(self._heard)

    def _counting(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any) -> Any:
            self._step(f"{name} {args[0]}")
            return call(*args)

        return counting

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if event in EVENTS:
            self._step(f"{event} {args[:2]}")
        elif event == "open" and isinstance(args[0], str) and args[2] & WRITING:
            self._step(f"open {args[0]}")

    def _step(self, what: str) -> None:
        with self._lock:
            self._count += 1
            os.write(self._told, f"{self._count} {what}\n".encode())
            if self._count == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def run(kill_at: int, argv: list[str]) -> None:
    """One life."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with contextlib.suppress(BaseException):
            os.dup2(2, 1)
            Steps(kill_at, writing).install()
            os._exit(cli.main(argv))
        os._exit(99)
    os.close(writing)
    print(child, flush=True)
    with os.fdopen(reading, "rb") as told:
        steps = told.read().decode(errors="replace").splitlines()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([status, *steps[-1:]]), flush=True)


for line in sys.stdin:
    order = json.loads(line)
    run(order["kill_at"], order["argv"])
