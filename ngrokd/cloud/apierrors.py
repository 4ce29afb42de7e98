"""What an answer of the API means that is not what was asked for: pure, from bytes to errors."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Optional

from ngrokd.errors import RATE_CODES, ApiError, ApiRefused, ApiUnavailable, OperatorLost

MAX_TEXT = 600  # of a message the API sent
_MAX_READ = 64 * 1024  # of such a message: far more than is shown, whatever is blanked out of it
# An API key has 49 characters. What is shorter than this is none, and taking it out of messages and
# log lines would garble them: `logs/lines.py` has the same bound.
MIN_KEY = 8
MAX_DIGITS = 20  # of a whole number; none of more means anything here
MAX_RETRY_AFTER_S = 3600.0  # a longer wish would keep a daemon silent for a slip of the pen

NOT_FOUND = 404
PROXY_AUTHENTICATION = 407
# Statuses and codes that pass by themselves: time-out, too early, rate and simultaneous-request
# limits, maintenance. 5xx too.
PASSING_STATUSES = frozenset({408, 425, 429})
_PASSING_CODES = RATE_CODES | {"ERR_NGROK_1500", "ERR_NGROK_1501"}
BAD_SELECTORS = "ERR_NGROK_19003"
MAX_SELECTORS = 300  # characters of them in a message

_SET_KEY = "set a valid API key with `ngrokctl set-api-key`"
_MAKE_KEY = "make an API key at https://dashboard.ngrok.com/api-keys, then `ngrokctl set-api-key`"
_ACCOUNT = "see the account at https://dashboard.ngrok.com"
_MENDS = {
    "ERR_NGROK_204": _ACCOUNT,
    "ERR_NGROK_205": _ACCOUNT,
    "ERR_NGROK_206": f"an authtoken was given instead of an API key: {_MAKE_KEY}",
    "ERR_NGROK_207": f"an authtoken was given instead of an API key: {_MAKE_KEY}",
    "ERR_NGROK_208": f"the id of an API key was given instead of the key itself: {_MAKE_KEY}",
    "ERR_NGROK_220": "the account's IP policy does not let this machine's address use the API",
    "ERR_NGROK_247": _ACCOUNT,
    "ERR_NGROK_19001": "`ngrokctl rotate-cert` tries again with a new key",
    "ERR_NGROK_19002": "see whether the account's plan includes Kubernetes endpoints, at"
    " https://dashboard.ngrok.com/billing",
    BAD_SELECTORS: "correct bound_endpoints.selectors in config.yml, then `ngrokctl reload`",
}
_STATUS_MENDS = {
    401: _SET_KEY,
    403: f"{_SET_KEY}, of an account that may use Kubernetes endpoints",
    NOT_FOUND: "see api.url in config.yml",
    PROXY_AUTHENTICATION: "give the proxy's user and password in HTTPS_PROXY",
}
_OTHER_MEND = "see https://ngrok.com/docs/errors and the configuration"

# Of one body: each value of its JSON takes up to 160 bytes of memory, however short it is. An
# endpoint has about 100, and a traffic policy of 50 KB as many in its text as the bound allows.
MAX_TOKENS = 500_000  # commas and opening brackets: 5,000 for each of a page's 100 items

_BLANK = b" \t\r\n\xef\xbb\xbf"  # white space, and the mark that some pages begin with

# `2abcDEF..._4xyzGHI...`, the shape of API keys and authtokens: some messages repeat what was sent.
_CREDENTIAL = re.compile(r"\b[0-9A-Za-z]{16,}_[0-9A-Za-z]{12,}\b")


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, whole."""

    status: int
    body: bytes = b""
    content_type: str = ""
    retry_after: str = ""
    location: str = ""
    operation_id: str = ""
    date: str = ""  # of the server's clock


@dataclass(frozen=True)
class Asked:
    """What an answer is to, for its messages. `secret` never appears in one."""

    what: str  # GET /kubernetes_operators
    api: str  # https://api.ngrok.com
    secret: str
    about_operator: bool = False  # 404 then means that this operator is gone
    selectors: tuple[str, ...] = ()  # that were sent

    def __repr__(self) -> str:
        return f"Asked({self.what!r})"


def document_of(answer: Answer, asked: Asked, now: float) -> dict[str, object]:
    """The JSON object of a good answer; raises the ApiError of any other. `now`: Unix seconds."""
    if not 200 <= answer.status < 300:
        raise error_of(answer, asked, now)
    document = _object(answer.body)
    if document is None:
        raise unusable(asked, f"it answered {_what_came(answer)}", answer.status)
    if _code(document) in _PASSING_CODES:
        raise error_of(answer, asked, now)
    return document


def unusable(asked: Asked, what: str, status: Optional[int] = None) -> ApiUnavailable:
    """An answer that is not the API's. It says nothing about what exists, so nothing changes."""
    text = _clean(what, asked.secret)
    return ApiUnavailable(
        f"the ngrok API at {asked.api} gave no usable answer to {asked.what}: {text};"
        " see whether api.url or a proxy leads elsewhere; it is tried again",
        status,
    )


def silence(asked: Asked, cause: str) -> ApiUnavailable:
    """No HTTP answer came."""
    text = _clean(cause, asked.secret)
    return ApiUnavailable(
        f"the ngrok API at {asked.api} did not answer {asked.what}: {text}; it is tried again"
    )


def error_of(answer: Answer, asked: Asked, now: float) -> ApiError:
    """The error that an answer stands for that is not what was asked for."""
    document = _object(answer.body) or {}
    code = _clean(_code(document), asked.secret)
    said = _said(answer, document, code, asked.secret)
    if answer.status >= 500 or answer.status in PASSING_STATUSES or code in _PASSING_CODES:
        text = f"the ngrok API at {asked.api} cannot answer {asked.what} now ({said});"
        return ApiUnavailable(
            f"{text} it is tried again",
            answer.status,
            code,
            retry_after(answer.retry_after, now),
        )
    if answer.status < 400:
        where = f" to {answer.location}" if answer.location else ""
        redirect = f"it answered {answer.status}{where}, and the API never redirects"
        return unusable(asked, redirect, answer.status)
    # The API answers JSON. A page for people is a captive portal's or a proxy's, and what that
    # says about keys and operators means nothing.
    is_foreign = _is_html(answer) and answer.status != PROXY_AUTHENTICATION
    if is_foreign or (answer.status == NOT_FOUND and not _is_gone(answer)):
        return unusable(asked, f"it answered {said}", answer.status)
    if answer.status == NOT_FOUND and asked.about_operator:
        text = f"ngrok no longer knows this operator ({said}); it is registered again"
        return OperatorLost(text, answer.status, code)
    mend = _MENDS.get(code) or _STATUS_MENDS.get(answer.status) or _OTHER_MEND
    if code == BAD_SELECTORS and asked.selectors:
        mend = f"it was told {_quoted(asked)}: {mend}"
    return ApiRefused(f"ngrok refuses {asked.what} ({said}); {mend}", answer.status, code)


def retry_after(header: str, now: float) -> Optional[float]:
    """Seconds to wait by a `Retry-After` header, RFC 9110 section 10.2.3; None: it says none."""
    text = header.strip()
    if not text:
        return None
    if re.fullmatch(r"[0-9]{1,12}", text):
        seconds = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (TypeError, ValueError, IndexError, OverflowError):  # 3.9 raises all kinds
            return None
        seconds = utc(moment).timestamp() - now
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def key_fault(key: str) -> str:
    """Why this cannot be an API key, "" if it can: it goes into an HTTP header as it is."""
    if not key:
        return f"no API key is set; {_MAKE_KEY}"
    if not re.fullmatch(r"[!-~]{1,4096}", key):
        return f"the API key holds a space, a line break or a character no key has; {_SET_KEY}"
    if len(key) < MIN_KEY:
        return f"this is no API key: it would have at least {MIN_KEY} characters; {_MAKE_KEY}"
    return ""


def _code(document: dict[str, object]) -> str:
    code = document.get("error_code")
    return code if isinstance(code, str) else ""


def _is_gone(answer: Answer) -> bool:
    """404 by the API itself, with or without a code: what was asked about does not exist.

    Whatever stands before the API answers 404, too, where it knows no such path: a proxy's default
    page, `404 page not found`, nothing. Only the API says so in its own words.
    """
    if answer.status != NOT_FOUND:
        return False
    document = _object(answer.body) or {}
    return bool(_code(document)) or document.get("status_code") == NOT_FOUND


def _is_html(answer: Answer) -> bool:
    return answer.body[:1024].lstrip(_BLANK)[:1] == b"<"


def _quoted(asked: Asked) -> str:
    """The selectors that were sent, as they stand in the configuration."""
    text = _clean(json.dumps(asked.selectors, ensure_ascii=False), asked.secret)
    return text if len(text) <= MAX_SELECTORS else f"{text[:MAX_SELECTORS]}..."


def utc(moment: datetime) -> datetime:
    """A time without a zone is one in UTC, as HTTP has none else."""
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _said(answer: Answer, document: dict[str, object], code: str, secret: str) -> str:
    """`HTTP 401, ERR_NGROK_203: The API key ...`, from what there is."""
    start = f"HTTP {answer.status}" + (f", {code}" if code else "")
    message = document.get("msg")
    if isinstance(message, str) and message.strip():
        return f"{start}: {_clean(message, secret)}"
    if document:
        return start
    trace = f", ngrok-operation-id {answer.operation_id}" if answer.operation_id else ""
    return _clean(f"{start}, {_what_came(answer)}{trace}", secret)


def _what_came(answer: Answer) -> str:
    """A body that is no JSON object, in words."""
    body = answer.body.strip(_BLANK)
    if not body:
        return "nothing (an empty body)"
    if _is_html(answer):
        title = re.search(rb"<title[^>]*>([^<]{1,100})", body[:4096], re.IGNORECASE)
        named = f' titled "{title.group(1).decode("utf-8", "replace")}"' if title else ""
        return f"an HTML page{named}"
    if body[:1] in (b"{", b"["):
        return "JSON that is cut short, too large or not an object"
    kind = f" of type {answer.content_type}" if answer.content_type else ""
    return f"something{kind} that is not JSON"


def _object(body: bytes) -> Optional[dict[str, object]]:
    """The JSON object in a body; None: it is something else, or would take too much memory."""
    if len(body) > MAX_TOKENS and sum(map(body.count, (b",", b"{", b"["))) > MAX_TOKENS:
        return None
    try:
        document = json.loads(body, parse_int=_number)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None
    return document if isinstance(document, dict) else None


def _number(digits: str) -> float:
    """No number of digits without end, for which `int` takes the square of their time."""
    return int(digits) if len(digits) < MAX_DIGITS else float(digits)


def _clean(text: str, secret: str) -> str:
    """One line, without any piece of the credential and whatever else looks like one."""
    line = " ".join(text[:_MAX_READ].split())
    line = _CREDENTIAL.sub("[redacted]", _without_pieces(line, secret))
    return "".join(char if char.isprintable() else "?" for char in line)[:MAX_TEXT]


def _without_pieces(text: str, secret: str) -> str:
    """Blanks whatever consists of MIN_KEY characters or more of the secret that follow each other.

    One step for each character of the text, whatever it holds.
    """
    pieces = {secret[at : at + MIN_KEY] for at in range(len(secret) - MIN_KEY + 1)}
    kept: list[str] = []
    end = 0  # of the last blank
    for at in range(len(text) - MIN_KEY + 1):
        if text[at : at + MIN_KEY] in pieces:
            if at > end or not kept:  # else it goes on from the piece before
                kept += [text[end:at], "[redacted]"]
            end = at + MIN_KEY
    return "".join(kept) + text[end:]
