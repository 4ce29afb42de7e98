"""A command line as plain values, taken from the parser that reads it. Pure.

Completions and manual pages are made of these, so that they cannot say anything else than `--help`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

# What may stand unquoted in each of the shells, and in a pattern of their `case`.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_FLAG = re.compile(r"--?[A-Za-z0-9][A-Za-z0-9_-]*")


class Kind(Enum):
    """What a shell can offer in the place of a value."""

    NOTHING = ""  # only the user knows it
    WORDS = "words"  # one of its choices
    FILE = "file"
    FOLDER = "folder"
    HOSTNAME = "hostname"  # of an endpoint of the running daemon


_KINDS = {
    "PATH": Kind.FILE,
    "FILE": Kind.FILE,
    "FILE-or-URL": Kind.FILE,
    "DIR": Kind.FOLDER,
    "HOSTNAME": Kind.HOSTNAME,
}


@dataclass(frozen=True)
class Value:
    """What an option or a place takes, `name` as the help shows it."""

    name: str
    choices: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """What can be offered."""
        return Kind.WORDS if self.choices else _KINDS.get(self.name, Kind.NOTHING)


@dataclass(frozen=True)
class Option:
    """`values` is empty for a switch."""

    flags: tuple[str, ...]
    help: str
    values: tuple[Value, ...] = ()
    repeatable: bool = False


@dataclass(frozen=True)
class Place:
    """A value that is told by where it stands."""

    value: Value
    help: str
    required: bool = True


@dataclass(frozen=True)
class Command:
    """One of a program's commands, or what goes before them."""

    name: str
    help: str
    description: str = ""
    options: tuple[Option, ...] = ()
    places: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Program:
    """`before`: what may stand before the command."""

    name: str
    before: Command
    commands: tuple[Command, ...]

    @property
    def all(self) -> tuple[Command, ...]:
        """`before` has no name."""
        return (self.before, *self.commands)


class Inexpressible(Exception):
    """A parser uses what completions and manuals cannot say. Handler: the test that is told."""


def program(parser: argparse.ArgumentParser) -> Program:
    """The whole command line of a program. Raises Inexpressible."""
    commands: list[Command] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {known.dest: known.help or "" for known in action._choices_actions}
            commands = [
                _command(name, helps.get(name, ""), action.choices[name])
                for name in action.choices
                if helps.get(name) != argparse.SUPPRESS
            ]
    return Program(parser.prog, _command("", "", parser, nested=False), tuple(commands))


def _command(
    name: str, text: str, parser: argparse.ArgumentParser, nested: bool = True
) -> Command:
    options, places = [], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            if nested:
                raise Inexpressible(f"{parser.prog} has commands of its own")
        elif action.help == argparse.SUPPRESS:
            continue
        elif action.option_strings:
            options.append(_option(parser, action))
        else:
            places.append(_place(parser, action))
    _check(_PLAIN, [name] if name else [])
    return Command(name, text, parser.description or "", tuple(options), tuple(places))


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> Option:
    _check(_FLAG, action.option_strings)
    repeatable = isinstance(action, (argparse._AppendAction, argparse._CountAction))
    if action.nargs == 0:
        return Option(tuple(action.option_strings), _help(parser, action), (), repeatable)
    if action.nargs is not None:
        raise Inexpressible(f"{action.option_strings[-1]} takes several values, or none")
    values = (_value(action),)
    return Option(tuple(action.option_strings), _help(parser, action), values, repeatable)


def _place(parser: argparse.ArgumentParser, action: argparse.Action) -> Place:
    if action.nargs not in (None, "?"):
        raise Inexpressible(f"{parser.prog} takes several {action.dest}")
    return Place(_value(action), _help(parser, action), action.nargs is None)


def _value(action: argparse.Action) -> Value:
    choices = tuple(str(choice) for choice in action.choices or ())
    _check(_PLAIN, choices)
    metavar = action.metavar
    if metavar is None:
        metavar = action.dest.upper().replace("_", "-") if action.option_strings else action.dest
    return Value(str(metavar), choices)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Without the terminal's width, which `format_help` depends on."""
    formatter = parser._get_formatter()
    return " ".join(formatter._expand_help(action).split()) if action.help else ""


def _check(allowed: re.Pattern[str], words: Iterable[str]) -> None:
    for word in words:
        if not allowed.fullmatch(word):
            raise Inexpressible(f"{word!r} is no plain word")
