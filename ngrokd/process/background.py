"""Becoming a background process, and telling who started it whether it is up."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from typing import Callable

from ngrokd.errors import NgrokdError
from ngrokd.process.pidfile import held
from ngrokd.process.signals import ending_at_once

logger = logging.getLogger(__name__)

UMASK = 0o022
UP = b"up"
KILLED = (
    "the daemon ended while starting, without a word: it was killed, or had no memory left; "
    "see server.log_file and `dmesg`, or try `ngrokd --foreground`"
)

Serve = Callable[[Callable[[], None]], int]  # takes what to call once up; returns the exit status


def run_in_background(pid_file: str, serve: Serve) -> int:
    """Forks; returns 0 once the daemon is up, else 1 after printing why it is not.

    The caller must not have made a thread, socket, selector or log file: the fork loses threads and
    `DaemonContext` closes descriptors.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _become_daemon(pid_file, serve, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        try:
            answer = told.read()
        except KeyboardInterrupt:
            _interrupt(child)
            told.read()  # until it has ended
            raise
    os.waitpid(child, 0)
    if answer == UP:
        return 0
    sys.stderr.write(f"ngrokd: {answer.decode(errors='replace') or KILLED}\n")
    return 1


def _interrupt(child: int) -> None:
    """What would be left running is not what somebody wants who presses Ctrl-C."""
    # It leads the session of the daemon, if it came that far; else the terminal has told it, too.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGTERM)


def _become_daemon(pid_file: str, serve: Serve, writing: int) -> None:
    """In the child: never returns, so that nothing of the caller runs twice."""
    status = 1

    def up() -> None:
        _tell(writing, UP)
        os.close(writing)

    # 0.3 MB that a daemon in the foreground has no use for.
    from daemon import DaemonContext

    try:
        context = DaemonContext(
            detach_process=True, umask=UMASK, files_preserve=[writing], signal_map={}
        )
        with context, ending_at_once(), held(pid_file):
            status = serve(up)
    except NgrokdError as exc:
        logger.error("%s", exc)
        _tell(writing, str(exc).encode())
    except Exception as exc:
        logger.critical("ngrokd ends by a fault of its own", exc_info=exc)
        _tell(writing, f"a fault of ngrokd itself: {exc!r}".encode())
    except SystemExit:
        _tell(writing, b"a signal ended the daemon while it was starting")
    finally:
        logging.shutdown()
        os._exit(status)


def _tell(writing: int, answer: bytes) -> None:
    """To the parent, which has gone once the daemon is up, or was killed: the log has it, too."""
    with contextlib.suppress(OSError):
        os.write(writing, answer)
