"""Log lines: where they go, and what may change while running."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ngrokd import logs
from ngrokd.config import ServerSettings
from ngrokd.errors import HostError
from ngrokd.logs import targets
from ngrokd.logs.repeats import WINDOW_S
from tests.cloud_fake import fifo_at
from tests.logs_room import SECRET, end, logger, messages, root_put_back, to_file


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    with root_put_back():
        yield


def run(code: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    """A program that logs, with standard error of its own."""
    start = (
        "import logging, os, sys; from ngrokd import logs; "
        "from ngrokd.config import ServerSettings; logger = logging.getLogger('ngrokd.x');"
    )
    piped = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "timeout": 30, **options}
    return subprocess.run([sys.executable, "-c", start + code], **piped)  # type: ignore[call-overload,no-any-return]


# Where they go


@pytest.mark.parametrize(
    ("log_file", "foreground", "to_stderr"), [("", True, True), ("x.log", True, False)]
)
def test_the_foreground_logs_to_standard_error_unless_a_file_is_named(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    log_file: str,
    foreground: bool,
    to_stderr: bool,
) -> None:
    name = str(tmp_path / log_file) if log_file else ""
    logs.setup(ServerSettings(log_file=name), foreground, {})
    logger.info("hello")
    assert ("hello" in capfd.readouterr().err) == to_stderr
    assert any("hello" in path.read_text() for path in tmp_path.iterdir()) != to_stderr


def test_a_line_of_text_has_the_time_in_utc_the_level_and_the_message(
    capfd: pytest.CaptureFixture[str],
) -> None:
    logs.setup(ServerSettings(), True, {})
    logger.info("endpoint %s open at %s", "api.ns:80", "10.107.0.2")
    logger.debug("not at this level")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO endpoint api\.ns:80 open at 10\.107\.0\.2\n",
        capfd.readouterr().err,
    )


def test_the_background_logs_to_the_default_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "DEFAULT_LOG_FILE", str(tmp_path / "default.log"))
    logs.setup(ServerSettings(), False, {})
    logger.info("hello")
    assert "hello" in (tmp_path / "default.log").read_text()


def test_a_log_file_is_not_for_everybody_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = to_file(tmp_path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_log_file_is_appended_to(tmp_path: Path) -> None:
    (tmp_path / "ngrokd.log").write_text("before\n")
    path = to_file(tmp_path)
    logger.info("after")
    assert path.read_text().startswith("before\n")


def test_a_log_file_that_cannot_be_opened_is_told_with_the_mend(tmp_path: Path) -> None:
    before = list(logging.getLogger().handlers)
    with pytest.raises(HostError, match=r"cannot be opened \(Is a directory\): .*server.log_file"):
        logs.setup(ServerSettings(log_file=str(tmp_path)), False, {})
    assert logging.getLogger().handlers == before


def test_the_missing_folder_of_a_log_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "var/log/ngrokd.log"
    with pytest.raises(HostError, match=rf"make the folder {path.parent}, or set server\.log_file"):
        logs.setup(ServerSettings(log_file=str(path)), False, {})
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.EROFS, "that can be written, or to syslog"),
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EACCES, "run as root"),
    ],
)
def test_each_reason_why_a_file_cannot_be_opened_has_its_mend(
    monkeypatch: pytest.MonkeyPatch, number: int, mend: str
) -> None:
    def refuse(path: str) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(targets, "_open", refuse)
    with pytest.raises(HostError, match=rf"/x/y cannot .*{os.strerror(number)}.*{mend}"):
        logs.setup(ServerSettings(log_file="/x/y"), False, {})


@pytest.mark.parametrize("read", [False, True])
def test_a_log_file_that_is_a_pipe_is_refused_and_does_not_hang(tmp_path: Path, read: bool) -> None:
    path = tmp_path / "ngrokd.log"
    with fifo_at(path):
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if read else None
        try:
            with pytest.raises(HostError, match=r"ngrokd\.log cannot .*pipe.*server\.log_file"):
                logs.setup(ServerSettings(log_file=str(path)), False, {})
        finally:
            if reader is not None:
                os.close(reader)


def test_a_log_file_that_becomes_a_pipe_while_running_is_not_written_to(tmp_path: Path) -> None:
    path = to_file(tmp_path)
    path.rename(tmp_path / "old.log")
    with fifo_at(path):
        logger.info("hello")
        logs.reopen()
    text = (tmp_path / "old.log").read_text()
    assert "hello" in text and "ngrokd.log stays open" in text and "pipe" in text


def test_a_device_may_be_the_log_file(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup(ServerSettings(log_file="/dev/null"), False, {})
    logger.info("hello")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["/dev/stderr", "/dev/stdout", "/dev/fd/1"])
def test_a_standard_stream_may_be_the_log_file_even_if_it_is_a_pipe(name: str) -> None:
    ended = run(f"logs.setup(ServerSettings(log_file={name!r}), False, {{}}); logger.info('hello')")
    assert ended.returncode == 0, ended.stderr
    assert (ended.stderr + ended.stdout).endswith(b" INFO hello\n")
    assert (b"hello" in ended.stderr) == (name == "/dev/stderr")


def test_a_second_setup_replaces_the_first(tmp_path: Path) -> None:
    first = to_file(tmp_path)
    logs.setup(ServerSettings(log_file=str(tmp_path / "second.log")), False, {})
    logger.info("hello")
    assert first.read_text() == ""
    assert (tmp_path / "second.log").read_text().count("hello") == 1


JOURNAL = (
    "found = os.fstat(2); stream = f'{found.st_dev}:{found.st_ino}';"
    "logs.setup(ServerSettings(log_level='debug', log_format=%r), True, {'JOURNAL_STREAM': %s});"
    "[logger.log(level, 'hello') for level in (10, 20, 30, 40, 50)]"
)


def test_lines_for_the_journal_have_its_priority_and_leave_the_time_to_it() -> None:
    assert run(JOURNAL % ("text", "stream")).stderr.decode().splitlines() == [
        "<7>DEBUG hello",
        "<6>INFO hello",
        "<4>WARNING hello",
        "<3>ERROR hello",
        "<2>CRITICAL hello",
    ]


def test_json_lines_for_the_journal_have_its_priority_too() -> None:
    lines = run(JOURNAL % ("json", "stream")).stderr.decode().splitlines()
    assert [line[:4] for line in lines] == ["<7>{", "<6>{", "<4>{", "<3>{", "<2>{"]
    assert all(json.loads(line[3:])["message"] == "hello" for line in lines)


def test_a_standard_error_that_was_redirected_is_not_the_journal() -> None:
    assert run(JOURNAL % ("text", "'1:2'")).stderr.endswith(b"Z CRITICAL hello\n")


# Secrets and repeats


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_secret_is_in_no_line_no_exception_and_no_count(tmp_path: Path, log_format: str) -> None:
    path = to_file(tmp_path, log_format)
    logs.keep_secret(SECRET)
    for _ in range(9):
        logger.info("key %s and %r", SECRET, {"key": SECRET})
    for _ in range(9):
        try:
            raise ValueError(f"bad key {SECRET}")
        except ValueError:
            logger.exception("refused %s", SECRET)
    end()
    text = path.read_text()
    assert SECRET not in text
    assert text.count("[redacted]") == 2 + 2 + 2 + 1
    assert text.count("repeated 8 times") == 2


def test_the_key_of_the_environment_is_kept_from_the_start(
    capfd: pytest.CaptureFixture[str],
) -> None:
    logs.setup(ServerSettings(), True, {"NGROK_API_KEY": SECRET})
    logger.info(SECRET)
    assert capfd.readouterr().err.endswith("INFO [redacted]\n")


def test_repeats_are_counted_until_another_line_comes(tmp_path: Path) -> None:
    path = to_file(tmp_path)
    for _ in range(58):
        logger.warning("refused by %s", "10.1.2.3")
    logger.info("open")
    assert messages(path) == [
        "WARNING refused by 10.1.2.3",
        "WARNING repeated 57 times within 1 s: refused by 10.1.2.3",
        "INFO open",
    ]


def test_the_same_words_with_another_fault_are_another_line(tmp_path: Path) -> None:
    path = to_file(tmp_path)
    for word in ("one", "one", "two"):
        logger.error("failed", exc_info=OSError(word))
    end()
    assert [line.rsplit(" ", 1)[1] for line in messages(path)] == ["one", "one", "two"]


def test_the_main_loop_has_counts_told_in_time(tmp_path: Path) -> None:
    path = to_file(tmp_path)
    assert logs.flush_repeats(time.monotonic()) == math.inf
    for _ in range(3):
        logger.info("hello")
    assert 0 < logs.flush_repeats(time.monotonic()) < WINDOW_S
    assert messages(path) == ["INFO hello"]
    assert logs.flush_repeats(time.monotonic() + WINDOW_S) == math.inf
    assert messages(path)[1:] == ["INFO repeated 2 times within 1 s: hello"]


def test_counts_are_told_at_the_end_of_the_process(tmp_path: Path) -> None:
    ended = run("logs.setup(ServerSettings(), True, {}); [logger.info('hello') for _ in range(9)]")
    assert b"repeated 8 times" in ended.stderr


# While running


def test_the_level_can_be_changed_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    path = to_file(tmp_path)
    logger.debug("one")
    logs.set_level("debug")
    logger.debug("two")
    with pytest.raises(ValueError, match="no log level 'loud': one of debug, info, "):
        logs.set_level("loud")
    assert "one" not in path.read_text()
    assert "two" in path.read_text()


def test_a_reload_takes_up_level_format_and_file(tmp_path: Path) -> None:
    first, second = to_file(tmp_path), tmp_path / "second.log"
    logs.keep_secret(SECRET)
    for _ in range(3):
        logger.info("one")
    settings = ServerSettings(log_file=str(second), log_format="json", log_level="debug")
    logs.configure(settings)
    logger.debug("two %s", SECRET)
    assert messages(first)[:2] == ["INFO one", "INFO repeated 2 times within 1 s: one"]
    (last,) = first.read_text().splitlines()[2:]
    assert json.loads(last)["message"] == f"the log goes on in {second}"
    assert json.loads(second.read_text())["message"] == "two [redacted]"


def test_a_reload_that_changes_nothing_of_the_log_leaves_no_line(tmp_path: Path) -> None:
    path = to_file(tmp_path)
    logs.configure(ServerSettings(log_file=str(path)))
    logger.info("hello")
    assert messages(path) == ["INFO hello"]


def test_a_reload_to_a_file_that_cannot_be_opened_changes_nothing(tmp_path: Path) -> None:
    path = to_file(tmp_path)
    settings = ServerSettings(log_file=str(tmp_path), log_format="json", log_level="debug")
    with pytest.raises(HostError, match="Is a directory"):
        logs.configure(settings)
    logger.info("one")
    logger.debug("two")
    assert messages(path) == ["INFO one"]


def test_a_reload_moves_the_log_between_standard_error_and_a_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.log"
    logs.setup(ServerSettings(), True, {})
    for number, name in enumerate((str(path), "", str(path))):
        logs.configure(ServerSettings(log_file=name))
        logger.info("line %d", number)
    assert [line for line in messages(path) if "line" in line] == ["INFO line 0", "INFO line 2"]
    assert "line 1" in capfd.readouterr().err


def test_a_moved_file_is_made_anew_at_the_next_line(tmp_path: Path) -> None:
    path = to_file(tmp_path)
    logger.info("one")
    path.rename(tmp_path / "old.log")
    logger.info("two")
    path.unlink()
    logger.info("three")
    assert "one" in (tmp_path / "old.log").read_text()
    assert "two" not in (tmp_path / "old.log").read_text()
    assert "three" in path.read_text()


def test_reopen_takes_up_a_file_that_was_moved(tmp_path: Path) -> None:
    path = to_file(tmp_path)
    path.rename(tmp_path / "old.log")
    logs.reopen()
    assert path.exists()


def test_a_file_that_cannot_be_made_anew_is_written_on_to(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").mkdir()
    to_file(tmp_path / "logs")
    (tmp_path / "logs").rename(tmp_path / "moved")
    logger.info("hello")
    logs.reopen()
    text = (tmp_path / "moved/ngrokd.log").read_text()
    assert "INFO hello\n" in text
    assert "stays open: No such file or directory\n" in text
    assert "lost" not in capfd.readouterr().err


def test_lines_of_many_threads_stay_whole_while_the_file_is_reopened(tmp_path: Path) -> None:
    to_file(tmp_path)

    def write(thread: int) -> None:
        for number in range(200):
            logger.info("%s %d %d", "x" * 100, thread, number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(50):
        logs.reopen()
        logs.configure(ServerSettings(log_file=str(tmp_path / f"{turn % 2}.log")))
    for thread in threads:
        thread.join(30)
    lines = [line for each in tmp_path.iterdir() for line in messages(each)]
    lines = [line for line in lines if "the log goes on" not in line]
    assert len(set(lines)) == len(lines) == 800
    assert all(re.fullmatch("INFO x{100} [0-3] [0-9]+", line) for line in lines)


def test_nothing_happens_before_setup() -> None:
    logs.reopen()
    logs.keep_secret(SECRET)
    assert logs.flush_repeats(0.0) == math.inf


def test_what_is_said_after_the_end_is_written_to_no_other_file(tmp_path: Path) -> None:
    path = to_file(tmp_path)
    (handler,) = [h for h in logging.getLogger().handlers if type(h).__name__ == "LogHandler"]
    handler.close()
    with (tmp_path / "other").open("w"):  # it has the number that the log file had
        logger.info("hello")
        logs.reopen()
        handler.close()
    assert path.read_text() == (tmp_path / "other").read_text() == ""
