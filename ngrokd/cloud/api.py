"""The calls of the ngrok API that a forward proxy needs."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Optional
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from ngrokd.cloud.apierrors import (
    Answer,
    Asked,
    document_of,
    error_of,
    key_fault,
    silence,
    unusable,
)
from ngrokd.cloud.transport import NoAnswer, Transport
from ngrokd.errors import ApiRefused

OPERATORS = "/kubernetes_operators"

# At 100 endpoints a page this is more than net.subnet's 65,000 addresses can serve; an API that
# never ends its list must not keep a pool thread.
MAX_PAGES = 700
# Of a whole list: pages that are each within their bounds must not add up to gigabytes or hours.
MAX_ITEMS = 100_000
MAX_LIST_BYTES = 64 << 20
MAX_LIST_S = 120.0

_DEFAULT_PORTS = {"http": 80, "https": 443}


def _ignore(_code: str) -> None:
    """For who does not count requests."""


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
    ) -> None:
        """`on_request` is told each HTTP status, or "error", on the thread of the call."""
        self._url = url.rstrip("/")
        self._key = key.strip()
        self._version = version
        self._timeout_s = timeout_s
        self._on_request = on_request
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
        return self._ask("POST", self._url + OPERATORS, self._asked("POST", OPERATORS), body)

    def update_operator(
        self, operator_id: str, body: Mapping[str, object]
    ) -> dict[str, object]:
        """Change what `body` names; the operator as it then is."""
        path = _operator_path(operator_id)
        return self._ask("PATCH", self._url + path, self._asked("PATCH", path, True), body)

    def get_operator(self, operator_id: str) -> dict[str, object]:
        """The operator as ngrok has it."""
        path = _operator_path(operator_id)
        return self._ask("GET", self._url + path, self._asked("GET", path, True))

    def delete_operator(self, operator_id: str) -> None:
        """Take the operator out; that it is gone already is fine."""
        path = _operator_path(operator_id)
        asked = self._asked("DELETE", path, True)
        answer = self._send("DELETE", self._url + path, asked)
        if answer.status != 404 and not 200 <= answer.status < 300:
            raise error_of(answer, asked, time.time())

    def list_operators(self) -> list[object]:
        """Every operator of the account, newest first."""
        return self._all_pages(OPERATORS, "operators", self._asked("GET", OPERATORS))

    def bound_endpoints(self, operator_id: str) -> list[object]:
        """Every endpoint bound to this operator: all pages, or an error, never a part."""
        path = _operator_path(operator_id) + "/bound_endpoints"
        return self._all_pages(path, "endpoints", self._asked("GET", path, True))

    def _asked(self, method: str, path: str, about_operator: bool = False) -> Asked:
        return Asked(f"{method} {path}", self._url, self._key, about_operator)

    def _all_pages(self, path: str, member: str, asked: Asked) -> list[object]:
        found: list[object] = []
        url = self._url + path
        seen = {url}
        size, started = 0, time.monotonic()
        for _ in range(MAX_PAGES):
            answer = self._send("GET", url, asked)
            page = document_of(answer, asked, time.time())
            items = _items(page, member)
            if items is None:
                raise unusable(asked, f"JSON without {member}")
            found += items
            size += len(answer.body)
            excess = _excess(len(found), size, time.monotonic() - started)
            if excess:
                raise unusable(asked, f"its list {excess}")
            link = page.get("next_page_uri")
            # ngrok's own client stops at an empty page even if that names another one.
            if not items or link is None or link == "":
                return found
            url = self._next_page(url, link, asked)
            if url in seen:
                raise unusable(asked, "its pages lead in a circle")
            seen.add(url)
        raise unusable(asked, f"its list has no end after {MAX_PAGES} pages")

    def _next_page(self, current: str, link: object, asked: Asked) -> str:
        """The next page's URL, always below the API's own origin: the key goes nowhere else."""
        if not isinstance(link, str) or not re.fullmatch(r"[!-~]+", link):
            raise unusable(asked, "its next_page_uri is not a URL")
        try:
            following, own = urlsplit(urljoin(current, link)), urlsplit(self._url)
            same = _origin(following) == _origin(own)
        except ValueError as exc:
            raise unusable(asked, f"its next_page_uri is not a URL ({exc})") from exc
        if not same:
            raise unusable(asked, f"its next page is on another server, {following.netloc}")
        query = f"?{following.query}" if following.query else ""
        return f"{own.scheme}://{own.netloc}{following.path}{query}"

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


def _items(page: Mapping[str, object], member: str) -> Optional[list[object]]:
    """The page's items; None: this is not such a page, so it does not say that there are none.

    `null` is how the API writes some empty lists (`endpoint_selectors` is documented so); it
    counts only in an object that is otherwise one of the API's pages.
    """
    items = page.get(member)
    if items is None and member in page and ("uri" in page or "next_page_uri" in page):
        return []
    return items if isinstance(items, list) else None


def _excess(items: int, size: int, seconds: float) -> str:
    """Which bound of a whole list is passed, in words; "": none."""
    if items > MAX_ITEMS:
        return f"has more than {MAX_ITEMS} items"
    if size > MAX_LIST_BYTES:
        return f"is larger than {MAX_LIST_BYTES >> 20} MiB"
    if seconds > MAX_LIST_S:
        return f"is not whole after {MAX_LIST_S:g} s"
    return ""


def _origin(url: SplitResult) -> tuple[str, str, Optional[int]]:
    """ValueError: the port is not one, or the URL names a user."""
    if "@" in url.netloc:
        raise ValueError("it names a user")
    return url.scheme, url.hostname or "", url.port or _DEFAULT_PORTS.get(url.scheme)
