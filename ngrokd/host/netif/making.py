"""Makes an interface of the first kind that this machine has."""

from __future__ import annotations

import logging
from typing import Optional

from ngrokd.errors import HostError
from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import iproute
from ngrokd.host.netif.links import KINDS, Link
from ngrokd.host.netif.tool import Tool
from ngrokd.model import InterfaceMode

logger = logging.getLogger(__name__)


def make(tool: Tool, run: Runner, name: str) -> tuple[Optional[Link], InterfaceMode, str]:
    """What is made, of which type, and why of no earlier one. Raises HostError: of none.

    None: another program removed it at once.
    """
    complaints = ""
    for mode in tool.kinds:
        made = None
        try:
            run(tool.make(name, mode))
        except CommandError as exc:
            said = f"of type {mode.value}: {iproute.complaint(exc.stderr) or exc}"
            made = tool.find(name) if exc.was_killed else None
            if not _is_fresh(made, mode):
                complaints += said + "; "
                logger.info("%s cannot be made %s", name, said)
                if iproute.is_taken(exc.stderr):  # `tuntap add` would take over another's tun
                    break
                continue
        made = made or tool.find(name)
        logger.info("%s is made, of type %s", name, mode.value)
        why = f"{name} cannot be made {complaints[:-2]}" if complaints else ""
        return made, mode, why
    raise HostError(
        f"the interface {name} cannot be made ({complaints[:-2]}). "
        f"Mend: {iproute.mend_for_making(complaints)}"
    )


def _is_fresh(found: Optional[Link], mode: InterfaceMode) -> bool:
    """The command that was killed had done its work: nothing of this name was there before."""
    return found is not None and found.is_marked and KINDS.get(found.kind) is mode
