"""Which init system this machine has, and which one a command is for."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Optional

from ngrokd.errors import HostError


class Init(enum.Enum):
    """An init system that we have a file for; the value is its name on the command line."""

    SYSTEMD = "systemd"
    OPENRC = "openrc"
    SYSV = "sysv"  # scripts in /etc/init.d, whoever runs them: sysvinit, BusyBox
    LAUNCHD = "launchd"


@dataclass(frozen=True)
class Facts:
    """What was seen of this machine."""

    darwin: bool = False
    systemd_runs: bool = False  # /run/systemd/system, as sd_booted(3) asks
    openrc_runs: bool = False  # /run/openrc
    first_process: str = ""  # the name of process 1; "": unknown
    folders: frozenset[str] = frozenset()  # of FOLDERS, those that are there
    tools: frozenset[str] = frozenset()  # of TOOLS, those that can be run


# What decides between ways of doing it.
FOLDERS = (
    "/etc/init.d",
    "/etc/rc.d/init.d",
    "/etc/logrotate.d",
    "/etc/runlevels/default",
    "/etc/systemd/system",
    "/Library/LaunchDaemons",
    *(f"/etc/rc{level}.d" for level in range(7)),
    *(f"/etc/rc.d/rc{level}.d" for level in range(7)),
)
TOOLS = (
    "bash",
    "chkconfig",
    "fish",
    "insserv",
    "launchctl",
    "man",
    "rc-service",
    "rc-update",
    "service",
    "systemctl",
    "update-rc.d",
    "zsh",
)

# Process 1 of a machine whose scripts in /etc/init.d are run at boot.
_RUNS_SCRIPTS = frozenset({"init", "busybox", "linuxrc", "finit"})


def running(facts: Facts) -> Optional[Init]:
    """The init system that runs this machine; None: none that we know."""
    if facts.darwin:
        return Init.LAUNCHD
    if facts.systemd_runs:
        return Init.SYSTEMD
    if facts.openrc_runs:
        return Init.OPENRC
    if facts.first_process in _RUNS_SCRIPTS and "/etc/init.d" in facts.folders:
        return Init.SYSV
    return None


def chosen(facts: Facts, name: Optional[str]) -> Init:
    """The one asked for with `--init`, else the one that runs. Raises HostError with the mend."""
    init = Init(name) if name else running(facts)
    if init is None:
        raise HostError(_why_none(facts))
    needed = _NEEDS[init]
    if needed not in facts.folders:
        raise HostError(
            f"{init.value} is not on this machine ({needed} is not there); "
            "choose another one with --init"
        )
    return init


_NEEDS = {
    Init.SYSTEMD: "/etc/systemd/system",
    Init.OPENRC: "/etc/runlevels/default",
    Init.SYSV: "/etc/init.d",
    Init.LAUNCHD: "/Library/LaunchDaemons",
}


def _why_none(facts: Facts) -> str:
    first = f"process 1 is {facts.first_process}" if facts.first_process else "no process 1 is seen"
    here = [init.value for init, folder in _NEEDS.items() if folder in facts.folders]
    also = f"; to prepare an image for one, say --init {' or --init '.join(here)}" if here else ""
    return (
        f"no init system that ngrokd knows runs here ({first}; a container or a chroot?): nothing "
        f"would start a service at boot. Run `ngrokd --foreground` as the container's command, or "
        f"`ngrokd start` now{also}"
    )
