"""What the programs know about themselves, as parts of manual pages. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from docs.manuals import roff
from ngrokd.config import Config
from ngrokd.configtext.schema import KEYS, Key, value_in
from ngrokd.control.completion.grammar import Command, Option, Place, Program
from ngrokd.reload import needs_restart


def synopsis(program: Program) -> str:
    """What may be typed, in the two forms there are."""
    options = [_usage(option) for option in program.before.options if "--help" not in option.flags]
    lines = [f".SY {program.name}", *options, ".YS"]
    if program.commands:
        common = "" if program.before.places else r"[\fIOPTION\fR]... "
        lines += [f".SY {program.name}", rf"{common}\fICOMMAND\fR [\fIARGUMENT\fR]...", ".YS"]
    return "\n".join(lines)


def options(command: Command) -> str:
    """A list of them."""
    return "\n".join(_option(option) for option in command.options)


def commands(program: Program, more: Mapping[str, str]) -> str:
    """A list of them with their options; `more` (roff) goes at the end of the command's entry."""
    strange = set(more) - {command.name for command in program.commands}
    if strange:
        raise ValueError(f"{program.name} has no command {', '.join(sorted(strange))}")
    known = set(program.before.options)
    return "\n".join(
        _command(command, known, more.get(command.name, "")) for command in program.commands
    )


def keys(section: str, effects: Mapping[str, str]) -> str:
    """A list of the settings of one section ("": those of none)."""
    return "\n".join(_key(key, effects[key.dotted]) for key in KEYS if key.section == section)


def _command(command: Command, known: set[Option], more: str) -> str:
    own = [option for option in command.options if option not in known]
    shape = [_usage(option) for option in own] + [_place(place) for place in command.places]
    tag = " ".join([roff.bold(command.name), *shape])
    text = roff.paragraph(_sentence(command.description or command.help))
    lines = [roff.tagged(tag, text)]
    inner = [_option(option) for option in own]
    inner += [
        roff.tagged(roff.italic(place.value.name), roff.paragraph(_sentence(place.help)))
        for place in command.places
        if place.help
    ]
    if inner:
        lines += [".RS", *inner, ".RE"]
    return "\n".join([*lines, *([more] if more else [])])


def _option(option: Option) -> str:
    values = "".join(f" {roff.italic(value.name)}" for value in option.values)
    tag = ", ".join(roff.bold(flag) for flag in option.flags) + values
    again = " May be repeated." if option.repeatable and "repeated" not in option.help else ""
    return roff.tagged(tag, roff.paragraph(_sentence(option.help) + again))


def _usage(option: Option) -> str:
    values = "".join(f" {roff.italic(value.name)}" for value in option.values)
    return f"[{roff.bold(option.flags[-1])}{values}]" + ("..." if option.repeatable else "")


def _place(place: Place) -> str:
    shown = roff.italic(place.value.name)
    return shown if place.required else f"[{shown}]"


def _key(key: Key, effect: str) -> str:
    default = value_in(Config(), key)
    shown = default if not isinstance(default, tuple) else list(default)
    is_empty = default == "" or default == {}
    facts = [
        f"Allowed: {roff.paragraph(key.allowed)}.",
        f"Default: {'nothing' if is_empty else roff.bold(str(shown))}.",
        "A change needs a restart." if needs_restart(key.dotted) else "A change takes effect live.",
    ]
    text = roff.paragraph(_sentence(effect.replace("(restart)", "").strip()))
    return roff.tagged(roff.bold(key.dotted), text, "\n.br\n".join(facts))


def _sentence(text: str) -> str:
    """`Text.`, but code and paths keep their case."""
    text = text.strip()
    first = text.split(" ")[0]
    if len(first) == 1 or (first.rstrip(",:;.").isalpha() and first[1:].islower()):
        text = text[:1].upper() + text[1:]
    return text if not text or text.endswith((".", "?", "!")) else f"{text}."
