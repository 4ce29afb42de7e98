"""How each init system starts, stops and reloads a service, and whether it has ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

from ngrokd.config import DEFAULT_CONFIG_PATH
from ngrokd.service import defaults, marks, systems
from ngrokd.service.disk import A_LINK, Found
from ngrokd.service.layout import SERVICES
from ngrokd.service.systems import Facts, Init

_TOOL = {Init.SYSTEMD: "systemctl", Init.OPENRC: "rc-service", Init.LAUNCHD: "launchctl"}
_OPENRC_LINE = b"openrc-run"
# One of these stands in each of our files, with a mark or as a package installed it.
_OURS = (b"Kubernetes-bound endpoints", b"<string>com.ngrok.ngrokd</string>")


@dataclass(frozen=True)
class Service:
    """What is installed: where, and for which configuration file."""

    init: Init
    config: str


def argv(facts: Facts, init: Init, verb: str) -> tuple[str, ...]:
    """The command for `start`, `stop` or `reload`; not of launchd."""
    if init is Init.SYSTEMD:
        return ("systemctl", verb, "ngrokd.service")
    if init is Init.OPENRC:
        return ("rc-service", "ngrokd", verb)
    assert init is Init.SYSV, "launchd says no command that is done when it returns: launchd.py"
    # It gives the script a clean environment, as at boot.
    tool = ("service", "ngrokd") if "service" in facts.tools else (SERVICES[init].path,)
    return (*tool, verb)


def is_usable(facts: Facts, init: Init) -> bool:
    """Its tool is there. A script of SysV needs none."""
    return init is Init.SYSV or _TOOL[init] in facts.tools


def is_ours(found: Callable[[str], Found], init: Init) -> bool:
    """Our file for this init system is in its place, changed or not, a package's too."""
    if init is Init.LAUNCHD and found(SERVICES[init].path).other.startswith(A_LINK):
        return True  # launchd follows it, and starts again what is ended behind its back
    content = _content(found, init)
    if content is None or not any(words in content for words in _OURS):
        return False
    # OpenRC's and SysV's have the same path.
    is_openrc = _OPENRC_LINE in content.partition(b"\n")[0]
    if init is Init.SYSV and is_openrc:
        return False
    return init is not Init.OPENRC or is_openrc


def installed(facts: Facts, found: Callable[[str], Found]) -> Optional[Service]:
    """The service that `start` and the like are for; None: none, or none that can be started."""
    # A script of SysV works without an init that runs it: in a container, for one.
    init = systems.running(facts) or Init.SYSV
    return service(found, init) if is_usable(facts, init) else None


def service(found: Callable[[str], Found], init: Init) -> Optional[Service]:
    """What is installed for this init system; None: nothing of ours."""
    return Service(init, _config(found, init)) if is_ours(found, init) else None


def _content(found: Callable[[str], Found], init: Init) -> Optional[bytes]:
    place = SERVICES[init]
    contents = (found(path).content for path in (place.path, *place.elsewhere))
    return next((content for content in contents if content is not None), None)


def _config(found: Callable[[str], Found], init: Init) -> str:
    own = defaults.variables(found).get("CONFIG", "")
    if own and init is not Init.LAUNCHD:
        return own
    known = marks.read(_content(found, init) or b"")
    return known.config if known else DEFAULT_CONFIG_PATH
