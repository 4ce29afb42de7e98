"""What the sandbox's servers ask of its books: one method per question, for any thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from ngrokd.model import Target
from ngrokd.sandbox import lies
from ngrokd.sandbox.books import Books, Route, Settings
from ngrokd.sandbox.clerk import Clerk
from ngrokd.sandbox.control import ControlApi
from ngrokd.sandbox.faults import ApiFault, IngressFault
from ngrokd.sandbox.messages import Delivery, Manner, Reply, Request, json_reply
from ngrokd.sandbox.operators import rfc3339
from ngrokd.sandbox.rules import Refusal
from ngrokd.sandbox.service import Service, error_reply, operation_header

CONTROL_PREFIX = "/sandbox"
SHOWN_BODY_BYTES = 4096  # of a request, in the log
PORTAL = (
    b"<!DOCTYPE html>\n<html><head><title>Welcome to the hotel</title></head>"
    b"<body>Please accept our terms to go online.</body></html>\n"
)
GARBAGE = b'\x00\xff\x1f\x8b{"endpoints": [[[\xc3\x28'
RATE_LIMIT_CODES = {429: "ERR_NGROK_226"}

MANNERS = {
    "truncated": Manner.HALF,
    "drop": Manner.NOT,
    "drip": Manner.DRIP,
    "drip_head": Manner.DRIP_HEAD,
    "endless": Manner.ENDLESS,
}
# What is asked for is done; only the answer is not as it should be.
TRUE_KINDS = ("delay", "truncated", "drip", "drip_head", "endless", "certificate", "replace")


class Desk:
    """Carries questions to the clerk. Any thread but the clerk's own.

    `on_change` is called on the asking thread after each control request that may change a fault.
    """

    def __init__(self, clerk: Clerk, books: Books, service: Service, control: ControlApi) -> None:
        self._clerk = clerk
        self._books = books
        self._service = service
        self._control = control
        self.on_change: Callable[[], None] = lambda: None  # set once, before the servers start

    # For the API

    def deliver(self, request: Request) -> Delivery:
        """How a request is to be answered."""
        if request.path == CONTROL_PREFIX or request.path.startswith(f"{CONTROL_PREFIX}/"):
            reply = self._clerk.ask(self._control.answer, request)
            if request.method not in ("GET", "HEAD"):
                self.on_change()
            return Delivery(reply)
        return self._clerk.ask(self._deliver_api, request)

    def _deliver_api(self, request: Request) -> Delivery:
        fault = self._books.faults.take_api(request)
        if fault is None:
            delivery = Delivery(self._service.answer(request))
        else:
            manner = MANNERS.get(fault.kind, Manner.WHOLE)
            delivery = Delivery(self._faulty_answer(fault, request), fault.delay_s, manner)
        self._books.requests.append(self._seen(request, delivery, fault))
        return delivery

    def _faulty_answer(self, fault: ApiFault, request: Request) -> Reply:
        if fault.kind not in TRUE_KINDS:
            self._service.count_call()
            return faulty_reply(fault)
        reply = self._service.answer(request)
        if fault.kind == "certificate":
            return self._service.falsified(reply, fault.identity)
        if fault.kind == "replace":
            return lies.replaced(reply, fault.fields, fault.omit)
        return reply

    def _seen(
        self, request: Request, delivery: Delivery, fault: Optional[ApiFault]
    ) -> dict[str, object]:
        now = self._books.now()
        headers = dict(request.headers)
        if "authorization" in headers:
            headers["authorization"] = "(not shown)"
        return {
            "time": rfc3339(now),
            "at": now,
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "headers": headers,
            "body": request.body[:SHOWN_BODY_BYTES].decode("utf-8", "replace"),
            "status": None if delivery.manner is Manner.NOT else delivery.reply.status,
            "operation_id": dict(delivery.reply.headers).get("ngrok-operation-id", ""),
            "fault": fault.kind if fault else "",
        }

    # For the ingress

    def settings(self) -> Settings:
        """Those in force."""
        return self._clerk.ask(lambda: self._books.settings)

    def refusing(self) -> bool:
        """The ingress's port is to be closed."""
        return self._clerk.ask(self._books.faults.refusing)

    def ingress_fault(self, stage: str, target: Optional[Target] = None) -> Optional[IngressFault]:
        """What to play on this connection at this stage."""
        return self._clerk.ask(self._books.faults.take_ingress, stage, target)

    def operator_exists(self, identifier: str) -> bool:
        """It is registered."""
        return self._clerk.ask(lambda: identifier in self._books.operators)

    def route(self, target: Target) -> Optional[Route]:
        """Where a connection for that host and port goes."""
        return self._clerk.ask(self._books.route, target)

    def record_connection(self, number: int, entry: dict[str, object]) -> int:
        """For the log of connections: a new entry (number 0) or a later word on one; its number."""
        return self._clerk.ask(self._books.record_connection, number, entry)


def faulty_reply(fault: ApiFault) -> Reply:
    """The answer that a fault puts in the place of the true one."""
    extra = (("Retry-After", fault.retry_after),) if fault.retry_after else ()
    if fault.kind == "status":
        status = fault.status or 500
        code = fault.error_code or RATE_LIMIT_CODES.get(status, "")
        message = fault.message or f"The sandbox was asked to answer {status}."
        return error_reply(Refusal(status, code, message), *extra)
    headers = (operation_header(), *extra)
    if fault.kind == "redirect":
        return Reply(fault.status or 302, headers=(("Location", fault.location), *headers))
    status = fault.status or 200
    if fault.kind == "html":
        return Reply(status, PORTAL, "text/html; charset=utf-8", headers)
    if fault.kind == "garbage":
        return Reply(status, GARBAGE, headers=headers)
    if fault.kind == "body":
        content_type = fault.content_type or "application/json"
        return Reply(status, fault.body.encode("utf-8", "surrogatepass"), content_type, headers)
    return json_reply(status, {}, *headers)
