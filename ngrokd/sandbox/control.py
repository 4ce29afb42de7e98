"""The control API under /sandbox/: what tests and users' CI change and look at."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Optional
from urllib.parse import parse_qs

from ngrokd.sandbox import faults, operators
from ngrokd.sandbox.books import Books, Settings
from ngrokd.sandbox.endpoints import EndpointSpec, Listed, SpecError, parse_upstream
from ngrokd.sandbox.faults import FaultError
from ngrokd.sandbox.messages import JSON_TYPE, Reply, Request, json_reply

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
MAX_MEMBERS = 10_000
ENDPOINT_FIELDS = ("url", "upstream", "members", "fields", "omit")
MAX_LIFETIME_S = 3650 * 86400.0


class _Bad(Exception):
    """The request cannot be carried out. Handler: answer with the status and text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ControlApi:
    """Answers /sandbox/ requests. Owner: the clerk. `overview` says where everything is."""

    def __init__(self, books: Books, overview: Callable[[], dict[str, object]]) -> None:
        self._books = books
        self._overview = overview

    def answer(self, request: Request) -> Reply:
        """Never raises for what a client can send."""
        try:
            _check_origin(request)
            return json_reply(200, self._route(request))
        except _Bad as exc:
            return json_reply(exc.status, {"error": str(exc)})
        except (SpecError, FaultError) as exc:
            return json_reply(400, {"error": str(exc)})

    def _route(self, request: Request) -> object:
        parts = request.parts[1:]
        collection = parts[0] if parts else ""
        if not collection and request.method == "GET":
            return self._overview()
        handlers: Mapping[str, Callable[[Request, Optional[str]], object]] = {
            "endpoints": self._endpoints,
            "faults": self._faults,
            "operators": self._operators,
            "settings": self._settings,
            "requests": self._requests,
            "connections": self._connections,
        }
        if collection not in handlers or len(parts) > 2:
            raise _Bad(404, f"no {request.path} here; there are {', '.join(handlers)}")
        return handlers[collection](request, parts[1] if len(parts) == 2 else None)

    # Endpoints

    def _endpoints(self, request: Request, identifier: Optional[str]) -> object:
        known = self._books.endpoints
        if identifier is not None and identifier not in known:
            raise _Bad(404, f"no endpoint {identifier}")
        if request.method == "GET":
            return self._show_endpoints([identifier] if identifier else known)
        if request.method in ("POST", "PUT") and identifier is None:
            specs = _endpoint_specs(_json(request))
            if request.method == "PUT":
                known.clear()
            return self._show_endpoints([self._books.add_endpoint(spec) for spec in specs])
        if request.method == "PATCH" and identifier:
            spec = _changed_spec(known[identifier].spec, _json(request))
            self._books.change_endpoint(identifier, spec)
            return self._show_endpoints([identifier])
        if request.method == "DELETE":
            gone = [identifier] if identifier else _named_by_url(request, known)
            for each in gone:
                del known[each]
            return {"removed": gone}
        raise _Bad(405, f"{request.method} does not fit {request.path}")

    def _show_endpoints(self, identifiers: Iterable[str]) -> object:
        shown = []
        for identifier in identifiers:
            spec = self._books.endpoints[identifier].spec
            upstream = str(spec.upstream) if spec.upstream else ""
            shown.append({"id": identifier, "url": spec.url, "upstream": upstream})
        return {"endpoints": shown}

    # Faults, operators, settings, logs

    def _faults(self, request: Request, identifier: Optional[str]) -> object:
        board = self._books.faults
        if request.method == "GET" and identifier is None:
            return {"faults": board.to_json()}
        if request.method == "POST" and identifier in ("api", "ingress"):
            body = _json(request)
            parse = faults.parse_api_fault if identifier == "api" else faults.parse_ingress_fault
            return {"id": board.add(parse(body))}
        if request.method == "DELETE" and identifier is None:
            board.clear()
            return {"faults": []}
        if request.method == "DELETE":
            if not board.remove(str(identifier)):
                raise _Bad(404, f"no fault {identifier}; it may have used up its count")
            return {"faults": board.to_json()}
        raise _Bad(405, f"{request.method} does not fit; POST to faults/api or faults/ingress")

    def _operators(self, request: Request, identifier: Optional[str]) -> object:
        known = self._books.operators
        if identifier is not None and identifier not in known:
            raise _Bad(404, f"no operator {identifier}")
        chosen = [identifier] if identifier else list(known)
        if request.method == "GET":
            return {"operators": [operators.to_json(known[each], "", "") for each in chosen]}
        if request.method == "DELETE":
            for each in chosen:
                self._books.drop_operator(each)
            return {"removed": chosen}
        raise _Bad(405, f"{request.method} does not fit {request.path}")

    def _settings(self, request: Request, identifier: Optional[str]) -> object:
        if identifier is None and request.method == "PATCH":
            self._books.settings = _changed_settings(self._books.settings, _json(request))
        elif identifier is not None or request.method != "GET":
            raise _Bad(405, f"{request.method} does not fit {request.path}")
        return dataclasses.asdict(self._books.settings)

    def _requests(self, request: Request, identifier: Optional[str]) -> object:
        _check_log_request(request, identifier)
        if request.method == "DELETE":
            self._books.requests.clear()
        return {"requests": list(self._books.requests)}

    def _connections(self, request: Request, identifier: Optional[str]) -> object:
        _check_log_request(request, identifier)
        if request.method == "DELETE":
            self._books.connections.clear()
        return {"connections": list(self._books.connections.values())}


def _check_log_request(request: Request, identifier: Optional[str]) -> None:
    if identifier is not None or request.method not in ("GET", "DELETE"):
        raise _Bad(405, f"{request.method} does not fit {request.path}")


def _check_origin(request: Request) -> None:
    """A web page in the user's browser must not steer the sandbox (DNS rebinding, plain forms)."""
    host = request.headers.get("host", "")
    name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
    if name not in LOOPBACK_HOSTS or "origin" in request.headers:
        raise _Bad(403, "the control API answers local programs only, not web pages")


def _json(request: Request) -> dict[str, Any]:
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != JSON_TYPE:
        raise _Bad(400, f"the body must be JSON: add the header 'Content-Type: {JSON_TYPE}'")
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError) as exc:
        raise _Bad(400, f"the body is not JSON: {exc}") from exc
    if not isinstance(body, dict):
        raise _Bad(400, "the body must be a JSON object")
    return body


def _endpoint_specs(body: Mapping[str, Any]) -> list[EndpointSpec]:
    """One endpoint, or {"endpoints": [...]}."""
    given = body["endpoints"] if set(body) == {"endpoints"} else [body]
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise _Bad(400, "endpoints: must be a list of objects")
    specs: list[EndpointSpec] = []
    for one in given:
        members = one.get("members", 1)
        if not isinstance(members, int) or not 1 <= members <= MAX_MEMBERS:
            raise _Bad(400, f"members: must be a number from 1 to {MAX_MEMBERS}")
        if not isinstance(one.get("url"), str):
            raise _Bad(400, "url: must be given, as text (any text: the API lists it as it is)")
        specs += [_changed_spec(EndpointSpec(""), one)] * members
    return specs


def _changed_spec(spec: EndpointSpec, body: Mapping[str, Any]) -> EndpointSpec:
    unknown = sorted(set(body) - set(ENDPOINT_FIELDS))
    if unknown:
        raise _Bad(400, f"{unknown[0]}: is unknown; the fields are {', '.join(ENDPOINT_FIELDS)}")
    fields, omit = body.get("fields", spec.fields), body.get("omit", list(spec.omit))
    url, upstream = body.get("url", spec.url), body.get("upstream")
    if not isinstance(fields, Mapping):
        raise _Bad(400, "fields: must be an object")
    if not isinstance(omit, list) or not all(isinstance(name, str) for name in omit):
        raise _Bad(400, "omit: must be a list of names")
    if not isinstance(url, str) or not isinstance(upstream, (str, type(None))):
        raise _Bad(400, "url, upstream: must be text")
    where = spec.upstream if upstream is None else parse_upstream(upstream) if upstream else None
    return EndpointSpec(url, where, dict(fields), tuple(omit))


def _named_by_url(request: Request, known: Mapping[str, Listed]) -> list[str]:
    """`?url=...`: those with that URL; without it: all."""
    urls = parse_qs(request.query, keep_blank_values=True).get("url")
    return [key for key, endpoint in known.items() if urls is None or endpoint.spec.url in urls]


def _changed_settings(settings: Settings, body: Mapping[str, Any]) -> Settings:
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    for name, value in body.items():
        if name not in defaults:
            raise _Bad(400, f"{name}: is unknown; the settings are {', '.join(defaults)}")
        wanted = (int, float) if isinstance(defaults[name], float) else type(defaults[name])
        if isinstance(value, bool) or not isinstance(value, wanted):
            kind = "text" if wanted is str else "a whole number" if wanted is int else "a number"
            raise _Bad(400, f"{name}: {value!r} is not {kind}")
        if isinstance(value, (int, float)) and not 0 <= value <= MAX_LIFETIME_S:
            raise _Bad(400, f"{name}: must be from 0 to {MAX_LIFETIME_S:.0f}")
    if body.get("tls_version", "") not in ("", "1.2", "1.3"):
        raise _Bad(400, 'tls_version: must be "1.2", "1.3" or "" for both')
    return dataclasses.replace(settings, **body)
