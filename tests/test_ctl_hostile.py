"""What answers on the socket may be anything; its control codes reach no terminal."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ngrokd.control import client, ctl

EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m\r\x00\u202e\u2028 web"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028]")
WORDS = [
    "version", "state", "operator_id", "ingress_endpoint", "problems", "notes", "not_after",
    "last_error", "path", "lines", "reason", "url", "id", "hostname", "ip", "address",
    "listen_address", "resolves_elsewhere", "note", "changed", "opened", "needs_restart",
    "code", "cause", "text", "name", "subnet", "mode", "problem", "setting",
]  # fmt: skip
ENDPOINT = {**dict.fromkeys(WORDS, EVIL), "hostname": "web.ns", "port": 80, "state": "open"}
STATUS = {
    **dict.fromkeys(WORDS, EVIL),
    **{word: [EVIL] for word in ("problems", "notes", "lines", "changed", "opened")},
    **{word: dict.fromkeys(WORDS, EVIL) for word in ("api", "certificate", "interface", "hosts")},
}
EVENT = {**dict.fromkeys(WORDS, EVIL), "event": EVIL, "time": EVIL}
COMMANDS = [
    "status", "list", "list --all", "list --hosts", "health", "set-api-key 0123456789abcdef",
    "refresh", "ping", "reload", "log-level info", "rotate-cert", "deregister --yes", "version",
    "open web.ns", "events", "top --once --interval 0.2", "wait --timeout 0.1",
    "completion bash --hostnames",
]  # fmt: skip


@contextmanager
def answering(path: Path, answer: Callable[[str, socket.socket], None]) -> Iterator[None]:
    """A server that hands each request's command, and its connection, to `answer`."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(8)

    def serve() -> None:
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return  # shut down: the test is over
            with conn:
                answer(json.loads(conn.recv(65536))["command"], conn)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def line(data: object) -> bytes:
    return json.dumps({"success": True, "data": data}).encode() + b"\n"


def evil(command: str, conn: socket.socket) -> None:
    if command == "list":
        conn.sendall(line([ENDPOINT]))
    elif command == "events":
        conn.sendall(line({}) + json.dumps(EVENT).encode() + b"\n")
        conn.sendall(b'{"event": "stopped"}\n')
    else:
        conn.sendall(line(STATUS))


@pytest.mark.parametrize("command", COMMANDS)
def test_no_control_code_of_an_answer_reaches_the_terminal(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sock"
    with answering(path, evil):
        ctl.main(["--socket", str(path), *command.split()])
    shown = capsys.readouterr()
    assert not CONTROLS.search(shown.out + shown.err)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_control_code_of_a_refusal_reaches_the_terminal(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = json.dumps({"success": False, "error": EVIL, "code": EVIL}).encode() + b"\n"
    path = tmp_path / "sock"
    with answering(path, lambda command, conn: conn.sendall(refusal)):
        ctl.main(["--socket", str(path), *command.split()])
    shown = capsys.readouterr()
    assert not CONTROLS.search(shown.out + shown.err)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", ctl.NO_DAEMON),
        (b'{"success": true, "da', ctl.NO_DAEMON),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ctl.FAILED),
        (b"rubbish\n", ctl.FAILED),
        (b"[" * 100_000 + b"\n", ctl.FAILED),
        (b'{"success": true, "data": ' + b"9" * 6000 + b"}\n", ctl.FAILED),
        (b'{"success": true, "data": NaN}\n', ctl.FAILED),
        (b"\xff\xfe\n", ctl.FAILED),
    ],
)
def test_an_answer_that_is_none_is_told_in_one_line(
    answer: bytes, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sock"
    with answering(path, lambda command, conn: conn.sendall(answer)):
        assert ctl.main(["--socket", str(path), "status"]) == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "piece", [b"x" * 4096, b"[]," * 4096], ids=["long", "of many parts"]
)
def test_an_answer_without_end_is_left_and_takes_no_memory(
    piece: bytes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 1 << 20)
    monkeypatch.setattr(client, "MAX_TOKENS", 10_000)

    def endless(command: str, conn: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):  # the other side has seen enough
            conn.sendall(b'{"success": true, "data": [')
            for _ in range(1024):
                conn.sendall(piece)

    path = tmp_path / "sock"
    with answering(path, endless):
        assert ctl.main(["--socket", str(path), "list"]) == ctl.FAILED
        assert "is not ngrokd: its answer is too large" in capsys.readouterr().err
        assert ctl.main(["--socket", str(path), "version"]) == ctl.DONE
    assert capsys.readouterr().out.endswith("ngrokd unknown\n")


def test_an_answer_of_very_many_parts_is_not_taken_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_TOKENS", 100)
    path = tmp_path / "sock"
    with answering(path, lambda command, conn: conn.sendall(line([[]] * 200))):
        assert ctl.main(["--socket", str(path), "list"]) == ctl.FAILED
    assert "too large" in capsys.readouterr().err


def test_doctor_judges_whatever_a_daemon_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = [
        {**ENDPOINT, "published": True, "hostname": name, "ip": ip, "listen_address": address}
        for name, ip, address in (
            ("a\0b", "\ud800", "127.0.0.1:\u00b2"),
            ("-s", EVIL, "\u0661:\u0661"),
            ("\ud800.ns", "", "127.0.0.1:99999999999"),
        )
    ]
    status = {**STATUS, "state": "degraded", "pid": 1e300, "connections": [], "bytes": "x"}
    config = tmp_path / "config.yml"
    config.write_text("api: {url: 'http://127.0.0.1:1'}\ningressEndpoint: 127.0.0.1:1\n")
    path = tmp_path / "sock"
    words = ["--socket", str(path), "doctor", "--config", str(config)]
    bundle = tmp_path / "bundle.tar.gz"
    answers = {"status": status, "list": odd}
    with answering(path, lambda command, conn: conn.sendall(line(answers[command]))):
        assert ctl.main([*words, "--bundle", str(bundle)]) == ctl.FAILED
    shown = capsys.readouterr()
    assert not CONTROLS.search(shown.out + shown.err)
    assert bundle.exists()
