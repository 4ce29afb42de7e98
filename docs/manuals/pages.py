"""Every file that is made: manual pages, completions, and ngrokd's words for `ngrokctl`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from docs.manuals import parts, roff
from docs.manuals.source import module
from ngrokd import __version__
from ngrokd.configfile import DEFAULT_TEXT
from ngrokd.control.completion import bash, fish, zsh
from ngrokd.control.completion.grammar import Program

WORDS = "ngrokd/control/completion/daemon.py"

_EFFECT = re.compile(r"^\| `([\w.]+)` \| .+? \| .+? \| (.+) \|$", re.MULTILINE)


class Unknown(Exception):
    """A template asks for what there is not. Handler: the person who wrote it is told."""


@dataclass(frozen=True)
class Sources:
    """`templates`: by name, as `ngrokd.8`; `configuration`: the text of docs/configuration.md."""

    ngrokd: Program
    ngrokctl: Program
    templates: Mapping[str, str] = field(repr=False)
    configuration: str = field(repr=False)


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
    return {PurePosixPath(name): text for name, text in made.items()}


def page(name: str, template: str, sources: Sources) -> str:
    """A template with each line that begins with `@` replaced by what it asks for.

    `@more COMMAND` and the lines up to `@end` go into the entry of that command.
    """
    more, rest = _without_more(template)
    head = rf'.\" Made by `make manuals` of docs/manuals/{name}.in: change that.'
    lines = [head]
    for text in rest:
        if text.startswith("@"):
            lines.append(_part(text[1:], more, sources))
        else:
            lines.append(text.replace("@VERSION@", __version__))
    return "\n".join(lines) + "\n"


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


def _without_more(template: str) -> tuple[dict[str, str], list[str]]:
    """The blocks between `@more COMMAND` and `@end`, and the other lines."""
    more: dict[str, str] = {}
    rest: list[str] = []
    lines: Iterator[str] = iter(template.rstrip("\n").split("\n"))
    for text in lines:
        if not text.startswith("@more "):
            rest.append(text)
            continue
        block: list[str] = []
        for inner in lines:
            if inner == "@end":
                break
            block.append(inner)
        else:
            raise Unknown(f"{text}: there is no @end")
        more[text[len("@more ") :]] = "\n".join(block)
    return more, rest
