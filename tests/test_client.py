"""One request to a daemon that answers, refuses, hangs, lies or is not there."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from ngrokd.control.client import request
from ngrokd.errors import (
    ControlError,
    DaemonUnreachable,
    NotPermitted,
    ProtocolError,
    TimedOut,
)
from tests.control_room import NOBODY, PATIENCE_S, as_user, serving


@contextlib.contextmanager
def fake(path: Path, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """A server that does what `serve` does with one connection."""

    def run() -> None:
        conn, _ = listening.accept()
        with conn, contextlib.suppress(OSError):
            serve(conn)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.settimeout(PATIENCE_S)
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=run)
        thread.start()
        yield
        thread.join(PATIENCE_S)


def test_the_data_of_the_answer_comes_back(tmp_path: Path) -> None:
    with serving(tmp_path / "s", {"echo": lambda args: args}):
        assert request(str(tmp_path / "s"), "echo", ["a", "b\n"], 5) == ["a", "b\n"]


def test_a_large_answer_arrives_whole(tmp_path: Path) -> None:
    with serving(tmp_path / "s", {"large": lambda _: "x" * 3_000_000}):
        assert request(str(tmp_path / "s"), "large") == "x" * 3_000_000


def test_a_refusal_keeps_the_daemons_code(tmp_path: Path) -> None:
    with serving(tmp_path / "s", {}), pytest.raises(ControlError) as refused:
        request(str(tmp_path / "s"), "nope")
    assert refused.value.code == "unknown_command"


def test_a_request_that_no_daemon_takes_is_not_sent(tmp_path: Path) -> None:
    with pytest.raises(ControlError) as refused:
        request(str(tmp_path / "s"), "echo", ["x" * 70_000])
    assert refused.value.code == "bad_request"


def test_no_socket_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnreachable, match=rf"{tmp_path}/s \(No such file or directory\)"):
        request(str(tmp_path / "s"), "ping")


def test_a_stale_socket_is_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    with pytest.raises(DaemonUnreachable, match="Connection refused"):
        request(str(tmp_path / "s"), "ping")


def test_a_plain_file_and_an_impossible_path_are_nobody(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("")
    for path in (tmp_path / "s", tmp_path / ("x" * 200)):
        with pytest.raises(DaemonUnreachable):
            request(str(path), "ping")


def test_a_daemon_that_hangs_is_timed_out(tmp_path: Path) -> None:
    done = threading.Event()
    with fake(tmp_path / "s", lambda conn: void(done.wait(PATIENCE_S))):
        with pytest.raises(TimedOut, match=r"did not answer within 0\.1 s"):
            request(str(tmp_path / "s"), "ping", timeout_s=0.1)
        done.set()


def test_an_answer_that_dribbles_is_timed_out_as_a_whole(tmp_path: Path) -> None:
    done = threading.Event()

    def dribble(conn: socket.socket) -> None:
        while not done.wait(0.02):
            conn.send(b"x")

    with fake(tmp_path / "s", dribble):
        with pytest.raises(TimedOut):
            request(str(tmp_path / "s"), "ping", timeout_s=0.2)
        done.set()


def test_a_full_backlog_is_timed_out(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as other:
        full.bind(str(tmp_path / "s"))
        full.listen(0)
        other.connect(str(tmp_path / "s"))
        with pytest.raises(TimedOut, match="too busy"):
            request(str(tmp_path / "s"), "ping", timeout_s=0.1)


@pytest.mark.parametrize("sent", [b"", b'{"success": true'])
def test_a_daemon_that_ends_before_its_answer_is_unreachable(tmp_path: Path, sent: bytes) -> None:
    with fake(tmp_path / "s", lambda conn: conn.sendall(sent)), pytest.raises(DaemonUnreachable):
        request(str(tmp_path / "s"), "ping")


def test_something_else_on_the_socket_is_told(tmp_path: Path) -> None:
    with (
        fake(tmp_path / "s", lambda conn: conn.sendall(b"220 mail ready\n")),
        pytest.raises(ProtocolError, match="is not ngrokd"),
    ):
        request(str(tmp_path / "s"), "ping")


def test_an_answer_without_an_end_takes_no_memory_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ngrokd.control.client.MAX_ANSWER_BYTES", 100_000)
    with (
        fake(tmp_path / "s", lambda conn: conn.sendall(b"x" * 1_000_000)),
        pytest.raises(ProtocolError, match="too large"),
    ):
        request(str(tmp_path / "s"), "ping")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("mode", [0o660, 0o666])
def test_another_user_is_told_that_it_is_not_permitted(tmp_path: Path, mode: int) -> None:
    def ask() -> str:
        try:
            request(str(tmp_path / "s"), "ping")
        except NotPermitted as exc:
            return f"not permitted: {exc}"
        return "permitted"

    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    with serving(tmp_path / "s", {"ping": lambda _: "pong"}):
        (tmp_path / "s").chmod(mode)
        assert as_user(NOBODY, [], ask).startswith(f"not permitted: {tmp_path}/s: ")


def void(_: object) -> None:
    """A result that is not wanted."""
