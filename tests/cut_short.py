"""One publication of names, cut short or failed at any one of its system calls, by strace."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import TracebackType

PUBLISHED, REFUSED = 0, 3  # exit statuses of a publication that was not killed

# For each line of words (hosts file, state folder) a child that publishes; it waits to be traced.
_SERVER = f"""
import ctypes, os, signal, sys
from pathlib import Path
from ngrokd.errors import HostError
from ngrokd.host.hostsfile import HostsFile

for line in sys.stdin:
    path, state = line.rstrip("\\n").split("\\t")
    pid = os.fork()
    if pid == 0:
        file = HostsFile(Path(path), "ngrokd managed section", Path(state), pause=lambda _: None)
        os.kill(os.getpid(), signal.SIGSTOP)
        try:
            file.publish({{"web.ns": "10.107.0.2", "cache.ns": "10.107.0.3"}})
        except HostError:
            os._exit({REFUSED})
        os._exit({PUBLISHED})
    os.waitpid(pid, os.WUNTRACED)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""

# Those that touch files. Others cannot fail in a way that has to do with them.
_OF_FILES = frozenset(
    (
        "openat", "newfstatat", "fstat", "stat", "lstat", "read", "pread64", "write", "pwrite64",
        "lseek", "ioctl", "close", "fsync", "fchmod", "fchown", "flistxattr", "listxattr",
        "getxattr", "fgetxattr", "fsetxattr", "fremovexattr", "rename", "renameat2", "unlink",
        "flock", "fcntl", "fallocate", "ftruncate", "getdents64", "readlink", "getcwd",
    )
)  # fmt: skip


class CutShort:
    """Owner: the test. Children that publish, one at a time."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def calls(self, path: Path, state: Path, log: Path) -> list[tuple[str, int]]:
        """Every system call of a publication that goes well: its name, the how-manieth of it."""
        status = self.publish(path, state, "-o", str(log))
        assert status == PUBLISHED
        seen: Counter[str] = Counter()
        found = []
        for name in re.findall(r"^(\w+)\(", log.read_text(), re.MULTILINE):
            seen[name] += 1
            if name in _OF_FILES:
                found.append((name, seen[name]))
        return found

    def publish(self, path: Path, state: Path, *options: str) -> int:
        """Its exit status, or minus the signal that ended it; `options` are strace's."""
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(f"{path}\t{state}\n")
        self._server.stdin.flush()
        pid = self._server.stdout.readline().strip()
        tracer = subprocess.Popen(
            ["strace", "-p", pid, "-e", "signal=none", *options], stderr=subprocess.PIPE, text=True
        )
        assert tracer.stderr is not None
        assert "attached" in tracer.stderr.readline()
        subprocess.run(["kill", "-CONT", pid], check=True)
        tracer.stderr.read()
        tracer.wait(30)
        return self._status(int(self._server.stdout.readline()))

    @staticmethod
    def _status(status: int) -> int:
        return -(status & 0x7F) if status & 0x7F else status >> 8

    def __enter__(self) -> CutShort:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(10)


def killed_at(name: str, number: int) -> list[str]:
    """Options of strace: a SIGKILL in place of the `number`-th call."""
    return ["-e", f"trace={name}", "-e", f"inject={name}:signal=SIGKILL:when={number}"]


def failing_at(name: str, number: int, error: str) -> list[str]:
    """Options of strace: the `number`-th call is not made, and fails."""
    return ["-e", f"trace={name}", "-e", f"inject={name}:error={error}:when={number}"]


KILLED = -signal.SIGKILL


def why_not() -> str:
    """Why that cannot be done here, or ""."""
    return "" if shutil.which("strace") else "needs strace"
