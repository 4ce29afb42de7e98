"""What launchd is asked for our job, and what its answers mean.

`launchctl` of macOS 10.10 and later knows targets and domains (`bootstrap`, `bootout`, `kickstart`,
`print`). An older one has only `load`, `unload`, `start` and `list`; what it does not know it
refuses, and that is how it is told.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Optional

from ngrokd.service.layout import SERVICES
from ngrokd.service.systems import Init

Argv = tuple[str, ...]

LABEL = "com.ngrok.ngrokd"
DOMAIN = "system"
JOB = f"{DOMAIN}/{LABEL}"
PLIST = SERVICES[Init.LAUNCHD].path

LOOK: Argv = ("launchctl", "print", JOB)
LOOK_OF_OLD: Argv = ("launchctl", "list", LABEL)
ENABLE: Argv = ("launchctl", "enable", JOB)
STOP: Argv = ("launchctl", "bootout", JOB)

NO_SUCH_SERVICE = 113  # of `print`; `launchctl error 113` says it in words
# Exit statuses of `bootstrap` and `bootout`: the errno of launchd's answer. 5 is said of whatever
# launchd does not want to tell, also of a job that is there, or is still being taken away.
NO_SUCH_PROCESS, UNTOLD, IN_PROGRESS, ALREADY = 3, 5, 36, 37

# The job's own lines begin with one tab; deeper ones are of its endpoints and coalitions.
_STATE = re.compile(r"^\tstate = (.+?)[ \t]*$", re.MULTILINE)
_PID = re.compile(r"^\tpid = ([0-9]+)[ \t]*$", re.MULTILINE)
_EXIT = re.compile(r"^\tlast exit code = ([0-9]+)", re.MULTILINE)
_SIGNAL = re.compile(r"^\tlast terminating signal = (.+?)[ \t]*$", re.MULTILINE)
_OLD_PID = re.compile(r'^[ \t]*"PID" = ([0-9]+);', re.MULTILINE)
_OLD_EXIT = re.compile(r'^[ \t]*"LastExitStatus" = ([0-9]+);', re.MULTILINE)


class State(enum.Enum):
    """What launchd has of our job."""

    ABSENT = "absent"  # not loaded
    IDLE = "idle"  # loaded, and no process
    RUNNING = "running"  # or just being started


@dataclass(frozen=True)
class Job:
    """Our job as launchd tells of it. `ended`: how the last process did, "" if it did well."""

    state: State
    pid: int = 0
    ended: str = ""


def read(answer: str) -> Job:
    """What `print` has printed; words that are not known mean a job that is there."""
    pid = _number(_PID, answer)
    found = _STATE.search(answer)
    is_running = pid or (found and found[1] == "running")
    signal = _SIGNAL.search(answer)
    ended = f"signal {signal[1]}" if signal else _status(_number(_EXIT, answer))
    return Job(State.RUNNING if is_running else State.IDLE, pid, ended)


def read_old(answer: str) -> Job:
    """What `list LABEL` has printed; the status is that of wait(2)."""
    pid = _number(_OLD_PID, answer)
    status = _number(_OLD_EXIT, answer)
    ended = f"signal {status & 0x7F}" if status & 0x7F else _status(status >> 8)
    return Job(State.RUNNING if pid else State.IDLE, pid, ended)


def starting(job: Job, old: bool) -> Argv:
    """The command after which it runs, if it does not."""
    if job.state is State.ABSENT:
        # -w: also if it was unloaded with -w once, as `enable` at the installation does.
        return ("launchctl", "load", "-w", PLIST) if old else (*_BOOTSTRAP, PLIST)
    return ("launchctl", "start", LABEL) if old else ("launchctl", "kickstart", JOB)


def stopping(old: bool) -> Argv:
    """The command after which it is neither there nor started again."""
    return ("launchctl", "unload", PLIST) if old else STOP


def is_unknown_verb(complaint: str) -> bool:
    """Whether it is of an older launchctl: `unknown subcommand "print"`."""
    return "subcommand" in complaint


def is_being_done(status: Optional[int]) -> bool:
    """A failure that says nothing of what becomes of it: the job is to be looked at again.

    None: the command did not end in time.
    """
    return status in (None, NO_SUCH_PROCESS, UNTOLD, IN_PROGRESS, ALREADY, NO_SUCH_SERVICE)


_BOOTSTRAP: Argv = ("launchctl", "bootstrap", DOMAIN)


def _number(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return int(found[1]) if found else 0


def _status(number: int) -> str:
    return f"exit status {number}" if number else ""
