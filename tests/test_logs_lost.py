"""A log that takes no lines neither stops nor ends the daemon, and says later what it missed."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ngrokd import logs
from ngrokd.config import ServerSettings
from ngrokd.logs import descriptor
from ngrokd.logs.handler import RETRY_S
from tests.fair import Stopwatch
from tests.logs_room import SECRET, end, logger, messages, root_put_back, to_file


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    with root_put_back():
        yield


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A log file on a disk without room; replaced by a file, there is room again."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    path = tmp_path / "ngrokd.log"
    path.symlink_to("/dev/full")
    return to_file(tmp_path)


def test_a_full_disk_is_told_once_and_shows_nothing_of_the_lines(
    full: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        logger.info("secret %s %d", SECRET, number)
    expected = "ngrokd: log lines are being lost: No space left on device\n"
    assert capsys.readouterr().err == expected


def test_what_was_lost_is_told_when_there_is_room_again(full: Path) -> None:
    for number in range(5):
        logger.info("line %d", number)
    full.unlink()
    logger.info("line 5")
    note, line = messages(full)
    assert re.fullmatch(
        r"WARNING 5 log lines were lost since [\dT:-]{19}Z: No space left on device", note
    )
    assert line == "INFO line 5"


def test_what_was_lost_is_told_though_nothing_more_happens(full: Path) -> None:
    logger.info("line")
    assert logs.flush_repeats(time.monotonic()) <= RETRY_S
    full.unlink()
    logs.flush_repeats(time.monotonic())
    assert "WARNING 1 log line was lost" in full.read_text()


def test_repeats_that_were_counted_are_counted_as_lost(full: Path) -> None:
    for _ in range(10):
        logger.info("line")
    end()
    full.unlink()
    logger.info("other")
    assert "WARNING 10 log lines were lost" in full.read_text()


def test_each_time_that_lines_are_lost_is_told(full: Path) -> None:
    kept = full.with_name("kept")
    for number in range(2):
        logger.info("lost %d", number)
        full.unlink()
        logger.info("line %d", number)
        full.rename(kept)
        full.symlink_to("/dev/full")
        told = [line.split(" log line was")[0] for line in messages(kept)]
        assert told == ["WARNING 1", f"INFO line {number}"]


ON_SMALL_DISK = """
import logging, pathlib, sys
from ngrokd import logs
from ngrokd.config import ServerSettings

folder = pathlib.Path(sys.argv[1])
logs.setup(ServerSettings(log_file=str(folder / "ngrokd.log")), False, {})
logger = logging.getLogger("ngrokd.x")
ballast = folder / "ballast"
ballast.write_bytes(b"x" * 128 * 1024)
for number in range(200):
    logger.info("%d %s", number, "x" * 1000)
ballast.unlink()
logger.info("room again")
"""


@pytest.mark.root
def test_a_disk_that_fills_up_leaves_whole_lines_and_the_number_of_those_it_lost(
    tmp_path: Path,
) -> None:
    script = 'mount -t tmpfs -o size=256k none "$1" && "$2" -c "$3" "$1" && cat "$1"/ngrokd.log'
    argv = ["unshare", "-m", "sh", "-c", script, "sh", str(tmp_path), sys.executable, ON_SMALL_DISK]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    *lines, note, last = [line.split(" ", 1)[1] for line in ended.stdout.splitlines()]
    whole = [line for line in lines if re.fullmatch(r"INFO \d+ x{1000}", line)]
    assert len(lines) - len(whole) <= 1, "one may be cut short; it stands on a line of its own"
    lost = re.match(r"WARNING (\d+) log lines were lost", note)
    assert lost is not None
    assert 50 < len(whole) < 150
    assert len(whole) + int(lost.group(1)) == 200
    assert last == "INFO room again"


class Pipe:
    """Standard error that somebody may or may not read."""

    def __init__(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if kind == "socket":  # as the journal's
            reading, writing = socket.socketpair()
            self.reading, self.writing = reading.detach(), writing.detach()
        elif kind == "terminal":
            self.reading, self.writing = os.openpty()
        else:
            self.reading, self.writing = os.pipe()
        monkeypatch.setitem(logs.targets._STREAMS, "/dev/stderr", self.writing)

    def text(self) -> str:
        os.set_blocking(self.reading, False)
        parts = []
        try:
            while part := os.read(self.reading, 1 << 20):
                parts.append(part)
        except BlockingIOError:
            pass
        return b"".join(parts).decode()

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


@pytest.fixture(params=["pipe", "socket", "terminal"])
def pipe(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    made = Pipe(request.param, monkeypatch)
    yield made
    made.close()


def test_a_reader_who_pauses_does_not_stop_the_daemon(pipe: Pipe) -> None:
    logs.setup(ServerSettings(), True, {})
    watch = Stopwatch()
    for number in range(300):
        logger.info("%d %s", number, "x" * 1000)
    assert watch.own() < 5 * descriptor.PATIENCE_S
    early = pipe.text().splitlines()
    logger.info("read again")
    late = pipe.text().splitlines()
    whole = [line for line in early if line.endswith("x" * 1000)]
    told = next(line for line in late if "were lost" in line)
    lost = int(told.split()[2])
    assert "who reads it is too slow" in told
    assert len(whole) + lost == 300
    assert late[-1].endswith("INFO read again")


def test_a_reader_who_is_slow_for_good_is_waited_for_a_second_in_all(pipe: Pipe) -> None:
    logs.setup(ServerSettings(), True, {})
    done = threading.Event()

    def read() -> None:  # about 40 lines a second
        while not done.wait(0.1):
            os.read(pipe.reading, 4096)

    reader = threading.Thread(target=read)
    reader.start()
    started = time.monotonic()
    for number in range(1000):
        logger.info("%d %s", number, "x" * 1000)
    taken = time.monotonic() - started
    done.set()
    reader.join(30)
    assert taken < 5 * descriptor.PATIENCE_S


def test_a_reader_who_is_a_little_late_misses_nothing(pipe: Pipe) -> None:
    logs.setup(ServerSettings(), True, {})
    got: list[bytes] = []

    def read() -> None:
        while b"the end" not in b"".join(got[-2:]):
            got.append(os.read(pipe.reading, 4096))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(500):
        logger.info("%d %s", number, "x" * 1000)
    logger.info("the end")
    reader.join(30)
    assert b"".join(got).count(b"\n") == 501


def test_a_reader_who_is_gone_does_not_end_the_daemon(pipe: Pipe) -> None:
    logs.setup(ServerSettings(), True, {})
    os.close(pipe.reading)
    logger.info("one")
    logger.info("two")
    pipe.reading = os.open(os.devnull, os.O_RDONLY)


class Bad:
    """An argument that cannot be shown."""

    def __str__(self) -> str:
        raise LookupError(SECRET)


def test_a_line_that_cannot_be_made_costs_that_line_only(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = to_file(tmp_path)
    (handler,) = [h for h in logging.getLogger().handlers if type(h).__name__ == "LogHandler"]
    # To our handler alone: pytest's own would raise.
    handler.handle(logger.makeRecord("ngrokd.x", logging.INFO, "", 0, "%s", (Bad(),), None))
    logger.info("next")
    assert messages(path) == ["INFO a line raised LookupError", "INFO next"]
    assert SECRET not in capfd.readouterr().err


class Collected:
    """Logs when it is collected, perhaps in the midst of another line."""

    def __str__(self) -> str:
        logger.warning("collected")
        return "shown"


def test_a_line_that_is_said_in_the_midst_of_another_one_comes_after_it(tmp_path: Path) -> None:
    path = to_file(tmp_path)
    (handler,) = [h for h in logging.getLogger().handlers if type(h).__name__ == "LogHandler"]
    handler.handle(logger.makeRecord("ngrokd.x", logging.INFO, "", 0, "%s", (Collected(),), None))
    assert messages(path) == ["INFO shown", "WARNING collected"]


# With the real logrotate


@pytest.mark.root
def test_logrotate_with_the_shipped_rules_loses_no_line(tmp_path: Path) -> None:
    logrotate = shutil.which("logrotate", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if logrotate is None:
        pytest.skip("logrotate is not installed")
    path = to_file(tmp_path)
    rules = tmp_path / "rules"
    shipped = (Path(__file__).parent.parent / "init/ngrokd.logrotate").read_text()
    assert "/var/log/ngrokd.log" in shipped
    rules.write_text(shipped.replace("/var/log/ngrokd.log", str(path)))
    rules.chmod(0o644)
    for number in range(3):
        logger.info("before %d", number)
        argv = [logrotate, "-f", "-s", str(tmp_path / "state"), str(rules)]
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        assert (ended.returncode, ended.stderr) == (0, "")
        logger.info("after %d", number)
    assert messages(path) == ["INFO after 2"]
    assert path.stat().st_mode & 0o777 == 0o640
    assert messages(tmp_path / "ngrokd.log.1") == ["INFO after 1", "INFO before 2"]
    packed = subprocess.run(
        ["zcat", tmp_path / "ngrokd.log.2.gz", tmp_path / "ngrokd.log.3.gz"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    said = [line.split(" ", 1)[1] for line in packed.splitlines()]
    assert said == ["INFO after 0", "INFO before 1", "INFO before 0"]
