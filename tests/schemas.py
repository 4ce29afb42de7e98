"""Is a value as a JSON Schema says? As much of it as docs/ngrokctl.schema.json uses, and strictly:
a member that the schema does not name is a fault, too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent.parent / "docs/ngrokctl.schema.json"
KNOWN = {
    "$ref",
    "additionalProperties",
    "allOf",
    "const",
    "description",
    "enum",
    "format",
    "items",
    "properties",
    "required",
    "type",
}

_TYPES: Mapping[str, tuple[type, ...]] = {
    "array": (list,),
    "boolean": (bool,),
    "integer": (int,),
    "null": (type(None),),
    "number": (int, float),
    "object": (dict,),
    "string": (str,),
}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def definitions() -> dict[str, Any]:
    """By command."""
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))["$defs"]
    return found


def faults(value: object, name: str) -> list[str]:
    """What is wrong in what a command has printed, with where."""
    defs = definitions()
    return list(_faults(value, defs[name], defs, name))


def _faults(
    value: object, what: Mapping[str, Any], defs: Mapping[str, Any], at: str
) -> Iterator[str]:
    assert set(what) <= KNOWN, f"{at}: this validator does not know {set(what) - KNOWN}"
    what = _whole(what, defs)
    kinds = what.get("type", list(_TYPES))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not any(_is(value, kind) for kind in kinds):
        yield f"{at}: {value!r} is no {' or '.join(kinds)}"
    elif "enum" in what and value not in what["enum"]:
        yield f"{at}: {value!r} is none of {what['enum']}"
    elif "const" in what and value != what["const"]:
        yield f"{at}: {value!r} is not {what['const']}"
    elif "format" in what and isinstance(value, str) and not _TIME.fullmatch(value):
        yield f"{at}: {value!r} is no time"
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _faults(item, what.get("items", {}), defs, f"{at}[{number}]")
    elif isinstance(value, dict) and "type" in what:
        yield from _members(value, what, defs, at)


def _members(
    value: Mapping[str, object], what: Mapping[str, Any], defs: Mapping[str, Any], at: str
) -> Iterator[str]:
    known, others = what.get("properties", {}), what.get("additionalProperties")
    yield from (f"{at}.{name} is missing" for name in what.get("required", ()) if name not in value)
    for name, inner in value.items():
        if name in known:
            yield from _faults(inner, known[name], defs, f"{at}.{name}")
        elif others is not None:
            yield from _faults(inner, others, defs, f"{at}.{name}")
        else:
            yield f"{at}.{name} is not in the schema"


def _whole(what: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """With what it refers to."""
    if "$ref" in what:
        return _whole(defs[what["$ref"].rpartition("/")[2]], defs)
    whole = dict(what)
    for part in (_whole(each, defs) for each in what.get("allOf", ())):
        whole["properties"] = {**part.get("properties", {}), **whole.get("properties", {})}
        whole["required"] = [*part.get("required", ()), *whole.get("required", ())]
    return whole


def _is(value: object, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
