"""What `ngrokctl config` shows, and which editor it opens. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Optional

from ngrokd.config import Config
from ngrokd.configtext.schema import KEYS, Key, value_in
from ngrokd.configtext.written import plain
from ngrokd.control.text import GAP, clean, note, padded, places

SECRET = "[set, not shown]"
DEFAULT = "default"
FILE = "file"
ENVIRONMENT = "environment"
SET_API_KEY = "set-api-key"

_VARIABLES = ("VISUAL", "EDITOR")
_EDITORS = ("sensible-editor", "editor", "nano", "vi")  # where neither variable is set
_SECRETS = frozenset({"api.key"})
_TITLES = ("KEY", "VALUE", "FROM")


@dataclass(frozen=True)
class Setting:
    """One of them in force. `where` is more exact than `source`, for people."""

    key: str
    value: object
    source: str
    where: str

    @property
    def text(self) -> str:
        """As it would stand in the file: JSON is YAML, but plain words need no quotes."""
        if isinstance(self.value, str):
            return self.value or '""'
        return json.dumps(self.value, ensure_ascii=False)


def settings(
    config: Config, places: Mapping[str, str], path: str, saved: str = ""
) -> list[Setting]:
    """Every one. `saved`: the file of the key that was set at run time, "" if there is none."""
    return [_setting(config, key, places.get(key.dotted, ""), path, saved) for key in KEYS]


def _setting(config: Config, key: Key, place: str, path: str, saved: str) -> Setting:
    value = plain(value_in(config, key))
    if key.dotted in _SECRETS:
        if saved:
            return Setting(key.dotted, SECRET, SET_API_KEY, f"ngrokctl set-api-key ({saved})")
        value = SECRET if value else ""
    if not place:
        return Setting(key.dotted, value, DEFAULT, DEFAULT)
    name = place.removeprefix("environment: ")
    if name != place:
        return Setting(key.dotted, value, ENVIRONMENT, f"${name}")
    line = place.removeprefix(f"{path}:").partition(":")[0]
    return Setting(key.dotted, value, FILE, f"line {line}")


def page(
    path: str, is_there: bool, found: Sequence[Setting], notes: Sequence[str], width: Optional[int]
) -> str:
    """A line for each, below the file that they are of."""
    head = path if is_there else f"{path} (not there: the defaults count)"
    lines = [head, "", *_rows(found, width)]
    told = [line for each in notes for line in note(each, width)]
    return "\n".join([*lines, *([""] if told else []), *told])


def _rows(found: Sequence[Setting], width: Optional[int]) -> list[str]:
    """No value is cut, since people copy them: one that is too long stands below its key."""
    rows = [(clean(each.key), clean(each.text), clean(each.where)) for each in found]
    keys, values, _ = (max(map(places, column)) for column in zip(_TITLES, *rows))
    if width is not None:
        values = min(values, width - keys - len(DEFAULT) - 2 * len(GAP))
    lines = []
    for key, value, where in [_TITLES, *rows]:
        line = GAP.join([padded(key, keys), padded(value, values), where])
        if width is None or (places(value) <= values and places(line) <= width):
            lines.append(line)
        else:
            lines += [key, *note(f"{value}{GAP}{where}", width)]
    return lines


def as_json(
    path: str, is_there: bool, found: Sequence[Setting], notes: Sequence[str]
) -> dict[str, object]:
    """The same for programs."""
    return {
        "path": path,
        "exists": is_there,
        "settings": {
            each.key: {"value": each.value, "source": each.source, "where": each.where}
            for each in found
        },
        "notes": list(notes),
    }


def is_editor_named(environ: Mapping[str, str]) -> bool:
    """A variable says which one, so that it may be a program and no person who edits."""
    return any(environ.get(name, "").strip() for name in _VARIABLES)


def editor(environ: Mapping[str, str], exists: Callable[[str], bool]) -> list[str]:
    """The words of its command, without the file. Raises ValueError with what is wrong.

    VISUAL goes before EDITOR; either may have arguments, quoted as in a shell.
    """
    for name in _VARIABLES:
        value = environ.get(name, "").strip()
        if not value:
            continue
        try:
            words = shlex.split(value)
        except ValueError as exc:
            why = str(exc).lower()
            raise ValueError(f"${name} cannot be read as a command ({why}): {value}") from exc
        if not exists(words[0]):
            raise ValueError(f"${name} is {value!r}, and there is no program {words[0]}")
        return words
    for known in _EDITORS:
        if exists(known):
            return [known]
    raise ValueError(f"there is none of {', '.join(_EDITORS)} here: set EDITOR")


def copy_name(path: PurePath, token: str) -> str:
    """Of the copy that is edited; its ending has editors know what it is."""
    return f"{path.stem}.edit-{token}{path.suffix}"


def kept(copy: str, path: str) -> str:
    """How to go on with an edit that was not put in place."""
    there, here = shlex.quote(copy), shlex.quote(path)
    return (
        f"{path} is as it was; your edit is kept as {copy}\n"
        f"  go on:     ngrokd check-config {there}\n"
        f"  then:      cp {there} {here}"
    )
