"""`ngrokctl trust`, with a daemon and without one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Optional

import pytest

from ngrokd.cloud import facts, ngrokca
from ngrokd.cloud.ngrokca import SHA256
from ngrokd.commands import Commands
from ngrokd.control import ctl
from ngrokd.errors import ControlError
from ngrokd.messages import Trust
from tests.cloud_fake import Authority, FakeApi, Reply
from tests.control_room import NOBODY, as_user, serving

AUTHORITY = Authority()
PEM = AUTHORITY.intermediate_pem()
OURS = facts.read(ngrokca._only_certificate(PEM.encode())).sha256
SHOWN = f"""\
Certificate  CN=Intermediate CA
Issued by    CN=Root CA
Valid        from 2024-01-01T00:00:00Z to 2044-01-01T00:00:00Z
SHA-256      {OURS}
"""


class Daemon:
    """The real verbs, with a main thread that only notes what it is to trust."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answer: dict[str, object] = {
            "installed": True,
            "path": "/state/ca.crt",
            "kept": "",
            "ingress": "trusted",
        }
        self.error: Optional[Exception] = None
        self.commands = Commands(None, None, self._take, None)  # type: ignore[arg-type]

    def _take(self, message: object) -> None:
        assert isinstance(message, Trust)
        self.asked.append((message.pem, message.sha256))
        reply: Future[Any] = message.reply
        if self.error is not None:
            reply.set_exception(self.error)
        else:
            reply.set_result(self.answer)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current one, with a CA in `ca.pem`, a configuration and no daemon."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NGROKD_SOCKET", str(tmp_path / "s"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    (tmp_path / "ca.pem").write_text(PEM)
    pair = f"client_cert: {tmp_path}/state/tls.crt, client_key: {tmp_path}/state/tls.key"
    (tmp_path / "config.yml").write_text(f"server: {{{pair}}}\n")
    return tmp_path


@pytest.fixture
def daemon(folder: Path) -> Iterator[Daemon]:
    daemon = Daemon()
    table, owners = daemon.commands.table(), daemon.commands.table_for_owner()
    with serving(folder / "s", table, for_owner=owners):
        yield daemon


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
OURS_GIVEN = ("--fingerprint", OURS)
NO_DAEMON = ("--config", "config.yml")


def test_the_daemon_is_given_the_certificate_alone_and_its_fingerprint(
    daemon: Daemon, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "ca.pem").write_text(f"some words\n{PEM}")
    assert ctl.main(["trust", "ca.pem", "--fingerprint", OURS.replace(":", "").lower()]) == 0
    assert daemon.asked == [(PEM, OURS)]
    assert capsys.readouterr() == (
        f"{SHOWN}\nInstalled as /state/ca.crt.\n    the ingress is trusted now\n",
        "",
    )


def test_what_was_there_before_and_what_is_still_wrong_are_told(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answer.update(kept="/state/ca.crt.before", ingress="untrusted")
    assert ctl.main(["trust", "ca.pem", *OURS_GIVEN]) == 0
    out = capsys.readouterr().out
    assert "    what was there is kept as /state/ca.crt.before; to trust it too, name it in" in out
    assert "    the ingress is still not trusted: `ngrokctl status`" in out


def test_json_has_the_answer_and_the_certificate(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ctl.main(["trust", "ca.pem", *OURS_GIVEN, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        **daemon.answer,
        "daemon": True,
        "certificate": {
            "subject": "CN=Intermediate CA",
            "issuer": "CN=Root CA",
            "not_before": "2024-01-01T00:00:00Z",
            "not_after": "2044-01-01T00:00:00Z",
            "sha256": OURS,
        },
    }


def test_it_may_come_from_standard_input(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PEM.encode())))
    assert ctl.main(["trust", "-", *OURS_GIVEN]) == 0
    assert daemon.asked == [(PEM, OURS)]


def test_it_may_come_from_a_pipe_of_the_shell(daemon: Daemon) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "w") as pipe:
        pipe.write(PEM)
        pipe.close()
        assert ctl.main(["trust", f"/dev/fd/{reading}", *OURS_GIVEN]) == 0
    assert daemon.asked == [(PEM, OURS)]


def test_it_may_come_from_a_fifo(daemon: Daemon, folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    writer = threading.Thread(target=(folder / "fifo").write_text, args=(PEM,))
    writer.start()
    assert ctl.main(["trust", "fifo", *OURS_GIVEN]) == 0
    writer.join(10)
    assert daemon.asked == [(PEM, OURS)]


def test_it_may_come_from_a_url(daemon: Daemon) -> None:
    with FakeApi(lambda request: Reply(body=PEM.encode())) as server:
        assert ctl.main(["trust", f"{server.url}/ca.crt", *OURS_GIVEN]) == 0
    assert daemon.asked == [(PEM, OURS)]


def test_without_a_source_it_comes_from_where_ngrok_publishes_it(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngrokca, "SHA256", OURS)
    with FakeApi(lambda request: Reply(body=PEM.encode())) as server:
        monkeypatch.setattr(ngrokca, "URL", f"{server.url}/certs/ngrok-ca.crt")
        assert ctl.main(["trust"]) == 0
    assert [request.path for request in server.requests] == ["/certs/ngrok-ca.crt"]
    assert daemon.asked == [(PEM, OURS)]


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["ca.pem"], 1, f"ca.pem holds the certificate of CN=Intermediate CA, SHA-256 {OURS}"),
        (["ca.pem", "--fingerprint", SHA256], 1, "is not ngrok's CA"),
        (["ca.pem", "--fingerprint", "ab"], 2, "64 hexadecimal digits"),
        (["none.pem", *OURS_GIVEN], 1, "none.pem does not exist"),
        ([".", *OURS_GIVEN], 1, ". is a folder: name the file of one certificate"),
        (["ca.pem/x", *OURS_GIVEN], 1, "cannot be read: Not a directory"),
        (["/dev/zero", *OURS_GIVEN], 1, "/dev/zero has more than 32 KiB"),
        (["leaf.pem", *OURS_GIVEN], 1, "leaf.pem holds the certificate of CN=a.test"),
        (["-", *OURS_GIVEN], 1, "standard input holds no PEM certificate"),
        (["http://192.0.2.1/x", *OURS_GIVEN], 1, "is not an https:// URL"),
    ],
)
def test_what_is_not_to_be_trusted_reaches_no_daemon(
    daemon: Daemon,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    why: str,
) -> None:
    (folder / "leaf.pem").write_text(AUTHORITY.server("a.test")[0])
    assert ctl.main(["trust", *words]) == code
    out, err = capsys.readouterr()
    assert out == "" and why in err and not daemon.asked


def test_the_daemons_own_refusal_is_told(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.error = ControlError("refused", "what was given ended yesterday")
    assert ctl.main(["trust", "ca.pem", *OURS_GIVEN]) == 1
    assert "what was given ended yesterday" in capsys.readouterr().err


# On a terminal


@pytest.mark.parametrize(
    ("typed", "words", "installed"),
    [
        ("y\n", [], True),
        ("YES\n", [], True),
        ("n\n", [], False),
        ("\n", [], False),
        ("\x04", [], False),
        ("", ["--yes"], True),
    ],
)
def test_a_person_is_shown_it_and_asked(
    daemon: Daemon,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: str,
    words: list[str],
    installed: bool,
) -> None:
    master, slave = pty.openpty()
    with contextlib.closing(os.fdopen(slave)) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        os.write(master, typed.encode())
        code = ctl.main(["trust", "ca.pem", *OURS_GIVEN, *words])
    os.close(master)
    assert code == (0 if installed else 1) and bool(daemon.asked) is installed
    err = capsys.readouterr().err
    asked = f"{SHOWN}Trust it to sign for ngrok's ingress? [y/N] "
    declined = "" if installed else "ngrokctl: nothing was installed\n"
    assert err == ("" if words else asked + declined)


def test_on_a_terminal_the_certificate_is_shown_once(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    master, slave = pty.openpty()
    with contextlib.closing(os.fdopen(slave)) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        os.write(master, b"y\n")
        assert ctl.main(["trust", "ca.pem", *OURS_GIVEN]) == 0
        out, err = capsys.readouterr()
        assert SHOWN in err and out.startswith("Installed as ")
        assert ctl.main(["trust", "ca.pem", *OURS_GIVEN, "--yes"]) == 0
    os.close(master)
    out, err = capsys.readouterr()
    assert SHOWN in out and not err


# Who may


def let_in(folder: Path) -> None:
    """Other users may look into it."""
    for each in (folder, *folder.parents):
        if each.stat().st_mode & 0o005 != 0o005:
            each.chmod(0o755)


@as_root
def test_another_ca_than_ngroks_is_for_root_and_the_daemons_own_user(folder: Path) -> None:
    daemon = Daemon()
    table, owners = daemon.commands.table(), daemon.commands.table_for_owner()
    group = "nogroup"
    let_in(folder)

    def ask(sha256: str) -> str:
        sys.stderr = io.StringIO()
        words = ["--socket", str(folder / "s"), "trust", str(folder / "ca.pem")]
        code = ctl.main([*words, "--fingerprint", sha256])
        return f"{code} {sys.stderr.getvalue()}"

    with serving(folder / "s", table, group, owners):
        member = as_user(NOBODY, [NOBODY], lambda: ask(OURS))
        assert member.startswith("5 ") and "only root, or the user that ngrokd runs as" in member
        assert not daemon.asked
        assert ask(OURS).startswith("0 ")
    assert daemon.asked == [(PEM, OURS)]


def test_without_an_owner_only_ngroks_ca_may_be_given() -> None:
    daemon = Daemon()
    verb = daemon.commands.table()["trust"]
    with pytest.raises(ControlError, match="only root") as refused:
        verb([PEM, OURS])
    assert refused.value.code == "needs_owner"
    for words in ([PEM], [PEM, SHA256.lower()]):
        verb(words)
    assert daemon.asked == [(PEM, SHA256), (PEM, SHA256)]


@pytest.mark.parametrize("words", [[], [PEM, "ab"], [PEM, OURS, "more"]])
def test_a_request_of_another_shape_is_refused(words: list[str]) -> None:
    with pytest.raises(ControlError) as refused:
        Daemon().commands.table_for_owner()["trust"](words)
    assert refused.value.code == "bad_arguments"


# Without a daemon


def test_without_a_daemon_it_is_put_where_the_next_one_looks(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["trust", "ca.pem", *OURS_GIVEN, *NO_DAEMON]
    assert ctl.main(words) == 0
    installed = folder / "state" / "ca.crt"
    assert installed.read_text() == PEM
    assert capsys.readouterr().out == (
        f"{SHOWN}\nInstalled as {installed}.\n"
        "    no daemon answers: the next one trusts it from its start\n"
    )
    assert ctl.main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["installed"], answer["daemon"], answer["kept"]) == (False, False, "")
    assert os.listdir(installed.parent) == ["ca.crt"]


@pytest.mark.parametrize(
    ("text", "why"), [(None, "cannot be read"), ("servre: 3", "config.yml:1: servre")]
)
def test_a_configuration_that_cannot_be_used_is_told_with_status_2(
    folder: Path, capsys: pytest.CaptureFixture[str], text: Optional[str], why: str
) -> None:
    (folder / "config.yml").unlink()
    if text is not None:
        (folder / "config.yml").write_text(text)
    assert ctl.main(["trust", "ca.pem", *OURS_GIVEN, *NO_DAEMON]) == 2
    assert why in capsys.readouterr().err


@as_root
@pytest.mark.parametrize("closed", ["config.yml", "state", "ca.pem"])
def test_what_this_user_may_not_do_is_told_with_status_5(folder: Path, closed: str) -> None:
    let_in(folder)
    (folder / "state").mkdir(mode=0o755)
    (folder / closed).chmod(0o700)

    def act() -> str:
        sys.stderr = io.StringIO()
        code = ctl.main(["trust", "ca.pem", *OURS_GIVEN, *NO_DAEMON])
        return f"{code} {sys.stderr.getvalue()}"

    answer = as_user(NOBODY, [], act)
    assert answer.startswith("5 ngrokctl: nobody is not permitted: ") and closed in answer
    assert not (folder / "state" / "ca.crt").exists()
