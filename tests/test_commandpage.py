"""The made parts of docs/commands.md: out of the parsers and of the manual pages' templates."""

from __future__ import annotations

import re

import pytest

from docs.manuals import commandpage, markdown, schema
from docs.manuals.__main__ import ROOT
from docs.manuals.templates import Unknown
from ngrokd import cli
from ngrokd.control import ctl
from ngrokd.control.arguments import Arguments
from ngrokd.control.completion.grammar import program
from tests.test_manuals import exit_codes

PAGE = (ROOT / commandpage.PAGE).read_text(encoding="utf-8")
NGROKCTL = program(Arguments().parser)
TEMPLATES = {"ngrokctl.1": ".SH CODES\nOf\n.BR these :\n@more ping\n.IP\nOne.\n@json ping\n@end\n"}
DEFS = {
    "$defs": {
        "ping": {
            "type": "object",
            "properties": {
                "ms": {"type": ["number", "null"], "description": "how long"},
                "of": {"type": "array", "items": {"properties": {"a": {"type": "string"}}}},
                "grade": {"type": "string", "enum": ["ok", "failed"]},
            },
        }
    }
}


def made(what: str) -> str:
    text = f"before\n<!-- made: {what} -->\nold\n<!-- end -->\nafter\n"
    page = commandpage.page(text, {"ngrokctl": NGROKCTL}, TEMPLATES, DEFS)
    assert page.startswith(f"before\n<!-- made: {what} -->\n")
    assert page.endswith("\n<!-- end -->\nafter\n")
    return page.split("-->\n", 1)[1].rsplit("\n<!--", 1)[0]


def test_every_command_of_both_programs_has_its_part_and_its_title() -> None:
    for known in (program(cli.make_parser()), NGROKCTL):
        for command in known.commands:
            assert f"### `{known.name} {command.name}`\n" in PAGE
            assert f"<!-- made: {known.name} {command.name} -->\n" in PAGE


def test_the_table_of_exit_codes_is_that_of_the_manuals() -> None:
    rows = re.findall(r"^\| (\d+) \|(.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    assert {int(code) for code, ngrokd, _ in rows if ngrokd} == exit_codes("ngrokd.8")
    assert {int(code) for code, _, ngrokctl in rows if ngrokctl} == exit_codes("ngrokctl.1")
    assert max(int(code) for code, _, _ in rows) == ctl.INTERRUPTED


def test_a_part_has_what_the_command_takes_what_the_manual_says_and_where_its_json_is() -> None:
    assert made("ngrokctl ping") == "\n\n".join(
        [
            "Tell whether a daemon answers.",
            "    ngrokctl ping",
            "One.",
            "Its JSON: [ping](json.md#ping).",
        ]
    )


def test_a_part_can_be_a_section_of_a_manual_page() -> None:
    assert made("ngrokctl.1 CODES") == "Of `these`:"


@pytest.mark.parametrize("what", ["ngrokctl dance", "ngrokctl.1 NONE", "nobody"])
def test_a_part_of_what_there_is_not_is_refused(what: str) -> None:
    with pytest.raises(Unknown):
        made(what)


@pytest.mark.parametrize(
    ("roff", "shown"),
    [
        ([r"a \-\-b \(aqc\(aq \fIfile\fR"], "a --b 'c' `file`"),
        ([".BR one , two"], "`one`,`two`"),
        ([".RB ( one ,", "three)"], "(`one`, three)"),
        ([r'.BR {"a":\ \fIb\fP} .'], '`{"a": b}`.'),
        ([r'.BR a ", " b'], "`a`, `b`"),
        (["one", ".PP", "two", ".IP", "three"], "one\n\ntwo\n\nthree"),
        ([".TP", ".B a", "one", ".TP", "b", "two"], "- `a`: one\n- b: two"),
        ([".RS 4", ".EX", r"x \-y", ".EE", ".RE", "z"], "```sh\nx -y\n```\n\nz"),
        (["word " * 30], "\n".join([("word " * 20).strip(), ("word " * 10).strip()])),
    ],
)
def test_roff_as_markdown(roff: list[str], shown: str) -> None:
    assert markdown.text(roff) == shown


def test_the_members_of_json_are_rows_of_a_page_and_prose_of_a_manual() -> None:
    page = schema.page(DEFS)
    assert "| `ms` | number or null | how long |\n| `of` | list of objects |  |\n" in page
    assert "| `of[].a` | string |  |\n| `grade` | string | `ok` or `failed` |\n" in page
    assert schema.prose(DEFS, "ping") == "\n".join(
        [
            "JSON:",
            r"\fBms\fR",
            "(how long),",
            r"\fBof\fR",
            r"(\fBa\fR),",
            r"\fBgrade\fR",
            r"(\fBok\fR or \fBfailed\fR).",
        ]
    )
