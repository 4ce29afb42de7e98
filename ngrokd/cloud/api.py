"""The calls of the ngrok API that a forward proxy needs."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Optional
from urllib.parse import quote

from ngrokd.cloud.apierrors import (
    Answer,
    Asked,
    document_of,
    key_fault,
    silence,
)
from ngrokd.cloud.pages import Listing, Pages, digest_of
from ngrokd.cloud.transport import NoAnswer, Transport
from ngrokd.errors import ApiError, ApiRefused, OperatorLost

OPERATORS = "/kubernetes_operators"
OK = 200


def _ignore(_code: str) -> None:
    """For who does not count requests."""


def _pause(seconds: float) -> None:
    """This long or half as much again: who was refused together shall not come back together."""
    time.sleep(seconds * (1 + random.random() / 2))


class Api:
    """The API at one URL with one key. Immutable: usable from any thread.

    Every call raises ApiUnavailable, ApiRefused or (those about one operator) OperatorLost.
    """

    def __init__(
        self,
        url: str,
        key: str,
        version: str,
        timeout_s: float = 30,
        on_request: Callable[[str], None] = _ignore,
        pause: Callable[[float], None] = _pause,
    ) -> None:
        """`on_request` is told each HTTP status, or "error", on the thread of the call.

        `pause` waits between pages where a list of many would be too much for the account.
        """
        self._url = url.rstrip("/")
        self._key = key.strip()
        self._version = version
        self._timeout_s = timeout_s
        self._on_request = on_request
        self._pause = pause
        self._transport = Transport(self._url, timeout_s)

    def __repr__(self) -> str:
        return f"Api({self._url!r})"

    def with_key(self, key: str) -> Api:
        """The same API asked with this key; what its TLS needs (1 MB) is shared."""
        other = copy.copy(self)
        other._key = key.strip()
        return other

    def create_operator(self, body: Mapping[str, object]) -> dict[str, object]:
        """Register; the new operator."""
        asked = _telling(self._asked("POST", OPERATORS), body)
        return self._ask("POST", self._url + OPERATORS, asked, body)

    def update_operator(
        self, operator_id: str, body: Mapping[str, object]
    ) -> dict[str, object]:
        """Change what `body` names; the operator as it then is."""
        path = _operator_path(operator_id)
        asked = _telling(self._asked("PATCH", path, True), body)
        return self._ask("PATCH", self._url + path, asked, body)

    def get_operator(self, operator_id: str) -> dict[str, object]:
        """The operator as ngrok has it."""
        path = _operator_path(operator_id)
        return self._ask("GET", self._url + path, self._asked("GET", path, True))

    def delete_operator(self, operator_id: str) -> None:
        """Take the operator out; that it is gone already is fine."""
        path = _operator_path(operator_id)
        asked = self._asked("DELETE", path, True)
        answer = self._send("DELETE", self._url + path, asked)
        if 200 <= answer.status < 300 and not answer.body.strip():
            return
        with contextlib.suppress(OperatorLost):
            document_of(answer, asked, time.time())  # a page of somebody else's deleted nothing

    def check_key(self) -> None:
        """Ask what every key that is of use here may ask: one page, however many there are."""
        asked = self._asked("GET", OPERATORS)
        listing = Listing(self._url, OPERATORS, "operators", asked)
        self._take_page(listing, self._url + OPERATORS, asked)

    def list_operators(self) -> list[object]:
        """Every operator of the account, newest first: all pages, or an error, never a part."""
        asked = self._asked("GET", OPERATORS)
        return self._whole(Listing(self._url, OPERATORS, "operators", asked), asked).items

    def bound_endpoints(self, operator_id: str, known: Optional[Pages] = None) -> Listing:
        """Every endpoint bound to this operator: all pages, or an error, never a part.

        How many requests that took, `on_request` was told: one for each. `known`: the pages of an
        earlier list, which are not read again where they are still the same.
        """
        path = _operator_path(operator_id) + "/bound_endpoints"
        asked = self._asked("GET", path, True)
        return self._whole(Listing(self._url, path, "endpoints", asked, known), asked)

    def _asked(self, method: str, path: str, about_operator: bool = False) -> Asked:
        return Asked(f"{method} {path}", self._url, self._key, about_operator)

    def _whole(self, listing: Listing, asked: Asked) -> Listing:
        """A list of 8,000 has 80 pages: they come over one connection."""
        with self._transport.keeping() as transport:
            api = copy.copy(self)
            api._transport = transport
            while listing.url is not None:
                wait = listing.wait_s(time.monotonic())
                if wait:
                    transport.let_go()
                    self._pause(wait)
                rest = api._take_page(listing, listing.url, asked)
                if rest:
                    transport.let_go()
                    self._pause(rest)
        return listing

    def _take_page(self, listing: Listing, url: str, asked: Asked) -> float:
        """Seconds until the same page is asked for again; 0: it came.

        Nothing of a page but what `listing` keeps of it is held while the next one comes.
        """
        listing.ask(time.monotonic())
        try:
            answer = self._send("GET", url, asked)
            size, digest = len(answer.body), digest_of(answer.body)
            if answer.status == OK and listing.recognises(digest, size, time.monotonic()):
                return 0.0
            page = document_of(answer, asked, time.time())
        except ApiError as exc:
            return listing.rest_s(exc, time.monotonic())
        listing.take(page, size, time.monotonic(), digest)
        return 0.0

    def _ask(
        self, method: str, url: str, asked: Asked, body: Optional[Mapping[str, object]] = None
    ) -> dict[str, object]:
        return document_of(self._send(method, url, asked, body), asked, time.time())

    def _send(
        self, method: str, url: str, asked: Asked, body: Optional[Mapping[str, object]] = None
    ) -> Answer:
        fault = key_fault(self._key)
        if fault:
            raise ApiRefused(fault)
        headers = self._headers()
        content = None
        if body is not None:  # a GET with a body or a type for none is refused (ERR_NGROK_211)
            headers["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        try:
            answer = self._transport.send(method, url, headers, content)
        except NoAnswer as exc:
            self._on_request("error")
            raise silence(asked, str(exc)) from exc
        self._on_request(str(answer.status))
        return answer

    def _headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self._key}",
            "Ngrok-Version": "2",
            "User-Agent": f"ngrokd/{self._version}",
            "Accept": "application/json",
        }


def _operator_path(operator_id: str) -> str:
    return f"{OPERATORS}/{quote(operator_id, safe='')}"


def _telling(asked: Asked, body: Mapping[str, object]) -> Asked:
    """`asked` with the selectors in `body`, for an answer that complains about them."""
    binding = body.get("binding")
    sent = binding.get("endpoint_selectors") if isinstance(binding, Mapping) else None
    if not isinstance(sent, list):
        return asked
    return dataclasses.replace(asked, selectors=tuple(str(each) for each in sent))
