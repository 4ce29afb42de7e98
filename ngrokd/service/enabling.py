"""Letting the service start at boot, and no longer: with the tools that this machine has."""

from __future__ import annotations

from collections.abc import Callable

from ngrokd.service import launchd
from ngrokd.service.steps import Link, Remove, Run, Step
from ngrokd.service.systems import Facts, Init

Matches = Callable[[str], tuple[str, ...]]  # paths that a shell's pattern names

# After network and file systems, before little else; stopped while both are still there.
_START, _KILL = "S90ngrokd", "K10ngrokd"
_LEVELS = {0: _KILL, 1: _KILL, 2: _START, 3: _START, 4: _START, 5: _START, 6: _KILL}

_LINKS = {
    Init.SYSTEMD: ("/etc/systemd/system/*.wants/ngrokd.service",),
    Init.OPENRC: ("/etc/runlevels/*/ngrokd",),
    Init.SYSV: (
        "/etc/rc[2-5].d/S[0-9][0-9]ngrokd",
        "/etc/rc.d/rc[2-5].d/S[0-9][0-9]ngrokd",
        "/etc/init.d/S[0-9][0-9]ngrokd",
    ),
    Init.LAUNCHD: ("/Library/LaunchDaemons/com.ngrok.ngrokd.plist",),
}
_STOP_LINKS = ("/etc/rc[0-6].d/K[0-9][0-9]ngrokd", "/etc/rc.d/rc[0-6].d/K[0-9][0-9]ngrokd")


def enabled(init: Init, matches: Matches) -> tuple[str, ...]:
    """The links by which it starts at boot; () if it does not."""
    return tuple(link for pattern in _LINKS[init] for link in matches(pattern))


def enable(init: Init, facts: Facts) -> list[Step]:
    """The steps, once the service's file is there."""
    if init is Init.SYSTEMD:
        return [Run(("systemctl", "enable", "ngrokd.service"))]
    if init is Init.OPENRC:
        return [Run(("rc-update", "add", "ngrokd", "default"))]
    if init is Init.LAUNCHD:
        # `extra`: a launchctl of before domains has no such word, and is told when it loads it.
        return [Run(launchd.ENABLE, extra=True)]
    return _enable_script(facts)


def _enable_script(facts: Facts) -> list[Step]:
    if "update-rc.d" in facts.tools:
        return [Run(("update-rc.d", "ngrokd", "defaults"))]
    if "chkconfig" in facts.tools:
        return [Run(("chkconfig", "--add", "ngrokd")), Run(("chkconfig", "ngrokd", "on"))]
    if "insserv" in facts.tools:
        return [Run(("insserv", "ngrokd"))]
    links: list[Step] = []
    for root in ("/etc", "/etc/rc.d"):
        for level, name in _LEVELS.items():
            if f"{root}/rc{level}.d" in facts.folders:
                links.append(Link(f"{root}/rc{level}.d/{name}", "../init.d/ngrokd"))
        if links:
            return links
    # BusyBox's and Buildroot's rcS starts /etc/init.d/S??*, and rcK stops them.
    return [Link(f"/etc/init.d/{_START}", "ngrokd")]


def disable(init: Init, facts: Facts, matches: Matches) -> list[Step]:
    """The steps while the service's file is still there, of what is enabled."""
    links = enabled(init, matches)
    if init is Init.SYSTEMD:
        if "systemctl" in facts.tools:
            return [Run(("systemctl", "disable", "ngrokd.service"))] if links else []
        return [Remove(link) for link in links]
    if init is Init.OPENRC and links and "rc-update" in facts.tools:
        levels = [link.split("/")[-2] for link in links]
        return [Run(("rc-update", "del", "ngrokd", level)) for level in levels]
    if init is Init.LAUNCHD:
        return []
    return _disable_script(facts, links, matches)


def _disable_script(facts: Facts, links: tuple[str, ...], matches: Matches) -> list[Step]:
    links += tuple(link for pattern in _STOP_LINKS for link in matches(pattern))
    if not links:
        return []
    if "update-rc.d" in facts.tools:
        # -f: the script is still there, because what could not be disabled must not be removed.
        return [Run(("update-rc.d", "-f", "ngrokd", "remove"))]
    if "chkconfig" in facts.tools:
        return [Run(("chkconfig", "--del", "ngrokd"))]
    if "insserv" in facts.tools:
        return [Run(("insserv", "-r", "ngrokd"))]
    return [Remove(link) for link in links]

