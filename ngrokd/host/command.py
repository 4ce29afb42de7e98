"""The one place that runs commands of this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Optional, Protocol

from ngrokd.errors import HostError

logger = logging.getLogger(__name__)

# All take moments. Three that hang, two of the work that a stop interrupts and one of its own, are
# less than the 30 seconds that a service manager gives it.
TIMEOUT_S = 8.0

# A daemon's PATH is whatever its starter had; `ip` lives in an sbin that a user's PATH lacks.
# LC_ALL=C keeps messages in the words that are looked for in them.
_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin",
    "LC_ALL": "C",
}

_PACKAGES = {"ip": "iproute2", "ifconfig": "net-tools", "route": "net-tools"}


class CommandError(HostError):
    """A command did not do what it was asked. Handler: try the next way of doing it.

    `returncode` is None where it never ran to its end; `stderr` is all that it complained of;
    `was_started`: there is such a program here.
    """

    def __init__(
        self,
        message: str,
        returncode: Optional[int] = None,
        stderr: str = "",
        was_started: bool = True,
    ) -> None:
        super().__init__(message)
        self.returncode = returncode
        self.stderr = stderr
        self.was_started = was_started

    @property
    def was_killed(self) -> bool:
        """For its time: it may have done its work."""
        return self.was_started and self.returncode is None


class Runner(Protocol):
    """Runs `argv` with `text` on its standard input and returns its standard output."""

    def __call__(self, argv: Sequence[str], text: str = "") -> str:
        """Raises CommandError."""
        ...


def run(argv: Sequence[str], text: str = "") -> str:
    """Runs one command to its end; raises CommandError naming command, cause and mend."""
    line = " ".join(argv)
    logger.debug("running: %s", line)
    try:
        status, output, complaint = _run_to_its_end(argv, text)
    except FileNotFoundError as exc:
        package = _PACKAGES.get(argv[0], argv[0])
        raise CommandError(
            f"`{line}`: there is no program {argv[0]} on this machine; install {package}",
            was_started=False,
        ) from exc
    except subprocess.TimeoutExpired as exc:
        raise CommandError(
            f"`{line}`: did not end within {TIMEOUT_S:g} seconds; run it by hand to see why"
        ) from exc
    except OSError as exc:
        message = f"`{line}`: cannot be started ({exc.strerror})"
        raise CommandError(message, was_started=False) from exc
    stderr = complaint.decode(errors="replace")
    if status != 0:
        cause = _first_line(stderr) or f"exit status {status}"
        raise CommandError(f"`{line}`: {cause}", status, stderr)
    return output.decode(errors="replace")


def _run_to_its_end(argv: Sequence[str], text: str) -> tuple[int, bytes, bytes]:
    """Exit status and what was printed. Raises OSError, and TimeoutExpired with nothing left."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        list(argv),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env=_ENVIRONMENT,
        cwd="/",
        # Ctrl-C in a terminal must end the daemon, not the command it is cleaning up with.
        start_new_session=True,
    ) as started:
        try:
            output, complaint = started.communicate(text.encode(), TIMEOUT_S)
        except BaseException:
            # With all that it started: the lanes of a script would go on with it long after.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(started.pid, signal.SIGKILL)
            started.kill()
            raise
        return started.returncode, output, complaint


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
