"""launchd of macOS: jobs that run real programs, are kept alive, and are killed when they linger.

What `launchctl` asks of it is in launchctl.py. Numbers and words are those of `launchctl error`.
"""

from __future__ import annotations

import contextlib
import os
import plistlib
import signal
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNKNOWN = 99
THROTTLE_S = 10  # "jobs will not be spawned more than once every 10 seconds"
EXIT_TIMEOUT_S = 5  # `exit timeout` of macOS 26; it was 20

# launchd.plist(5), of those that a daemon may have; with their types.
KEYS: dict[str, type] = {
    "Label": str,
    "ProgramArguments": list,
    "RunAtLoad": bool,
    "KeepAlive": bool,
    "StandardErrorPath": str,
    "StandardOutPath": str,
    "UserName": str,
    "ExitTimeOut": int,
    "ThrottleInterval": int,
    "EnvironmentVariables": dict,
    "WorkingDirectory": str,
}


class Refused(Exception):
    """Of launchd: an errno, or one of its own numbers, with its words."""

    def __init__(self, number: int, words: str) -> None:
        super().__init__(words)
        self.number = number
        self.words = words


@dataclass
class Job:
    """One service. `pid` 0: no process."""

    path: str
    plist: dict[str, Any]
    pid: int = 0
    runs: int = 0
    started_at: float = -1000.0
    wanted: bool = False  # to be started as soon as it may be
    leaving: bool = False  # to be forgotten with its process
    kill_at: float = float("inf")
    status: int = 0  # of wait(2)

    @property
    def label(self) -> str:
        return str(self.plist["Label"])

    @property
    def keeps_alive(self) -> bool:
        return bool(self.plist.get("KeepAlive", False)) and not self.leaving

    @property
    def throttle_s(self) -> int:
        return int(self.plist.get("ThrottleInterval", THROTTLE_S))

    @property
    def exit_timeout_s(self) -> int:
        return int(self.plist.get("ExitTimeOut", EXIT_TIMEOUT_S))


class Jobs:
    """Owner: the one thread that serves."""

    def __init__(
        self, root: Path = Path("/"), owner: int = 0, throttle_s: float = THROTTLE_S
    ) -> None:
        """`root`: where plists are looked for; `owner`: whose they must be."""
        self._throttle_s = throttle_s  # but for a plist that says another one
        self.root = root
        self.owner = owner
        self.by_label: dict[str, Job] = {}
        self.disabled: set[str] = set()

    def load(self, path: str, enable: bool) -> None:
        """Raises Refused."""
        plist = self.read(path)
        label = plist["Label"]
        known = self.by_label.get(label)
        if known is not None and known.leaving:
            raise Refused(37, "Operation already in progress")
        if known is not None:
            raise Refused(5, "Input/output error")
        if enable:
            self.disabled.discard(label)
        if label in self.disabled:
            raise Refused(119, "Service is disabled")
        job = self.by_label[label] = Job(path, plist)
        job.wanted = bool(plist.get("RunAtLoad") or plist.get("KeepAlive"))

    def take_away(self, job: Job) -> None:
        """At once, or with its process."""
        is_news, job.leaving, job.wanted = not job.leaving, True, False
        if job.pid and is_news:
            self.end(job)
        elif not job.pid:
            del self.by_label[job.label]

    def end(self, job: Job) -> None:
        """TERM, and KILL after its time."""
        if job.pid:
            os.kill(job.pid, signal.SIGTERM)
            if job.exit_timeout_s:
                job.kill_at = time.monotonic() + job.exit_timeout_s

    def turn(self) -> None:
        """Buries, kills and starts what is due."""
        now = time.monotonic()
        for job in self.known():
            self._bury(job)
            if job.pid and now >= job.kill_at:
                os.kill(job.pid, signal.SIGKILL)
                job.kill_at = float("inf")
            if job.wanted and not job.pid and now - job.started_at >= self._throttle_of(job):
                _spawn(job)

    def _throttle_of(self, job: Job) -> float:
        return float(job.plist.get("ThrottleInterval", self._throttle_s))

    def known(self) -> list[Job]:
        """By their labels."""
        return sorted(self.by_label.values(), key=lambda job: job.label)

    def close(self) -> None:
        """Ends what runs."""
        for job in self.known():
            if job.pid:
                os.kill(job.pid, signal.SIGKILL)
                os.waitpid(job.pid, 0)

    def read(self, path: str) -> dict[str, Any]:
        """The plist. Raises Refused, also for a key or a type that is not known here."""
        place = self.root / path.lstrip("/")
        try:
            found = place.stat()
        except OSError as exc:
            raise Refused(2, "No such file or directory") from exc
        if found.st_uid != self.owner or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Refused(122, "Path had bad ownership/permissions")
        try:
            plist: dict[str, Any] = plistlib.loads(place.read_bytes())
        except Exception as exc:
            raise Refused(109, "Invalid property list") from exc
        for key, value in plist.items():
            if type(value) is not KEYS.get(key):
                raise Refused(UNKNOWN, f"not known here: {key} = {value!r}")
        return plist

    def _bury(self, job: Job) -> None:
        if not job.pid:
            return
        pid, status = os.waitpid(job.pid, os.WNOHANG)
        if not pid:
            return
        # "When a job dies, launchd kills any remaining processes with the same process group."
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        job.pid, job.status, job.kill_at = 0, status, float("inf")
        if job.leaving:
            del self.by_label[job.label]
        else:
            job.wanted = job.wanted or job.keeps_alive


def _spawn(job: Job) -> None:
    job.started_at, job.wanted = time.monotonic(), False
    job.runs += 1
    plist = job.plist
    environ = {
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "XPC_SERVICE_NAME": job.label,
        "XPC_FLAGS": "0x0",
        **plist.get("EnvironmentVariables", {}),
    }
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    for number, key in ((1, "StandardOutPath"), (2, "StandardErrorPath")):
        files.append((os.POSIX_SPAWN_OPEN, number, plist.get(key, "/dev/null"), flags, 0o644))
    os.chdir(plist.get("WorkingDirectory", "/"))
    argv = plist["ProgramArguments"]
    try:
        job.pid = os.posix_spawn(argv[0], argv, environ, file_actions=files, setpgroup=0)
    except OSError:
        job.status, job.wanted = 78 << 8, job.keeps_alive  # EX_CONFIG


def _last(job: Job) -> str:
    if job.status & 0x7F:
        number = signal.Signals(job.status & 0x7F)
        return f"last terminating signal = {signal.strsignal(number)}: {number.value}"
    if not job.runs or (job.runs == 1 and job.pid):
        return "last exit code = (never exited)"
    return f"last exit code = {job.status >> 8}"
