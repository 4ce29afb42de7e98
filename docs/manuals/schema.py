"""What `ngrokctl --json` prints, of its schema: in manual pages, and as docs/json.md. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from docs.manuals import roff

Schema = Mapping[str, Any]

_HEAD = """\
# What `ngrokctl --json` prints

<!-- Made by `make manuals` of docs/ngrokctl.schema.json: change that. -->

Every command takes `--json` and prints one JSON object; `ngrokctl events --json` prints one for
each event, and those stand in [events.md](events.md). Members keep their names, types and meaning;
later versions may add some, so ignore what you do not know. Times are ISO 8601 in UTC, what is not
known is null, and `a[].b` is member `b` of each object in the list `a`. Errors are no JSON: they
are text on standard error, with nothing on standard output and an
[exit code](commands.md#exit-codes).
The same in the words of JSON Schema, for programs: [ngrokctl.schema.json](ngrokctl.schema.json).
The control socket answers with the same data, in an envelope: [the socket](commands.md#the-socket).
"""


def page(schema: Schema) -> str:
    """docs/json.md."""
    defs = schema["$defs"]
    parts = [_HEAD]
    for name, what in defs.items():
        title = f"## {name}" if name != "endpoint" else "## An endpoint"
        about = f"{_sentence(what['description'])}\n\n" if _is_said(name, what) else ""
        rows = "\n".join(
            f"| `{path}` | {_type(inner)} | {_meaning(inner)} |"
            for path, inner in _members("", what, defs)
        )
        parts.append(f"{title}\n\n{about}| member | type | meaning |\n|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def prose(schema: Schema, name: str) -> str:
    """The members of one command as a paragraph of a manual page."""
    defs = schema["$defs"]
    members = defs[name]["properties"]
    if name == "list":  # the others refer to it
        about = {"description": "a list of objects with", "items": defs["endpoint"]}
        members = {"endpoints": about}
    # The stop goes to the last line, before which no blank may be.
    return "JSON:\n" + "\n".join(_listed(members)) + "."


def _is_said(name: str, what: Schema) -> bool:
    return name != "endpoint" and "description" in what


def _members(before: str, what: Schema, defs: Schema) -> Iterator[tuple[str, Schema]]:
    """Path and schema of all there is below `what`."""
    for name, inner in what.get("properties", {}).items():
        path = f"{before}{name}"
        is_list = "items" in inner
        yield path, inner
        below = inner["items"] if is_list else inner
        if isinstance(inner.get("additionalProperties"), dict):
            yield from _members(f"{path}.KEY.", inner["additionalProperties"], defs)
        yield from _members(f"{path}[]." if is_list else f"{path}.", below, defs)


def _type(inner: Schema) -> str:
    if "$ref" in inner:
        return "object"
    kind = inner.get("type", "any")
    words = [kind] if isinstance(kind, str) else list(kind)
    if "items" in inner:
        item = inner["items"].get("type", "object")
        words[0] = f"list of {item}s"
    if inner.get("format") == "date-time":
        words[0] = "time"
    return " or ".join(words)


def _meaning(inner: Schema) -> str:
    parts = [str(inner.get("description", ""))]
    if "enum" in inner:
        parts.append(_choice([f"`{word}`" for word in inner["enum"] if word is not None]))
    if "const" in inner:
        parts.append("always true: a failure is an exit code")
    target = inner.get("$ref") or inner.get("items", {}).get("$ref")
    if target:
        name = target.rpartition("/")[2]
        anchor = "an-endpoint" if name == "endpoint" else name
        parts.append(f"as [{name}](#{anchor})")
    return "; ".join(part for part in parts if part)


def _listed(properties: Schema) -> Iterator[str]:
    """Each member in bold, in parentheses what is said of it."""
    last = len(properties) - 1
    for number, (name, inner) in enumerate(properties.items()):
        comma = "," if number < last else ""
        inside = list(_inside(inner))
        if not inside:
            yield f"{roff.bold(name)}{comma}"
            continue
        yield roff.bold(name)
        inside[0] = f"({inside[0]}"
        inside[-1] = f"{inside[-1]}){comma}"
        yield from inside


def _inside(inner: Schema) -> Iterator[str]:
    about = re.sub(r"^those$", "", str(inner.get("description", "")))
    below = inner.get("items", inner)
    if "additionalProperties" in inner:
        below = inner["additionalProperties"]
    words = [roff.bold(word) for word in inner.get("enum", ()) if word is not None]
    nested = list(_listed(below.get("properties", {})))
    target = inner.get("$ref") or below.get("$ref")
    if target:
        name = target.rpartition("/")[2]
        about = f"{about}, as of `list`" if name == "endpoint" else f"as of `{name}`"
    if about:
        yield roff.paragraph(about.strip(", ")) + (":" if words or nested else "")
    if words:
        yield _choice(words)
    yield from nested


def _choice(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
