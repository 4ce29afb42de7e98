"""A key that a person gives is tried at ngrok before it replaces another one."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Any, Callable, Optional

from ngrokd import logs
from ngrokd.cloud.apierrors import key_fault
from ngrokd.cloud.identity import Identity
from ngrokd.errors import ApiError, ApiRefused, ControlError, StateError
from ngrokd.messages import JobKind
from ngrokd.process.workers import Job
from ngrokd.upkeep.access import Access

logger = logging.getLogger(__name__)


class KeyCheck:
    """Owner: main thread. `taken` is called with each key that is in force from then on."""

    def __init__(
        self,
        identity: Identity,
        access: Access,
        submit: Callable[[JobKind, Job], None],
        let_in: Callable[[], None],
        taken: Callable[[], None],
    ) -> None:
        """`let_in` comes before a key is kept, and may raise StateError; `taken` after it."""
        self._identity = identity
        self._access = access
        self._submit = submit
        self._let_in = let_in
        self._taken = taken
        self._checking: Optional[tuple[str, Future[Any]]] = None
        self.refusal = ""  # the last one

    @property
    def busy(self) -> bool:
        """A key is being checked."""
        return self._checking is not None

    def ask(self, key: str, reply: Future[Any]) -> None:
        """Asks ngrok about the key; `reply` gets the outcome."""
        fault = key_fault(key)
        if fault:
            reply.set_exception(ControlError("bad_arguments", fault))
            return
        if self._checking is not None:
            reply.set_exception(ControlError("busy", "another API key is being checked"))
            return
        logs.keep_secret(key)
        self._checking = (key, reply)
        self._submit(JobKind.CHECK_KEY, self._access.api(key).check_key)

    def done(self, error: Optional[BaseException]) -> None:
        """Takes ngrok's answer. A key is kept unchecked only where there is none that works."""
        assert self._checking is not None
        (key, reply), self._checking = self._checking, None
        self._judge(key, reply, error)
        if not self._access.knows(key):
            logs.forget_secret(key)

    def _judge(self, key: str, reply: Future[Any], error: Optional[BaseException]) -> None:
        if isinstance(error, ApiRefused):
            self.refusal = str(error)
            logger.warning("an API key is not taken: %s", error)
            reply.set_exception(ControlError("refused", str(error)))
        elif error is not None and self._access.key:
            text = f"the key in use is kept, because the new one could not be checked: {error}"
            reply.set_exception(ControlError("unchecked", text))
        else:
            self._take(key, reply, error)

    def _take(self, key: str, reply: Future[Any], error: Optional[BaseException]) -> None:
        try:
            self._let_in()
            self._identity.save_api_key(key)
        except (StateError, ApiError) as exc:
            reply.set_exception(ControlError("failed", f"the API key could not be kept: {exc}"))
            return
        self._access.key = key
        self._taken()
        self.refusal = ""
        logger.info("a new API key was set")
        reply.set_result({"checked": error is None, "note": str(error) if error else ""})
