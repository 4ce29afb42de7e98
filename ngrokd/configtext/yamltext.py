"""YAML text to plain values that know the line they were written on.

Plain scalars are read as YAML 1.2's core schema does (`off` and `12:30` are text, not a boolean and
a number), so that a setting means what it looks like. Aliases and tags are refused: a configuration
needs neither, and without them a small file cannot unfold into a huge one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from ngrokd.errors import ConfigError

# The schema is three levels deep. The composer recurses, so the bound is checked on events before.
MAX_DEPTH = 16

# libyaml's parser is a state machine in C; the pure one is for builds of PyYAML without it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FRACTION = re.compile(r"[-+]?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")
_MAX_WHOLE_DIGITS = 18  # beyond, a float: int() of very long text takes quadratic time
# https://yaml.org/spec/1.2.2/#51-character-set
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Entry:
    """One `name: value`; `line` is where the name stands."""

    name: str
    line: int
    value: object


@dataclass(frozen=True)
class Table:
    """A mapping in the order it was written, repeated names included."""

    entries: tuple[Entry, ...] = ()


def read(text: str, source: str) -> object:
    """The value of the only document in `text`: a Table, a list, a scalar, or None if it is empty.

    Raises ConfigError with one fault, since nothing after a fault of form can be trusted.
    """
    bad = _UNPRINTABLE.search(text)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        raise _fault(source, line, f"the character U+{ord(bad.group()):04X}", "printable text")
    try:
        _refuse_what_unfolds(text, source)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as exc:
        raise _syntax_fault(exc, text, source) from exc
    except yaml.YAMLError as exc:
        raise _fault(source, 1, "it cannot be read as YAML", "YAML text") from exc
    return _value(node, source)


def _refuse_what_unfolds(text: str, source: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise _fault(source, line, "an alias (*name)", "the value itself, written out")
        if getattr(event, "tag", None) not in (None, "!"):
            raise _fault(source, line, "a tag (!name)", "values without tags")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _fault(source, line, "too many levels", f"at most {MAX_DEPTH}")


def _syntax_fault(exc: yaml.MarkedYAMLError, text: str, source: str) -> ConfigError:
    """Only `problem` is quoted: the mark's snippet would show the line, and with it an API key."""
    mark = exc.problem_mark or exc.context_mark
    lines = text.splitlines() or [""]
    line = min(mark.line + 1 if mark else 1, len(lines))  # the end of the file is not a line
    indentation = re.match(r"\s*", lines[line - 1])
    if indentation and "\t" in indentation.group():
        return _fault(source, line, "a tab in the indentation", "spaces")
    if "nesting depth" in (exc.problem or ""):  # newer parsers have a limit of their own
        return _fault(source, line, "too many levels", f"at most {MAX_DEPTH}")
    allowed = "`name: value` lines, those of a section indented by two spaces"
    return _fault(source, line, exc.problem or "it cannot be read", allowed)


def _fault(source: str, line: int, wrong: str, allowed: str) -> ConfigError:
    return ConfigError([f"{source}:{line}: YAML: {wrong}, allowed: {allowed}"])


def _value(node: Any, source: str) -> object:
    if node is None:
        return None
    if isinstance(node, yaml.ScalarNode):
        return node.value if node.style else _plain(node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, source) for item in node.value]
    return Table(tuple(_entry(name, value, source) for name, value in node.value))


def _entry(name: Any, value: Any, source: str) -> Entry:
    line = name.start_mark.line + 1
    if not isinstance(name, yaml.ScalarNode):
        raise _fault(source, line, "a list or section as a name", "`name: value`")
    return Entry(name.value, line, _value(value, source))


def _plain(text: str) -> object:
    """An unquoted scalar by the core schema, without octal, hexadecimal, infinity and NaN."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _WHOLE.fullmatch(text):
        return int(text) if len(text) <= _MAX_WHOLE_DIGITS else float(text)
    if _FRACTION.fullmatch(text) and any(character.isdigit() for character in text):
        return float(text)
    return text
