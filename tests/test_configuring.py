"""`ngrokctl config`: what it shows, and that no edit and no file is ever lost."""

from __future__ import annotations

import json
import os
import pty
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Optional

import pytest

from ngrokd.config import Config, ServerSettings
from ngrokd.control import ctl, question
from ngrokd.errors import ControlError
from ngrokd.verbs import configpages, configuring, whereabouts
from tests.control_room import NOBODY, as_user, serving

TEXT = """\
# mine
api: {key: 2abcSECRETkey}
net:
  subnet: 10.9.0.0/16
"""
EDITED = TEXT.replace("10.9.", "10.8.")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("VISUAL", "EDITOR", "NGROK_API_KEY", "NGROKD_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NGROKD_SOCKET", str(tmp_path / "s"))
    path = tmp_path / "config.yml"
    path.write_text(f"{TEXT}server: {{client_cert: {tmp_path}/tls.crt}}\n")
    path.chmod(0o640)
    return path


@pytest.fixture
def reloads(path: Path) -> Iterator[list[str]]:
    """What the daemon was asked to reload with: the file's content at that time."""
    seen: list[str] = []

    def reload(args: list[str]) -> object:
        seen.append(path.read_text())
        return {"changed": ["net.subnet"], "needs_restart": []}

    with serving(path.parent / "s", {"reload": reload}):
        yield seen


@pytest.fixture
def edit(path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `config edit` with an editor that is a script of the shell; its $1 is the file."""

    def edit(script: str, *words: str) -> int:
        program = path.parent / "my editor"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("VISUAL", f"'{program}'")
        return ctl.main(["config", "edit", "--config", str(path), *words])

    return edit


def copies(path: Path) -> list[Path]:
    return sorted(path.parent.glob("config.edit-*.yml"))


SED = 'sed -i "s/10[.]9[.]/10.8./" "$1"'


# Showing


def test_every_setting_is_shown_with_where_it_comes_from_and_the_key_is_not(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ctl.main(["config", "show", "--config", str(path)]) == 0
    out = capsys.readouterr().out
    lines = [line.split(None, 2) for line in out.splitlines()]
    assert out.startswith(f"{path}\n\nKEY ")
    assert ["net.subnet", "10.9.0.0/16", "line 4"] in lines
    assert ["net.start_port", "9080", "default"] in lines
    assert ["server.socket_path", f"{path.parent}/s", "$NGROKD_SOCKET"] in lines
    assert f"api.key {configpages.SECRET} line 2".split() == next(
        line for line in out.splitlines() if line.startswith("api.key")
    ).split()
    assert "SECRET" not in out


def test_a_key_that_was_set_at_run_time_goes_before_all_others(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NGROK_API_KEY", "2envSECRETkey")
    shown = ["config", "show", "--config", str(path), "--json"]
    assert ctl.main(shown) == 0
    data = json.loads(capsys.readouterr().out)
    key = {"value": configpages.SECRET, "source": "environment", "where": "$NGROK_API_KEY"}
    assert data["settings"]["api.key"] == key
    saved = path.parent / "api_key"
    saved.write_text("2runSECRETkey\n")
    assert ctl.main(shown) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["settings"]["api.key"] == {
        "value": configpages.SECRET,
        "source": "set-api-key",
        "where": f"ngrokctl set-api-key ({saved})",
    }
    assert "SECRET" not in out


def test_what_cannot_be_looked_at_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path.parent / "api_key").mkdir()
    assert ctl.main(["config", "show", "--config", str(path)]) == 0
    assert "has set a key is not known" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["show"], 2, "net.subnets: there is no such key"),
        (["show", "--config", "/nowhere/c.yml"], 1, "/nowhere/c.yml: there is no such file"),
        (["edit", "--config", "/nowhere/c.yml"], 1, "/nowhere/c.yml: there is no such file"),
        (["show", "--config", "/"], 1, "it is not a regular file"),
        (["erase"], 2, "invalid choice"),
        ([], 2, "required: WHAT"),
    ],
)
def test_what_cannot_be_shown_is_told_with_its_exit_code(
    path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    said: str,
) -> None:
    path.write_text("net: {subnets: 1}\n")
    monkeypatch.setattr(whereabouts, "config_path", lambda: path)
    monkeypatch.setenv("EDITOR", "true")
    assert ctl.main(["config", *words]) == code
    assert said in capsys.readouterr().err


def test_the_path_is_that_of_the_service(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whereabouts, "config_path", lambda: path)
    assert ctl.main(["config", "path"]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert ctl.main(["config", "path", "--json", "--config", "/nowhere/c.yml"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": "/nowhere/c.yml", "exists": False}


def test_without_a_file_the_defaults_are_shown() -> None:
    found = configpages.settings(Config(), {}, "/c.yml")
    assert {each.source for each in found} == {"default"}
    page = configpages.page("/c.yml", False, found, ["a note"], 40).splitlines()
    assert page[0] == "/c.yml (not there: the defaults count)"
    assert page[-2:] == ["", "    a note"]


@pytest.mark.parametrize("width", [40, 60, 80, None])
def test_no_value_is_cut_and_no_line_is_longer_than_the_terminal(width: Optional[int]) -> None:
    there = "/a/folder/of/some/length/with/a-file-in-it.crt"
    config = Config(server=ServerSettings(client_cert=there))
    found = configpages.settings(config, {"server.client_cert": "/c.yml:12: x"}, "/c.yml")
    lines = configpages.page("/c.yml", True, found, [], width).splitlines()
    told = " ".join(" ".join(lines).split())
    assert f"server.client_cert {there} line 12 server.client_key" in told
    assert [line for line in lines if len(line) > (width or 99) and there not in line] == []
    assert width == 40 or "api.key                        \"\"" in "\n".join(lines)


# Editing


def test_a_good_edit_is_put_in_place_as_it_was_owned_and_the_daemon_reloads(
    path: Path, edit: Callable[..., int], reloads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    before, owner = path.read_text(), (path.stat().st_uid, path.stat().st_gid)
    assert edit(SED) == 0
    assert path.read_text() == before.replace("10.9.", "10.8.")
    assert reloads == [path.read_text()]
    assert path.stat().st_mode & 0o777 == 0o640
    assert (path.stat().st_uid, path.stat().st_gid) == owner
    assert copies(path) == []
    assert capsys.readouterr().out == (
        f"{path} is saved.\nConfiguration read again.\nchanged  net.subnet\n"
    )


def test_an_edit_that_changes_nothing_reloads_nothing(
    path: Path, edit: Callable[..., int], reloads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert edit("true", "--json") == 0
    data = {"path": str(path), "changed": False, "reload": None}
    assert json.loads(capsys.readouterr().out) == data
    assert (reloads, copies(path)) == ([], [])


def test_a_faulty_edit_is_kept_beside_and_named_and_the_file_stays(
    path: Path, edit: Callable[..., int], reloads: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = path.read_text()
    assert edit('echo "nets: 1" >> "$1"') == 2
    (kept,) = copies(path)
    assert (path.read_text(), reloads) == (before, [])
    assert kept.read_text() == f"{before}nets: 1\n"
    assert kept.stat().st_mode & 0o777 == 0o600
    fault, *rest = capsys.readouterr().err.splitlines()
    assert fault.startswith(f"ngrokctl: {kept}:6: nets: there is no such key")
    assert rest == [
        f"{path} is as it was; your edit is kept as {kept}",
        f"  go on:     ngrokd check-config {kept}",
        f"  then:      cp {kept} {path}",
    ]


def test_an_editor_that_fails_loses_nothing(
    path: Path, edit: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    before = path.read_text()
    assert edit("exit 3") == 1
    told = "my editor` failed (exit status 3): nothing is put in place\n"
    assert capsys.readouterr().err.endswith(told)
    assert copies(path) == []
    assert edit(f"{SED}; exit 3") == 1
    assert len(copies(path)) == 1
    assert path.read_text() == before


def test_without_a_terminal_no_editor_is_guessed(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(question, "there_is_a_person", lambda: False)
    assert ctl.main(["config", "edit", "--config", str(path)]) == 2
    told = "ngrokctl: there is no terminal to edit on, and EDITOR is not set\n"
    assert capsys.readouterr().err == told
    assert copies(path) == []


def test_an_editor_that_removes_the_copy_is_told(
    path: Path, edit: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    before = path.read_text()
    assert edit('rm "$1"') == 1
    assert "the editor has removed " in capsys.readouterr().err
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (': > "$1"', "the edit is empty"),
        ('printf "\\n\\n" > "$1"', "the edit is empty"),
        ('rm "$1"; ln -s /etc/passwd "$1"', "a link in the place of"),
        ('rm "$1"; mkfifo "$1"', "not a regular file"),
        ('rm "$1"; mkdir "$1"', "not a regular file"),
        ('rm "$1"; ln -s "$1" "$1"', "a link in the place of"),
        ('head -c 2000000 /dev/zero > "$1"', "is larger than"),
    ],
)
def test_an_editor_that_leaves_no_text_changes_nothing_and_is_told(
    script: str,
    why: str,
    edit: Callable[..., int],
    path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = path.read_bytes()
    assert edit(script) == ctl.FAILED
    told = capsys.readouterr().err
    assert why in told and "root:" not in told
    assert path.read_bytes() == before
    left = copies(path)
    assert not left or str(left[0]) in told  # what is left behind is named


def test_what_another_program_wrote_meanwhile_stays_and_so_does_the_edit(
    path: Path, edit: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert edit(f'{SED}; echo "# theirs" > "{path}"') == 1
    assert path.read_text() == "# theirs\n"
    (kept,) = copies(path)
    assert "10.8.0.0" in kept.read_text()
    assert f"{path} was changed by another program meanwhile\n" in capsys.readouterr().err


def test_a_link_stays_one(path: Path, edit: Callable[..., int]) -> None:
    real = path.parent / "real" / "c.yml"
    real.parent.mkdir()
    path.rename(real)
    path.symlink_to(real)
    assert edit(SED) == 0
    assert path.is_symlink() and "10.8.0.0" in real.read_text()
    assert [each.name for each in real.parent.iterdir()] == ["c.yml"]


def test_without_a_daemon_it_counts_from_the_next_start(
    edit: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert edit(SED) == 0
    assert configuring.NO_DAEMON in capsys.readouterr().out


@pytest.mark.parametrize(
    ("refusal", "code", "said"),
    [
        (ControlError("bad_configuration", "port taken"), 2, "but the daemon says: port taken"),
        (ControlError("timeout", "too slow"), 4, "but the daemon says: too slow"),
        (ControlError("forbidden", "not you"), 0, configuring.BY_ITSELF),
    ],
)
def test_a_daemon_that_does_not_take_it_is_told_and_the_file_is_in_place(
    path: Path,
    edit: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    refusal: ControlError,
    code: int,
    said: str,
) -> None:
    def reload(args: list[str]) -> object:
        raise refusal

    with serving(path.parent / "s", {"reload": reload}):
        assert edit(SED) == code
    assert said in "".join(capsys.readouterr())
    assert "10.8.0.0" in path.read_text() and copies(path) == []


def test_the_running_daemon_is_asked_at_the_socket_that_it_has(
    path: Path, edit: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NGROKD_SOCKET")
    path.write_text(f"server:\n  socket_path: {path.parent}/old\n")
    asked: list[list[str]] = []

    def reload(args: list[str]) -> object:
        asked.append(args)
        return {}

    with serving(path.parent / "old", {"reload": reload}):
        assert edit('sed -i s/old$/new/ "$1"') == 0
    assert asked == [[]]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_who_may_not_read_it_exits_with_five_and_no_group_is_named(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for folder in (path.parent, *list(path.parent.parents)[:2]):
        folder.chmod(0o755)
    path.chmod(0o600)
    words = ["config", "show", "--config", str(path)]
    assert as_user(NOBODY, [], lambda: str(ctl.main(words))) == "5"
    err = capfd.readouterr().err
    assert "nobody is not permitted" in err and "usermod" not in err
    assert f"config show --config {path}" in err


def test_at_a_terminal_a_mistake_can_be_mended_at_once(path: Path, tmp_path: Path) -> None:
    editor = tmp_path / "ed"
    editor.write_text(
        '#!/bin/sh\nif grep -q nets "$1"; then sed -i "s/nets/net/" "$1"\n'
        'else sed -i "s/^net:/nets:/; s/10.9/10.8/" "$1"; fi\n'
    )
    editor.chmod(0o755)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["EDITOR"] = str(editor)
        argv = ["-m", "ngrokd.control.ctl", "config", "edit", "--config", str(path)]
        os.execv(sys.executable, [sys.executable, *argv])
    shown = b""
    while b"Edit it again? [y/N] " not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, b"y\n")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    assert b"nets: there is no such key" in shown
    assert "net:\n  subnet: 10.8.0.0/16" in path.read_text() and copies(path) == []


def test_ctrl_c_at_the_question_keeps_the_edit(
    edit: Callable[..., int],
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*words: str) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(question, "there_is_a_person", lambda: True)
    monkeypatch.setattr(question, "agreed", interrupted)
    assert edit('echo "nets: 1" >> "$1"') == 1
    (kept,) = copies(path)
    assert capsys.readouterr().err.startswith(f"ngrokctl: interrupted\n{path} is as it was")
    assert kept.read_text().endswith("nets: 1\n")


def test_ctrl_c_is_the_editors_own(path: Path, edit: Callable[..., int]) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert edit(f"trap : INT; kill -INT $PPID; {SED}") == 0
    assert "10.8.0.0" in path.read_text()
    assert signal.getsignal(signal.SIGINT) is before


# The editor


@pytest.mark.parametrize(
    ("environ", "argv"),
    [
        ({"VISUAL": "code --wait", "EDITOR": "vi"}, ["code", "--wait"]),
        ({"VISUAL": " ", "EDITOR": "'/my ed' -c 'set ts=2'"}, ["/my ed", "-c", "set ts=2"]),
        ({}, ["nano"]),
    ],
)
def test_the_editor_is_visual_then_editor_then_what_is_there(
    environ: dict[str, str], argv: list[str]
) -> None:
    known = {"code", "/my ed", "vi", "nano"}
    assert configpages.editor(environ, known.__contains__) == argv


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"VISUAL": "emacs 'x"}, "read as a command (no closing quotation): emacs 'x"),
        ({"EDITOR": "gone -w"}, "$EDITOR is 'gone -w', and there is no program gone"),
        ({"EDITOR": "''"}, "and there is no program"),
        ({}, "here: set EDITOR"),
    ],
)
def test_an_editor_that_is_none_is_told(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        configpages.editor(environ, lambda name: False)
    assert said in str(caught.value)


def test_a_bad_editor_is_a_usage_error_and_touches_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDITOR", "no-such-editor")
    assert ctl.main(["config", "edit", "--config", str(path)]) == 2
    assert "there is no program no-such-editor" in capsys.readouterr().err
    assert copies(path) == []
