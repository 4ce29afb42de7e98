"""ngrok's side of the API: `/kubernetes_operators` and their bound endpoints."""

from __future__ import annotations

import bisect
import json
import secrets
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Optional

from ngrokd.sandbox import endpoints, operators, rules
from ngrokd.sandbox.books import Books
from ngrokd.sandbox.ca import Authority, CsrRefused, Issued
from ngrokd.sandbox.messages import Reply, Request, json_reply
from ngrokd.sandbox.operators import Operator, rfc3339
from ngrokd.sandbox.rules import Page, Refusal
from ngrokd.sandbox.selectors import compile_selector, selects

PAGING = ("limit", "before_id")
OPERATOR_PREFIX, ENDPOINT_PREFIX = "k8sop_", "ep_"
RATE_WINDOW_S = 60


class Service:
    """Answers API requests from the books. Owner: the clerk."""

    def __init__(self, books: Books, authority: Authority, key: str) -> None:
        self._books = books
        self._authority = authority
        self._key = key
        self.api_url = ""  # known once the servers listen
        self.ingress = ""

    def answer(self, request: Request) -> Reply:
        """Never raises for what a client can send."""
        try:
            self._check_rate()
            rules.check_credential(request.headers.get("authorization"), self._key)
            rules.check_version(request.headers.get("ngrok-version"))
            return self._route(request)
        except Refusal as refusal:
            return error_reply(refusal)

    def falsified(self, reply: Reply, how: str) -> Reply:
        """That answer with every operator's certificate wrong in one of `ca.FALSIFICATIONS`."""
        if not reply.content:
            return reply
        answer = json.loads(reply.content)
        for shown in answer.get("operators", [answer]):
            known = self._books.operators.get(shown.get("id", ""))
            if known is None or known.binding is None or not known.binding.cert:
                continue
            true = Issued(known.binding.cert, known.binding.not_before, known.binding.not_after)
            false = self._authority.falsified(true, how, self._books.now())
            shown["binding"]["cert"] = operators.certificate_json(false)
        return replace(reply, content=json_reply(reply.status, answer).content)

    def count_call(self) -> None:
        """For the rate limit: a request that somebody else answers."""
        self._recent_calls().append(self._books.now())

    def _recent_calls(self) -> deque[float]:
        calls, now = self._books.recent_calls, self._books.now()
        while calls and calls[0] <= now - RATE_WINDOW_S:
            calls.popleft()
        return calls

    def _check_rate(self) -> None:
        limit, calls = self._books.settings.rate_limit, self._recent_calls()
        if limit and len(calls) >= limit:
            raise Refusal(
                429,
                "ERR_NGROK_226",
                f"Your account is rate limited to {limit} API requests per {RATE_WINDOW_S}s.",
            )
        calls.append(self._books.now())

    def _route(self, request: Request) -> Reply:
        parts = request.parts
        if parts[:1] != ["kubernetes_operators"] or len(parts) > 3:
            raise rules.not_found()
        if len(parts) == 1 and request.method == "GET":
            return self._list(request)
        if len(parts) == 1 and request.method == "POST":
            return self._create(request)
        if len(parts) == 2 and request.method in ("GET", "PATCH", "DELETE"):
            return self._one(request, self._find(parts[1]))
        if len(parts) == 3 and parts[2] == "bound_endpoints" and request.method == "GET":
            return self._bound_endpoints(request, self._find(parts[1]))
        raise rules.not_found()

    def _find(self, identifier: str) -> Operator:
        operator = self._books.operators.get(identifier)
        if operator is None:
            raise rules.not_found()
        return operator

    def _list(self, request: Request) -> Reply:
        rules.check_no_body(request)
        page = rules.parse_query(request.query, PAGING, OPERATOR_PREFIX)
        shown, rest = _cut(self._books.operators.values(), page)
        return self._page(
            "operators", "/kubernetes_operators", [self._show(item) for item in shown], page, rest
        )

    def _bound_endpoints(self, request: Request, operator: Operator) -> Reply:
        rules.check_no_body(request)
        page = rules.parse_query(request.query, PAGING, ENDPOINT_PREFIX)
        objects: list[dict[str, object]] = []
        last = ""  # the id of the last of them
        rest = None
        for identifier, shown in self._selected(operator, page.before_id):
            if len(objects) == page.limit:
                rest = last
                break
            objects.append(shown)
            last = identifier
        path = f"/kubernetes_operators/{operator.id}/bound_endpoints"
        return self._page("endpoints", path, objects, page, rest)

    def _selected(
        self, operator: Operator, before_id: str
    ) -> Iterator[tuple[str, dict[str, object]]]:
        """What the operator's selectors want, newest first, made one by one: of 10,000 endpoints
        a page shows a hundred."""
        known = self._books.endpoints
        urls = Counter(item.spec.url for item in known.values())
        binding = operator.binding
        wanted = [compile_selector(text) for text in (binding and binding.endpoint_selectors) or ()]
        identifiers = list(known)  # which grow with time, so they are sorted
        end = bisect.bisect_left(identifiers, before_id) if before_id else len(identifiers)
        for identifier in reversed(identifiers[:end]):
            item = known[identifier]
            shown = endpoints.to_json(item, self.api_url, urls[item.spec.url] > 1)
            if selects(wanted, shown):
                yield identifier, shown

    def _page(
        self,
        key: str,
        path: str,
        objects: list[dict[str, object]],
        page: Page,
        before_id: Optional[str],
    ) -> Reply:
        here = f"{self.api_url}{path}"
        following = f"{here}?before_id={before_id}&limit={page.limit}" if before_id else None
        return json_reply(
            200, {key: objects, "uri": here, "next_page_uri": following}, operation_header()
        )

    def _create(self, request: Request) -> Reply:
        rules.parse_query(request.query, ())
        body = rules.parse_body(request)
        rules.check_fields(body, operators.CREATE_FIELDS)
        now = rfc3339(self._books.now())
        blank = Operator(self._books.new_id("k8sop"), now, now)
        created = operators.changed(blank, body, now, self._sign)
        self._books.keep_operator(created)
        return json_reply(201, self._show(created), operation_header())

    def _one(self, request: Request, operator: Operator) -> Reply:
        rules.parse_query(request.query, ())
        if request.method == "PATCH":
            body = rules.parse_body(request)
            rules.check_fields(body, operators.UPDATE_FIELDS)
            now = rfc3339(self._books.now())
            operator = operators.changed(operator, body, now, self._sign)
            self._books.keep_operator(operator)
            return json_reply(200, self._show(operator), operation_header())
        rules.check_no_body(request)
        if request.method == "DELETE":
            self._books.drop_operator(operator.id)
            return Reply(204, headers=(operation_header(),))
        return json_reply(200, self._show(operator), operation_header())

    def _show(self, operator: Operator) -> dict[str, object]:
        ingress = self._books.settings.ingress_endpoint or self.ingress
        return operators.to_json(operator, self.api_url, ingress)

    def _sign(self, csr: str, operator_id: str) -> Issued:
        lifetime_s = self._books.settings.certificate_lifetime
        try:
            return self._authority.sign(csr, operator_id, self._books.now(), lifetime_s)
        except CsrRefused as exc:
            raise Refusal(
                400,
                "ERR_NGROK_19001",
                f"Certificate Signing Requests Failed! Reason: {exc}",
            ) from exc


def _cut(items: Iterable[Operator], page: Page) -> tuple[list[Operator], Optional[str]]:
    """The page, newest first, and the id before which the next one begins."""
    newest_first = sorted(items, key=lambda item: item.id, reverse=True)
    older = [item for item in newest_first if not page.before_id or item.id < page.before_id]
    shown = older[: page.limit]
    return shown, shown[-1].id if len(older) > len(shown) else None


def operation_header() -> tuple[str, str]:
    """Every answer of ngrok names the operation for its support."""
    return "ngrok-operation-id", f"op_{secrets.token_hex(13)}"


def error_reply(refusal: Refusal, *headers: tuple[str, str]) -> Reply:
    """ngrok's error body."""
    operation = operation_header()
    body: dict[str, object] = {"error_code": refusal.code} if refusal.code else {}
    body.update(
        status_code=refusal.status, msg=str(refusal), details={"operation_id": operation[1]}
    )
    return json_reply(refusal.status, body, operation, *headers)
