"""Judges whether a daemon runs and is well, and whether both programs are of one version. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from ngrokd.control.alive import is_healthy
from ngrokd.control.answers import text, texts
from ngrokd.doctor.finding import Finding, failed, ok, skipped, warning

START = "ngrokd start"
RESTART = "ngrokd restart"
NEEDS_ROOT = "sudo ngrokctl doctor"

_SHOWN = 5  # reasons; `ngrokctl list` has all


@dataclass(frozen=True)
class Asked:
    """What the daemon answered. `status` None: nothing, and `why`."""

    socket_path: str
    status: Optional[dict[str, object]] = None
    endpoints: tuple[dict[str, object], ...] = ()
    why: str = ""
    is_forbidden: bool = False  # a daemon is there, and does not talk to this user
    is_stuck: bool = False  # something is there, and gives no answer of use
    log: str = field(default="")  # where it may have said why it ended

    @property
    def lives(self) -> bool:
        """It may well be one that we may not ask."""
        return self.status is not None or self.is_forbidden or self.is_stuck


def of_daemon(asked: Asked) -> list[Finding]:
    """Whether it runs, and what it says is wrong."""
    if asked.status is None:
        if asked.is_forbidden:
            return [skipped("daemon", asked.why, NEEDS_ROOT)]
        if asked.is_stuck:
            return [failed("daemon", f"it runs, and cannot be asked: {asked.why}", RESTART)]
        said = f"; {asked.log} may say why it ended" if asked.log else ""
        return [failed("daemon", f"{asked.why}{said}", START)]
    state = text(asked.status, "state")
    who = f"ngrokd {text(asked.status, 'version')}, pid {text(asked.status, 'pid')}, {state}"
    if not is_healthy(asked.status):
        return [failed("daemon", f"{who}: one of its threads stands still", RESTART)]
    if state == "waiting_for_api_key":
        return [failed("daemon", f"{who}: it has no API key", "ngrokctl set-api-key")]
    if state == "ready":
        return [ok("daemon", who)]
    told = "".join(f"\n{problem}" for problem in texts(asked.status, "problems"))
    how = "ngrokctl status shows how it goes on"
    return [warning("daemon", f"{who}{told}", "as each line says" if told else how)]


def of_versions(asked: Asked, ours: str, python: str, openssl: str) -> Finding:
    """Of ngrokctl and of the daemon."""
    shown = f"ngrokctl {ours}, Python {python}, {openssl}"
    theirs = text(asked.status, "version")
    if asked.status is not None and theirs != ours:
        return warning("versions", f"{shown}; the daemon is {theirs}", RESTART)
    return ok("versions", shown)


def of_failures(asked: Asked) -> Finding:
    """What became of the endpoints."""
    if asked.status is None:
        return skipped("endpoints", "no daemon tells")
    bad = [each for each in asked.endpoints if text(each, "state") == "failed"]
    good = sum(text(each, "state") == "open" for each in asked.endpoints)
    if not bad:
        return ok("endpoints", f"{good} open")
    reasons = dict.fromkeys(text(each, "reason") for each in bad)
    told = "".join(f"\n{reason}" for reason in list(reasons)[:_SHOWN])
    more = f"\nand {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    what = f"{good} open, {len(bad)} failed{told}{more}"
    return failed("endpoints", what, "as each line says; ngrokctl list names them")


