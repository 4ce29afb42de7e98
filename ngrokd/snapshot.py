"""The one frozen `Status` that other threads see, taken from what the main thread owns."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any, Optional

from ngrokd import __version__
from ngrokd.cloud.identity import Identity
from ngrokd.control import report
from ngrokd.control.events import ENDPOINTS_FAILED
from ngrokd.forward.ledger import Snapshot
from ngrokd.healthpages import HealthPages
from ngrokd.model import State, Status
from ngrokd.reconcile.reconciler import Reconciler
from ngrokd.reloader import Reloader
from ngrokd.upkeep.ingress import IngressLink
from ngrokd.upkeep.poller import Poller
from ngrokd.upkeep.shadows import Shadows


@dataclass
class Board:
    """Owner: main thread. `standing` are problems found at start that stay until the end."""

    identity: Identity
    poller: Poller
    reconciler: Reconciler
    ingress: IngressLink
    pages: HealthPages
    reloader: Reloader
    shadows: Shadows
    standing: list[str] = field(default_factory=list)
    recalled: str = ""  # which old endpoints are served until ngrok answers; "": none
    started_at: float = field(default_factory=time.time)  # Unix seconds

    def snapshot(self, poll_applied: bool, state: Optional[State] = None) -> Status:
        """What is true now; `state` overrides what follows from the parts."""
        problems = self._problems()
        wait = self.poller.next_poll(time.monotonic())
        return Status(
            state=state or self._state(poll_applied, problems),
            operator_id=self.identity.operator_id,
            registration=self.poller.registration.value,
            ingress_endpoint=self.ingress.endpoint,
            problems=(*problems, *self.reloader.problems),  # which disturb no traffic
            notes=self.reconciler.notes,
            certificate_not_after=self.identity.certificate_not_after,
            certificates_installed=self.identity.certificates_installed,
            api_last_success=self.poller.last_success,
            api_last_error=self.poller.last_error,
            poll_problem=self.poller.poll_problem,
            next_poll=None if wait is None else time.time() + wait,
            interface=self.reconciler.interface,
            endpoints=self.reconciler.endpoints,
            hosts=self.reconciler.hosts,
            hosts_writes=self.reconciler.hosts_writes,
            started_at=self.started_at,
            api_requests=tuple(sorted(self.poller.requests.items())),
            shadowed=self.shadows.names,
            config=self.reloader.told,
        )

    def _problems(self) -> tuple[str, ...]:
        failed = self.reconciler.failed
        return (
            *self.standing,
            *self._certificate_problem(),
            *self.poller.problems,
            *([self.recalled] if self.recalled else []),
            *self.ingress.problems,
            *self.reconciler.problems,
            *([self.pages.problem] if self.pages.problem else []),
            *([f"{ENDPOINTS_FAILED}{failed}; `ngrokctl list` says why"] if failed else []),
        )

    def _certificate_problem(self) -> tuple[str, ...]:
        begin, end = self.identity.certificate_not_before, self.identity.certificate_not_after
        now = time.time()
        if begin is not None and now < begin:
            return (
                "this machine's clock is before the beginning of ngrokd's certificate, so nothing"
                " can be connected to: set the clock, see `date`",
            )
        if end is None or end > now:
            return ()
        return ("the certificate has ended, so ngrok refuses connections: a new one is asked for",)

    def _state(self, poll_applied: bool, problems: tuple[str, ...]) -> State:
        if not self.poller.has_key:
            return State.WAITING_FOR_API_KEY
        if not poll_applied or not self.identity.registered:
            return State.REGISTERING
        return State.DEGRADED if problems else State.READY


def status_json(status: Status, seen: Snapshot, verdict: report.Verdict) -> dict[str, Any]:
    """Any thread: `status` with what the forwarder counts, as it is answered and written."""
    traffic = report.Traffic(seen.counters, seen.warm, seen.forgotten)
    told = report.status_json(status, traffic, __version__, os.getpid(), time.time())
    return {**told, **report.verdict_json(verdict)}
