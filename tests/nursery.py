"""Stand-in clouds, forked from one process that has loaded what each of them would load again."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NoReturn, Optional

HERE = Path(__file__)
MAX_REQUEST_BYTES = 1 << 17  # a cloud of a thousand endpoints on its command line


class Child:
    """A forked program, with what a test needs of subprocess.Popen. Owner: the test."""

    def __init__(self, argv: Sequence[str], keeper: socket.socket, stdout: IO[str]) -> None:
        self.args = argv
        self.stdout = stdout
        self.returncode: Optional[int] = None
        self._keeper = keeper
        self._waiting = threading.Lock()
        self.pid = int(keeper.recv(64))

    def poll(self) -> Optional[int]:
        """The exit status, None while it runs."""
        with self._waiting:
            if self.returncode is None and select.select([self._keeper], [], [], 0)[0]:
                self.returncode = int(self._keeper.recv(64))
                self._keeper.close()  # then it is reaped: nobody else can have its pid before
            return self.returncode

    def wait(self, timeout: Optional[float] = None) -> int:
        """The exit status. Raises TimeoutExpired."""
        while self.poll() is None:
            if not select.select([self._keeper], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To the program, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """At once."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The process that they are forked from; it lives in a namespace. Owner: the test."""

    def __init__(self, argv: Sequence[str], env: dict[str, str]) -> None:
        """`argv`: a command that runs what follows it, inside the namespace."""
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [*argv, sys.executable, str(HERE), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**env, "PYTHONPATH": str(HERE.parent.parent)},
                pass_fds=[theirs.fileno()],
            )

    def start(self, *argv: object) -> Child:
        """`ngrokd ARGV`; both of its streams are the child's `stdout`."""
        words = [str(word) for word in argv]
        ours, keeper = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reading, writing = os.pipe()
        try:
            socket.send_fds(
                self._requests, [json.dumps(words).encode()], [keeper.fileno(), writing]
            )
        finally:
            keeper.close()
            os.close(writing)
        return Child(words, ours, open(reading, encoding="utf-8", errors="replace"))

    def close(self) -> None:
        """It ends; what it has forked goes on."""
        self._requests.close()
        self._process.wait()


def _serve(requests: socket.socket) -> None:
    """Forks for every request a keeper, and that the program."""
    from ngrokd.sandbox import command  # noqa: F401 - what is not loaded a second time
    from ngrokd.verbs import launch  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a keeper
    gc.freeze()
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST_BYTES, 2)
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            _keep(json.loads(request), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(words: list[str], asked: int, output: int) -> NoReturn:
    """Tells of one program its pid and its end, and reaps it once that was heard."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=asked) as test:
        pid = os.fork()
        if pid == 0:
            test.close()
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            _become(words)
        os.close(output)
        with contextlib.suppress(OSError):  # the test has gone, and wants to hear nothing
            test.send(str(pid).encode())
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            assert ended is not None
            by_itself = ended.si_code == os.CLD_EXITED
            test.send(str(ended.si_status if by_itself else -ended.si_status).encode())
            test.recv(1)
    os.waitpid(pid, 0)
    os._exit(0)


def _become(words: list[str]) -> NoReturn:
    from ngrokd import cli

    sys.argv = ["ngrokd", *words]
    status = 1
    try:
        status = cli.main(words)
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else 1
    except BaseException:  # noqa: BLE001 - as Python itself does at the end of a program
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
