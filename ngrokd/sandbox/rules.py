"""What ngrok's API accepts: pure checks of a request, each refused with ngrok's own code.

Codes and texts after ngrok's error reference; statuses that it does not document are 400, those of
credentials 401 and 403 (as ngrok-operator's reports show them).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union
from urllib.parse import parse_qsl

from ngrokd.errors import NgrokdError
from ngrokd.sandbox.messages import JSON_TYPE, Request

API_VERSION = "2"
MAX_PAGE = 100
MAX_DESCRIPTION_BYTES = 255
MAX_METADATA_BYTES = 4096
MIN_KEY_CHARS = 8
FEATURES = ("bindings", "ingress", "gateway")
REGIONS = ("global", "au", "eu", "ap", "us", "jp", "in", "sa")
KEYS_HINT = "API keys and instructions are on your dashboard: https://dashboard.ngrok.com/api-keys"

Check = Callable[[object], bool]
Schema = Mapping[str, Union[Check, "Schema"]]


class Refusal(NgrokdError):
    """The request is answered with an error. `code` "" is left out of the answer."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Page:
    """Which part of a list is wanted; `before_id` "" is from the newest."""

    limit: int = MAX_PAGE
    before_id: str = ""


def not_found() -> Refusal:
    """ngrok's 404 carries no error code."""
    return Refusal(404, "", "Resource not found")


def check_credential(authorization: Optional[str], key: str) -> None:
    """The Authorization header. The credential is never repeated: answers get logged."""
    if authorization is None:
        raise Refusal(
            401, "ERR_NGROK_200", f"The ngrok API requires the Authorization header. {KEYS_HINT}"
        )
    scheme, _, credential = authorization.strip().partition(" ")
    if scheme.lower() not in ("bearer", "basic") or not credential.strip():
        raise Refusal(
            401,
            "ERR_NGROK_201",
            f"The ngrok API requires Basic or Bearer authentication. {KEYS_HINT}",
        )
    _check_key(credential.strip(), key)


def _check_key(credential: str, key: str) -> None:
    if credential == key:
        return
    if credential.startswith(("authtoken", "cr_")):
        raise Refusal(
            403,
            "ERR_NGROK_206",
            f"The authentication you specified is actually a tunnel credential. {KEYS_HINT}",
        )
    if len(credential) < MIN_KEY_CHARS or not credential.isascii() or " " in credential:
        raise Refusal(
            403,
            "ERR_NGROK_202",
            f"The API authentication does not look like a valid credential. {KEYS_HINT}",
        )
    raise Refusal(
        403,
        "ERR_NGROK_203",
        f"The API authentication is properly formed, but it is invalid. {KEYS_HINT}",
    )


def check_version(version: Optional[str]) -> None:
    """The Ngrok-Version header."""
    if version is None:
        raise Refusal(
            400,
            "ERR_NGROK_218",
            "Your request has not specified an API version. Please include the version you wish to "
            f"use in the Ngrok-Version header. Supported versions: {API_VERSION}.",
        )
    if version.strip() != API_VERSION:
        raise Refusal(
            400,
            "ERR_NGROK_217",
            f"The provided API version {version!r} is invalid or unsupported. "
            f"Supported versions: {API_VERSION}.",
        )


def parse_query(query: str, supported: Collection[str], id_prefix: str = "") -> Page:
    """`limit` and `before_id`, where they are supported."""
    values = _query_values(query, supported)
    return Page(_limit(values.get("limit")), _before_id(values.get("before_id"), id_prefix))


def _query_values(query: str, supported: Collection[str]) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as exc:
        raise Refusal(
            400, "ERR_NGROK_230", f"The query part of the requested URI is invalid: {exc}"
        ) from exc
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    unknown = sorted(set(values) - set(supported))
    if unknown:
        raise Refusal(
            400,
            "ERR_NGROK_231",
            "The query part of the requested URI includes unknown parameters: "
            f"{', '.join(unknown)}. The supported parameters are: {', '.join(sorted(supported))}.",
        )
    for name, given in values.items():
        if len(given) > 1:
            raise Refusal(
                400,
                "ERR_NGROK_232",
                f"The request must specify only a single value for the {name} parameter "
                f"but got {len(given)}: {', '.join(given)}.",
            )
    return {name: given[0] for name, given in values.items()}


def _limit(value: Optional[str]) -> int:
    if value is None:
        return MAX_PAGE
    try:
        limit = int(value)
    except ValueError as exc:
        raise Refusal(
            400,
            "ERR_NGROK_244",
            f"The page size limit must be a number between 1 and {MAX_PAGE} "
            f"but {value!r} was provided.",
        ) from exc
    if not 1 <= limit <= MAX_PAGE:
        raise Refusal(
            400,
            "ERR_NGROK_233",
            f"The page size limit must be between 1 and {MAX_PAGE} but {limit} was provided.",
        )
    return limit


def _before_id(value: Optional[str], prefix: str) -> str:
    if value is not None and not value.startswith(prefix):
        raise Refusal(
            400,
            "ERR_NGROK_227",
            f"The ID {value!r} is invalid. Expected an ID with a prefix of {prefix}.",
        )
    return value or ""


def check_no_body(request: Request) -> None:
    """GET and DELETE carry none."""
    if request.body:
        raise Refusal(
            400,
            "ERR_NGROK_211",
            f"The {request.method} request you made does not expect a body, "
            "but you provided one.",
        )


def parse_body(request: Request) -> dict[str, Any]:
    """The JSON object of a POST or PATCH."""
    given = request.headers.get("content-type", "")
    if not given:
        raise Refusal(
            400, "ERR_NGROK_216", "You did not provide a Content-Type with your request."
        )
    if given.partition(";")[0].strip().lower() != JSON_TYPE:
        raise Refusal(
            400,
            "ERR_NGROK_210",
            f"The content type you specified {given!r} is not supported by the API.",
        )
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError) as exc:
        raise _unparsable() from exc
    if not isinstance(body, dict):
        raise _unparsable()
    return body


def _unparsable() -> Refusal:
    return Refusal(400, "ERR_NGROK_213", f"The {JSON_TYPE} request body could not be parsed.")


def check_fields(body: Mapping[str, object], schema: Schema, path: str = "") -> None:
    """Every field known (else 214) and of its type (else 215); null is as if left out."""
    for name, value in body.items():
        where = f"{path}{name}"
        rule = schema.get(name)
        if rule is None:
            raise Refusal(
                400,
                "ERR_NGROK_214",
                f"The request parameter {where!r} is unknown and not expected. "
                f"The supported fields are: {', '.join(schema)}.",
            )
        if value is None:
            continue
        if isinstance(rule, Mapping):
            if not isinstance(value, Mapping):
                raise _invalid(where)
            check_fields(value, rule, f"{where}.")
        elif not rule(value):
            raise _invalid(where)


def _invalid(where: str) -> Refusal:
    return Refusal(
        400, "ERR_NGROK_215", f"The value provided for the request parameter {where!r} is invalid."
    )


def text(value: object) -> bool:
    """A text."""
    return isinstance(value, str)


def texts(value: object) -> bool:
    """A list of texts."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def at_most(limit_bytes: int) -> Check:
    """A text of at most that many bytes (not characters)."""

    def fits(value: object) -> bool:
        return isinstance(value, str) and len(value.encode("utf-8", "surrogatepass")) <= limit_bytes

    return fits
