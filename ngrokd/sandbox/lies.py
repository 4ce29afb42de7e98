"""True answers of the API made wrong: fields replaced by any value, or left out. Pure.

A field is named by its path: `binding.cert.not_after`, `endpoints.0.url`, `endpoints.*.url` (of
every one), and "" for the whole answer. What a path leads to must be there, but for its last name.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Union

from ngrokd.sandbox.messages import Reply, json_reply

EVERY = "*"
INDEX = re.compile(r"[0-9]{1,6}")

Container = Union[dict[str, Any], list[Any]]


def replaced(reply: Reply, fields: Mapping[str, object], omit: Iterable[str]) -> Reply:
    """`fields` by their paths in place of the true ones, and then without those of `omit`."""
    if not reply.content:
        return reply
    answer = {"": json.loads(reply.content)}  # so that the whole answer has a place, too
    for path, value in fields.items():
        for container, key in list(_places(answer, path)):
            container[key] = copy.deepcopy(value)  # another path may lead into it
    for path in omit:
        for container, key in reversed(list(_places(answer, path))):
            if isinstance(container, list) or key in container:
                del container[key]
    content = json_reply(reply.status, answer.get("")).content
    return dataclasses.replace(reply, content=content)


def _places(answer: Container, path: str) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) that `path` means. Those of a list ascend."""
    found: list[Container] = [answer]
    *way, last = ["", *path.split(".")] if path else [""]
    for name in way:
        found = [
            container[key]
            for container in found
            for key in _keys(container, name)
            if isinstance(container, list) or key in container
        ]
        found = [each for each in found if isinstance(each, (dict, list))]
    for container in found:
        for key in _keys(container, last):
            yield container, key


def _keys(container: Any, name: str) -> list[Any]:
    if name == EVERY:
        return list(range(len(container)) if isinstance(container, list) else container)
    if isinstance(container, dict):
        return [name]
    return [int(name)] if INDEX.fullmatch(name) and int(name) < len(container) else []
