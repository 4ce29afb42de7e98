"""The descriptor limit: a connection needs two, and the default is often 1024."""

from __future__ import annotations

import logging
import resource
import sys

from ngrokd.errors import HostError

logger = logging.getLogger(__name__)


# For polls, name resolution, state files, the control socket and some connections: without them a
# daemon that listens everywhere could do nothing else, not even learn that endpoints have gone.
RESERVED_DESCRIPTORS = 128
LEAST_DESCRIPTORS = 64  # below that not even the daemon itself has enough
RESERVED_PART = 2  # of a limit so low that the reserve would be most of it, this part is kept


def listeners_allowed() -> int:
    """How many listeners leave enough descriptors for everything else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(soft - RESERVED_DESCRIPTORS, soft // RESERVED_PART)


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
