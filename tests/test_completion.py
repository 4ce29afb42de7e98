"""What bash, zsh and fish offer when Tab is pressed after a part of a command."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngrokd.control import ctl, hostnames
from ngrokd.control.arguments import SHELLS, Arguments
from ngrokd.control.completion import fish, scripts, zsh
from ngrokd.control.completion.daemon import NGROKD
from ngrokd.control.completion.grammar import (
    Command,
    Inexpressible,
    Kind,
    Option,
    Program,
    Value,
    program,
)
from tests import shells
from tests.control_room import serving

ROOT = Path(__file__).parent.parent
BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")
NGROKCTL = program(Arguments().parser)
KINDS = {"bash": shells.Bash, "zsh": shells.Zsh, "fish": shells.Fish}

Ask = Callable[[str], set[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return environment_in(tmp_path)


def environment_in(folder: Path) -> dict[str, str]:
    """A PATH with this ngrokctl, and a socket where no daemon answers."""
    programs = folder / "bin"
    programs.mkdir()
    wrapper = programs / "ngrokctl"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} -m ngrokd.control.ctl "$@"\n')
    wrapper.chmod(0o755)
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "NGROKD_SOCKET": str(folder / "s"),
    }


@pytest.fixture(params=SHELLS)
def ask(
    request: pytest.FixtureRequest, tmp_path: Path, environment: dict[str, str]
) -> Iterator[Ask]:
    """What this shell offers after a part of a line."""
    script = written(request.param, tmp_path)
    with contextlib.closing(KINDS[request.param](script, environment, tmp_path)) as shell:
        yield shell.ask


@pytest.fixture(scope="module", params=SHELLS)
def ask_again(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ask]:
    """The same, of one shell for many lines."""
    folder = tmp_path_factory.mktemp(request.param)
    script = written(request.param, folder)
    with contextlib.closing(KINDS[request.param](script, environment_in(folder), folder)) as shell:
        yield shell.ask


def written(shell: str, folder: Path) -> Path:
    path = folder / f"script.{shell}"
    path.write_text(scripts.script(shell), encoding="utf-8")
    return path


def flags(command: Command) -> set[str]:
    return {flag for option in command.options for flag in option.flags if flag[:2] == "--"}


def of(known: Program, name: str) -> Command:
    return next(command for command in known.all if command.name == name)


# What is offered

OFFERS = [
    ("ngrokctl lo", {"log-level"}),
    ("ngrokctl re", {"refresh", "reload"}),
    ("ngrokctl ", {command.name for command in NGROKCTL.commands}),
    ("ngrokd ", {command.name for command in NGROKD.commands}),
    ("ngrokctl --", flags(NGROKCTL.before)),
    ("ngrokd --", flags(NGROKD.before)),
    ("ngrokctl wait --", flags(of(NGROKCTL, "wait"))),
    ("ngrokctl wait --f", {"--for"}),
    ("ngrokd sandbox --no", {"--no-samples"}),
    ("ngrokctl log-level ", {"debug", "info", "warning", "error"}),
    ("ngrokctl log-level w", {"warning"}),
    ("ngrokctl --json log-level d", {"debug"}),
    ("ngrokctl --socket status log", {"log-level"}),
    ("ngrokctl --socket=/x log", {"log-level"}),
    ("ngrokctl list ", {"bound-endpoints"}),
    ("ngrokctl list --all b", {"bound-endpoints"}),
    ("ngrokctl completion ", set(SHELLS)),
    ("ngrokctl help wa", {"wait"}),
    ("ngrokctl nonsense s", set()),
    ("ngrokctl wait --timeout ", set()),
    ("ngrokd --config /x sand", {"sandbox"}),
    ("/nowhere/bin/ngrokctl pin", {"ping"}),
]


@pytest.mark.parametrize(("line", "offered"), OFFERS, ids=[line for line, _ in OFFERS])
def test_every_shell_offers_what_the_parser_takes(
    ask_again: Ask, line: str, offered: set[str]
) -> None:
    assert ask_again(line) == offered


@pytest.mark.parametrize("line", ["ngrokctl set-api-key ", "ngrokctl log-level debug i"])
def test_nothing_is_offered_where_only_the_user_knows(ask_again: Ask, line: str) -> None:
    assert {word for word in ask_again(line) if not word.startswith("-")} == set()


@pytest.mark.parametrize("option", ["--config ", "--config=", "check-config "])
def test_files_are_offered_for_a_path(ask: Ask, tmp_path: Path, option: str) -> None:
    (tmp_path / "files/inner").mkdir(parents=True)
    (tmp_path / "files/one config.yml").touch()
    (tmp_path / "files/other").touch()
    offered = {_last(word) for word in ask(f"ngrokd {option}{tmp_path}/files/")}
    assert offered == {"inner", "one config.yml", "other"}


@pytest.mark.parametrize("option", ["--dir ", "--dir="])
def test_only_folders_are_offered_for_a_folder(ask: Ask, tmp_path: Path, option: str) -> None:
    (tmp_path / "files/inner").mkdir(parents=True)
    (tmp_path / "files/other").touch()
    offered = {_last(word) for word in ask(f"ngrokd sandbox {option}{tmp_path}/files/")}
    assert offered == {"inner"}


def _last(word: str) -> str:
    """fish says the whole word again, with the option and quoted; the others only a part."""
    return word.replace("\\ ", " ").rstrip("/").rpartition("/")[2]


# With what else may be there


def test_bash_completes_the_same_with_the_package_bash_completion(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    if not BASH_COMPLETION.exists():
        pytest.skip("bash-completion is not installed")
    script, before = written("bash", tmp_path), f"source {BASH_COMPLETION}"
    (tmp_path / "files").mkdir()
    (tmp_path / "files/one config.yml").touch()
    with contextlib.closing(shells.Bash(script, environment, tmp_path, before)) as bash:
        assert bash.ask("ngrokctl log-level d") == {"debug"}
        assert bash.ask("ngrokctl wait --f") == {"--for"}
        [path] = bash.ask(f"ngrokd --config {tmp_path}/files/o")
    assert _last(path) == "one config.yml"


def test_bash_completes_an_option_with_its_value_where_the_equals_sign_parts_no_words(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    before = "COMP_WORDBREAKS=${COMP_WORDBREAKS//=}"
    script = written("bash", tmp_path)
    with contextlib.closing(shells.Bash(script, environment, tmp_path, before)) as bash:
        assert bash.ask("ngrokd install --init=o") == {"--init=openrc"}


def test_bash_completes_a_value_after_an_equals_sign(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    script = written("bash", tmp_path)
    with contextlib.closing(shells.Bash(script, environment, tmp_path)) as bash:
        assert bash.ask("ngrokd install --init=o") == {"openrc"}
        assert bash.ask("ngrokd install --init=") == {"systemd", "openrc", "sysv", "launchd"}


def test_zsh_finds_the_script_in_its_folders_of_functions(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    functions = tmp_path / "functions"
    functions.mkdir()
    shutil.copy(written("zsh", tmp_path), functions / "_ngrokd")
    before = f"fpath=({functions} $fpath)"
    script = functions / "_ngrokd"
    with contextlib.closing(shells.Zsh(script, environment, tmp_path, before)) as shell:
        assert shell.ask("ngrokctl log-level d") == {"debug"}
        assert shell.ask("ngrokd cle") == {"cleanup"}


def test_fish_may_load_the_script_twice(tmp_path: Path, environment: dict[str, str]) -> None:
    script = written("fish", tmp_path)
    script.write_text(script.read_text() * 2)
    result = subprocess.run(
        [shells.needed("fish"), "--no-config", "-c", f"source {script}; complete -C 'ngrokctl wa'"],
        capture_output=True,
        text=True,
        timeout=shells.PATIENCE_S,
        check=True,
    )
    assert result.stdout.splitlines() == [
        "wait\treturn when the daemon is ready, or a name or a number is open"
    ]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_finds_no_fault_in_the_script(shell: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [shells.needed(shell), "-n", str(written(shell, tmp_path))],
        capture_output=True,
        text=True,
        timeout=shells.PATIENCE_S,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_shellcheck_finds_no_fault_in_the_script(tmp_path: Path) -> None:
    tool = shells.needed("shellcheck")
    result = subprocess.run(
        [tool, "-s", "bash", str(written("bash", tmp_path))],
        capture_output=True,
        text=True,
        timeout=shells.PATIENCE_S,
        check=False,
    )
    assert result.stdout == ""


# The names of endpoints


@contextlib.contextmanager
def daemon(path: Path, *names: str) -> Iterator[None]:
    listed = [{"hostname": name, "state": "open"} for name in names]
    with serving(path, {"list": lambda args: listed}):
        yield


@pytest.mark.parametrize("option", ["--for ", "--for="])
def test_the_hostnames_of_the_running_daemon_are_offered(
    ask: Ask, tmp_path: Path, option: str
) -> None:
    with daemon(tmp_path / "s", "web.ns", "db.ns", "db.other", "db.ns", ""):
        assert {_value(word) for word in ask(f"ngrokctl wait {option}d")} == {"db.ns", "db.other"}


def test_the_socket_that_is_typed_is_the_one_that_is_asked(ask: Ask, tmp_path: Path) -> None:
    with daemon(tmp_path / "s", "wrong.ns"), daemon(tmp_path / "other", "right.ns"):
        assert ask(f"ngrokctl --socket {tmp_path}/other wait --for ") == {"right.ns"}
        assert ask(f"ngrokctl wait --socket={tmp_path}/other --for ") == {"right.ns"}


def test_without_a_daemon_no_hostname_is_offered_and_nothing_is_said(ask: Ask) -> None:
    assert ask("ngrokctl wait --for ") == set()


def test_what_pretends_to_be_a_hostname_is_never_run(
    ask: Ask, tmp_path: Path, environment: dict[str, str]
) -> None:
    mark = tmp_path / "mark"
    liar = tmp_path / "bin/ngrokctl"
    liar.write_text(f"#!/bin/sh\necho '$(touch {mark})'; echo '`touch {mark}`'; echo 'a;*'\n")
    assert len(ask("ngrokctl wait --for ")) == 3
    assert not mark.exists()


def _value(word: str) -> str:
    return word.rpartition("=")[2]


def test_only_names_that_are_names_are_known(tmp_path: Path) -> None:
    strange = ("$(id)", "a b", "a\nb", "-x", "*", "UPPER.ns", "x" * 300, "a;b", "", "ok.ns")
    with daemon(tmp_path / "s", *strange):
        assert hostnames.known(str(tmp_path / "s")) == ["ok.ns"]


def test_a_daemon_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostnames, "LOOK_S", 0.2)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "s"))
        mute.listen()
        assert hostnames.known(str(tmp_path / "s")) == []


@pytest.mark.parametrize("answer", [{"a": 1}, [1], None, "text"])
def test_a_strange_answer_is_no_names(tmp_path: Path, answer: Any) -> None:
    with serving(tmp_path / "s", {"list": lambda args: answer}):
        assert hostnames.known(str(tmp_path / "s")) == []


# The command


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_the_script_without_a_daemon(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ctl.main(["completion", shell]) == 0
    assert capsys.readouterr().out == scripts.script(shell)
    assert ctl.main(["completion", shell, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "shell": shell,
        "script": scripts.script(shell),
    }


@pytest.mark.parametrize("line", ["completion", "completion tcsh", "completion bash zsh"])
def test_another_shell_is_a_usage_error(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(line.split()) == 2
    assert capsys.readouterr().out == ""


def test_the_package_alone_is_enough_to_print_it(tmp_path: Path) -> None:
    """As in a wheel, where there is no init/."""
    shutil.copytree(ROOT / "ngrokd", tmp_path / "ngrokd")
    result = subprocess.run(
        [sys.executable, "-m", "ngrokd.control.ctl", "completion", "zsh"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=shells.PATIENCE_S,
        check=True,
    )
    assert result.stdout == scripts.script("zsh")


def test_only_this_command_loads_what_it_needs() -> None:
    code = (
        "import sys; from ngrokd.control import ctl; ctl.main(['ping', '--socket', '/none']);"
        "print([name for name in sys.modules if 'completion' in name or 'hostnames' in name])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=shells.PATIENCE_S,
        check=True,
    )
    assert result.stdout == "[]\n"


# From parser to values


def test_the_grammar_is_what_the_parser_takes() -> None:
    parser = argparse.ArgumentParser(prog="p")
    parser.add_argument("--hidden", help=argparse.SUPPRESS)
    parser.add_argument("-n", "--name", metavar="DIR", default="x", help="100%% of %(default)s")
    parser.add_argument("--many", action="append", choices=["a", "b"])
    found = program(parser)
    assert found.before.options[1:] == (
        Option(("-n", "--name"), "100% of x", (Value("DIR"),)),
        Option(("--many",), "", (Value("MANY", ("a", "b")),), repeatable=True),
    )
    kinds = [option.values[0].kind for option in found.before.options[1:]]
    assert kinds == [Kind.FOLDER, Kind.WORDS]


def _several(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--x", nargs="*")


def _places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("x", nargs="+")


def _hostile_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--x", choices=["$(id)"])


def _nested(parser: argparse.ArgumentParser) -> None:
    parser.add_subparsers().add_parser("a").add_subparsers().add_parser("b")


@pytest.mark.parametrize("build", [_several, _places, _hostile_choice, _nested])
def test_what_no_completion_can_say_is_refused(
    build: Callable[[argparse.ArgumentParser], None],
) -> None:
    parser = argparse.ArgumentParser(prog="p")
    build(parser)
    with pytest.raises(Inexpressible):
        program(parser)


@pytest.mark.parametrize("known", [NGROKD, NGROKCTL], ids=lambda known: known.name)
def test_every_option_and_command_has_a_help_text(known: Program) -> None:
    for command in known.all:
        assert command.help or not command.name
        for option in command.options:
            assert option.help, f"{command.name} {option.flags}"
        for place in command.places:
            assert place.help, f"{command.name} {place.value.name}"


@pytest.mark.parametrize("known", [NGROKD, NGROKCTL], ids=lambda known: known.name)
def test_what_is_a_path_is_called_so_everywhere(known: Program) -> None:
    """The name of a value decides what is offered for it."""
    usual = {"PATH", "FILE", "DIR", "HOSTNAME", "N", "S", "NAME", "KEY", "LEVEL", "SHELL"}
    usual |= {"COMMAND", "WHAT", "bound-endpoints", "URL=HOST:PORT", "FILE-or-URL", "SHA256"}
    usual |= {"ORDER", "TEXT"}
    for command in known.all:
        values = [value for option in command.options for value in option.values]
        values += [place.value for place in command.places]
        assert {value.name for value in values} <= usual


# Texts that a shell could take for something else

NASTY = r"""it's "100%" [a] (b) {c}: `id` $(id) $HOME \ * ? ~ ! # & | ; < > é"""
texts = st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF)), max_size=30)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_help_text_cannot_break_out_of_the_script(
    shell: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    place = Option(("--place",), NASTY, (Value("a:[b]"),))
    options = (Option(("--help", "-h"), NASTY), place)
    commands = (Command("run", NASTY, options=options), Command("rest", NASTY, options=options))
    known = Program("ngrokctl", Command("", "", options=options), commands)
    make = {"zsh": zsh.script, "fish": fish.script}[shell]
    script = tmp_path / "script"
    script.write_text(make([known]), encoding="utf-8")
    with contextlib.closing(KINDS[shell](script, environment, tmp_path)) as asked:
        assert asked.ask("ngrokctl r") == {"run", "rest"}
        assert asked.ask("ngrokctl --") == {"--help", "--place"}
        assert asked.ask("ngrokctl run --p") == {"--place"}


@pytest.mark.parametrize(
    ("argv", "quoted"),
    [
        (["zsh", "-f", "-c"], zsh.quoted),
        (["fish", "--no-config", "-c"], fish.quoted),
    ],
    ids=["zsh", "fish"],
)
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(texts)
def test_a_quoted_text_is_one_word_of_the_shell(
    argv: list[str], quoted: Callable[[str], str], words: list[str]
) -> None:
    shells.needed(argv[0])
    plain = [word.replace("\x85", "") for word in ["first", *words]]
    command = "printf '%s\\n' " + " ".join(map(quoted, plain))
    result = subprocess.run(
        [*argv, command],
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
        capture_output=True,
        timeout=shells.PATIENCE_S,
        check=True,
    )
    assert result.stdout.decode().split("\n")[:-1] == plain
