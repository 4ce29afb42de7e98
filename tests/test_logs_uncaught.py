"""What nobody caught is one line of the log, and a thread that dies is told."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ngrokd import logs
from tests.logs_room import SECRET, messages, root_put_back, to_file


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    with root_put_back():
        yield


def raising(error: BaseException) -> None:
    raise error


def die(name: str, error: BaseException) -> None:
    thread = threading.Thread(target=raising, args=(error,), name=name)
    thread.start()
    thread.join(10)


@pytest.mark.parametrize("error", [ValueError(f"bad {SECRET}"), SystemExit(3), MemoryError()])
def test_a_thread_that_dies_is_logged_on_one_line_and_then_told(
    tmp_path: Path, error: BaseException
) -> None:
    path = to_file(tmp_path)
    logs.keep_secret(SECRET)
    told: list[tuple[str, BaseException, int]] = []

    def on_death(name: str, error: BaseException) -> None:
        told.append((name, error, len(messages(path))))

    with logs.report_uncaught(on_death):
        die("pool-1", error)
    assert told == [("pool-1", error, 1)]
    (line,) = messages(path)
    assert line.startswith(r"CRITICAL thread pool-1 died: Traceback")
    assert type(error).__name__ in line
    assert SECRET not in line


def test_what_the_interpreter_swallows_is_logged_and_goes_on(tmp_path: Path) -> None:
    path = to_file(tmp_path)

    class Broken:
        def __del__(self) -> None:
            raise OSError("in a finalizer")

        def __repr__(self) -> str:
            raise AssertionError("it is half gone")

    with logs.report_uncaught(lambda name, error: pytest.fail("nobody died")):
        Broken()
    (line,) = messages(path)
    assert line.startswith("ERROR ") and "Broken.__del__" in line
    assert line.endswith("OSError: in a finalizer")


def test_the_hooks_are_put_back() -> None:
    before = (sys.excepthook, threading.excepthook, sys.unraisablehook)
    with logs.report_uncaught(lambda name, error: None):
        assert not {*before} & {sys.excepthook, threading.excepthook, sys.unraisablehook}
    assert before == (sys.excepthook, threading.excepthook, sys.unraisablehook)


def test_after_an_exception_the_other_threads_have_their_own_hook_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # put back by pytest
    before = (threading.excepthook, sys.unraisablehook)
    with pytest.raises(OSError, match="x"), logs.report_uncaught(lambda name, error: None):
        raise OSError("x")
    assert before == (threading.excepthook, sys.unraisablehook)


PROGRAM = f"""
import logging, sys
from ngrokd import logs
from ngrokd.config import ServerSettings

logs.setup(ServerSettings(log_file=sys.argv[1]), True, {{}})
logs.keep_secret("{SECRET}")
with logs.report_uncaught(lambda name, error: None):
    raise %s
"""


def ended_by(error: str, log_file: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", PROGRAM % error, log_file]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30)


def test_a_main_thread_that_dies_leaves_one_line_and_status_1() -> None:
    ended = ended_by(f'ValueError("bad {SECRET}")', "")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "CRITICAL ngrokd ends by a fault of its own: Traceback" in line
    assert line.endswith("ValueError: bad [redacted]")


def test_who_does_not_see_the_log_is_told_where_to_look(tmp_path: Path) -> None:
    path = tmp_path / "ngrokd.log"
    ended = ended_by(f'ValueError("bad {SECRET}")', str(path))
    assert ended.returncode == 1
    assert ended.stderr == "ngrokd ends by a fault of its own, ValueError; see its log\n"
    assert messages(path)[0].startswith("CRITICAL ngrokd ends by a fault of its own: Traceback")


def test_an_end_that_was_meant_leaves_no_line(tmp_path: Path) -> None:
    path = tmp_path / "ngrokd.log"
    assert ended_by("SystemExit(3)", str(path)).returncode == 3
    ended_by("KeyboardInterrupt", str(path))
    assert path.read_text() == ""


def test_before_setup_a_death_is_still_seen(capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        with logs.report_uncaught(lambda name, error: None):
            die("early", ValueError("bad"))
    finally:
        root.handlers = handlers
    assert "thread early died" in capfd.readouterr().err
