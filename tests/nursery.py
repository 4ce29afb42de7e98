"""ngrokd's programs, forked from a process that has loaded what each of them would load again.

For what a test needs beside what it tests: a stand-in cloud, a question by ngrokctl. To start
Python and load the modules takes such a program twenty times the work that it does then.
"""

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
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NoReturn, Optional

HERE = Path(__file__)
MAX_REQUEST_BYTES = 1 << 17  # a cloud of a thousand endpoints on its command line
RUN_S = 60.0


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
        self.env = env
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [*argv, sys.executable, str(HERE), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**env, "PYTHONPATH": str(HERE.parent.parent)},
                pass_fds=[theirs.fileno()],
            )

    def start(self, *argv: str) -> Child:
        """`ngrokd` or `ngrokctl` with its arguments; both of its streams are its `stdout`."""
        reading, writing = os.pipe()
        stdout = open(reading, encoding="utf-8", errors="replace")  # noqa: SIM115 - the child's
        with open(os.devnull) as nothing, open(writing, "wb") as streams:
            return self._fork(argv, (nothing, streams, streams), stdout)

    def run(
        self, *argv: str, input: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """The same to its end. Raises CalledProcessError unless `check=False`."""
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
            files[0].write(input)
            files[0].seek(0)
            child = self._fork(argv, files, files[1])
            try:
                status = child.wait(RUN_S)
            except subprocess.TimeoutExpired:
                child.kill()
                raise
            for file in files:
                file.seek(0)
            done = subprocess.CompletedProcess(argv, status, files[1].read(), files[2].read())
        if check:
            done.check_returncode()
        return done

    def _fork(self, argv: Sequence[str], streams: Sequence[IO[Any]], shown: IO[str]) -> Child:
        ours, keeper = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with keeper:
            files = [keeper.fileno(), *(stream.fileno() for stream in streams)]
            socket.send_fds(self._requests, [json.dumps(argv).encode()], files)
        return Child(argv, ours, shown)

    def close(self) -> None:
        """It ends; what it has forked goes on."""
        self._requests.close()
        self._process.wait()


def _serve(requests: socket.socket) -> None:
    """Forks for every request a keeper, and that the program."""
    from ngrokd import cli  # noqa: F401 - all of these are what nobody needs to load again
    from ngrokd.control import ctl  # noqa: F401
    from ngrokd.sandbox import command  # noqa: F401
    from ngrokd.verbs import launch  # noqa: F401

    gc.freeze()
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST_BYTES, 4)
        with contextlib.suppress(ChildProcessError):  # there is none
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass  # a keeper has ended; so the time of all of them counts as the tests' own
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            _keep(json.loads(request), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(argv: list[str], asked: int, *streams: int) -> NoReturn:
    """Tells of one program its pid and its end, and reaps it once that was heard."""
    with socket.socket(fileno=asked) as test:
        pid = os.fork()
        if pid == 0:
            test.close()
            for number, descriptor in enumerate(streams):
                os.dup2(descriptor, number)
                os.close(descriptor)
            _become(argv)
        for descriptor in streams:
            os.close(descriptor)
        with contextlib.suppress(OSError):  # the test has gone, and wants to hear nothing
            test.send(str(pid).encode())
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            assert ended is not None
            by_itself = ended.si_code == os.CLD_EXITED
            test.send(str(ended.si_status if by_itself else -ended.si_status).encode())
            test.recv(1)
    os.waitpid(pid, 0)
    os._exit(0)


def _become(argv: list[str]) -> NoReturn:
    """The program, as its console script begins and ends it."""
    from ngrokd import cli
    from ngrokd.control import ctl

    sys.argv = argv
    try:
        status = {"ngrokd": cli.main, "ngrokctl": ctl.main}[argv[0]]()
        sys.stdout.flush()
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else 1
    except BaseException:  # noqa: BLE001 - as Python itself does at the end of a program
        sys.excepthook(*sys.exc_info())
        status = 1
    os._exit(status)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
