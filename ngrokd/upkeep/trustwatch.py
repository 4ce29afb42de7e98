"""Whether the ingress is there and trusted: looked at, told, and mended once at registration."""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Optional

from ngrokd.cloud import cafetch, distrust, ngrokca, probe
from ngrokd.cloud.distrust import Finding, Verdict
from ngrokd.cloud.ingressaddress import IngressAddress
from ngrokd.errors import NgrokdError
from ngrokd.messages import JobDone, JobKind
from ngrokd.model import Address
from ngrokd.process.workers import Job

logger = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 4.0, 60.0  # between looks while something is wrong
AWAY_LOOKS = 2  # in a row that do not reach the ingress: one may be lost by chance


@dataclass(frozen=True)
class Sight:
    """What is looked at, and with which trust: `make_context` reads the files anew."""

    ingress: IngressAddress
    addresses: tuple[Address, ...]
    make_context: Callable[[], ssl.SSLContext]
    knows_ngroks: bool  # ngrok's CA is installed


class TrustWatch:
    """Owner: main thread. Times are monotonic seconds.

    It looks when the ingress or the trust changed, when a connection refused the ingress or did not
    reach it, and again while something is wrong. One look is under way at a time.
    """

    def __init__(
        self,
        submit: Callable[[JobKind, Job], None],
        verdicts: Callable[[], tuple[int, int, int]],
        fetch: Callable[[], bytes] = lambda: cafetch.fetch(ngrokca.URL),
    ) -> None:
        """`verdicts` of the forwarder: how many handshakes verified the ingress, how many refused
        it, and how many never came about."""
        self._submit = submit
        self._verdicts = verdicts
        self._fetch = fetch
        self._sight: Optional[Sight] = None
        self._due = math.inf
        self._began = -math.inf  # the last look
        self._pause_s = 0.0
        self._change = 0  # counts what makes an older look worthless
        self._looking: Optional[int] = None  # the change that the look under way is of
        self._counted = (0, 0, 0)
        self._away = 0  # looks in a row that did not reach it
        self._may_fetch = False
        self._fetching = False
        self._logged = ""
        self._asked: list[tuple[Future[Any], dict[str, object]]] = []
        self.problem = ""

    def look_at(self, sight: Sight) -> None:
        """The ingress or the trust is another one: the next `tick` looks."""
        if self._sight is not None and self._sight.ingress != sight.ingress:
            self._clear()  # it was of another one
        self._sight = sight
        self._begin_anew()

    def forget(self) -> None:
        """No ingress is to be connected to."""
        self._sight = None
        self._change += 1
        self._clear()
        asked, self._asked = self._asked, []
        for reply, answer in asked:
            reply.set_result({**answer, "ingress": "unknown"})

    def may_fetch_once(self) -> None:
        """This machine has just been registered: ngrok's CA may be fetched if it is missing."""
        self._may_fetch = True
        if self._sight is not None:
            self._begin_anew()

    def look_again(self) -> None:
        """The clock or the network is another one: what was found wrong may not be any more."""
        if self.problem or self._away:
            self._begin_anew()

    def answer(self, reply: Future[Any], answer: dict[str, object]) -> None:
        """Completes an answer with what the next look finds, under `ingress`."""
        if self._sight is None:
            reply.set_result({**answer, "ingress": "unknown"})
            return
        self._asked.append((reply, answer))
        self._begin_anew()

    def tick(self, now: float) -> None:
        """Begins a look that is due."""
        before, self._counted = self._counted, self._verdicts()
        verified, refused, missed = (self._counted[n] > before[n] for n in range(3))
        was_problem = bool(self.problem)  # then those that fail beside a good one are older
        if verified and not refused and (was_problem or self._away) and not self._asked:
            self._good()
            self._due = math.inf
        if (refused or missed) and not was_problem:
            self._due = min(self._due, max(now, self._began + FIRST_PAUSE_S))
        if self._sight is not None and self._looking is None and now >= self._due:
            self._due, self._looking, self._began = math.inf, self._change, now
            sight = self._sight
            self._submit(
                JobKind.LOOK,
                lambda: probe.look(sight.make_context, sight.ingress.host, sight.addresses),
            )

    def found(self, done: JobDone, now: float, wants_ngroks: Callable[[], bool]) -> None:
        """Takes what a look found. `wants_ngroks`: whether ngrok's CA is what would be missing."""
        change, self._looking = self._looking, None
        if change != self._change or self._sight is None:
            return  # the look that is due sees what is there now
        finding = _finding(done)
        asked, self._asked = self._asked, []
        for reply, answer in asked:
            reply.set_result({**answer, "ingress": finding.verdict.value})
        if finding.verdict is Verdict.TRUSTED:
            self._good()  # and another look is due if a connection failed since this one began
            return
        self._pause_s = min(2 * self._pause_s or FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._due = now + self._pause_s
        if not finding.distrusts:
            self._not_reached(finding)
            return
        self._away = 0
        sight = self._sight
        self.problem = distrust.words(finding, sight.ingress, sight.knows_ngroks)
        may_fetch, self._may_fetch = self._may_fetch, False
        if may_fetch and finding.verdict is Verdict.UNTRUSTED and wants_ngroks():
            self._fetching = True
            logger.info("ingress not trusted yet: ngrok's CA is fetched from %s", ngrokca.URL)
            self._submit(JobKind.FETCH_CA, self._fetch)
        elif not self._fetching:
            self._complain()

    def fetched(self, done: JobDone) -> Optional[bytes]:
        """Takes what was fetched, which nobody has checked. None: it failed."""
        self._fetching = False
        if done.error is not None:
            if not isinstance(done.error, NgrokdError):
                raise done.error
            self.not_mended(str(done.error))
            return None
        assert isinstance(done.result, bytes)
        return done.result

    def not_mended(self, why: str) -> None:
        """ngrok's CA could not be had, or not be installed."""
        logger.warning("ngrok's CA was not installed: %s; `ngrokctl trust` tries again", why)
        self._complain()

    def _begin_anew(self) -> None:
        self._change += 1
        self._due, self._pause_s = 0.0, 0.0

    def _not_reached(self, finding: Finding) -> None:
        """Told when it is so twice, and once, however the reason changes."""
        assert self._sight is not None
        logger.debug("nothing is known of the ingress's certificate: %s", finding.why)
        if finding.verdict is Verdict.UNREACHABLE:
            self._away += 1
        if self._away < AWAY_LOOKS or finding.verdict is Verdict.UNKNOWN:
            return
        self.problem = distrust.words(finding, self._sight.ingress)
        if self._away == AWAY_LOOKS:
            self._complain()
        self._logged = self.problem

    def _good(self) -> None:
        self._may_fetch = False
        if self._logged and self._sight is not None:
            what = "can be reached now" if self._away >= AWAY_LOOKS else "is trusted now"
            logger.info("the ingress %s %s", self._sight.ingress, what)
        self._clear()
        self._pause_s = 0.0

    def _clear(self) -> None:
        self.problem = self._logged = ""
        self._away = 0

    def _complain(self) -> None:
        """Once for each problem."""
        if self.problem and self.problem != self._logged:
            logger.warning("%s", self.problem)
        self._logged = self.problem


def _finding(done: JobDone) -> Finding:
    if isinstance(done.error, NgrokdError):  # the files of the trust; who reads them says so, too
        return Finding(Verdict.UNKNOWN, str(done.error))
    if done.error is not None:
        raise done.error
    assert isinstance(done.result, Finding)
    return done.result
