"""The command line of a program as a module of Python that holds it. Pure."""

from __future__ import annotations

import dataclasses

from ngrokd.control.completion.grammar import Program

_HEAD = '''\
"""The command line of ngrokd, which this room may not import. Made by `make manuals`. Pure."""

# ruff: noqa: E501

from __future__ import annotations

from ngrokd.control.completion.grammar import Command, Option, Place, Program, Value

'''
_WIDTH = 100  # what is longer is broken up, as far as it can be


def module(program: Program) -> str:
    """Python that assigns `program` to its name in capitals."""
    return f"{_HEAD}{program.name.upper()} = {_written(program, '')}\n"


def _written(value: object, indent: str) -> str:
    """`repr`, broken into lines where it is long."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(known, getattr(value, known.name)) for known in dataclasses.fields(value)]
        items = [(f"{known.name}=", item) for known, item in fields if item != known.default]
        opening, closing = f"{type(value).__name__}(", ")"
    elif isinstance(value, tuple) and value:
        items = [("", item) for item in value]
        opening, closing = "(", ")"
    else:
        return _quoted(value)
    inner = indent + "    "
    written = [name + _written(item, inner) for name, item in items]
    comma = "," if opening == "(" and len(written) == 1 else ""
    short = f"{opening}{', '.join(written)}{comma}{closing}"
    if "\n" not in short and len(indent) + len(short) < _WIDTH:
        return short
    return f"{opening}\n" + "".join(f"{inner}{item},\n" for item in written) + indent + closing


def _quoted(value: object) -> str:
    """With the quotes of the project."""
    shown = repr(value)
    if isinstance(value, str) and '"' not in shown and "\\" not in shown:
        return f'"{value}"'
    return shown
