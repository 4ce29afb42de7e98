"""One daemon at a time, and nobody else's file is ever taken for a pid file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngrokd.errors import HostError
from ngrokd.process.identity import is_ngrokd
from ngrokd.process.pidfile import PidFile, held, holder, remove_stale

TIMEOUT_S = 20
ROOT = Path(__file__).parent.parent

# Says "ready", waits for a line, then tries; says what came of it, and lives until its input ends.
CONTENDER = """
import sys
from ngrokd.errors import HostError
from ngrokd.process.pidfile import held

print("ready", flush=True)
sys.stdin.readline()
try:
    with held(sys.argv[1]):
        print("held", flush=True)
        sys.stdin.read()
except HostError as exc:
    print(exc, flush=True)
"""


@contextlib.contextmanager
def contender(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, ready to try."""
    with subprocess.Popen(
        [sys.executable, "-c", CONTENDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert _line(process) == "ready"
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _tried(process: subprocess.Popen[str]) -> str:
    _go(process)
    return _line(process)


def failing(error: int) -> Callable[..., Any]:
    """A function that fails as the kernel would."""

    def fail(*words: object, **options: object) -> None:
        raise OSError(error, os.strerror(error))

    return fail


def test_the_pid_stands_in_the_file_while_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    before = os.umask(0o077)
    try:
        with held(str(path)):
            assert path.read_bytes() == b"%d\n" % os.getpid()
            assert path.stat().st_mode & 0o777 == 0o644, "init scripts of any user read it"
            assert list(tmp_path.iterdir()) == [path]
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


def test_it_is_the_lock_file_of_python_daemon(tmp_path: Path) -> None:
    from daemon import pidfile

    assert issubclass(PidFile, pidfile.PIDLockFile)
    lock = PidFile(str(tmp_path / "pid"))
    assert not lock.is_locked() and not lock.i_am_locking()
    with lock:
        assert lock.is_locked() and lock.i_am_locking()
        assert lock.read_pid() == os.getpid()


@pytest.mark.parametrize(
    "content", [b"my data\n", b"-1\n", b"12 34\n", b"\xff" * 20, b"7" * 40, b"0x10\n"]
)
def test_a_file_of_somebody_else_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "precious.txt"
    path.write_bytes(content)
    said = r"precious.txt cannot be the pid file.*server.pid_file"
    with pytest.raises(HostError, match=said), held(str(path)):
        pass
    assert holder(str(path)) is None
    assert not remove_stale(str(path))
    assert path.read_bytes() == content


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.binary(max_size=48))
def test_any_content_is_either_stale_or_somebody_elses(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pid"
    path.write_bytes(content)
    try:
        with held(str(path)):
            assert path.read_bytes() == b"%d\n" % os.getpid()
    except HostError:
        assert path.read_bytes() == content
        assert not re.fullmatch(rb"[\0 \r\n]*[0-9]*[\0 \r\n]*", content) or len(content) > 32
    else:
        assert not path.exists()


def test_a_link_a_pipe_a_folder_and_a_socket_are_refused_at_once(tmp_path: Path) -> None:
    import socket

    (tmp_path / "target").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
    for name in ("link", "pipe", "folder", "socket"):
        refused = pytest.raises(HostError, match="cannot be the pid file")
        with refused, held(str(tmp_path / name)):
            pass
        assert not remove_stale(str(tmp_path / name))
    assert (tmp_path / "target").read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("content", ["", "\n", "\0" * 12, "1\n", "99999999\n", "9" * 25])
def test_a_file_that_nobody_locked_is_stale_whatever_number_it_has(
    tmp_path: Path, content: str
) -> None:
    """A crash between making and writing, a power cut, and a pid that was given again."""
    path = tmp_path / "pid"
    for text in (content, f"{os.getpid()}\n", f"{os.getppid()}\n"):
        path.write_text(text)
        assert holder(str(path)) is None
        with held(str(path)):
            assert path.read_bytes() == b"%d\n" % os.getpid()


def test_who_holds_it_is_named_even_if_the_file_does_not(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with contender(path) as first, contender(path) as second:
        assert _tried(first) == "held"
        assert holder(str(path)) == first.pid
        path.write_text("")
        assert holder(str(path)) == first.pid
        assert f"already runs with pid {first.pid} ({path})" in _tried(second)
        assert path.exists()


def test_of_many_that_start_at_once_exactly_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("99999999\n")  # each of them would break it
    with contextlib.ExitStack() as stack:
        all_of_them = [stack.enter_context(contender(path)) for _ in range(6)]
        for process in all_of_them:
            _go(process)
        said = {process.pid: _line(process) for process in all_of_them}
        winners = [pid for pid, words in said.items() if words == "held"]
        assert len(winners) == 1, said
        losers = [words for words in said.values() if words != "held"]
        assert all(f"pid {winners[0]} " in words for words in losers), said
        assert path.read_text() == f"{winners[0]}\n"


def test_who_may_only_read_the_file_cannot_keep_the_next_daemon_from_starting(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ngrokd.pid"
    path.write_text("4711\n")
    reads = (
        "import fcntl, sys; file = open(sys.argv[1]); fcntl.lockf(file, fcntl.LOCK_SH);"
        " print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", reads, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        assert holder(str(path)) is None
        with held(str(path)):
            assert path.read_text() == f"{os.getpid()}\n"
            assert path.stat().st_mode & 0o777 == 0o644
        path.write_text("4711\n")
        assert remove_stale(str(path))
        assert not path.exists()
        reader.kill()


def test_the_next_one_starts_at_once_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with contender(path) as first, contender(path) as second:
        assert _tried(first) == "held"
        first.send_signal(signal.SIGKILL)
        first.wait(TIMEOUT_S)
        assert path.read_text() == f"{first.pid}\n"
        assert holder(str(path)) is None
        assert _tried(second) == "held"
        assert path.read_text() == f"{second.pid}\n"


def test_a_signal_while_it_is_taken_or_released_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pid"
    places: tuple[tuple[Any, str], ...] = ((fcntl, "lockf"), (os, "fstat"), (Path, "unlink"))
    for module, name in places:
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr(module, name, _interrupted_once(getattr(module, name)))
            with held(str(path)):
                pass
        assert list(tmp_path.iterdir()) == [], name


def _interrupted_once(call: Callable[..., Any]) -> Callable[..., Any]:
    signals = [SystemExit(0)]

    def interrupted(*args: Any, **options: Any) -> Any:
        if signals:
            raise signals.pop()
        return call(*args, **options)

    return interrupted


def test_a_file_that_was_replaced_meanwhile_is_not_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with held(str(path)):
        (tmp_path / "other").write_text("12345\n")
        (tmp_path / "other").replace(path)
    assert path.read_text() == "12345\n"


def test_removing_takes_a_stale_file_and_never_a_held_one(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    assert not remove_stale(str(path))
    path.write_text("99999999\n")
    assert remove_stale(str(path)) and not path.exists()
    with contender(path) as other:
        assert _tried(other) == "held"
        with pytest.raises(HostError, match=f"pid {other.pid} "):
            remove_stale(str(path))
        with pytest.raises(HostError, match=f"pid {other.pid} "):
            PidFile(str(path)).break_lock()
        assert path.read_text() == f"{other.pid}\n"


def test_its_folder_is_made_and_a_folder_of_that_is_a_mistake(tmp_path: Path) -> None:
    """/var/run is empty after every boot, and so is a link to it that leads nowhere yet."""
    before = os.umask(0o077)
    try:
        with held(str(tmp_path / "ngrokd" / "pid")):
            assert (tmp_path / "ngrokd").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with held(str(tmp_path / "link" / "pid")):
        assert (tmp_path / "run" / "pid").exists()
    with pytest.raises(HostError, match=r"No such file or directory; set server\.pid_file"):
        PidFile(str(tmp_path / "two" / "levels" / "pid")).acquire()
    assert not (tmp_path / "two").exists()


def test_a_full_disk_leaves_no_empty_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pid"
    monkeypatch.setattr(os, "pwrite", failing(errno.ENOSPC))
    with pytest.raises(HostError, match=r"No space left.*server\.pid_file"), held(str(path)):
        pass
    assert not path.exists()


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_a_living_ngrokd_is_respected_and_another_program_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    path = tmp_path / "pid"
    for name in ("lockf", "fcntl"):
        monkeypatch.setattr(fcntl, name, failing(error))
    with running(tmp_path, [sys.executable, "ngrokd"]) as alive:
        path.write_text(f"{alive.pid}\n")
        assert holder(str(path)) == alive.pid
        refused = pytest.raises(HostError, match=f"pid {alive.pid} ")
        with refused, held(str(path)):
            pass
    for pid in (alive.pid, os.getppid(), os.getpid()):
        path.write_text(f"{pid}\n")
        with held(str(path)):
            assert path.read_text() == f"{os.getpid()}\n"


@contextlib.contextmanager
def running(folder: Path, argv: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program called ngrokd that does nothing but live."""
    for name in ("ngrokd", "ngrokd.py"):
        (folder / name).write_text("print(flush=True); input()")
    with subprocess.Popen(
        argv, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([sys.executable, "ngrokd", "x"], True),
        ([sys.executable, "-I", "ngrokd.py", "x"], True),
        ([sys.executable, "-c", "print(flush=True); input()", "ngrokd.log"], False),
    ],
)
def test_a_living_ngrokd_is_known_by_what_it_runs(
    tmp_path: Path, argv: list[str], expected: bool
) -> None:
    with running(tmp_path, argv) as process:
        assert is_ngrokd(process.pid) is expected
    assert not is_ngrokd(process.pid)
