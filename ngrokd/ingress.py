"""Keeps the forwarder pointed at the ingress: its addresses, its name, and whom to trust."""

from __future__ import annotations

import functools
import logging
import ssl
from pathlib import Path
from typing import Callable, Optional, Protocol

from ngrokd.cloud import trust
from ngrokd.cloud.identity import Identity
from ngrokd.config import DEFAULT_INGRESS, Config
from ngrokd.errors import NgrokdError
from ngrokd.messages import JobDone, JobKind
from ngrokd.model import Address, Ingress
from ngrokd.workers import Job

logger = logging.getLogger(__name__)


class Forwarder(Protocol):
    """The part of `forward.forwarder.Forwarder` that is needed here."""

    def set_ingress(self, ingress: Optional[Ingress]) -> None: ...


class IngressLink:
    """Owner: main thread. Names are resolved by `submit`; answers come to `handle`."""

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
        self._resolving = ""  # the endpoint being resolved
        self._resolved = ""  # the endpoint that `_addresses` belong to
        self._addresses: tuple[Address, ...] = ()
        self._context: Optional[ssl.SSLContext] = None
        self._trusted: Optional[trust.Fingerprint] = None  # what `_context` was made from
        self._current: Optional[Ingress] = None
        self.problem = ""

    @property
    def endpoint(self) -> str:
        """HOST:PORT: the configured one, else what the API named, else ngrok's default."""
        named = self._config.ingress_endpoint or self._identity.ingress_endpoint
        host, port = trust.split_endpoint(named or DEFAULT_INGRESS)  # the port may be left out
        return f"{host}:{port}"

    @property
    def host(self) -> str:
        """The name that the ingress's certificate must bear."""
        return self.endpoint.rpartition(":")[0]

    @property
    def answered(self) -> bool:
        """The current endpoint has been resolved, or that failed: connections can be judged."""
        return self._resolved == self.endpoint or (bool(self.problem) and not self._resolving)

    def configure(self, config: Config) -> None:
        """A new configuration; `refresh` acts on it."""
        self._config = config

    def refresh(self) -> None:
        """Resolves the name again, in the background; new connections take the answer."""
        self._point()
        if not self._resolving:
            self._resolving = self.endpoint
            job = functools.partial(trust.resolve_ingress, self._resolving)
            self._submit(JobKind.RESOLVE, job)

    def handle(self, done: JobDone) -> None:
        """Takes a finished resolution. A failed one keeps the addresses that worked."""
        endpoint, self._resolving = self._resolving, ""
        if endpoint != self.endpoint:
            self.refresh()
            return
        if done.error is not None:
            if not isinstance(done.error, NgrokdError):
                raise done.error
            self._complain(str(done.error))
            return
        assert isinstance(done.result, tuple)
        self._resolved, self._addresses = endpoint, done.result
        self._point()

    def _point(self) -> None:
        """Gives the forwarder what new connections need, if it changed."""
        if not self._identity.registered or self._resolved != self.endpoint:
            return
        server = self._config.server
        files = (
            Path(server.client_cert),
            Path(server.client_key),
            server.ca_file,
            self._config.state_folder,
        )
        try:
            seen = trust.fingerprint(*files)
            if self._context is None or seen != self._trusted:
                self._context = trust.ingress_context(*files)
                self._trusted = seen
        except NgrokdError as exc:
            self._complain(str(exc))
            return
        self.problem = ""
        ingress = Ingress(self.host, self._addresses, self._context)
        if ingress != self._current:
            self._current = ingress
            self._forwarder.set_ingress(ingress)
            logger.info(
                "ingress %s at %s", self.endpoint, ", ".join(str(at) for at in self._addresses)
            )

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            logger.warning("%s", problem)
        self.problem = problem
