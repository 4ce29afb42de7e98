"""The names in the form of a hosts file, to be read or to be added by hand. Pure."""

from __future__ import annotations

from ngrokd.control.answers import number, text, texts
from ngrokd.control.text import clean, count

HOSTS_COMMAND = "ngrokctl list --hosts"


def missing_names(status: object) -> list[str]:
    """The lines that somebody has to add to the hosts file, as they are: they are to be copied."""
    lines = texts(status, "hosts", "lines")
    if not lines:
        return []
    told = f"Until ngrokd may write {text(status, 'hosts', 'path')}, names work with these lines"
    shown = ["", clean(f"{told} in it:"), "", *map(_of_hosts_file, lines)]
    more = int(number(status, "hosts", "more_lines"))
    return [*shown, f"... {count(more, 'line')} more: `{HOSTS_COMMAND}`"] if more else shown


def hosts_page(answer: object) -> str:
    """`ngrokctl list --hosts`: in the form of a hosts file, also where there is nothing."""
    lines = texts(answer, "lines")
    if not lines:
        return "# ngrokd has no names to publish now"
    return "\n".join(map(_of_hosts_file, lines))


def _of_hosts_file(line: str) -> str:
    return "\t".join(map(clean, line.split("\t")))
