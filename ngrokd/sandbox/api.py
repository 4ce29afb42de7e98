"""The sandbox's HTTP face: ngrok's API, with faults on demand, and the control API beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from ngrokd.sandbox.httpserver import BodyError, LoopbackHandler, LoopbackServer
from ngrokd.sandbox.messages import Delivery, Request
from ngrokd.sandbox.rules import Refusal
from ngrokd.sandbox.service import error_reply

Deliver = Callable[[Request], Delivery]


class ApiServer(LoopbackServer):
    """Asks `deliver` for each request, on the connection's thread."""

    def __init__(self, deliver: Deliver, port: int) -> None:
        self.deliver = deliver
        super().__init__(_Handler, port, "sandbox-api")


class _Handler(LoopbackHandler):
    """One connection. Owner: its thread."""

    def _answer(self) -> None:
        server = cast(ApiServer, self.server)
        path, _, query = self.path.partition("?")
        try:
            body = self.read_body()
        except BodyError as exc:
            self.write_reply(
                error_reply(
                    Refusal(
                        400,
                        "ERR_NGROK_212",
                        f"The server was unable to read the complete request body: {exc}.",
                    )
                )
            )
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        delivery = server.deliver(Request(self.command, path, query, headers, body))
        if delivery.delay_s and server.stopping.wait(delivery.delay_s):
            self.close_connection = True
            return
        if delivery.dropped:
            self.close_connection = True
            return
        self.write_reply(delivery.reply, delivery.cut_at)

    def __getattr__(self, name: str) -> Any:
        """Every method comes to one place: an unknown one is answered like an unknown path."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)
