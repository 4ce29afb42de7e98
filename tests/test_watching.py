"""`ngrokctl events`: what it prints, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ngrokd.control import ctl, following
from ngrokd.control.protocol import encode_error, encode_success
from tests.control_room import NOBODY, PATIENCE_S, as_user
from tests.newsroom import Newsroom, newsroom

# Tests that a shell runs in the background have SIGINT ignored, and so would their programs.
INTERRUPTIBLE = """
import signal, sys, threading
from ngrokd.control import ctl

signal.signal(signal.SIGINT, signal.default_int_handler)
"""
FOLLOWS = INTERRUPTIBLE + "sys.exit(ctl.main())"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  "


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NGROKD_SOCKET", str(tmp_path / "s"))
    return tmp_path / "s"


@pytest.fixture
def room(path: Path) -> Iterator[Newsroom]:
    with newsroom(path) as room:
        yield room


@contextlib.contextmanager
def following_it(
    path: Path, *options: str, output: int = subprocess.PIPE
) -> Iterator[subprocess.Popen[str]]:
    """`ngrokctl events` in a process of its own."""
    argv = [sys.executable, "-c", FOLLOWS, "events", *options]
    with subprocess.Popen(
        argv,
        env={**os.environ, "NGROKD_SOCKET": str(path)},
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            yield program
        finally:
            program.kill()


def _line(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.stdout.readline()


def _end(program: subprocess.Popen[str]) -> tuple[int, str]:
    code = program.wait(PATIENCE_S)
    assert program.stderr is not None
    return code, program.stderr.read()


def test_people_get_calm_lines_with_the_time(path: Path, room: Newsroom) -> None:
    with following_it(path) as program:
        assert re.fullmatch(TIME + r"ngrokd \S+ is ready; no endpoints\n", _line(program))
        room.tell("disk\x1b full")
        assert re.fullmatch(TIME + r"problem: disk\\x1b full\n", _line(program))
        room.end()
        assert re.fullmatch(TIME + "ngrokd has stopped\n", _line(program))
        assert _end(program) == (0, "")


def test_programs_get_one_object_a_line(path: Path, room: Newsroom) -> None:
    with following_it(path, "--json") as program:
        assert json.loads(_line(program))["event"] == "began"
        room.tell("disk full")
        assert json.loads(_line(program))["text"] == "disk full"
        room.end()
        assert json.loads(_line(program))["event"] == "stopped"
        assert _line(program) == ""
        assert _end(program) == (0, "")


def test_ctrl_c_ends_it(path: Path, room: Newsroom) -> None:
    with following_it(path) as program:
        _line(program)
        program.send_signal(signal.SIGINT)
        assert _end(program) == (130, "\n")
    assert [room.followers.get(timeout=PATIENCE_S) for _ in range(2)] == [1, 0]


# The signal comes while the main thread waits, and interrupts another: as if it had come just
# before that wait began.
UNINTERRUPTED = """
def interrupt():
    sys.stdin.readline()
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
sys.exit(ctl.main(["events"]))
"""


def test_ctrl_c_ends_it_even_if_it_interrupts_no_system_call(path: Path, room: Newsroom) -> None:
    pipe = subprocess.PIPE
    argv = [sys.executable, "-c", INTERRUPTIBLE + UNINTERRUPTED]
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as program:
        _line(program)
        assert program.stdin is not None
        program.stdin.write("now\n")
        program.stdin.flush()
        try:
            assert _end(program) == (130, "\n")
        finally:
            program.kill()


def test_a_reader_that_has_seen_enough_ends_it_without_another_event(
    path: Path, room: Newsroom
) -> None:
    reading, writing = os.pipe()
    with following_it(path, output=writing) as program:
        os.close(writing)
        with open(reading) as pipe:
            assert pipe.readline().endswith("\n")  # else the rest of it would meet no reader
        assert _end(program) == (0, "")


def test_an_output_to_a_file_is_no_end(path: Path, room: Newsroom, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out, following_it(path, output=out.fileno()) as program:
        assert room.followers.get(timeout=PATIENCE_S) == 1
        room.tell("disk full")
        room.end()
        assert _end(program) == (0, "")
    assert len((tmp_path / "out").read_text().splitlines()) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error(path: Path, room: Newsroom) -> None:
    with open("/dev/full", "w") as full, following_it(path, output=full.fileno()) as program:
        code, err = _end(program)
    assert (code, err) == (1, "ngrokctl: cannot write the answer: No space left on device\n")


@contextlib.contextmanager
def answering(path: Path, *sent: bytes) -> Iterator[None]:
    """A daemon that says that to one client, and is gone."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            conn, _ = listening.accept()
            with conn:
                conn.recv(4096)
                for part in sent:
                    conn.sendall(part)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(PATIENCE_S)


BEGAN = encode_success({"event": "began", "state": "ready", "time": "2026-11-28T20:45:13Z"})


@pytest.mark.parametrize(
    ("sent", "code", "words"),
    [
        ((), 3, "ended without a word"),
        ((BEGAN[:20],), 3, "ended without a word"),
        ((BEGAN,), 3, "ended without a word"),
        ((BEGAN, b'{"event":"state"'), 3, "ended without a word"),
        ((encode_error("busy", "16 programs follow"),), 1, "16 programs follow"),
        ((encode_error("unknown_command", "unknown command 'events'"),), 1, "unknown command"),
        ((encode_error("forbidden", "only root"),), 5, "is not permitted"),
        ((b"SSH-2.0\r\n",), 1, "is not ngrokd"),
        ((BEGAN, b"hello\n"), 1, "not a line of JSON"),
        ((BEGAN, b"[]\n"), 1, "does not say which"),
        ((encode_success([]),), 1, "is not an object"),
        ((b"x" * (following.MAX_LINE_BYTES + 1),), 1, "too large"),
    ],
)
def test_every_other_end_has_its_exit_code(
    path: Path, capsys: pytest.CaptureFixture[str], sent: tuple[bytes, ...], code: int, words: str
) -> None:
    with answering(path, *sent):
        assert ctl.main(["events"]) == code
    assert words in capsys.readouterr().err


def test_lines_come_whole_whatever_the_pieces(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = BEGAN + b'{"event":"state","state":"ready"}\n{"event":"stopped"}\nmore'
    with answering(path, *(said[i : i + 1] for i in range(len(said)))):
        assert ctl.main(["events", "--json"]) == 0
    told = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert told == ["began", "state", "stopped"]


def test_a_daemon_that_does_not_begin_is_not_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(following, "BEGIN_S", 0.2)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        assert ctl.main(["events"]) == 4
    assert "did not answer within 0.2 s" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_exits_with_five(path: Path, room: Newsroom) -> None:
    path.chmod(0o666)
    for folder in path.parents:
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(0o755)
    assert as_user(NOBODY, [], lambda: str(ctl.main(["events"]))) == "5"
