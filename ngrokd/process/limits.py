"""The limits of the process: how many files are open at once, and that a crash leaves no core."""

from __future__ import annotations

import logging
import resource
import sys
from collections.abc import Mapping

from ngrokd.errors import HostError

logger = logging.getLogger(__name__)

# For polls, name resolution, state files, the control socket and connections: without them a
# daemon that listens everywhere could do nothing else, not even learn that endpoints have gone.
RESERVED_PART = 8  # of the limit, this part, within these bounds; of one so low that the reserve
LEAST_RESERVED, MOST_RESERVED = 128, 1024  # would be most of it, half
LEAST_DESCRIPTORS = 128  # below that the daemon itself has not enough beside any client
CONNECTION_DESCRIPTORS = 2
ENOUGH = 131072  # for 100,000 endpoints, more than which the daemon takes from no list


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
            f"NumberOfFiles {ENOUGH} in SoftResourceLimits and HardResourceLimits of the plist in "
            "/Library/LaunchDaemons, then load it anew"
        )
    if "RC_SVCNAME" in environ:
        service = environ["RC_SVCNAME"]
        return (
            f'rc_ulimit="-n {ENOUGH}" in /etc/conf.d/{service}, then `rc-service {service} restart`'
        )
    if pid == 1:
        return f"run the container with --ulimit nofile={ENOUGH}"
    return f"`ulimit -n {ENOUGH}` as root in the shell or script that starts ngrokd"


def raise_descriptor_limit() -> None:
    """Raises the soft limit of open files to the hard one. HostError: even that is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        if soft != hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    except (OSError, ValueError) as exc:  # macOS refuses "unlimited"
        logger.debug("open files stay limited to %d: %s", soft, exc)
    if soft != resource.RLIM_INFINITY and soft < LEAST_DESCRIPTORS:
        raise HostError(
            f"the descriptor limit is {soft}, and ngrokd needs {LEAST_DESCRIPTORS}: raise "
            "LimitNOFILE or `ulimit -n`"
        )


def leave_no_core() -> None:
    """What a crash leaves would hold the API key and the private key. `prlimit` allows it again."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
