"""Files hold the old content or the new, and stay whose and what they were."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ngrokd.errors import StateError
from ngrokd.host import exchange, files, inplace
from ngrokd.host.exchange import ChangedMeanwhile, Shared
from tests.fair import Stopwatch
from tests.namespace import Namespace


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with content, alone in its folder."""
    file = tmp_path / "folder" / "state.json"
    file.parent.mkdir()
    file.write_bytes(b"old")
    return file


def failing(error: int) -> Callable[..., Any]:
    """A function that fails as the kernel would."""

    def fail(*words: object, **options: object) -> None:
        raise OSError(error, os.strerror(error))

    return fail


def test_a_new_file_has_the_asked_mode_whatever_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o077)
    try:
        files.write_atomic(tmp_path / "secret", b"x")
        files.write_atomic(tmp_path / "open", b"y", 0o644)
    finally:
        os.umask(previous)
    assert (tmp_path / "secret").stat().st_mode & 0o7777 == 0o600
    assert (tmp_path / "open").stat().st_mode & 0o7777 == 0o644
    assert (tmp_path / "open").read_bytes() == b"y"


def test_an_existing_file_keeps_its_mode(path: Path) -> None:
    path.chmod(0o640)
    files.write_atomic(path, b"new")
    assert path.stat().st_mode & 0o7777 == 0o640
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["state.json"]


@pytest.mark.root
def test_an_existing_file_keeps_its_owner_and_extended_attributes(path: Path) -> None:
    os.chown(path, 65534, 65534)
    os.setxattr(path, "trusted.label", b"system_u:object_r:net_conf_t:s0")
    files.write_atomic(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)
    assert os.getxattr(path, "trusted.label") == b"system_u:object_r:net_conf_t:s0"
    assert path.read_bytes() == b"new"


def test_a_link_is_followed_and_stays_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("folder/state.json")
    files.write_atomic(link, b"new")
    assert link.is_symlink()
    assert path.read_bytes() == b"new"


def test_a_reader_never_sees_half_a_file(path: Path) -> None:
    with path.open("rb") as reader:
        files.write_atomic(path, b"new and longer")
        assert reader.read() == b"old"


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failure_at_any_step_leaves_the_old_file_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    if step == "replace":
        monkeypatch.setattr(Path, "replace", failing(errno.EIO))
    elif step == "fsync":
        monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    else:
        monkeypatch.setattr(os, "fdopen", failing(errno.ENOSPC))
    with pytest.raises(StateError, match=r"state\.json cannot be written"):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["state.json"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="No such file or directory"):
        files.write_atomic(tmp_path / "none" / "file", b"x")


@pytest.mark.parametrize("error", [errno.EBUSY, errno.EXDEV])
def test_a_file_that_cannot_be_renamed_onto_is_written_in_place(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    inode = path.stat().st_ino
    monkeypatch.setattr(exchange, "_rename", failing(error))
    assert files.replace(path, b"n", 0o600, Shared(b"old"))
    assert path.read_bytes() == b"n"
    assert path.stat().st_ino == inode
    assert os.listdir(path.parent) == ["state.json"]


def test_a_file_whose_label_cannot_be_copied_is_written_in_place(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inode = path.stat().st_ino
    monkeypatch.setattr(os, "listxattr", lambda _path: ["security.selinux"])
    monkeypatch.setattr(os, "getxattr", lambda _path, _name: b"label" if _path == path else b"")
    monkeypatch.setattr(os, "setxattr", failing(errno.EPERM))
    assert files.replace(path, b"new", 0o600)
    assert path.stat().st_ino == inode


@pytest.mark.parametrize("in_place", [False, True])
def test_a_file_somebody_else_just_changed_is_not_overwritten(
    path: Path, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    if in_place:
        monkeypatch.setattr(files, "_replace_by_rename", failing(errno.EBUSY))
    with pytest.raises(ChangedMeanwhile):
        files.replace(path, b"new", 0o600, Shared(b"what we had read"))
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["state.json"]


def test_an_in_place_write_on_a_full_disk_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        inplace.write(path, b"new and longer")
    assert path.read_bytes() == b"old"


def test_an_in_place_write_that_fails_halfway_puts_the_old_content_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite
    calls = []

    def fail_second(descriptor: int, content: bytes, position: int) -> int:
        calls.append(position)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        return write(descriptor, content[:1] if len(calls) == 1 else content, position)

    monkeypatch.setattr(os, "pwrite", fail_second)
    with pytest.raises(OSError, match="Input/output"):
        inplace.write(path, b"new and longer")
    assert path.read_bytes() == b"old"


def test_an_in_place_write_tells_when_the_file_does_not_read_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who opens it now would wait for us; this one had it open before.
    with path.open("r+b", buffering=0) as theirs:
        monkeypatch.setattr(os, "fsync", lambda _: theirs.write(b"theirs"))
        assert not inplace.write(path, b"ours")
    assert path.read_bytes() == b"theirs"


@pytest.mark.skipif(not hasattr(fcntl, "F_SETLEASE"), reason="no leases here")
def test_a_lease_that_cannot_be_given_back_has_nobody_wait(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = fcntl.fcntl
    refused = []

    def keep(descriptor: int, what: int, value: int = 0) -> object:
        if (what, value) == (fcntl.F_SETLEASE, fcntl.F_UNLCK):
            refused.append(value)
            raise OSError(errno.EIO, "Input/output error")
        return control(descriptor, what, value)

    monkeypatch.setattr(fcntl, "fcntl", keep)
    watch = Stopwatch()
    assert inplace.write(path, b"ours")
    assert refused and watch.own() < 20  # the kernel ends a lease after 45


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_never_replaced(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    special = tmp_path / "special"
    make(special)
    kind = special.stat().st_mode
    with pytest.raises(StateError):
        files.write_atomic(special, b"x")
    assert special.stat().st_mode == kind


def test_dev_null_survives() -> None:
    with pytest.raises(OSError, match="not a regular file"):
        files.refuse_special(Path("/dev/null"))


def test_orphans_of_killed_writers_go_and_what_is_being_written_stays(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = path.with_name(f".state.json.ngrokd-99999999-{'0' * 16}")
    # The pid of a killed writer is another program's by now.
    taken = path.with_name(f".state.json.ngrokd-{os.getpid()}-{'0' * 16}")
    users = path.with_name(".state.json.ngrokd-notes")
    for file in (dead, taken, users):
        file.write_bytes(b"x")
    sync = os.fsync
    removed: list[Path] = []

    def look_then_sync(descriptor: int) -> None:
        removed.extend(files.remove_orphans(path))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", look_then_sync)
    files.write_atomic(path, b"new")

    assert set(removed) == {dead, taken}
    assert path.read_bytes() == b"new"
    assert {entry.name for entry in path.parent.iterdir()} == {"state.json", users.name}


def test_without_locks_the_pid_in_the_name_tells_who_is_alive(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = path.with_name(f".state.json.ngrokd-99999999-{'0' * 16}")
    alive = path.with_name(f".state.json.ngrokd-{os.getpid()}-{'0' * 16}")
    dead.touch()
    alive.touch()
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOLCK))

    files.write_atomic(path, b"new")
    assert files.remove_orphans(path) == [dead]
    assert alive.exists() and path.read_bytes() == b"new"


def test_a_new_file_that_somebody_takes_for_an_orphan_is_written_again_by_the_caller(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sweep(descriptor: int) -> None:
        for file in path.parent.glob(".state*"):
            file.unlink()

    monkeypatch.setattr(os, "fsync", sweep)
    with pytest.raises(ChangedMeanwhile):
        files.replace(path, b"new", 0o600)
    assert path.read_bytes() == b"old"


def test_a_mapping_comes_back_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "ip_mappings.json"
    values = {"z.ns": "10.107.0.2", "a.ns": "10.107.0.3"}
    assert files.write_json_mapping(path, values)
    assert json.loads(path.read_bytes()) == values
    read, note = files.read_json_mapping(path, str)
    assert list(read.items()) == list(values.items())
    assert note == ""


def test_an_unchanged_mapping_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "network_ports.json"
    assert files.write_json_mapping(path, {"a.ns:80": 9080})
    before = path.stat()
    assert not files.write_json_mapping(path, {"a.ns:80": 9080})
    after = path.stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
    assert files.read_json_mapping(path, int) == ({"a.ns:80": 9080}, "")


def test_a_missing_mapping_is_empty_and_nothing_to_talk_about(tmp_path: Path) -> None:
    assert files.read_json_mapping(tmp_path / "none.json", str) == ({}, "")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\0\0",
        b'{"a": "10.0',
        b"[]",
        b"null",
        b'{"a": 1}',
        b'{"a": null}',
        b'{"a": ["10.0.0.1"]}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_damaged_mapping_is_kept_aside_and_starts_anew(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    values, note = files.read_json_mapping(path, str)
    assert values == {}
    assert "state.json.corrupt" in note
    assert not path.exists()
    assert path.with_name("state.json.corrupt").read_bytes() == content


def test_true_is_no_port(path: Path) -> None:
    path.write_bytes(b'{"a:80": true}')
    assert files.read_json_mapping(path, int)[0] == {}


def test_a_mapping_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(StateError, match="cannot be read"):
        files.read_json_mapping(tmp_path / "folder.json", str)
    assert (tmp_path / "folder.json").is_dir()


def no_device_of_ours(path: Path) -> None:
    """What a careless redirection of output leaves behind."""
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, no_device_of_ours])
def test_what_is_no_regular_file_is_neither_waited_for_nor_read_nor_moved(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    special = tmp_path / "ip_mappings.json"
    make(special)
    kind = special.lstat().st_mode
    with pytest.raises(OSError, match="not a regular file"):
        files.read_regular(special)
    with pytest.raises(StateError, match=r"ip_mappings\.json.*not a regular file.*move it away"):
        files.read_json_mapping(special, str)
    with pytest.raises(StateError, match="not a regular file"):
        files.write_json_mapping(special, {"a.ns": "10.107.0.2"})
    assert special.lstat().st_mode == kind


def test_a_file_that_becomes_a_pipe_behind_the_first_look_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(files, "refuse_special", lambda _path: None)
    with pytest.raises(OSError, match="not a regular file"):
        files.read_regular(pipe)


def test_a_file_of_the_largest_size_is_read_and_a_larger_one_is_not(path: Path) -> None:
    path.write_bytes(b"x" * 100)
    assert files.read_regular(path, 100) == b"x" * 100
    with pytest.raises(ValueError, match=r"state\.json is larger than 99 bytes"):
        files.read_regular(path, 99)
    with pytest.raises(FileNotFoundError):
        files.read_regular(path.with_name("none"))


def test_a_mapping_too_large_to_be_one_is_kept_aside_without_being_read(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(files.MAX_STATE_BYTES + 1)  # sparse: costs no disk
    values, note = files.read_json_mapping(path, str)
    assert values == {}
    assert "state.json.corrupt" in note
    assert path.with_name("state.json.corrupt").stat().st_size == files.MAX_STATE_BYTES + 1


def test_a_damaged_file_that_cannot_be_moved_is_told(path: Path) -> None:
    (path.parent / "state.json.corrupt").mkdir()
    (path.parent / "state.json.corrupt" / "x").touch()
    with pytest.raises(StateError, match="cannot be renamed"):
        files.move_aside(path)


_WRITE = """
import sys
import time
from pathlib import Path
from ngrokd.host import files
from ngrokd.host.exchange import Shared
print(files.replace(Path(sys.argv[1]), b"new\\n", 0o644, Shared(Path(sys.argv[1]).read_bytes())))
"""


@pytest.mark.root
def test_a_bind_mounted_file_is_written_in_place(namespace: Namespace, tmp_path: Path) -> None:
    real = tmp_path / "real-hosts"
    real.write_bytes(b"old\n")
    namespace.run("mount", "--bind", real, "/etc/hosts")
    assert namespace.run(sys.executable, "-c", _WRITE, "/etc/hosts").stdout == "True\n"
    assert real.read_bytes() == b"new\n"
    assert namespace.run("cat", "/etc/hosts").stdout == "new\n"
    assert namespace.run("sh", "-c", "ls -A /etc | grep ngrokd-", check=False).stdout == ""
