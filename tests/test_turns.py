"""One ngrokd at a time writes a hosts file, and no stranger can take the turn."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ngrokd.errors import HostError
from ngrokd.host import locks, turns
from ngrokd.host.hostsfile import HostsFile

NAMES = {"web.ns": "10.107.0.2"}

_HOLDER = """
import sys
from pathlib import Path
from ngrokd.host import turns
with turns.taken(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


class Holder:
    """Another process whose turn it is."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "held\n"

    @property
    def pid(self) -> int:
        return self._process.pid

    def end(self) -> None:
        self._process.communicate("\n", timeout=10)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    tmp_path.chmod(0o755)
    file = tmp_path / "hosts"
    file.write_bytes(b"127.0.0.1 localhost\n")
    yield file


def test_another_ngrokd_that_does_not_end_its_write_is_named_and_nothing_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns.taken.__wrapped__, "__defaults__", (0.05,))  # type: ignore[attr-defined]
    holder = Holder(path)
    file = HostsFile(path, "ngrokd managed section")
    before = path.stat()
    with pytest.raises(HostError, match=rf"pid {holder.pid}\) has been writing"):
        file.publish(NAMES)
    assert path.stat().st_mtime_ns == before.st_mtime_ns and os.listdir(path.parent) == ["hosts"]
    holder.end()
    assert file.publish(NAMES)


def test_who_waits_goes_on_at_once_when_the_turn_is_over(path: Path) -> None:
    with turns.taken(path):
        code = (
            "import sys; from pathlib import Path; from ngrokd.host import turns\n"
            "print('waits', flush=True)\n"
            "with turns.taken(Path(sys.argv[1]), 30): print('has it', flush=True)"
        )
        argv = [sys.executable, "-c", code, str(path)]
        waiting = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "waits\n"
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.2)
    assert waiting.communicate(timeout=10)[0] == "has it\n"


@pytest.mark.root
def test_a_stranger_who_locks_the_hosts_file_itself_holds_up_nobody(path: Path) -> None:
    with path.open("rb") as strangers:
        fcntl.flock(strangers, fcntl.LOCK_SH)
        file = HostsFile(path, "ngrokd managed section")
        assert file.publish(NAMES)
        assert file.publish({})


def test_without_a_place_for_locks_there_are_no_turns(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> Path:
        raise HostError("no folder for its locks")

    monkeypatch.setattr(locks, "folder", nowhere)
    with turns.taken(path), turns.taken(path):
        pass


def test_a_file_has_one_turn_however_its_folder_is_called(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert turns.name(tmp_path / "link" / "hosts") == turns.name(path)
    assert turns.name(path.with_name("other")) != turns.name(path)
