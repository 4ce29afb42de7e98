"""Runs the daemon from here as often as asked, and sends it a signal before its n-th step.

A program of its own inside a namespace. A step is whatever changes a file, a socket or the machine.
Each line of standard input is {"at": N, "signal": S, "argv": [...]}; N 0: never. The first line of
the answer is the daemon's pid, the second its exit status (or minus the signal), and the step
before which the signal came ("": it never got so far).
"""

from __future__ import annotations

import json
import os
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
    """Counts them, and tells the n-th before it is done and the signal sent."""

    def __init__(self, at: int, number: int, told: int) -> None:
        self._at = at
        self._signal = number
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
            is_it = self._count == self._at
        if is_it:
            os.write(self._told, f"{self._count} {what}".encode())
            os.kill(os.getpid(), self._signal)


def run(at: int, number: int, argv: list[str]) -> None:
    """One life."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 99
        try:
            os.dup2(2, 1)
            Steps(at, number, writing).install()
            status = cli.main(argv)
        except SystemExit as exc:
            status = exc.code if isinstance(exc.code, int) else 98
        finally:
            os._exit(status)
    os.close(writing)
    print(child, flush=True)
    with os.fdopen(reading, "rb") as told:
        step = told.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([status, step]), flush=True)


for line in sys.stdin:
    order = json.loads(line)
    run(order["at"], order["signal"], order["argv"])
