"""What the pages name is there: links and anchors, commands and options, settings, files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ngrokd import cli
from ngrokd.configtext.schema import KEYS, SECTIONS
from ngrokd.control.arguments import Arguments
from ngrokd.control.completion.grammar import Program, program

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ngrokd"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
PROGRAMS: dict[str, Program] = {
    "ngrokd": program(cli.make_parser()),
    "ngrokctl": program(Arguments().parser),
}
README_LINES = 60  # a screen

FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
# Where a shell expects a command, with its words up to the end of that.
TYPED = re.compile(
    r"(?:^|[|&;(] *|\b(?:sudo|done;) |\bexec (?:-it )?\w+ )(?:\S+/)?"
    r"(ngrokctl|ngrokd)((?: +[^\s|;&<>()#]+)+)",
)
MESSAGE = re.compile(r"^\| `.*?(?= \| )", re.MULTILINE)  # first cells: not to be typed
PROMPTS = ("$ ", "# ")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    titles = HEADING.findall(FENCE.sub("", text))
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in titles)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}


def typed(text: str) -> Iterator[tuple[str, list[str]]]:
    """Program and words of whatever stands as code and begins one of the two."""
    code = SPAN.findall(MESSAGE.sub("", FENCE.sub("", text)))
    for fence in FENCE.findall(text):
        lines = fence.splitlines()[1:-1]
        typed_at = [line for line in lines if line.startswith(PROMPTS)]
        code += [line[2:] for line in typed_at] or lines
    for line in code:
        for name, words in TYPED.findall(line.split(" # ")[0]):
            yield name, [word.strip("'\",.]") for word in words.replace("[", "").split()]


def wrong(name: str, words: list[str]) -> str:
    """Why this cannot be typed, as far as commands and options go."""
    known = PROGRAMS[name]
    commands = {command.name: command for command in known.commands}
    chosen, takes_value = known.before, False
    for word in words:
        if takes_value:
            takes_value = False
            continue
        if word.startswith("-"):
            options = [*known.before.options, *chosen.options]
            found = [option for option in options if word.partition("=")[0] in option.flags]
            if not found:
                return f"{chosen.name or name} has no option {word}"
            takes_value = bool(found[0].values) and "=" not in word
        elif chosen is known.before and re.fullmatch(r"[a-z][a-z-]*", word):
            if word not in commands:
                return f"{name} has no command {word}"
            chosen = commands[word]
        elif chosen is known.before:
            return ""  # no command: a placeholder, or words of another program
    return ""


@pytest.mark.parametrize("page", NAMES)
def test_every_link_leads_to_a_page_and_to_a_title_of_it(page: str) -> None:
    text = text_of(page)
    for target in LINK.findall(FENCE.sub("", text)):
        if "://" in target:
            continue
        place, _, anchor = target.partition("#")
        path = ((ROOT / page).parent / place) if place else ROOT / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{page}: {target}"


@pytest.mark.parametrize("page", NAMES)
def test_every_command_and_option_that_is_named_exists(page: str) -> None:
    found = {(name, " ".join(words)): wrong(name, words) for name, words in typed(text_of(page))}
    assert {line: why for line, why in found.items() if why} == {}


def test_commands_are_found_where_they_stand() -> None:
    found = [(name, words) for page in NAMES for name, words in typed(text_of(page))]
    assert len(found) > 250
    assert {name for name, _ in found} == {"ngrokd", "ngrokctl"}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ngrokctl dance", "ngrokctl has no command dance"),
        ("ngrokctl list --dance", "list has no option --dance"),
        ("ngrokctl --socket dance list --all", ""),
        ("ngrokd --config /x --foreground", ""),
        ("ngrokd restart --all", "restart has no option --all"),
        ("ngrokctl wait --for db.ns", ""),
    ],
)
def test_what_does_not_exist_is_noticed(line: str, why: str) -> None:
    ((name, words),) = typed(f"see `{line}`")
    assert wrong(name, words) == why


@pytest.mark.parametrize("page", [name for name in NAMES if name != "docs/json.md"])
def test_every_setting_that_is_named_exists(page: str) -> None:
    spans = SPAN.findall(FENCE.sub("", text_of(page)))
    named = re.compile(rf"(?:{'|'.join(SECTIONS)})\.[a-z_]+")
    known = {key.dotted for key in KEYS}
    settings = {span.partition(":")[0] for span in spans if named.match(span)}
    not_files = {span for span in settings if named.fullmatch(span) and not span.endswith(".py")}
    hostnames = {"api.prod", "api.ns", "api.identifier"}
    assert not_files - known - hostnames == set()


@pytest.mark.parametrize("page", NAMES)
def test_every_file_of_the_project_that_is_named_exists(page: str) -> None:
    """`ngrokd/x.py`, `tests/x/` and, of the package, `x/y` and `x/y.py`."""
    for span in SPAN.findall(FENCE.sub("", text_of(page))):
        if re.fullmatch(r"(ngrokd|tests|docs|init|\.ci)/[\w./-]*\w/?", span):
            assert (ROOT / span).exists() or "test_x" in span, f"{page}: {span}"
        folder, _, _ = span.partition("/")
        if re.fullmatch(r"[a-z_]+/[a-z_0-9]+(\.py)?", span) and (PACKAGE / folder).is_dir():
            assert (PACKAGE / f"{span.removesuffix('.py')}.py").exists(), f"{page}: {span}"


def test_the_page_on_the_code_names_every_part_of_the_package() -> None:
    text = text_of("docs/architecture.md")
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert len(folders) > 12
    assert {name for name in folders if f"`ngrokd/{name}/`" not in text} == set()
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert {name for name in modules if not re.search(rf"\b{name}\b", text)} == set()


def test_every_page_stands_in_the_index() -> None:
    linked = set(LINK.findall(text_of("docs/README.md")))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages <= linked


def test_the_first_page_is_one_screen() -> None:
    assert len(text_of("README.md").splitlines()) <= README_LINES
