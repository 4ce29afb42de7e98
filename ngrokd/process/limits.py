"""The limits of the process: how many files are open at once, and that a crash leaves no core."""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Mapping, Sequence

from ngrokd.errors import HostError
from ngrokd.host import command, platforms

logger = logging.getLogger(__name__)

# For polls, name resolution, state files, the control socket and connections: without them a
# daemon that listens everywhere could do nothing else, not even learn that endpoints have gone.
RESERVED_PART = 8  # of the limit, this part, within these bounds; of one so low that the reserve
LEAST_RESERVED, MOST_RESERVED = 128, 1024  # would be most of it, half
LEAST_DESCRIPTORS = 128  # below that the daemon itself has not enough beside any client
CONNECTION_DESCRIPTORS = 2
ENOUGH = 131072  # for 100,000 endpoints, more than which the daemon takes from no list
# <sys/syslimits.h> of macOS: so many its setrlimit(2) is sure to take, which refuses "unlimited".
OPEN_MAX = 10240


def listeners_allowed() -> int:
    """How many listeners leave enough descriptors for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return sys.maxsize
    reserved = min(max(soft // RESERVED_PART, LEAST_RESERVED), MOST_RESERVED)
    return max(soft - reserved, soft // 2)


def out_of_reach(max_connections: int) -> str:
    """That so many connections can never be open at once; "": they can."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = CONNECTION_DESCRIPTORS * max_connections + LEAST_RESERVED
    if soft == resource.RLIM_INFINITY or not max_connections or needed <= soft:
        return ""
    return (
        f"forward.max_connections: {max_connections} connections need {needed} open files, of "
        f"which {soft} are allowed: as many as fit are served. Mend: raise LimitNOFILE or "
        "`ulimit -n`, or set fewer"
    )


def too_many(environ: Mapping[str, str], pid: int) -> str:
    """Why an endpoint has no listener, and how the limit is raised for the way of this start."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"descriptor limit: {soft} open files leave room for {listeners_allowed()} listeners. "
        f"Mend: {_mend(environ, pid)}"
    )


def _mend(environ: Mapping[str, str], pid: int) -> str:
    if "NOTIFY_SOCKET" in environ or environ.get("SYSTEMD_EXEC_PID") == str(pid):
        return (
            f"`systemctl edit ngrokd`, there LimitNOFILE={ENOUGH} below [Service], then "
            "`systemctl restart ngrokd`"
        )
    if environ.get("XPC_SERVICE_NAME", "0") != "0":
        return (
            f"`sysctl -w kern.maxfiles={2 * ENOUGH} kern.maxfilesperproc={ENOUGH}`, no lower "
            "NumberOfFiles in the plist in /Library/LaunchDaemons, then `ngrokd restart`"
        )
    if "RC_SVCNAME" in environ:
        service = environ["RC_SVCNAME"]
        return (
            f'rc_ulimit="-n {ENOUGH}" in /etc/conf.d/{service}, then `rc-service {service} restart`'
        )
    if pid == 1:
        return f"run the container with --ulimit nofile={ENOUGH}"
    return f"`ulimit -n {ENOUGH}` as root in the shell or script that starts ngrokd"


def raise_descriptor_limit(
    ceiling: Sequence[str] = platforms.descriptor_limit(), run: command.Runner = command.run
) -> None:
    """Raises the soft limit of open files as far as it goes. HostError: even that is too low.

    `ceiling`: the command that prints how many the kernel gives to one process, whatever its limit
    says; none where the hard limit is true.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in _wanted(hard, _printed(ceiling, run) if ceiling else hard):
        if soft == wanted:
            break
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as exc:
            logger.debug("%d open files are refused: %s", wanted, exc)
        else:
            soft = wanted
            break
    logger.debug("open files: up to %s", "any" if soft == resource.RLIM_INFINITY else soft)
    if soft != resource.RLIM_INFINITY and soft < LEAST_DESCRIPTORS:
        raise HostError(
            f"the descriptor limit is {soft}, and ngrokd needs {LEAST_DESCRIPTORS}: raise "
            "LimitNOFILE or `ulimit -n`"
        )


def leave_no_core() -> None:
    """What a crash leaves would hold the API key and the private key. `prlimit` allows it again."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def _wanted(hard: int, ceiling: int) -> list[int]:
    """The limits to try, the best first."""
    if ceiling == hard:
        return [hard]
    most = ENOUGH if hard == resource.RLIM_INFINITY else hard
    return sorted({min(most, ceiling), min(most, ceiling, OPEN_MAX)}, reverse=True)


def _printed(ceiling: Sequence[str], run: command.Runner) -> int:
    try:
        told = int(run(ceiling))
    except (command.CommandError, ValueError) as exc:
        logger.debug("how many files a process may open is not told: %s", exc)
        return OPEN_MAX
    return told if told > 0 else OPEN_MAX  # -1 would ask setrlimit for "unlimited"
