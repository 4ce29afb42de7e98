"""The names in the form of a hosts file, to be read or to be added by hand. Pure."""

from __future__ import annotations

from ngrokd.control.answers import at, number, text, texts
from ngrokd.control.text import clean, count

HOSTS_COMMAND = "ngrokctl list --hosts"
OLDER = "the older ones of ngrokd (between `# BEGIN` and `# END`)"  # two sections are none


def missing_names(status: object) -> list[str]:
    """The lines that somebody has to add to the hosts file, as they are: they are to be copied."""
    lines = texts(status, "hosts", "lines")
    told = f"Until ngrokd may write {text(status, 'hosts', 'path')}, "
    replaces = at(status, "hosts", "replace") is True
    if not lines:
        return ["", clean(f"{told}remove {OLDER} from it")] if replaces else []
    where = f"names are right with these lines in place of {OLDER}:"
    told += where if replaces else "names work with these lines in it:"
    shown = ["", clean(told), "", *map(copied, lines)]
    more = int(number(status, "hosts", "more_lines"))
    return [*shown, f"... {count(more, 'line')} more: `{HOSTS_COMMAND}`"] if more else shown


def hosts_page(answer: object) -> str:
    """`ngrokctl list --hosts`: in the form of a hosts file, also where there is nothing."""
    lines = texts(answer, "lines")
    if not lines:
        return "# ngrokd has no names to publish now"
    return "\n".join(map(copied, lines))


def copied(line: str) -> str:
    """As it belongs into the file, with its tab."""
    return "\t".join(map(clean, line.split("\t")))
