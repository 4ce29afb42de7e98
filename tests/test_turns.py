"""One ngrokd at a time writes a hosts file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ngrokd.errors import HostError
from ngrokd.host import locks, turns
from ngrokd.host.hostsfile import HostsFile

NAMES = {"web.ns": "10.107.0.2"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "etc" / "hosts"
    file.parent.mkdir()
    file.write_bytes(b"127.0.0.1 localhost\n")
    return file


def test_another_ngrokd_that_does_not_end_its_write_is_named_and_nothing_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = locks.take
    monkeypatch.setattr(locks, "take", lambda place, name, patience_s: take(place, name, 0.05))
    file = HostsFile(path, "ngrokd managed section")
    before = path.stat()
    with turns.taken(path), pytest.raises(HostError, match=rf"pid {os.getpid()}\) has been writ"):
        file.publish(NAMES)
    assert path.stat() == before and os.listdir(path.parent) == ["hosts"]
    assert file.publish(NAMES)


def test_who_waits_goes_on_when_the_turn_is_over(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ngrokd.host import turns\n"
        "print('waits', flush=True)\n"
        "with turns.taken(Path(sys.argv[1]), 30): print('has it', flush=True)"
    )
    with turns.taken(path):
        argv = [sys.executable, "-c", code, str(path)]
        waiting = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "waits\n"
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.2)
    assert waiting.communicate(timeout=10)[0] == "has it\n"


def test_a_turn_is_a_file_that_no_other_user_can_open_and_goes_with_it(
    path: Path, tmp_path: Path
) -> None:
    place = tmp_path / "locks"
    place.mkdir(mode=0o700)
    with turns.taken(path, folder=lambda: place):
        (lock,) = place.iterdir()
        assert lock.stat().st_mode & 0o077 == 0
    assert not lock.exists()


def test_where_no_lock_can_be_had_the_file_is_written_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_places", lambda environ: [Path("/proc/no/such")])
    with turns.taken(path), turns.taken(path, folder=lambda: Path("/proc/no")):
        assert HostsFile(path, "ngrokd managed section").publish(NAMES)


def test_a_file_has_one_turn_however_its_folder_is_called(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path.parent)
    assert turns.name(tmp_path / "link" / "hosts") == turns.name(path)
    assert turns.name(path.with_name("other")) != turns.name(path)
