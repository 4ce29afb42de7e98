"""The parts of docs/commands.md that the programs and their manual pages know. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from docs.manuals import markdown
from docs.manuals.templates import Unknown, without_more
from ngrokd.control.completion.grammar import Command, Option, Place, Program

PAGE = "docs/commands.md"

_PART = re.compile(r"(<!-- made: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
_SECTION = re.compile(r"^\.SH (.+)$", re.MULTILINE)


def page(
    text: str,
    programs: Mapping[str, Program],
    templates: Mapping[str, str],
    schema: Mapping[str, Any],
) -> str:
    """The page with every part between `<!-- made: WHAT -->` and `<!-- end -->` as it is now.

    WHAT is a program, a program and one of its commands, or a manual page and one of its sections.
    """

    def made(found: re.Match[str]) -> str:
        name, _, about = found[2].partition(" ")
        if name in programs:
            part = _command(programs[name], about, templates, schema)
        elif name in templates:
            part = _section(templates[name], about)
        else:
            raise Unknown(f"<!-- made: {found[2]} -->")
        return f"{found[1]}{part}\n{found[3]}"

    return _PART.sub(made, text)


def _section(template: str, title: str) -> str:
    """A section of a manual page, but for what stands in a list of commands."""
    _, rest = without_more(template)
    parts = _SECTION.split("\n".join(rest))
    sections = dict(zip(parts[1::2], parts[2::2]))
    if title not in sections:
        raise Unknown(f"there is no section {title}")
    return markdown.text(sections[title].strip("\n").split("\n"))


def _command(
    program: Program, name: str, templates: Mapping[str, str], schema: Mapping[str, Any]
) -> str:
    found = [each for each in program.commands if each.name == name]
    if name and not found:
        raise Unknown(f"{program.name} has no command {name}")
    command = found[0] if name else program.before
    page_name = next(each for each in templates if re.fullmatch(rf"{program.name}\.[18]", each))
    more, _ = without_more(templates[page_name])
    known = set(program.before.options) if name else set()
    blocks = [
        *_about(program, command, known),
        markdown.text(more[name].split("\n")) if name in more else "",
        _json(name, schema) if program.name == "ngrokctl" and name else "",
    ]
    return "\n\n".join(block for block in blocks if block)


def _about(program: Program, command: Command, known: set[Option]) -> Iterator[str]:
    own = [option for option in command.options if option not in known]
    shape = [_usage(option) for option in own if "--help" not in option.flags]
    shape += [_place(place) for place in command.places]
    name = "" if command is program.before else command.name
    yield markdown.wrapped("", _sentence(command.description or command.help))
    yield f"    {' '.join(filter(None, [program.name, name, *shape]))}"
    rows = [(", ".join(option.flags), option.values, option.help) for option in own]
    table = [f"| `{_named(flags, values)}` | {_cell(about)} |" for flags, values, about in rows]
    table += [
        f"| `{place.value.name}` | {_cell(place.help)} |" for place in command.places if place.help
    ]
    if table:
        yield "\n".join(["| | |", "|---|---|", *table])


def _json(name: str, schema: Mapping[str, Any]) -> str:
    """Where the members stand."""
    forms = [form for form in schema["$defs"] if form == name or form.startswith(f"{name} ")]
    links = ", ".join(f"[{form}](json.md#{_anchor(form)})" for form in forms)
    return f"Its JSON: {links}." if links else ""


def _anchor(title: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _named(flags: str, values: tuple[Any, ...]) -> str:
    return " ".join([flags, *(value.name for value in values)])


def _usage(option: Option) -> str:
    return f"[{_named(option.flags[-1], option.values)}]" + ("..." if option.repeatable else "")


def _place(place: Place) -> str:
    return place.value.name if place.required else f"[{place.value.name}]"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text.endswith((".", "?", "!")) else f"{text}."
