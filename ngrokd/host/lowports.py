"""What allows this ngrokd, however it was started, to listen on a low port."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ngrokd.host import privileges

_CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))


@dataclass(frozen=True)
class Start:
    """How this process came to be, as far as that says who can give it a right."""

    root: bool = False
    permitted: bool = False  # it holds CAP_NET_BIND_SERVICE
    container: bool = False
    unit: str = ""  # of systemd's system manager
    program: str = ""  # the executable, unless that is a Python which runs a script


def mend(port: int, start: Start) -> str:
    """The command or setting after which `port` can be listened on."""
    setting = f"net.ipv4.ip_unprivileged_port_start={port}"
    sysctl = f"sysctl -w {setting}"
    if start.permitted:
        return "allow it in SELinux or AppArmor: `ausearch -m AVC -ts recent`, `dmesg`"
    if start.unit:
        right = "CAP_NET_BIND_SERVICE"
        where = f"AmbientCapabilities= and CapabilityBoundingSet= (`systemctl edit {start.unit}`)"
        return f"add {right} to {where}, or {sysctl}"
    if start.container:  # --cap-add gives nothing to a user who is not root
        other = "start it with --cap-add=NET_BIND_SERVICE" if start.root else "run ngrokd as root"
        return f"start the container with --sysctl {setting}, or {other}"
    if start.program:
        return f"setcap cap_net_bind_service=+ep {start.program}, or {sysctl}"
    return f"run ngrokd as root, or {sysctl} (setcap does nothing for a Python script)"


def how_started(
    environ: Mapping[str, str] = os.environ, cgroup: Path = Path("/proc/self/cgroup")
) -> Start:
    """What this process tells of itself."""
    held = privileges.read()
    in_container = os.getpid() == 1 or any(mark.exists() for mark in _CONTAINER_MARKS)
    return Start(
        root=os.geteuid() == 0,
        permitted=held is not None and bool(held.effective & privileges.NET_BIND_SERVICE),
        container=in_container,
        unit=_unit(environ, cgroup),
        program=sys.executable if getattr(sys, "frozen", False) else "",
    )


def _unit(environ: Mapping[str, str], cgroup: Path) -> str:
    """Ours, if systemd started us itself: a shell in another service is not that service."""
    own_pid = environ.get("SYSTEMD_EXEC_PID", str(os.getpid()))  # since systemd 248
    if "INVOCATION_ID" not in environ or own_pid != str(os.getpid()):
        return ""
    try:
        paths = [line.rpartition(":")[2] for line in cgroup.read_text().splitlines()]
    except OSError:
        return ""
    units = {path.rpartition("/")[2] for path in paths if not path.startswith("/user.slice/")}
    return next((unit for unit in sorted(units) if unit.endswith(".service")), "")
