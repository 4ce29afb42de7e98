"""One HTTP request to the health pages and its answer, both in memory.

`http.server` takes 0.8 MB with all that it brings along, so this is loaded with the first request.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Optional

from ngrokd.control.page import MAX_HEAD_BYTES, Page

logger = logging.getLogger(__name__)

_AUTHORITY = re.compile(r"\Ahttps?://[^/?#]*", re.IGNORECASE)  # as sent to a proxy: RFC 9112, 3.2.2


class Exchange(BaseHTTPRequestHandler):
    """One request and its answer, both in memory. Owner: the thread that made it."""

    protocol_version = "HTTP/1.1"
    default_request_version = request_version = ""  # "HTTP/0.9" would be answered without a head
    requestline = command = ""

    def __init__(self, page: Callable[[str], Optional[Page]]) -> None:
        """`page`: at a path; None: one that takes time and is given to `answer_later`."""
        # Not the base class's: that one reads from a socket, without a bound on the whole request.
        self._page = page
        self.later = ""  # the path of a page that takes time
        self.wfile = self._answer = io.BytesIO()

    def answer(self, head: bytes) -> bytes:
        """All that is to be sent, whatever came; `b""`: that takes time, see `later`."""
        if len(head) > MAX_HEAD_BYTES:
            return self.refuse(431, f"a request may have {MAX_HEAD_BYTES} bytes")
        # An empty line before a request is to be ignored: RFC 9112, 2.2.
        self.rfile = io.BytesIO(head[2:] if head.startswith(b"\r\n") else head)
        self.raw_requestline = self.rfile.readline()
        given = self._given(self._answer_request)
        return given if given or self.later else self.refuse(400, "that is not an HTTP request")

    def answer_later(self, page: Callable[[str], Page]) -> bytes:
        """All that is to be sent, where `answer` gave nothing."""
        return self._given(lambda: self._send(page(self.later)))

    def refuse(self, code: int, reason: str) -> bytes:
        """All that is to be sent to a client that gets no page."""
        self._send(Page(code, f"{reason}\n"))
        return self._answer.getvalue()

    def send_error(self, code: int, message: Optional[str] = None, explain: object = None) -> None:
        """Called by `parse_request`. The base class's own answers in HTML and writes to stderr."""
        self.refuse(code, message or HTTPStatus(code).phrase)

    def _given(self, give: Callable[[], None]) -> bytes:
        try:
            give()
        except Exception:
            logger.exception("health: %.80a failed", self.requestline)
            return self.refuse(500, "failed; the log of ngrokd has the details")
        return self._answer.getvalue()

    def _answer_request(self) -> None:
        if not self.parse_request() or not self.request_version:
            return
        if self.request_version == "HTTP/0.9":  # it would be answered without a head, too
            self.request_version = ""
            self.refuse(400, "that is not an HTTP request")
        elif self.command not in ("GET", "HEAD"):
            self._send(Page(405, "only GET and HEAD\n"))
        else:
            self._answer_path(_AUTHORITY.sub("", self.path).partition("?")[0])

    def _answer_path(self, path: str) -> None:
        page = self._page(path)
        if page is None:
            self.later = path
        else:
            self._send(page)

    def _send(self, page: Page) -> None:
        body = page.body.encode("utf-8", "replace")  # no half of a surrogate pair fails a page
        self.send_response_only(page.code)
        self.send_header("Date", self.date_time_string())
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Connection", "close")
        if page.code == 405:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
