"""The sandbox's HTTP face: ngrok's API, with faults on demand, and the control API beside it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, cast

from ngrokd.sandbox.httpserver import BodyError, LoopbackHandler, LoopbackServer
from ngrokd.sandbox.messages import Delivery, Manner, Request
from ngrokd.sandbox.rules import Refusal
from ngrokd.sandbox.service import error_reply
from ngrokd.sandbox.stopping import StopSignal

WHITE_SPACE = b" " * (64 << 10)

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
        self._deliver(delivery, server.stopping)

    def _deliver(self, delivery: Delivery, stopping: StopSignal) -> None:
        reply, manner = delivery.reply, delivery.manner
        if manner in (Manner.DRIP, Manner.DRIP_HEAD):
            self._drip(delivery, stopping)
        elif (delivery.delay_s and stopping.wait(delivery.delay_s)) or manner is Manner.NOT:
            self.close_connection = True
        elif manner is Manner.ENDLESS:
            self.write_head(reply, "")
            self.wfile.write(reply.content)
            while not stopping.wait(0):
                self.wfile.write(WHITE_SPACE)
        else:
            self.write_reply(reply, len(reply.content) // 2 if manner is Manner.HALF else -1)

    def _drip(self, delivery: Delivery, stopping: StopSignal) -> None:
        wire, self.wfile = self.wfile, io.BytesIO()
        self.write_reply(delivery.reply)
        whole, self.wfile = self.wfile.getvalue(), wire
        at_once = 0 if delivery.manner is Manner.DRIP_HEAD else whole.index(b"\r\n\r\n") + 4
        wire.write(whole[:at_once])
        for at in range(at_once, len(whole)):
            if stopping.wait(delivery.delay_s):
                self.close_connection = True
                return
            wire.write(whole[at : at + 1])

    def __getattr__(self, name: str) -> Any:
        """Every method comes to one place: an unknown one is answered like an unknown path."""
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)
