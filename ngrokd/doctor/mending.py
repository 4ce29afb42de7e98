"""The commands of mends, as they have to be typed for the daemon that was looked at. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ngrokd.doctor.daemon import NEEDS_ROOT
from ngrokd.doctor.finding import Finding

# Those that ask the daemon; the others are the same for each.
_ASKING = re.compile(r"\bngrokctl (?=refresh|rotate-cert|set-api-key|status|list|trust)")
_STEERING = re.compile(r"\bngrokd (start|restart|cleanup)\b")


@dataclass(frozen=True)
class Typed:
    """What was typed. `again`: the same command, for sudo; "": an option that was not given."""

    again: str
    socket: str = ""
    config: str = ""


def as_typed(findings: Sequence[Finding], typed: Typed) -> list[Finding]:
    """The same findings, with the options by which their commands reach the same daemon."""
    return [replace(each, mend=_mend(each.mend, typed)) for each in findings]


def _mend(mend: str, typed: Typed) -> str:
    if mend == NEEDS_ROOT:
        return f"sudo {typed.again}"
    if typed.socket:
        mend = _ASKING.sub(lambda _: f"ngrokctl --socket {shlex.quote(typed.socket)} ", mend)
    if typed.config:
        mend = _STEERING.sub(lambda m: f"ngrokd {m[1]} --config {shlex.quote(typed.config)}", mend)
    return mend
