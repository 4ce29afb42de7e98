"""One daemon at a time, and nobody else's file is ever taken for a pid file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ngrokd.errors import HostError
from ngrokd.pidfile import held, is_ngrokd


def test_the_pid_stands_in_the_file_while_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with held(str(path)):
        assert path.read_text().strip() == str(os.getpid())
    assert not path.exists()


@pytest.mark.parametrize(
    "content", [b"my data\n", b"-1\n", b"12 34\n", b"\xff" * 20, b"7" * 40, b"0x10\n"]
)
def test_a_file_of_somebody_else_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "precious.txt"
    path.write_bytes(content)
    said = r"precious.txt cannot be the pid file.*server.pid_file"
    with pytest.raises(HostError, match=said), held(str(path)):
        pass
    assert path.read_bytes() == content


def test_a_link_a_pipe_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder"):
        refused = pytest.raises(HostError, match="cannot be the pid file")
        with refused, held(str(tmp_path / name)):
            pass
    assert (tmp_path / "target").read_text() == "kept"


def test_our_own_number_left_by_a_killed_one_is_stale(tmp_path: Path) -> None:
    """A restarted container's daemon has the pid that the killed one had."""
    path = tmp_path / "pid"
    path.write_text(f"{os.getpid()}\n")
    with held(str(path)):
        assert path.read_text().strip() == str(os.getpid())


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([sys.executable, "ngrokd", "x"], True),
        ([sys.executable, "-I", "ngrokd.py", "x"], True),
        ([sys.executable, "-c", "import time, sys; input()", "ngrokd.log"], False),
    ],
)
def test_a_living_ngrokd_is_known_by_what_it_runs(
    tmp_path: Path, argv: list[str], expected: bool
) -> None:
    for name in ("ngrokd", "ngrokd.py"):
        (tmp_path / name).write_text("print(flush=True); input()")
    if "-c" in argv:
        argv = [*argv[:2], "print(flush=True); input()", argv[3]]
    with subprocess.Popen(
        argv, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert is_ngrokd(process.pid) is expected
        process.kill()
    assert not is_ngrokd(process.pid)
