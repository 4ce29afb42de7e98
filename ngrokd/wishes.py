"""What people ask for: each wish is begun at once, and answered when it has come true."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Callable

from ngrokd.awaited import Awaited
from ngrokd.cloud.identity import Identity
from ngrokd.errors import ControlError
from ngrokd.messages import Deregister, Refresh, RotateCertificate, SetApiKey
from ngrokd.upkeep.leaving import LEFT
from ngrokd.upkeep.poller import Poller

LONGEST_WAIT_S = 40.0  # of a refresh: one API request may take 30 s
PATIENCE_S = 15.0  # of somebody who has given a key, for the endpoints that it brings


class Wishes:
    """Owner: main thread, which also runs the callbacks of the futures."""

    def __init__(
        self, poller: Poller, identity: Identity, awaited: Awaited, withdraw: Callable[[], None]
    ) -> None:
        """`withdraw` takes all names and listeners away."""
        self._poller = poller
        self._identity = identity
        self._awaited = awaited
        self._withdraw = withdraw

    def deeds(self) -> Mapping[type, Callable[[Any], None]]:
        """What each message asks for."""
        return {
            SetApiKey: self.set_key,
            Refresh: self.refresh,
            RotateCertificate: self.rotate_certificate,
            Deregister: self.leave,
        }

    def refresh(self, message: Refresh) -> None:
        """A poll, once it has been applied."""
        if not self._poller.has_key:
            waits = "there is no API key to ask ngrok with: `ngrokctl set-api-key`"
            text = LEFT if self._identity.left else waits
            message.reply.set_exception(ControlError("no_api_key", text))
            return
        until = LONGEST_WAIT_S + time.monotonic()
        self._awaited.add(message.reply, self._poller.polling, until)
        self._poller.hasten()

    def rotate_certificate(self, message: RotateCertificate) -> None:
        """A new certificate, once it is in use."""
        if not self._identity.registered:
            text = "not registered with ngrok now; `ngrokctl status` says why"
            message.reply.set_exception(ControlError("not_registered", text))
            return
        self._poller.rotate_certificate(message.reply)

    def leave(self, message: Deregister) -> None:
        """This machine out of ngrok, once names and listeners are gone."""
        left: Future[Any] = Future()
        left.add_done_callback(lambda done: self._left(done, message.reply))
        self._poller.leave(left)

    def set_key(self, message: SetApiKey) -> None:
        """A key, once the endpoints are there, so that a `list` right after it shows them."""
        checked: Future[Any] = Future()
        checked.add_done_callback(lambda done: self._key_checked(done, message.reply))
        self._poller.set_key(message.key, checked)

    def _left(self, left: Future[Any], reply: Future[Any]) -> None:
        error = left.exception()
        if error is not None:
            reply.set_exception(error)
            return
        self._withdraw()
        reply.set_result(left.result())

    def _key_checked(self, checked: Future[Any], reply: Future[Any]) -> None:
        error = checked.exception()
        if error is not None:
            reply.set_exception(error)
            return
        polled: Future[Any] = Future()
        polled.add_done_callback(lambda done: reply.set_result(_key_answer(checked, done)))
        self._awaited.add(polled, self._poller.polling, PATIENCE_S + time.monotonic())


def _key_answer(checked: Future[Any], polled: Future[Any]) -> dict[str, Any]:
    """The key is in force whatever came of the poll."""
    answer: dict[str, Any] = dict(checked.result())
    error = polled.exception()
    if error is None:
        answer["endpoints"] = polled.result()["endpoints"]
    elif not answer["note"]:
        answer["note"] = str(error)
    return answer
