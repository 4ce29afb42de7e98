"""Lines for syslog, whose daemon may be restarted, slow, or not there."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Union

import pytest

from ngrokd import logs
from ngrokd.config import ServerSettings
from ngrokd.errors import HostError
from ngrokd.logs import targets
from ngrokd.logs.syslog import SyslogTarget
from tests.logs_room import logger, messages, root_put_back

SYSLOG = ServerSettings(log_file="syslog")


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    with root_put_back():
        yield


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "log"
    monkeypatch.setattr(targets, "SOCKETS", (str(tmp_path / "none"), str(path)))
    return path


@contextlib.contextmanager
def daemon(path: Path, kind: int = socket.SOCK_DGRAM) -> Iterator[socket.socket]:
    """What a syslog daemon listens on, which vanishes with it."""
    with socket.socket(socket.AF_UNIX, kind) as listening:
        listening.settimeout(10)
        listening.bind(str(path))
        if kind == socket.SOCK_STREAM:
            listening.listen()
        try:
            yield listening
        finally:
            path.unlink()


def head(priority: int) -> bytes:
    return f"<{priority}>ngrokd[{os.getpid()}]: ".encode()


@pytest.mark.parametrize(
    ("level", "priority"), [(10, 31), (20, 30), (30, 28), (40, 27), (50, 26)]
)
def test_lines_have_facility_priority_sender_and_no_nul(
    place: Path, level: int, priority: int
) -> None:
    with daemon(place) as listening:
        logs.setup(ServerSettings(log_file="syslog", log_level="debug"), False, {})
        logger.log(level, "hello\0")
        name = logging.getLevelName(level).encode()
        assert listening.recv(1000) == head(priority) + name + rb" hello\x00"


def test_json_lines_have_their_time(place: Path) -> None:
    with daemon(place) as listening:
        logs.setup(ServerSettings(log_file="syslog", log_format="json"), False, {})
        logger.info("hello")
        line = listening.recv(1000)
        assert line.startswith(head(30) + b"{")
        assert set(json.loads(line[len(head(30)) :])) == {"time", "level", "logger", "message"}


def test_without_a_syslog_setup_says_so_instead_of_losing_every_line(place: Path) -> None:
    with pytest.raises(HostError, match=r"there is no syslog at .*No such file.*server\.log_file"):
        logs.setup(SYSLOG, False, {})
    with daemon(place):
        left = place.with_name("left")
        os.link(place, left)
    left.rename(place)  # as a daemon that was killed leaves it
    with pytest.raises(HostError, match=r"there is no syslog at .*\(Connection refused\)"):
        logs.setup(SYSLOG, False, {})


def test_a_long_line_is_cut_to_what_syslog_takes_and_stays_json(place: Path) -> None:
    with daemon(place) as listening:
        logs.setup(ServerSettings(log_file="syslog", log_format="json"), False, {})
        logger.info("x" * 1_000_000, exc_info=OSError("y" * 1_000_000))
        line = listening.recv(1_000_000)
        assert 6000 < len(line) < 8000
        assert json.loads(line[len(head(30)) :])["exception"].endswith("y")


class SmallDatagrams(socket.socket):
    """A system that takes datagrams of 2 KiB, as macOS does."""

    def send(self, data: bytes, *args: int) -> int:  # type: ignore[override]
        if len(data) > 2048:
            raise OSError(errno.EMSGSIZE, "Message too long")
        return super().send(data, *args)


def test_a_line_is_cut_further_where_datagrams_are_small(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with daemon(place) as listening:
        monkeypatch.setattr("ngrokd.logs.syslog.socket.socket", SmallDatagrams)
        logs.setup(SYSLOG, False, {})
        logger.info("x" * 3000)
        assert 1000 < len(listening.recv(10_000)) <= 2048


def test_a_restart_of_the_daemon_loses_what_was_said_meanwhile_and_says_so(place: Path) -> None:
    with daemon(place) as listening:
        logs.setup(SYSLOG, False, {})
        logger.info("one")
        assert listening.recv(1000).endswith(b"INFO one")
    logger.info("two")
    logger.info("three")
    with daemon(place) as listening:
        logger.info("four")
        note = listening.recv(1000)
        assert b"WARNING 2 log lines were lost since " in note
        assert note.endswith(b": No such file or directory")
        assert listening.recv(1000).endswith(b"INFO four")


def test_a_restart_between_two_lines_loses_none(place: Path) -> None:
    with daemon(place):
        logs.setup(SYSLOG, False, {})
    for word in (b"one", b"two"):
        with daemon(place) as listening:
            logger.info(word.decode())
            assert listening.recv(1000).endswith(b"INFO " + word)


def test_a_stream_is_spoken_to_in_lines_and_outlives_a_restart(place: Path) -> None:
    with daemon(place, socket.SOCK_STREAM) as listening:
        logs.setup(SYSLOG, False, {})
        with listening.accept()[0] as connection:
            logger.info("one")
            logger.info("two")
            with connection.makefile("rb") as lines:
                assert lines.readline() == head(30) + b"INFO one\n"
                assert lines.readline() == head(30) + b"INFO two\n"
    with daemon(place, socket.SOCK_STREAM) as listening:
        logger.info("three")
        with listening.accept()[0] as connection, connection.makefile("rb") as lines:
            assert lines.readline() == head(30) + b"INFO three\n"


def cut_short(place: Path) -> SyslogTarget:
    """One to whose last line a stream gave no room in the midst of it."""
    target = SyslogTarget((str(place),))
    target._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # two or three KiB
    with pytest.raises(BlockingIOError):
        target.write("x" * 100_000, 20)
    return target


def test_what_follows_a_line_that_a_stream_cut_short_is_a_line_of_its_own(place: Path) -> None:
    with daemon(place, socket.SOCK_STREAM) as listening:
        target = cut_short(place)
        with listening.accept()[0] as connection:
            early = received(connection)
            assert early.endswith(b"x")
            target.write("next", 20)
            assert connection.recv(10_000) == b"\n" + head(30) + b"next\n"
        target.close()


def test_a_new_stream_begins_with_a_line_though_the_last_one_was_cut_short(place: Path) -> None:
    with daemon(place, socket.SOCK_STREAM):
        target = cut_short(place)
    with daemon(place, socket.SOCK_STREAM) as listening:
        target.write("next", 20)
        with listening.accept()[0] as connection:
            assert connection.recv(10_000) == head(30) + b"next\n"
        target.close()


def test_a_daemon_may_come_again_with_the_other_kind_of_socket(place: Path) -> None:
    with daemon(place):
        logs.setup(SYSLOG, False, {})
    with daemon(place, socket.SOCK_STREAM) as listening:
        logger.info("one")
        with listening.accept()[0] as connection:
            assert connection.recv(1000).endswith(b"INFO one\n")


def received(connection: socket.socket) -> bytes:
    parts = []
    end = b"\n" if connection.type == socket.SOCK_DGRAM else b""
    while select.select([connection], [], [], 0.2)[0]:
        parts.append(connection.recv(1 << 16) + end)
    return b"".join(parts)


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_daemon_that_hangs_does_not_stop_us_and_what_it_missed_is_told(
    place: Path, kind: int
) -> None:
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(daemon(place, kind))
        logs.setup(SYSLOG, False, {})
        accepted = kind == socket.SOCK_STREAM
        reading = stack.enter_context(listening.accept()[0]) if accepted else listening
        started = time.monotonic()
        for number in range(2000):
            logger.info("%d %s", number, "x" * 500)
        assert time.monotonic() - started < 10
        early = received(reading)
        logger.info("the end")
        late = received(reading)
        assert b"who reads it is too slow" in late and b"the end" in late
        lines = [line for line in (early + late).splitlines() if b"who reads" in line]
        assert lines and lines[0].startswith(head(28)), "not in a line that was cut short"
        lost = int(late.split(b" log lines were lost")[0].split()[-1])
        assert early.count(b"x" * 500 + b"\n") + lost == 2000


def test_a_reload_moves_the_log_to_syslog_and_back(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "ngrokd.log"
    to_path = ServerSettings(log_file=str(path))
    logs.setup(to_path, False, {})
    with pytest.raises(HostError, match="there is no syslog"):
        logs.configure(SYSLOG)
    logger.info("one")
    with daemon(place) as listening:
        logs.configure(SYSLOG)
        logger.info("two")
        assert listening.recv(1000).endswith(b"INFO two")
        logs.configure(to_path)
        assert listening.recv(1000).endswith(f"INFO the log goes on in {path}".encode())
        logger.info("three")
    assert messages(path) == ["INFO one", "INFO the log goes on in syslog", "INFO three"]


def test_a_message_after_the_end_goes_nowhere(place: Path) -> None:
    with daemon(place) as listening:
        target = SyslogTarget((str(place),))
        target.close()
        target.write("hello", 20)
        target.reopen()
        target.write("hello", 20)
        assert received(listening) == b""


# With the real rsyslog

RULES = """
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{folder}/log" RateLimit.Interval="0")
template(name="all" type="string"
         string="%syslogfacility-text%.%syslogseverity-text% %programname% %procid%%msg%\\n")
*.* action(type="omfile" file="{folder}/out" template="all")
"""


@contextlib.contextmanager
def rsyslog(folder: Path) -> Iterator[None]:
    program = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin:/sbin")
    if program is None:
        pytest.skip("rsyslog is not installed")
    (folder / "rules").write_text(RULES.format(folder=folder))
    argv: list[Union[str, Path]] = [program, "-n", "-f", folder / "rules", "-i", folder / "pid"]
    running = subprocess.Popen(argv)
    try:
        await_true(lambda: (folder / "pid").exists() and answers(folder / "log"))
        yield
    finally:
        running.terminate()
        running.wait(20)
        (folder / "log").unlink(missing_ok=True)


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller:
        return caller.connect_ex(str(path)) == 0


def await_true(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        select.select([], [], [], 0.02)


def test_rsyslog_reads_our_lines_before_and_after_its_restart(
    place: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def written() -> list[str]:
        return out.read_text().splitlines() if out.exists() else []

    with rsyslog(tmp_path):
        logs.setup(SYSLOG, False, {})
        logger.info("caf\u00e9 one")
        logger.warning("two: %s", "x" * 10_000)
        logger.critical("three")
        await_true(lambda: len(written()) == 3)
    logger.info("meanwhile")
    with rsyslog(tmp_path):
        logger.error("four")
        await_true(lambda: len(written()) == 5)
    me = f"ngrokd {os.getpid()}"
    one, two, three, note, four = written()
    assert one == f"daemon.info {me} INFO caf\u00e9 one"
    assert two.startswith(f"daemon.warning {me} WARNING two: xxx") and two.endswith("x...")
    assert three == f"daemon.crit {me} CRITICAL three"
    assert note.startswith(f"daemon.warning {me} WARNING 1 log line was lost since ")
    assert four == f"daemon.err {me} ERROR four"
