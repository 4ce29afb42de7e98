"""Every file that is made: manual pages, completions, and ngrokd's words for `ngrokctl`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from docs.manuals import commandpage, parts, roff, schema
from docs.manuals.source import module
from docs.manuals.templates import Unknown, without_more
from ngrokd import __version__
from ngrokd.configfile import DEFAULT_TEXT
from ngrokd.control.completion import bash, fish, zsh
from ngrokd.control.completion.grammar import Program

WORDS = "ngrokd/control/completion/daemon.py"
JSON_PAGE = "docs/json.md"

_EFFECT = re.compile(r"^\| `([\w.]+)` \| .+? \| .+? \| (.+) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Sources:
    """`templates`: by name, as `ngrokd.8`; `configuration`, `commands`: those pages of docs/.

    `schema`: what docs/ngrokctl.schema.json holds.
    """

    ngrokd: Program
    ngrokctl: Program
    templates: Mapping[str, str] = field(repr=False)
    configuration: str = field(repr=False)
    commands: str = field(default="", repr=False)
    schema: Mapping[str, Any] = field(default_factory=lambda: {"$defs": {}}, repr=False)


def files(sources: Sources) -> dict[PurePosixPath, str]:
    """Path below the project's folder: content."""
    both = (sources.ngrokd, sources.ngrokctl)
    made = {
        f"init/man/{name}": page(name, text, sources)
        for name, text in sorted(sources.templates.items())
    }
    made["init/completions/ngrokd.bash"] = bash.script(both)
    made["init/completions/ngrokd.zsh"] = zsh.script(both)
    made["init/completions/ngrokd.fish"] = fish.script(both)
    made[WORDS] = module(sources.ngrokd)
    made[JSON_PAGE] = schema.page(sources.schema)
    made[commandpage.PAGE] = commandpage.page(
        sources.commands,
        {program.name: program for program in both},
        sources.templates,
        sources.schema,
    )
    return {PurePosixPath(name): text for name, text in made.items()}


def page(name: str, template: str, sources: Sources) -> str:
    """A template with each line that begins with `@` replaced by what it asks for.

    `@more COMMAND` and the lines up to `@end` go into the entry of that command.
    """
    more, rest = without_more(template)
    more = {command: _with_json(text, sources) for command, text in more.items()}
    head = rf'.\" Made by `make manuals` of docs/manuals/{name}.in: change that.'
    lines = [head]
    for text in rest:
        if text.startswith("@"):
            lines.append(_part(text[1:], more, sources))
        else:
            lines.append(text.replace("@VERSION@", __version__))
    return "\n".join(lines) + "\n"


def _with_json(text: str, sources: Sources) -> str:
    """The text of one command with `@json NAME` replaced by the members of that JSON."""
    lines = text.split("\n")
    return "\n".join(
        schema.prose(sources.schema, line[len("@json ") :]) if line.startswith("@json ") else line
        for line in lines
    )


def _part(wanted: str, more: Mapping[str, str], sources: Sources) -> str:
    verb, _, about = wanted.partition(" ")
    programs = {program.name: program for program in (sources.ngrokd, sources.ngrokctl)}
    if verb == "keys":
        return parts.keys(about, dict(_EFFECT.findall(sources.configuration)))
    if verb == "default-file":
        return roff.preformatted(DEFAULT_TEXT)
    if about not in programs:
        raise Unknown(f"@{wanted}")
    if verb == "synopsis":
        return parts.synopsis(programs[about])
    if verb == "options":
        return parts.options(programs[about].before)
    if verb == "commands":
        return parts.commands(programs[about], more)
    raise Unknown(f"@{wanted}")
