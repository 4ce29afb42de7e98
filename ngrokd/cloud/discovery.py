"""Which endpoints exist: the API's list, folded into what can be served and what cannot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Optional

from ngrokd.cloud.endpointurl import EndpointUrl, Unusable, parse
from ngrokd.model import Discovered, Endpoint, SkippedEndpoint, Target

MAX_SHOWN = 300  # of a text the API sent; longer ones only fill terminals

# The wire names host and port only, so of two endpoints that differ in the scheme alone one can
# be reached here. Which one must not change from poll to poll: the first of this order.
_SCHEME_ORDER = ("http", "https", "tls", "tcp")

_BY_TARGET = attrgetter("target")


def discover(items: Iterable[object], before: Optional[Discovered] = None) -> Discovered:
    """One endpoint for each scheme, host and port; what cannot be served, with its reason.

    `before`: what was found last time. What is still the same is the same value: of thousands only
    the new ones are read.
    """
    known = {each.url: each for each in before.endpoints} if before else {}
    found: dict[str, Endpoint] = {}  # by URL in its one spelling
    members: dict[str, list[str]] = {}
    skipped: list[SkippedEndpoint] = []
    for item in items:
        if not isinstance(item, dict):
            skipped.append(SkippedEndpoint("", "", f"the API listed {_kind(item)} in its place"))
            continue
        try:
            each = known.get(_raw_url(item) or "") or _endpoint(_url_of(item))
        except Unusable as exc:
            reason = _printable(str(exc))
            skipped.append(SkippedEndpoint(_text(item, "id"), _shown_url(item), reason))
            continue
        found.setdefault(each.url, each)
        members.setdefault(each.url, []).append(_text(item, "id"))
    endpoints = [_with_ids(each, members[url]) for url, each in found.items()]
    served, shadowed = _one_per_target(endpoints)
    return Discovered(
        endpoints=tuple(sorted(served, key=_BY_TARGET)),
        skipped=tuple(
            sorted(skipped + shadowed, key=lambda each: (each.url, each.id, each.reason))
        ),
    )


def names_a_url(item: object) -> bool:
    """It may be an endpoint. Where nothing in a list does, the list is damaged."""
    return isinstance(item, Mapping) and _raw_url(item) is not None


def to_json(discovered: Discovered) -> object:
    """What `endpoints.json` holds."""
    return {
        "endpoints": [{"url": each.url, "ids": list(each.ids)} for each in discovered.endpoints],
        "skipped": [
            {"id": each.id, "url": each.url, "reason": each.reason} for each in discovered.skipped
        ],
    }


def from_json(document: object) -> Discovered:
    """What `to_json` made. ValueError: something else, so the file is damaged.

    The URLs go through the same rules again: an edited file gets no name past them.
    """
    if not isinstance(document, Mapping):
        raise ValueError("it is not an object")
    known = discover(
        [
            {"id": _must_be_text(identity), "url": _must_be_text(entry.get("url"))}
            for entry in _objects(document, "endpoints")
            for identity in _list(entry, "ids")
        ]
    )
    skipped = tuple(
        SkippedEndpoint(*(_must_be_text(entry.get(name)) for name in ("id", "url", "reason")))
        for entry in _objects(document, "skipped")
    )
    return Discovered(known.endpoints, known.skipped + skipped)


def _url_of(item: Mapping[object, object]) -> EndpointUrl:
    """`url`, else the older `public_url`; a missing scheme is `proto`, as in ngrok's operator."""
    text = _raw_url(item)
    if not text:
        raise Unusable("the API named no URL")
    scheme = item.get("proto") or item.get("scheme") or "https"
    return parse(text, scheme if isinstance(scheme, str) else "https")


def _raw_url(item: Mapping[object, object]) -> Optional[str]:
    for name in ("url", "public_url"):
        value = item.get(name)
        if isinstance(value, str) and value:
            return value
    return None


def _endpoint(url: EndpointUrl) -> Endpoint:
    return Endpoint(Target(url.hostname, url.port), url.scheme, str(url), ())


def _with_ids(endpoint: Endpoint, ids: Sequence[str]) -> Endpoint:
    named = tuple(sorted({each for each in ids if each}) or [""])
    if endpoint.ids == named:
        return endpoint
    return Endpoint(endpoint.target, endpoint.scheme, endpoint.url, named)


def _one_per_target(
    endpoints: Sequence[Endpoint],
) -> tuple[list[Endpoint], list[SkippedEndpoint]]:
    served: dict[Target, Endpoint] = {}
    shadowed: list[SkippedEndpoint] = []
    for each in sorted(endpoints, key=lambda one: _SCHEME_ORDER.index(one.scheme)):
        first = served.setdefault(each.target, each)
        if first is not each:
            reason = f"{first.url} has the same host and port, and only one of them can be served"
            shadowed += [SkippedEndpoint(identity, each.url, reason) for identity in each.ids]
    return list(served.values()), shadowed


def _shown_url(item: Mapping[object, object]) -> str:
    return _printable(_raw_url(item) or "")


def _text(item: Mapping[object, object], name: str) -> str:
    value = item.get(name)
    return _printable(value) if isinstance(value, str) else ""


def _printable(text: str) -> str:
    """Safe on a terminal and in a log line, whatever the API sent."""
    shown = text[:MAX_SHOWN]
    if shown.isprintable():
        return shown
    return "".join(char if char.isprintable() else "?" for char in shown)


def _kind(value: object) -> str:
    """Of a JSON value that is no object."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "a number"


def _objects(document: Mapping[object, object], name: str) -> list[Mapping[object, object]]:
    entries = _list(document, name)
    found = [each for each in entries if isinstance(each, Mapping)]
    if len(found) != len(entries):
        raise ValueError(f"{name} holds something that is not an object")
    return found


def _list(document: Mapping[object, object], name: str) -> list[object]:
    value = document.get(name)
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list")
    return value


def _must_be_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:40]!r} is not text")
    return value
