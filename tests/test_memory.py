"""What is remembered over a restart, and what a damaged file costs."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ngrokd.errors import StateError
from ngrokd.memory import Memory
from ngrokd.model import Discovered, Endpoint, Target
from ngrokd.reconcile.desired import Remembered

SEEN = Discovered((Endpoint(Target("a.ns", 80), "http", "http://a.ns", ("ep_1",)),))

NOW = 1_800_000_000.0


def test_assignments_come_back_in_their_order(tmp_path: Path) -> None:
    remembered = Remembered({"b.ns": "10.107.0.3", "a.ns": "10.107.0.2"}, {"a.ns:80": 9080})
    Memory(tmp_path).save_assignments(remembered)
    found = Memory(tmp_path).assignments()
    assert found == remembered
    assert list(found.addresses) == ["b.ns", "a.ns"]


def test_the_last_good_answer_comes_back(tmp_path: Path) -> None:
    Memory(tmp_path).save_endpoints(SEEN, NOW)
    assert Memory(tmp_path).endpoints() == SEEN


def test_files_that_somebody_removed_are_written_again(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.save_endpoints(SEEN, NOW)
    memory.save_assignments(Remembered())
    assert memory.holds_assignments()
    for name in ("endpoints.json", "ip_mappings.json"):
        (tmp_path / name).unlink()
    assert not memory.holds_assignments()
    memory.save_endpoints(SEEN, NOW)
    assert Memory(tmp_path).endpoints() == SEEN


def test_a_fresh_folder_knows_nothing(tmp_path: Path) -> None:
    assert Memory(tmp_path).endpoints() is None
    assert Memory(tmp_path).assignments() == Remembered()


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"[", b'{"endpoints": []', b"[" * 9999])
def test_damage_costs_only_what_was_damaged(tmp_path: Path, content: bytes) -> None:
    for name in ("endpoints.json", "ip_mappings.json", "network_ports.json"):
        (tmp_path / name).write_bytes(content)
    memory = Memory(tmp_path)
    assert memory.endpoints() is None
    assert memory.assignments() == Remembered()
    memory.save_endpoints(SEEN, NOW)
    assert Memory(tmp_path).endpoints() == SEEN


def test_a_damaged_file_replaces_what_was_kept_of_an_earlier_one(tmp_path: Path) -> None:
    damaged = tmp_path / "ip_mappings.json"
    (tmp_path / "ip_mappings.json.corrupt").write_bytes(b"of last year")
    damaged.write_bytes(b'{"a.ns": "10.107')
    memory = Memory(tmp_path)
    assert memory.assignments() == Remembered()
    assert (tmp_path / "ip_mappings.json.corrupt").read_bytes() == b'{"a.ns": "10.107'
    memory.save_assignments(Remembered({"a.ns": "10.107.0.2"}))
    assert Memory(tmp_path).assignments() == Remembered({"a.ns": "10.107.0.2"})


def test_a_damaged_file_that_cannot_be_moved_is_told_and_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "ip_mappings.json").write_bytes(b"{")
    (tmp_path / "ip_mappings.json.corrupt").mkdir()
    (tmp_path / "network_ports.json").write_text('{"a.ns:80": 9080}')
    memory = Memory(tmp_path)
    assert memory.assignments() == Remembered({}, {"a.ns:80": 9080})
    assert "ip_mappings.json is damaged and cannot be renamed" in caplog.text
    memory.save_assignments(Remembered({"a.ns": "10.107.0.2"}))
    assert Memory(tmp_path).assignments() == Remembered({"a.ns": "10.107.0.2"})


def test_a_damaged_file_of_endpoints_is_kept_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "endpoints.json").write_bytes(b'{"endpoints": 7}')
    assert Memory(tmp_path).endpoints() is None
    assert (tmp_path / "endpoints.json.corrupt").read_bytes() == b'{"endpoints": 7}'
    assert not (tmp_path / "endpoints.json").exists()
    assert "kept as endpoints.json.corrupt" in caplog.text


def test_the_time_of_the_last_answer_comes_back(tmp_path: Path) -> None:
    Memory(tmp_path).save_endpoints(SEEN, NOW)
    os.utime(tmp_path / "endpoints.json", (NOW, NOW))
    memory = Memory(tmp_path)
    memory.endpoints()
    assert memory.answered_at == NOW


@pytest.mark.parametrize(("later_s", "stamped"), [(3599, False), (3600, True), (-1, True)])
def test_an_answer_like_the_last_one_is_noted_once_an_hour(
    tmp_path: Path, later_s: float, stamped: bool
) -> None:
    file = tmp_path / "endpoints.json"
    memory = Memory(tmp_path)
    memory.save_endpoints(SEEN, NOW)
    before = file.stat()
    memory.save_endpoints(SEEN, NOW + later_s)
    assert file.stat().st_ino == before.st_ino  # it was not written again
    assert file.stat().st_mtime == (NOW + later_s if stamped else before.st_mtime)


def test_a_pipe_in_its_place_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "endpoints.json")
    assert Memory(tmp_path).endpoints() is None


def test_a_full_disk_does_not_stop_the_daemon(tmp_path: Path) -> None:
    Memory(tmp_path / "gone").save_endpoints(SEEN, NOW)
    assert not (tmp_path / "gone").exists()


def test_what_a_killed_run_wrote_half_goes_at_the_next_start(tmp_path: Path) -> None:
    Memory(tmp_path).save_endpoints(SEEN, NOW)
    halves = [
        tmp_path / f".{name}.ngrokd-99999999-{'f' * 16}"
        for name in ("endpoints.json", "ip_mappings.json", "network_ports.json")
    ]
    for half in halves:
        half.write_bytes(b"{")
    Memory(tmp_path).assignments()
    assert [path.name for path in tmp_path.iterdir()] == ["endpoints.json"]


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 9999, b'{"a": 7}', b"\xff"])
def test_addresses_are_known_without_touching_a_damaged_file(
    tmp_path: Path, content: bytes
) -> None:
    saved = tmp_path / "ip_mappings.json"
    assert Memory(tmp_path).known_addresses() == frozenset()
    saved.write_bytes(content)
    assert Memory(tmp_path).known_addresses() == frozenset()
    assert saved.read_bytes() == content and len(list(tmp_path.iterdir())) == 1
    saved.write_text('{"a.ns": "10.107.0.2"}')
    assert Memory(tmp_path).known_addresses() == {"10.107.0.2"}


def test_what_could_not_be_saved_is_not_taken_for_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(tmp_path)
    memory.save_assignments(Remembered({"a.ns": "10.107.0.2"}))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _no_space)
        with pytest.raises(StateError):
            memory.save_assignments(Remembered({"b.ns": "10.107.0.3"}))
        assert not memory.holds_assignments()
    memory.save_assignments(Remembered({"b.ns": "10.107.0.3"}))
    assert memory.holds_assignments()


def _no_space(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
