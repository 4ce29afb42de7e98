"""Keeps the forwarder pointed at the ingress: its addresses, its name, and whom to trust."""

from __future__ import annotations

import functools
import logging
import ssl
import time
from pathlib import Path
from typing import Callable, Optional, Protocol

from ngrokd.cloud import cafile, ingressaddress, ngrokca, transport, trust
from ngrokd.cloud.identity import Identity
from ngrokd.cloud.ingressaddress import IngressAddress
from ngrokd.config import DEFAULT_INGRESS, Config
from ngrokd.errors import ControlError, NgrokdError, StateError
from ngrokd.messages import JobDone, JobKind, Trust
from ngrokd.model import Address, Ingress
from ngrokd.process.workers import Job
from ngrokd.upkeep.trustwatch import Sight, TrustWatch

logger = logging.getLogger(__name__)

JOBS = frozenset({JobKind.RESOLVE, JobKind.LOOK, JobKind.FETCH_CA})
LOOK_S = 2.0  # between looks at the files of the trust, and at what the forwarder met
NGROKS_DOMAINS = (".ngrok.io", ".ngrok.com")


class Forwarder(Protocol):
    """The part of `forward.forwarder.Forwarder` that is needed here."""

    def set_ingress(self, ingress: Optional[Ingress]) -> None: ...

    def verdicts(self) -> tuple[int, int, int]: ...


class IngressLink:
    """Owner: main thread. What may wait is done by `submit`; answers come to `handle`."""

    def __init__(
        self,
        config: Config,
        identity: Identity,
        forwarder: Forwarder,
        submit: Callable[[JobKind, Job], None],
    ) -> None:
        self._config = config
        self._identity = identity
        self._forwarder = forwarder
        self._submit = submit
        self._watch = TrustWatch(submit, forwarder.verdicts)
        self._next_look = 0.0
        self._resolving: Optional[IngressAddress] = None
        self._resolved: Optional[IngressAddress] = None  # what `_addresses` belong to
        self._addresses: tuple[Address, ...] = ()
        self._context: Optional[ssl.SSLContext] = None
        self._files: Optional[trust.Fingerprint] = None  # what `_context` was made from
        self._useless: Optional[trust.Fingerprint] = None  # what none could be made from
        self._current: Optional[Ingress] = None
        self._unresolved = ""
        self._unusable = ""

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps connections from the ingress, for a person."""
        every = (self._unresolved, self._unusable, self._watch.problem)
        return tuple(problem for problem in every if problem)

    @property
    def wrong(self) -> bool:
        """It cannot be reached, or is not to be connected to."""
        return bool(self._watch.problem)

    @property
    def endpoint(self) -> str:
        """HOST:PORT: the configured one, else what the API named, else ngrok's default."""
        return str(self._address)

    @property
    def host(self) -> str:
        """The name that the ingress's certificate must bear, or its IP address."""
        return self._address.host

    @property
    def _address(self) -> IngressAddress:
        named = self._identity.ingress_endpoint
        told = named if ingressaddress.is_ingress_address(named) else ""
        return ingressaddress.parse(self._config.ingress_endpoint or told or DEFAULT_INGRESS)

    @property
    def answered(self) -> bool:
        """The current endpoint has been resolved, or that failed: connections can be judged."""
        failed = bool(self._unresolved) and self._resolving is None
        return self._resolved == self._address or failed

    def configure(self, config: Config) -> None:
        """A new configuration; `refresh` acts on it."""
        self._config = config

    def refresh(self) -> None:
        """Resolves the name again, in the background; new connections take the answer."""
        self._useless = None
        self._point()
        if self._resolving is None:
            self._resolving = self._address
            self._submit(
                JobKind.RESOLVE, functools.partial(trust.resolve_ingress, self._resolving)
            )

    def awake(self) -> None:
        """The machine slept, its clock was set, or a network came: `refresh`, and a new look."""
        self._watch.look_again()
        self.refresh()

    def tick(self, now: float) -> None:
        """Takes up files that have changed, and what the forwarder met."""
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            self._point()
            self._watch.tick(now)

    def wait_s(self, now: float) -> float:
        """Until `tick` has something to do."""
        return max(0.0, self._next_look - now)

    def handle(self, done: JobDone, now: float) -> None:
        """Takes a finished job, one of `JOBS`."""
        if done.kind is JobKind.RESOLVE:
            self._take_addresses(done)
        elif done.kind is JobKind.LOOK:
            self._watch.found(done, now, self._wants_ngroks_ca)
            self._next_look = 0.0
        else:
            self._take_ca(self._watch.fetched(done))

    def enrolled(self) -> None:
        """This machine has got a certificate of ngrok's: now is when a CA may be fetched."""
        self._watch.may_fetch_once()

    def install(self, message: Trust) -> None:
        """Trusts a CA from now on; the answer says what the ingress is worth then."""
        try:
            answer = self._install(message.pem.encode(), message.sha256)
        except ValueError as exc:
            message.reply.set_exception(ControlError("refused", f"what was given {exc}"))
        except StateError as exc:
            message.reply.set_exception(exc)
        else:
            self._watch.answer(message.reply, answer)

    def _take_addresses(self, done: JobDone) -> None:
        """A failed resolution keeps the addresses that worked."""
        address, self._resolving = self._resolving, None
        if address != self._address:
            self.refresh()
            return
        if done.error is not None:
            if not isinstance(done.error, NgrokdError):
                raise done.error
            self._unresolved = _told(str(done.error), self._unresolved)
            return
        assert isinstance(done.result, tuple)
        self._resolved, self._addresses, self._unresolved = address, done.result, ""
        self._point()

    def _take_ca(self, content: Optional[bytes]) -> None:
        if content is None:
            return
        try:
            self._install(content, ngrokca.SHA256)
        except (ValueError, StateError) as exc:
            what = "what was fetched " if isinstance(exc, ValueError) else ""
            self._watch.not_mended(f"{what}{exc}")

    def _install(self, content: bytes, sha256: str) -> dict[str, object]:
        anchor = ngrokca.anchor(content, sha256, time.time())
        placed = cafile.place(self._config.state_folder, anchor)
        if placed.is_new:
            logger.info(
                "the CA %s, SHA-256 %s, is trusted now: %s",
                anchor.facts.subject,
                anchor.facts.sha256,
                placed.path,
            )
        self._next_look = 0.0
        return {"installed": placed.is_new, "path": str(placed.path), "kept": placed.kept}

    def _wants_ngroks_ca(self) -> bool:
        """The ingress is ngrok's own, and nobody has decided whom to trust."""
        named = self._config.ingress_endpoint
        is_ngroks = not named or self.host.endswith(NGROKS_DOMAINS)
        away = not transport.is_loopback(self._config.api.url)
        try:
            return away and is_ngroks and not cafile.is_there(self._config.state_folder)
        except StateError:
            return False  # whatever is there, it is not to be replaced

    def _point(self) -> None:
        """Gives the forwarder what new connections need, if it changed."""
        if not self._identity.registered:
            self._current = None
            self._watch.forget()
            return
        if self._resolved != self._address:
            return
        server = self._config.server
        files = (
            Path(server.client_cert),
            Path(server.client_key),
            server.ca_file,
            self._config.state_folder,
        )
        seen = trust.fingerprint(*files)
        if seen == self._useless:
            return
        try:
            if self._context is None or seen != self._files:
                self._context = trust.ingress_context(*files)
                self._files = seen
        except NgrokdError as exc:
            self._useless = seen
            self._unusable = _told(str(exc), self._unusable)
            return
        self._useless, self._unusable = None, ""
        ingress = Ingress(self.host, self._addresses, self._context)
        if ingress != self._current:
            before, self._current = self._current, ingress
            self._forwarder.set_ingress(ingress)
            make_context = functools.partial(trust.ingress_context, *files)
            knows = cafile.holds(self._config.state_folder, ngrokca.SHA256)
            self._watch.look_at(Sight(self._address, self._addresses, make_context, knows))
            self._next_look = 0.0
            if before and (before.server_name, before.addresses) == (self.host, self._addresses):
                logger.info("new connections take our certificate and the trust anchors anew")
            else:
                shown = ", ".join(str(at) for at in self._addresses)
                logger.info("ingress %s at %s", self.endpoint, shown)


def _told(problem: str, before: str) -> str:
    """Says in the log what was not said before."""
    if problem != before:
        logger.warning("%s", problem)
    return problem
