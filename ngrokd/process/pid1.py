"""What the first process of a container owes the others: it buries the dead and passes signals on.

The kernel gives every orphan to process 1, to be waited for, and ignores signals that process 1 has
no handler for. A program that is not made for it collects zombies of every `docker exec`.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Callable, Optional

PASSED_ON = frozenset(
    (
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGALRM,
        signal.SIGCONT,
    )
)

_KILLED = 128  # plus the signal, as a shell tells it


def run_under_init(serve: Callable[[], int], pid: Optional[int] = None) -> int:
    """`serve()`; as process 1, in a child of its own. Returns, or raises, what `serve` does.

    Returns in both processes: in process 1 the child's exit status, or 128 and the signal that
    ended it. Call before threads are made, before files are held that a child must not share, and
    as early as can be: what was loaded before is in memory twice once the child has changed it.
    """
    if (os.getpid() if pid is None else pid) != 1:
        return serve()
    watched = PASSED_ON | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        # Else Ctrl-C in a terminal would reach it twice, and a second one means "at once".
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return serve()
    return _tend(child, watched)


def _tend(child: int, watched: frozenset[signal.Signals]) -> int:
    """Until the child has ended; what else there is then ends with process 1."""
    while True:
        number = signal.sigwait(watched)
        if number != signal.SIGCHLD:
            os.kill(child, number)  # it is there, at least as a zombie, until we wait for it
            continue
        for pid, status in iter(_buried, None):
            if pid == child:
                return _exit_status(status)


def _exit_status(status: int) -> int:
    if os.WIFSIGNALED(status):
        return _KILLED + os.WTERMSIG(status)
    return os.WEXITSTATUS(status)


def _buried() -> Optional[tuple[int, int]]:
    """The next child that has ended, and how; None: no more for now. One signal may mean many."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, status) if pid else None
