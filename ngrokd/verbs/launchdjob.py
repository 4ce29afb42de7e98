"""Our job of launchd, started and stopped so that it is done when the call returns.

launchd answers before the daemon is up, and sometimes before it has ended; of a job that is there,
or is still being taken away, it says "Input/output error". So what counts is not what a command
says but what launchd has of the job afterwards, which is looked at until it is as wanted.
"""

from __future__ import annotations

import select
import shlex
import time
from collections.abc import Sequence
from typing import Callable, Optional

from ngrokd.errors import HostError
from ngrokd.host import command
from ngrokd.host.command import CommandError
from ngrokd.process.ending import wait_for_end
from ngrokd.service import launchd
from ngrokd.service.launchd import Job, State

LOOK_S = 0.2  # launchd tells nobody of a change
UP_S = 90.0  # as systemd's unit gives it
GONE_S = 10.0  # from the end of the process until launchd has forgotten the job
TOLD_S = 5.0  # it says "Input/output error" and the like while a job comes or goes
BOOTSTRAP_S = 10.0  # a job that was there just now is refused for some seconds


class LaunchdJob:
    """Owner: the thread of the command."""

    def __init__(
        self,
        run: command.Runner = command.run,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = lambda seconds: select.select([], [], [], seconds),
    ) -> None:
        self._run = run
        self._clock = clock
        self._pause = pause
        self._old = False  # a launchctl without domains

    def look(self) -> Job:
        """Raises HostError: launchctl cannot be asked, or has told nothing for a while."""
        until = self._clock() + TOLD_S
        while True:
            try:
                return self._look()
            except CommandError as exc:
                if exc.returncode is None or self._clock() >= until:  # it hangs, or is not there
                    raise
            self._pause(LOOK_S)

    def _look(self) -> Job:
        if not self._old:
            try:
                return launchd.read(self._run(launchd.LOOK))
            except CommandError as exc:
                if exc.returncode == launchd.NO_SUCH_SERVICE:
                    return Job(State.ABSENT)
                if not launchd.is_unknown_verb(exc.stderr):
                    raise  # it cannot tell, and "absent" would be a lie
                self._old = True
        try:
            return launchd.read_old(self._run(launchd.LOOK_OF_OLD))
        except CommandError as exc:
            if exc.returncode is None:
                raise
            return Job(State.ABSENT)

    def start(self, is_up: Callable[[], bool]) -> None:
        """Returns once `is_up`. Raises HostError: it does not come up."""
        self._begin()
        until = self._clock() + UP_S
        while not is_up():
            job = self.look()
            if job.state is State.ABSENT:
                raise HostError(
                    "launchd has started ngrokd, and no longer has it: it was stopped meanwhile"
                )
            if job.state is not State.RUNNING and job.ended:
                raise HostError(f"launchd has started ngrokd, which ended with {job.ended}")
            if self._clock() >= until:
                raise HostError(f"launchd has started ngrokd, which is not up after {UP_S:g} s")
            self._pause(LOOK_S)

    def stop(self, patience_s: float) -> bool:
        """Returns once launchd has forgotten the job; False: it did not have it.

        Raises HostError: it does not end.
        """
        job = self.look()
        if job.state is State.ABSENT:
            return False
        refusal = self._order(launchd.stopping(self._old))
        if refusal is not None and not launchd.is_being_done(refusal.returncode):
            raise refusal
        if job.pid:
            wait_for_end(job.pid, patience_s)
        until = self._clock() + GONE_S
        while self.look().state is not State.ABSENT:
            if self._clock() >= until:
                raise HostError(
                    f"launchd does not let go of {launchd.JOB}; see `{' '.join(launchd.LOOK)}`"
                )
            self._pause(LOOK_S)
        return True

    def _begin(self) -> None:
        until = self._clock() + BOOTSTRAP_S
        while True:
            job = self.look()
            if job.state is State.RUNNING:
                return
            argv = launchd.starting(job, self._old)
            refusal = self._order(argv)
            state = self.look().state
            if state is State.RUNNING or (refusal is None and state is State.IDLE):
                return
            # `load` ends with 0 whatever came of it.
            is_final = refusal and not launchd.is_being_done(refusal.returncode)
            if self._clock() >= until or is_final:
                raise HostError(
                    f"{refusal or f'`{shlex.join(argv)}` has loaded nothing'}. Mend: "
                    f"`plutil -lint {launchd.PLIST}`, owner root and mode 644 for it, "
                    f"`{' '.join(launchd.ENABLE)}`"
                ) from refusal
            self._pause(LOOK_S)

    def _order(self, argv: Sequence[str]) -> Optional[CommandError]:
        """Why it was refused, which may still mean that it is done. Raises CommandError."""
        try:
            self._run(argv)
        except CommandError as exc:
            if not exc.was_started:
                raise
            return exc
        return None
