"""The manual pages: current, whole, well-formed, and true to what the programs do."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from docs.manuals import commandpage, pages, parts, roff, templates
from docs.manuals.__main__ import made, stale
from docs.manuals.source import module
from ngrokd import cli
from ngrokd.config import DEFAULT_CONFIG_PATH, DEFAULT_LOG_FILE, Config
from ngrokd.configtext import settings as configuration
from ngrokd.configtext.schema import KEYS, SECTIONS
from ngrokd.control import ctl, protocol, report
from ngrokd.control.arguments import Arguments
from ngrokd.control.completion.daemon import NGROKD
from ngrokd.control.completion.grammar import Command, Option, Place, Program, Value, program
from ngrokd.host import privileges
from ngrokd.model import Cause, Counters, EndpointState, EndpointStatus, State, Status, Target
from ngrokd.process import signals
from ngrokd.reload import needs_restart
from ngrokd.verbs import cleanup
from tests.shells import needed

ROOT = Path(__file__).parent.parent
MAN = ROOT / "init/man"
PAGES = sorted(path.name for path in MAN.iterdir())
TIMEOUT_S = 30
UTF8 = {"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"], "MAN_KEEP_FORMATTING": ""}


def run(*argv: str, given: str = "", **env: str) -> str:
    """Both outputs of a command that succeeds."""
    result = subprocess.run(
        [needed(argv[0]), *argv[1:]],
        input=given,
        env={**UTF8, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


@functools.cache
def shown(page: str) -> str:
    """A page as people see it, its lines not broken."""
    return run("man", "-l", str(MAN / page), MANWIDTH="2000")


def section(page: str, title: str) -> str:
    """The text below one title."""
    found = re.search(rf"^{title}$\n(.*?)(?=^\S|\Z)", shown(page), re.MULTILINE | re.DOTALL)
    assert found is not None, f"{page} has no section {title}"
    return found[1]


# Current and well-formed


def test_what_is_made_is_current() -> None:
    assert not stale(), "run `make manuals` (python3 -m docs.manuals)"


def test_the_three_pages_are_there() -> None:
    assert PAGES == ["ngrokctl.1", "ngrokd.8", "ngrokd.yml.5"]


@pytest.mark.parametrize(
    "env",
    [{"COLUMNS": "20"}, {"COLUMNS": "400", "TZ": "Asia/Tokyo"}, {"LC_ALL": "C", "LANG": "de_DE"}],
    ids=str,
)
def test_terminal_time_and_language_make_no_difference(env: dict[str, str]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "docs.manuals", "--check"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("page", PAGES)
def test_man_finds_no_fault(page: str) -> None:
    argv = (needed("man"), "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(MAN / page))
    result = subprocess.run(argv, env=UTF8, capture_output=True, timeout=TIMEOUT_S, check=True)
    assert result.stderr == b""
    assert result.stdout


@pytest.mark.parametrize("page", PAGES)
def test_mandoc_finds_no_fault(page: str) -> None:
    assert run("mandoc", "-T", "lint", "-W", "warning", str(MAN / page)) == ""


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("width", ["40", "80", "200"])
def test_no_name_is_broken_at_the_end_of_a_line(page: str, width: str) -> None:
    """Somebody will search for it, or paste it."""
    text = run("man", "-l", str(MAN / page), MANWIDTH=width)
    assert not re.findall(r".*[\u2010\u00ad]$", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_no_link_of_a_web_page_is_left(page: str) -> None:
    assert re.findall(r"\[[^][\n]*\]\([^)\n]*\)", (MAN / page).read_text()) == []


@pytest.mark.parametrize("page", PAGES)
def test_what_is_typed_has_hyphens_that_can_be_pasted(page: str) -> None:
    assert not re.findall(r"\S*[\u2010\u2212\u2013\u2018\u2019\u02c6\u02dc]\S*", shown(page))


# Whole


@pytest.mark.parametrize(
    ("page", "known"),
    [("ngrokd.8", NGROKD), ("ngrokctl.1", program(Arguments().parser))],
    ids=["ngrokd", "ngrokctl"],
)
def test_every_option_and_command_is_explained(page: str, known: Program) -> None:
    options, commands = section(page, "OPTIONS"), section(page, "COMMANDS")
    for option in known.before.options:
        assert re.search(rf"^ +(-\w, )?{option.flags[-1]}\b", options, re.MULTILINE)
    for command in known.commands:
        assert re.search(rf"^ {{7}}{command.name}\b", commands, re.MULTILINE)
        for option in set(command.options) - set(known.before.options):
            assert re.search(rf"^ +(-\w, )?{option.flags[-1]}\b", commands, re.MULTILINE)


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.dotted)
def test_every_key_is_explained_with_what_is_allowed_its_default_and_when_it_counts(
    key: Any,
) -> None:
    text = section("ngrokd.yml.5", f"SECTION {key.section}" if key.section else "TOP LEVEL")
    entry = re.search(
        rf"^ {{7}}{key.dotted}\b(.*?)(?=^ {{7}}\S|\Z)", text, re.MULTILINE | re.DOTALL
    )
    assert entry is not None
    assert f"Allowed: {key.allowed.replace('`', '')}." in entry[1]
    assert "Default: " in entry[1]
    assert ("needs a restart" in entry[1]) == needs_restart(key.dotted)


def test_every_section_of_the_file_is_a_section_of_the_page() -> None:
    titles = re.findall(r"^SECTION (\w+)$", shown("ngrokd.yml.5"), re.MULTILINE)
    assert tuple(titles) == tuple(name for name in titles if name in SECTIONS)
    assert set(titles) == set(SECTIONS)


# True


def test_every_signal_that_is_handled_is_told() -> None:
    handled = {signal.Signals(number).name for number in signals._MESSAGES}
    assert set(re.findall(r"SIG[A-Z0-9]+", section("ngrokd.8", "SIGNALS"))) == handled


def test_every_variable_that_ngrokd_reads_is_told() -> None:
    text = "".join(path.read_text() for path in (ROOT / "ngrokd").rglob("*.py"))
    asked = set(re.findall(r"environ(?:\.get\(|\[)[\"'](\w+)[\"']|[\"'](\w+)[\"'] in os\.e", text))
    read = {name for pair in asked for name in pair if name}
    read |= {name for name, _ in configuration._VARIABLES} | {configuration.KEY_FILE_VARIABLE}
    told = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)*\b", section("ngrokd.8", "ENVIRONMENT")))
    told |= set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)*\b", section("ngrokctl.1", "ENVIRONMENT")))
    assert read - told == set()


def test_the_exit_codes_are_those_of_the_programs() -> None:
    codes = {ctl.DONE, ctl.FAILED, ctl.USAGE, ctl.NO_DAEMON, ctl.TIMED_OUT, ctl.NOT_PERMITTED}
    assert exit_codes("ngrokctl.1") == {*codes, ctl.INTERRUPTED}
    assert exit_codes("ngrokd.8") == {cli.DONE, cli.FAILED, cli.USAGE, cli.INTERRUPTED}
    assert {cleanup.DONE, cleanup.FAILED, cleanup.USAGE} <= exit_codes("ngrokd.8")


def exit_codes(page: str) -> set[int]:
    found = re.findall(r"^ {7}(\d+) ", section(page, "EXIT STATUS") + " ", re.MULTILINE)
    return {int(code) for code in found}


def test_every_member_of_the_json_is_told() -> None:
    commands = section("ngrokctl.1", "COMMANDS")
    endpoint = EndpointStatus(id="ep", url="tcp://a.b:1", state=EndpointState.OPEN)
    status = Status(endpoints=(endpoint,))
    counters = {
        Target("a.b", 1): Counters(last_cause=Cause.CLIENT_LEFT, last_error_at=0.0),
    }
    names = _names(report.status_json(status, report.Traffic(counters), "1", 1, 0.0))
    names |= _names(report.endpoints_json(status, {}))
    names |= {state.value for state in State} | {state.value for state in EndpointState}
    assert {name for name in names if not re.search(rf"\b{name}\b", commands)} == set()


def test_every_code_of_the_control_socket_is_told() -> None:
    """Those of the daemon; what only ngrokctl itself raises never comes over the socket."""
    folder = ROOT / "ngrokd"
    daemon = [*folder.glob("*.py"), *(folder / "upkeep").glob("*.py")]
    text = "".join(path.read_text() for path in daemon)
    codes = set(re.findall(r"ControlError\(\s*\"(\w+)\"", text))
    codes |= {
        value
        for name, value in vars(protocol).items()
        if name.isupper() and isinstance(value, str) and not name.startswith("_")
    }
    assert len(codes) > 12
    told = re.findall(r"^ {7}([a-z_]+)\b", section("ngrokctl.1", "CODES"), re.MULTILINE)
    assert set(told) == codes


def test_every_cause_is_told() -> None:
    told = re.findall(r"\b[a-z_]+\b", section("ngrokctl.1", "CAUSES"))
    assert [cause.value for cause in Cause if cause.value not in told] == []


def _names(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(_names, value.values()))
    if isinstance(value, list):
        return set().union(*map(_names, value))
    return set()


def test_every_capability_that_is_kept_is_told() -> None:
    kept = {
        f"CAP_{name}"
        for name, bit in vars(privileges).items()
        if name[0].isalpha() and type(bit) is int and bit & privileges.NEEDED == bit
    } - {"CAP_NEEDED"}
    assert set(re.findall(r"CAP_\w+", section("ngrokd.8", "CAPABILITIES"))) == kept


def test_the_usual_files_are_told() -> None:
    config, files = Config(), section("ngrokd.8", "FILES")
    usual = [DEFAULT_CONFIG_PATH, DEFAULT_LOG_FILE, config.net.hosts_file]
    for path in (*usual, config.server.socket_path, config.server.pid_file):
        assert path in files
    assert "/etc/default/ngrokd" in files


def test_every_setting_of_the_init_files_is_told() -> None:
    text = (ROOT / "init/ngrokd.default").read_text()
    told = section("ngrokd.8", "FILES") + section("ngrokd.8", "ENVIRONMENT")
    names = re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE)
    assert names and [name for name in names if not re.search(rf"\b{name}\b", told)] == []


def test_every_state_file_is_told() -> None:
    files = section("ngrokd.8", "FILES")
    text = (ROOT / "ngrokd/memory.py").read_text() + (ROOT / "ngrokd/cloud/identity.py").read_text()
    for name in re.findall(r"folder / \"([\w.]+)\"", text):
        assert name in files


def test_the_file_with_all_defaults_is_shown_as_it_is_written() -> None:
    from ngrokd.configfile import DEFAULT_TEXT

    written = [line.strip() for line in DEFAULT_TEXT.splitlines() if line]
    assert "\n".join(written) in re.sub(r"\n+", "\n", re.sub(r"(?m)^ +", "", shown("ngrokd.yml.5")))


@pytest.mark.parametrize("page", PAGES)
def test_every_option_that_is_named_anywhere_exists(page: str) -> None:
    known = {
        flag
        for one in (NGROKD, program(Arguments().parser))
        for command in one.all
        for option in command.options
        for flag in option.flags
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", shown(page))) <= known


@pytest.mark.parametrize("page", PAGES)
def test_every_key_that_is_named_anywhere_exists(page: str) -> None:
    named = re.findall(rf"\b(?:{'|'.join(SECTIONS)})\.[a-z]+_[a-z_]+\b", shown(page))
    assert set(named) <= {key.dotted for key in KEYS}


# The escaping

plain = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)
hostile = st.lists(
    plain | st.sampled_from([".TH X", "'br", "\\fB", "\\", ".", "'", '"', "--x", "\\&", "a\\"]),
    min_size=1,
    max_size=12,
)


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(hostile)
def test_any_text_is_shown_as_it_is(words: list[str]) -> None:
    kept = [" ".join(word.split()) for word in words]
    kept = [word for word in kept if word]
    body = "\n".join(
        f".PP\n{roff.line(roff.literal(word))}\n.PP\n{roff.line(roff.bold(word))}" for word in kept
    )
    page = f".TH T 7 2026-01-01 s m\n.nr HY 0\n.nh\n.ad l\n.SH NAME\nt\n.SH BODY\n{body}\n"
    argv = [needed("man"), "--warnings", "-E", "UTF-8", "-l", "-"]
    result = subprocess.run(
        argv,
        input=page,
        env={**UTF8, "MANWIDTH": "2000"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert result.stderr == ""
    wanted = [word for word in kept for _ in range(2)]
    assert paragraphs(result.stdout) == wanted
    assert paragraphs(_without_overstrike(run("mandoc", "-Tutf8", "-Owidth=900", given=page))) == (
        wanted
    )


def paragraphs(text: str) -> list[str]:
    body = text.partition("BODY\n")[2].rstrip("\n").rpartition("\n")[0]
    return [" ".join(line.split()) for line in body.split("\n") if line.strip()]


def _without_overstrike(text: str) -> str:
    return re.sub(r".\x08", "", text)


@pytest.mark.parametrize(
    ("text", "made_of_it"),
    [
        ("one. two", "one.\ntwo"),
        ("see `--x` here", r"see \fB\-\-x\fR here"),
        ("one ` alone", r"one \(ga alone"),
        (".first", r"\&.first"),
        ("end. 'tis", "end.\n\\(aqtis"),
        ("`.dot`", r"\fB.dot\fR"),
        ("", ""),
    ],
)
def test_a_paragraph(text: str, made_of_it: str) -> None:
    assert roff.paragraph(text) == made_of_it


def test_preformatted_lines_keep_their_spaces_and_empty_lines() -> None:
    assert roff.preformatted("a:\n\n  .b\n.c 'd'\n") == "\n".join(
        [".nf", "a:", "", r"  .b", r"\&.c \(aqd\(aq", ".fi"]
    )


# The generator


SOURCES = pages.Sources(NGROKD, program(Arguments().parser), {}, "")


@pytest.mark.parametrize("wanted", ["@nonsense ngrokd", "@options nobody", "@options", "@"])
def test_a_template_cannot_ask_for_what_there_is_not(wanted: str) -> None:
    with pytest.raises(templates.Unknown):
        pages.page("x.1", f".TH X\n{wanted}\n", SOURCES)


def test_more_about_a_command_that_is_gone_is_refused() -> None:
    with pytest.raises(ValueError, match="no command gone"):
        pages.page("x.1", "@commands ngrokd\n@more gone\ntext\n@end\n", SOURCES)


def test_more_about_a_command_must_end() -> None:
    with pytest.raises(templates.Unknown, match="no @end"):
        pages.page("x.1", "@commands ngrokd\n@more start\ntext\n", SOURCES)


def test_a_key_without_words_is_refused() -> None:
    with pytest.raises(KeyError):
        pages.page("x.1", "@keys net\n", SOURCES)


def test_the_module_that_is_made_holds_the_program() -> None:
    namespace: dict[str, Any] = {}
    exec(module(NGROKD), namespace)
    assert namespace["NGROKD"] == NGROKD


def test_a_command_is_written_with_its_own_options_only() -> None:
    common = Option(("--json",), "print JSON")
    own = Option(("-n", "--name"), "its name", (Value("NAME"),), repeatable=True)
    command = Command("do", "do it", options=(common, own), places=(Place(Value("IT"), "", False),))
    known = Program("p", Command("", "", options=(common,)), (command,))
    assert parts.commands(known, {"do": "More."}).split("\n") == [
        ".TP",
        r"\fBdo\fR [\fB\-\-name\fR \fINAME\fR]... [\fIIT\fR]",
        "Do it.",
        ".RS",
        ".TP",
        r"\fB\-n\fR, \fB\-\-name\fR \fINAME\fR",
        "Its name.",
        "May be repeated.",
        ".RE",
        "More.",
    ]


def test_every_file_is_made_below_the_projects_folder() -> None:
    names = {str(path.relative_to(ROOT)) for path in made()}
    assert names == {
        *(f"init/man/{page}" for page in PAGES),
        *(f"init/completions/ngrokd.{shell}" for shell in ("bash", "zsh", "fish")),
        pages.WORDS,
        pages.JSON_PAGE,
        commandpage.PAGE,
        "docs/identity.md",
    }
