"""Log lines: where they go, how they look, and what they never show."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd import logs
from ngrokd.cloud.apierrors import key_fault
from ngrokd.config import ServerSettings
from ngrokd.errors import HostError
from ngrokd.loglines import LineFormatter
from tests.cloud_fake import fifo_at

SECRET = "2abcDEFghiJKLmnoPQRstu_5678"

logger = logging.getLogger("ngrokd.test")


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    """The root logger as it was, so that other tests keep theirs."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def to_file(folder: Path, log_format: str = "text") -> Path:
    path = folder / "ngrokd.log"
    logs.setup(ServerSettings(log_file=str(path), log_format=log_format), False, {})
    return path


def record(message: object, *args: object) -> logging.LogRecord:
    return logging.LogRecord("ngrokd.x", logging.INFO, "", 0, message, args, None)


# How they look


def test_a_line_of_text_has_the_time_in_utc_the_level_and_the_message(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.setup(ServerSettings(), True, {})
    logger.info("endpoint %s open at %s", "api.ns:80", "10.107.0.2")
    logger.debug("not at this level")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO endpoint api\.ns:80 open at 10\.107\.0\.2\n",
        capsys.readouterr().err,
    )


def test_the_documented_line() -> None:
    line = record("endpoint api.ns:80 open at 10.107.0.2")
    line.created = 1769860800
    assert LineFormatter(as_json=False, with_time=True, with_priority=False).format(line) == (
        "2026-01-31T12:00:00Z INFO endpoint api.ns:80 open at 10.107.0.2"
    )


def test_a_line_of_json_is_one_object(tmp_path: Path) -> None:
    path = to_file(tmp_path, "json")
    logger.warning("caf\u00e9\n%s", "b")
    (line,) = path.read_text().splitlines()
    found = json.loads(line)
    assert re.fullmatch(r"[\d-]{10}T[\d:]{8}\.\d{3}Z", found.pop("time"))
    assert found == {"level": "warning", "logger": "ngrokd.test", "message": "caf\u00e9\nb"}


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_exception_is_in_the_same_line(tmp_path: Path, log_format: str) -> None:
    path = to_file(tmp_path, log_format)
    try:
        raise OSError("no such thing")
    except OSError:
        logger.exception("it failed")
    (line,) = path.read_text().splitlines()
    assert "it failed" in line
    assert "Traceback" in line
    assert "OSError: no such thing" in line


def test_a_mistake_in_a_format_neither_loses_the_line_nor_shows_a_secret() -> None:
    formatter = LineFormatter(False, False, False, [SECRET])
    line = formatter.format(record("%d endpoints", f"many {SECRET}"))
    assert line == "INFO %d endpoints ('many [redacted]',)"


def test_what_a_peer_sends_makes_no_line_of_its_own(tmp_path: Path) -> None:
    path = to_file(tmp_path)
    args = ("a\r\nb\x1b[2J\x00\x85\u2028\u202e\t\udcff",)
    record = logger.makeRecord("x", logging.INFO, "x", 1, "from %s", args, None)
    # To our handler alone: pytest's own cannot pass half a character on to its reports.
    (ours,) = [h for h in logging.getLogger().handlers if type(h).__module__ == logs.__name__]
    ours.handle(record)
    (line,) = path.read_bytes().splitlines()
    assert line.endswith(rb"from a\r\nb\x1b[2J\x00\x85\u2028\u202e\t\udcff")


def test_a_very_long_message_is_cut(tmp_path: Path) -> None:
    path = to_file(tmp_path)
    logger.info("x" * 10_000_000)
    assert 10_000 < path.stat().st_size < 20_000


@given(st.text(), st.booleans())
def test_any_message_is_one_line(message: str, as_json: bool) -> None:
    line = LineFormatter(as_json, with_time=True, with_priority=True).format(record("%s", message))
    assert line.isprintable()


# Secrets


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_secret_is_in_no_line_and_no_exception(tmp_path: Path, log_format: str) -> None:
    path = to_file(tmp_path, log_format)
    logs.keep_secret(SECRET)
    logger.info("key %s and %r", SECRET, {"key": SECRET})
    logger.info(f"x{SECRET}x")
    try:
        raise ValueError(f"bad key {SECRET}")
    except ValueError:
        logger.exception("refused")
    text = path.read_text()
    assert SECRET not in text
    assert text.count("[redacted]") == 4


def test_bearer_tokens_are_redacted_unasked(tmp_path: Path) -> None:
    path = to_file(tmp_path)
    logger.info("sent {'Authorization': 'Bearer %s', 'x': 1}", SECRET)
    assert SECRET not in path.read_text()


def test_the_key_of_the_environment_is_kept_from_the_start(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.setup(ServerSettings(), True, {"NGROK_API_KEY": SECRET})
    logger.info(SECRET)
    assert capsys.readouterr().err.endswith("INFO [redacted]\n")


def test_a_secret_that_is_part_of_another_leaves_nothing_of_it(tmp_path: Path) -> None:
    path = to_file(tmp_path)
    for secret in ("abcdefgh", "abcdefghijkl", ""):
        logs.keep_secret(secret)
    logger.info("abcdefghijkl")
    assert path.read_text().endswith("INFO [redacted]\n")


@pytest.mark.parametrize("typed", ["a", "ngrokd", "wrong-k", " " * 20, "       a      \n"])
def test_a_text_too_short_for_a_secret_does_not_ruin_the_log(tmp_path: Path, typed: str) -> None:
    path = to_file(tmp_path)
    logs.keep_secret(typed)
    logger.info("ngrokd has a wrong-key:%s!", " " * 30)
    assert path.read_text().endswith(f"INFO ngrokd has a wrong-key:{' ' * 30}!\n")


def test_white_space_around_a_secret_is_no_part_of_it(tmp_path: Path) -> None:
    path = to_file(tmp_path)
    logs.keep_secret(f" {SECRET}\n")
    logger.info("key %s.", SECRET)
    assert path.read_text().endswith("INFO key [redacted].\n")


def test_every_key_that_can_be_one_is_long_enough_to_be_blanked_out() -> None:
    shortest = next(key for key in ("k" * length for length in range(100)) if not key_fault(key))
    formatter = LineFormatter(False, False, False, [shortest])
    assert formatter.format(record(f"key {shortest}.")) == "INFO key [redacted]."


def test_a_secret_is_redacted_before_a_long_line_is_cut() -> None:
    formatter = LineFormatter(False, False, False, [SECRET])
    for length in range(16 * 1024 - len(SECRET), 16 * 1024 + 1):
        assert SECRET[:8] not in formatter.format(record("x" * length + SECRET))


def test_a_line_that_cannot_be_written_shows_nothing_of_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    logs.setup(ServerSettings(log_file="/dev/full"), False, {})
    logger.info("secret %s", SECRET)
    assert capsys.readouterr().err == "ngrokd: a log line was lost: OSError\n"


# Where they go


@pytest.mark.parametrize(
    ("log_file", "foreground", "to_stderr"), [("", True, True), ("x.log", True, False)]
)
def test_the_foreground_logs_to_standard_error_unless_a_file_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    log_file: str,
    foreground: bool,
    to_stderr: bool,
) -> None:
    name = str(tmp_path / log_file) if log_file else ""
    logs.setup(ServerSettings(log_file=name), foreground, {})
    logger.info("hello")
    assert ("hello" in capsys.readouterr().err) == to_stderr
    assert any("hello" in path.read_text() for path in tmp_path.iterdir()) != to_stderr


def test_the_background_logs_to_the_default_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "DEFAULT_LOG_FILE", str(tmp_path / "default.log"))
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


def test_our_standard_error_may_be_the_log_file_even_if_it_is_a_pipe() -> None:
    code = (
        "import logging, os; from ngrokd import logs; from ngrokd.config import ServerSettings;"
        "logs.setup(ServerSettings(log_file='/dev/stderr'), False, {});"
        "assert os.get_blocking(logging.getLogger().handlers[0].stream.fileno());"
        "logging.getLogger('x').info('hello')"
    )
    daemon = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, timeout=30)
    assert daemon.returncode == 0, daemon.stderr
    assert daemon.stderr.endswith(b" INFO hello\n")


def test_a_second_setup_replaces_the_first(tmp_path: Path) -> None:
    first = to_file(tmp_path)
    logs.setup(ServerSettings(log_file=str(tmp_path / "second.log")), False, {})
    logger.info("hello")
    assert first.read_text() == ""
    assert (tmp_path / "second.log").read_text().count("hello") == 1


class Stderr(io.TextIOWrapper):
    """Standard error as a program has it under systemd: one end of a pipe."""

    def __init__(self) -> None:
        reading, writing = os.pipe()
        self.reading = os.fdopen(reading, "rb")
        super().__init__(os.fdopen(writing, "wb"), encoding="utf-8", line_buffering=True)

    def stream_id(self) -> str:
        found = os.fstat(self.fileno())
        return f"{found.st_dev}:{found.st_ino}"

    def text(self) -> str:
        self.close()
        with self.reading:
            return self.reading.read().decode()


def test_lines_for_the_journal_have_its_priority_and_leave_the_time_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stderr = Stderr()
    monkeypatch.setattr(sys, "stderr", stderr)
    logs.setup(ServerSettings(log_level="debug"), True, {"JOURNAL_STREAM": stderr.stream_id()})
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logger.log(level, "hello")
    assert stderr.text() == "<7>DEBUG hello\n<6>INFO hello\n<4>WARNING hello\n<3>ERROR hello\n"


def test_a_standard_error_that_was_redirected_is_not_the_journal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stderr = Stderr()
    monkeypatch.setattr(sys, "stderr", stderr)
    logs.setup(ServerSettings(), True, {"JOURNAL_STREAM": "1:2"})
    logger.info("hello")
    assert stderr.text().endswith("Z INFO hello\n")


@pytest.fixture
def syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(10)
        listening.bind(str(tmp_path / "log"))
        monkeypatch.setattr(logs, "_SYSLOG_SOCKETS", (str(tmp_path / "log"),))
        yield listening


def test_lines_for_syslog_have_facility_priority_and_sender(syslog: socket.socket) -> None:
    logs.setup(ServerSettings(log_file="syslog"), False, {})
    logger.warning("hello")
    assert syslog.recv(1000) == f"<28>ngrokd[{os.getpid()}]: WARNING hello".encode()


def test_without_a_syslog_setup_says_so_instead_of_losing_every_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_SYSLOG_SOCKETS", (str(tmp_path / "none"),))
    with pytest.raises(HostError, match=r"there is no syslog at .*server\.log_file"):
        logs.setup(ServerSettings(log_file="syslog"), False, {})


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
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").mkdir()
    to_file(tmp_path / "logs")
    (tmp_path / "logs").rename(tmp_path / "moved")
    logger.info("hello")
    logs.reopen()
    text = (tmp_path / "moved/ngrokd.log").read_text()
    assert "INFO hello\n" in text
    assert "stays open: No such file or directory\n" in text
    assert "a log line was lost" not in capsys.readouterr().err


def test_lines_of_many_threads_stay_whole_while_the_file_is_reopened(tmp_path: Path) -> None:
    path = to_file(tmp_path)

    def write() -> None:
        for _ in range(200):
            logger.info("x" * 100)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        logs.reopen()
    for thread in threads:
        thread.join(30)
    lines = path.read_text().splitlines()
    assert len(lines) == 800
    assert all(line.endswith("INFO " + "x" * 100) for line in lines)


def test_reopen_and_keep_secret_before_setup_do_nothing() -> None:
    logs.reopen()
    logs.keep_secret(SECRET)
