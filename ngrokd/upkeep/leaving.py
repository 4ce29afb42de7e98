"""Takes this machine out of ngrok at a person's wish: the operator there, then who we are here."""

from __future__ import annotations

import functools
import logging
import math
from concurrent.futures import Future
from typing import Any, Callable, Optional

from ngrokd.cloud import registrar
from ngrokd.cloud.identity import Identity
from ngrokd.errors import ApiError, ControlError, StateError
from ngrokd.messages import JobKind
from ngrokd.process.workers import Job
from ngrokd.upkeep.access import Access

logger = logging.getLogger(__name__)

LEFT = (
    "this machine was taken out of ngrok with `ngrokctl deregister`; `ngrokctl set-api-key` takes"
    " it in again"
)
CUT_SHORT = "a deregistration was cut short: `ngrokctl deregister` again finishes it"
UNMARKED = (
    "a deregistration failed, and the state folder cannot be written: a restart would take this"
    " machine for one that is out"
)
RETRY_S = 10.0


class Leaving:
    """Owner: main thread."""

    def __init__(
        self, identity: Identity, access: Access, submit: Callable[[JobKind, Job], None]
    ) -> None:
        self._identity = identity
        self._access = access
        self._submit = submit
        self._reply: Optional[Future[Any]] = None
        self._was_out = False  # before `begin`
        self._stays = False  # the mark says that we left, and that is not true

    @property
    def under_way(self) -> bool:
        """ngrok is being asked."""
        return self._reply is not None

    def problems(self) -> tuple[str, ...]:
        """What is to be known of a machine that is out, or was to be."""
        if self._stays:
            return (UNMARKED,)
        if not self._identity.left or (self.under_way and not self._was_out):
            return ()  # the mark alone is no trouble: ngrok's answer says what comes of it
        return (LEFT, *([CUT_SHORT] if self._identity.operator_id else []))

    def begin(self, reply: Future[Any], busy: bool) -> None:
        """Asks ngrok to delete the operator; `reply` gets its id once all is done.

        `busy`: something else about it is being asked.
        """
        if busy or self.under_way:
            reply.set_exception(ControlError("busy", "ngrok is being asked: try again in a moment"))
            return
        operator_id = self._identity.operator_id
        was_out = self._identity.left and not self._stays
        try:
            marked = self._identity.installation_id
            self._identity.mark_left(True)  # first: a crash must not bring it back
        except StateError as exc:
            reply.set_exception(ControlError("failed", f"nothing was changed: {exc}"))
            return
        self._reply, self._was_out, self._stays = reply, was_out, False
        job = functools.partial(registrar.leave, self._access.api(), operator_id, marked)
        self._submit(JobKind.LEAVE, job)

    def done(self, result: object, error: Optional[BaseException]) -> bool:
        """Takes ngrok's answer; whether this machine is out. Then `answer` is to be called."""
        assert self._reply is not None
        try:
            if error is not None:
                self._stays = not self._was_out
                self.tick()
                raise error
            self._identity.forget()
        except (ApiError, StateError) as exc:
            # Nobody tries it again but the person who is told.
            why = str(exc).removesuffix("; it is tried again")
            text = f"this machine is still registered: {why}; `ngrokctl deregister` tries again"
            reply, self._reply = self._reply, None
            reply.set_exception(ControlError("failed", text))
            return False
        self._access.key = ""
        gone = f"operator {result} is deleted at ngrok" if result else "there was no operator"
        logger.warning("%s: %s", gone, LEFT)
        return True

    def answer(self, result: object) -> None:
        """Tells who asked. Names and listeners go with it: all else is to be true by then."""
        assert self._reply is not None
        reply, self._reply = self._reply, None
        reply.set_result({"operator_id": result})

    @property
    def wait_s(self) -> float:
        """Until `tick` has something to do."""
        return RETRY_S if self._stays else math.inf

    def tick(self) -> None:
        """Takes back the mark of a leave-taking that failed, as soon as the folder lets it."""
        if not self._stays:
            return
        try:
            self._identity.mark_left(False)
        except StateError as exc:
            logger.debug("%s", exc)
        else:
            self._stays = False
