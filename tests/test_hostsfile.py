"""The hosts file as the daemon meets it: others who write it, and places where it cannot."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host import claims, exchange, files, hosts
from ngrokd.host.exchange import Shared
from ngrokd.host.hostsfile import HostsFile

MARKER = "ngrokd managed section"
NAMES = {"web.ns": "10.107.0.2"}
LINES = [f"# BEGIN {MARKER}", "10.107.0.2\tweb.ns", f"# END {MARKER}"]
FIRST = b"127.0.0.1 localhost\r\n# caf\xe9 \x00"


class Place:
    """A hosts file with a daemon's state, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.path = folder / "etc" / "hosts"
        self.state = folder / "state"
        for each in (self.path.parent, self.state):
            each.mkdir()
        self.path.write_bytes(FIRST)
        self.paused: list[float] = []
        self.file = self.daemon()

    def daemon(self) -> HostsFile:
        return HostsFile(self.path, MARKER, self.state, lambda: self.now, self.paused.append)

    @property
    def copy(self) -> Path:
        return self.state / "hosts.ngrokd.bak"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_section_that_is_always_removed_is_put_back_less_and_less_often_and_told(
    place: Place,
) -> None:
    written, told = 0, set()
    for _ in range(120):  # polls of 30 s: an hour
        place.path.write_bytes(FIRST)
        place.now += 30
        try:
            written += place.file.publish(NAMES)
        except HostError as exc:
            told.add(str(exc))
            assert not place.file.status.published
            assert place.file.status.section.lines() == LINES
    assert 5 < written < 14
    assert len(told) == 1 and "net.hosts_file" in told.pop()
    while not place.file.status.published:
        place.now += 30
        with contextlib.suppress(HostError):  # not yet
            place.file.publish(NAMES)
    assert "another program keeps removing" in place.file.status.problem
    for _ in range(11):
        place.now += 30
        place.file.publish(NAMES)
    assert place.file.status.problem == ""


def test_edits_elsewhere_in_the_file_are_nobodys_dispute(place: Place) -> None:
    place.file.publish(NAMES)
    for number in range(20):
        place.path.write_bytes(b"10.0.0.%d mine\n" % number + place.path.read_bytes())
        place.now += 1
        assert not place.file.publish(NAMES)
        assert place.file.status.problem == ""


def test_names_that_change_meanwhile_wait_with_the_others_and_withdrawing_never_waits(
    place: Place,
) -> None:
    for _ in range(3):
        place.file.publish(NAMES)
        place.path.write_bytes(FIRST)
        place.now += 1
    with pytest.raises(HostError):
        place.file.publish({**NAMES, "new.ns": "10.107.0.3"})
    assert place.path.read_bytes() == FIRST
    assert not place.file.publish({})
    assert place.file.status.published


def test_names_that_are_gone_are_withdrawn_at_once_in_a_dispute_whatever_has_to_wait(
    place: Place,
) -> None:
    both = {"old.ns": "10.107.0.9", **NAMES}
    place.file.publish(both)
    snapshot = place.path.read_bytes()
    for _ in range(40):  # another program keeps putting its snapshot back
        place.path.write_bytes(snapshot)
        place.now += 30
        assert place.file.publish(NAMES)
        assert place.path.read_bytes() == hosts.render(FIRST, NAMES, MARKER)
    assert "another program keeps" in place.file.status.problem
    place.path.write_bytes(snapshot)
    with pytest.raises(HostError, match="longer and longer waits"):
        place.file.publish({**NAMES, "new.ns": "10.107.0.3"})
    assert place.path.read_bytes() == hosts.render(FIRST, NAMES, MARKER)
    assert (place.file.status.missing, place.file.status.stale) == (1, 0)
    place.path.write_bytes(place.path.read_bytes().replace(b"\tweb.ns\n", b"\tweb.ns\r\n"))
    before = place.path.read_bytes()
    with pytest.raises(HostError):  # it is only its looks that are disputed: that waits
        place.file.publish(NAMES)
    assert place.path.read_bytes() == before


def test_what_stands_there_is_known_whatever_became_of_a_write(place: Place) -> None:
    both = {"old.ns": "10.107.0.9", **NAMES}
    place.file.publish(both)
    with place.path.open("r+b"):
        with pytest.raises(HostError, match="names are not withdrawn: another program"):
            place.file.publish(NAMES)
        status = place.file.status
        assert status.standing == both.items() and not status.published and status.is_marked
        assert (status.missing, status.stale) == (0, 1)
        with pytest.raises(HostError, match="names are not withdrawn: another program"):
            place.file.publish({})
        assert not place.file.status.published and place.file.status.stale == 2
        with pytest.raises(HostError, match="names are not published: another program"):
            place.file.publish({"web.ns": "10.107.0.3"})
        assert place.file.status.standing == both.items()
    content = place.path.read_bytes()
    place.path.write_bytes(content.replace(f"# END {MARKER}\n".encode(), b""))
    with pytest.raises(HostError, match="nothing was written"):
        place.file.publish(NAMES)
    assert place.file.status.standing == both.items()
    place.path.write_bytes(content)
    assert place.file.publish(NAMES)
    assert place.file.status.standing == NAMES.items() and place.file.status.published
    place.path.write_bytes(content)  # a snapshot
    place.file.reserved({})
    assert place.file.status.standing == both.items() and not place.file.status.published


def test_while_it_cannot_be_read_everything_in_it_is_as_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.path.write_bytes(b"10.0.0.1 db.corp\n")
    place.file.publish(NAMES)
    assert place.file.reserved({}) == {"db.corp"}
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", _out_of_descriptors)
        assert place.file.reserved({}) == {"db.corp"}
        with pytest.raises(HostError, match="not withdrawn"):
            place.file.publish({})
        assert place.file.status.standing == NAMES.items()
    place.path.write_bytes(b"")
    assert place.file.reserved({}) == frozenset()
    assert place.file.status.standing == frozenset()


def _out_of_descriptors(path: Path) -> bytes:
    raise OSError(errno.EMFILE, "Too many open files")


def test_lines_that_were_added_by_hand_are_taken_for_ours(place: Place) -> None:
    place.path.write_bytes(FIRST + b"\n" + "\n".join([*LINES, ""]).encode())
    before = place.path.stat()
    assert not place.file.publish(NAMES)
    assert place.file.status.published
    after = place.path.stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


@pytest.mark.parametrize("broken", [LINES[:1], LINES[2:], [*LINES, *LINES]])
def test_broken_markers_leave_the_lines_in_the_status_until_they_are_mended(
    place: Place, broken: list[str]
) -> None:
    content = FIRST + b"\n" + "\n".join([*broken, ""]).encode()
    place.path.write_bytes(content)
    with pytest.raises(HostError, match="Mend"):
        place.file.publish(NAMES)
    assert place.path.read_bytes() == content
    assert place.file.status.section.lines() == LINES
    place.path.write_bytes(FIRST)
    assert place.file.publish(NAMES)
    assert place.file.status.published and place.file.status.problem == ""


def test_a_copy_is_kept_once_without_our_section_and_never_again(place: Place) -> None:
    place.path.chmod(0o640)
    place.path.write_bytes(hosts.render(FIRST, {"old.ns": "10.107.0.9"}, MARKER))
    assert not place.daemon().publish({"old.ns": "10.107.0.9"})
    assert not place.copy.exists()
    place.file.publish(NAMES)
    assert place.copy.read_bytes() == FIRST
    assert place.copy.stat().st_mode & 0o7777 == 0o640
    place.path.write_bytes(b"another\n")
    place.daemon().publish(NAMES)
    assert place.copy.read_bytes() == FIRST


def refuse(
    patch: pytest.MonkeyPatch, place: Place, fault: OSError, half_written: bool = False
) -> None:
    """From now on the hosts file alone cannot be written, or no more than half of it."""
    really = files.replace

    def replace(path: Path, *rest: Any) -> bool:
        if path != place.path:
            return really(path, *rest)
        assert place.copy.read_bytes() == FIRST, "it is there before anything is written"
        if half_written:
            (place.state / "hosts.ngrokd.journal").touch()
        raise fault

    patch.setattr(files, "replace", replace)


def test_where_no_names_can_be_put_there_no_copy_is_kept_or_told_of(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    with monkeypatch.context() as shut:
        refuse(shut, place, PermissionError(errno.EACCES, "Permission denied"))
        with pytest.raises(HostError, match="names are not published"):
            place.file.publish(NAMES)
    assert os.listdir(place.state) == [] and not caplog.records
    assert place.file.publish(NAMES)
    assert caplog.messages == [f"{place.path} as it was is kept as {place.copy}"]


def test_where_the_file_may_be_half_written_the_copy_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, place, OSError(errno.EIO, "Input/output error"), half_written=True)
    with pytest.raises(HostError):
        place.file.publish(NAMES)
    assert place.copy.read_bytes() == FIRST


def test_a_copy_that_cannot_be_made_is_told_once_and_names_are_published(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.state.rmdir()
    assert place.file.publish(NAMES)
    assert place.file.publish({})
    assert place.file.publish(NAMES)
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1 and "no copy of" in told[0]


def test_there_is_no_copy_of_nothing(place: Place) -> None:
    place.path.unlink()
    assert place.file.publish(NAMES)
    assert not place.copy.exists()


def test_whoever_has_it_open_for_writing_is_waited_for_and_after_a_minute_of_nothing_not(
    place: Place,
) -> None:
    with place.path.open("r+b") as file:
        with pytest.raises(HostError, match="open for writing"):
            place.file.publish(NAMES)
        assert sum(place.paused) < 0.2
        place.now += 59
        file.write(b"x")
        file.flush()
        with pytest.raises(HostError):
            place.file.publish(NAMES)
        place.now += 59
        with pytest.raises(HostError):
            place.file.publish(NAMES)
        place.now += 2
        assert place.file.publish(NAMES)


def test_a_link_that_leads_nowhere_stays_and_its_file_is_made(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    link = tmp_path / "hosts"
    link.symlink_to("store/hosts")
    HostsFile(link, MARKER).publish(NAMES)
    assert link.is_symlink() and (tmp_path / "store" / "hosts").is_file()
    link.unlink()
    link.symlink_to("gone/hosts")
    with pytest.raises(HostError, match="create its folder"):
        HostsFile(link, MARKER).publish(NAMES)
    assert os.readlink(link) == "gone/hosts"


@pytest.mark.parametrize("is_link", ["folder", "file"])
def test_on_macos_all_is_done_at_the_real_place_of_a_linked_file(
    tmp_path: Path, is_link: str
) -> None:
    """/etc is a link to private/etc; what stands beside the file is then in there, too."""
    real = tmp_path / "private" / "etc"
    real.mkdir(parents=True)
    (real / "hosts").write_bytes(b"127.0.0.1\tlocalhost\n")
    etc = tmp_path / "etc"
    if is_link == "folder":
        etc.symlink_to("private/etc")
    else:
        etc.mkdir()
        (etc / "hosts").symlink_to("../private/etc/hosts")
    orphan = real / f".hosts.ngrokd-{1 << 22}-0123456789abcdef"  # of a pid that cannot be
    orphan.touch()
    state = tmp_path / "state"
    state.mkdir()
    file = HostsFile(etc / "hosts", MARKER, state)

    assert file.remove_orphans() == [orphan]
    assert file.publish(NAMES) and not file.publish(NAMES)
    assert (etc if is_link == "folder" else etc / "hosts").is_symlink()
    assert all(name.encode() in (real / "hosts").read_bytes() for name in NAMES)
    assert (state / "hosts.ngrokd.bak").read_bytes() == b"127.0.0.1\tlocalhost\n"
    assert os.listdir(real) == ["hosts"]
    both = NetSettings(hosts_file=str(etc / "hosts")), NetSettings(hosts_file=str(real / "hosts"))
    assert claims._section_name(both[0]) == claims._section_name(both[1])
    assert file.publish({})
    assert (real / "hosts").read_bytes() == b"127.0.0.1\tlocalhost\n"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_with_the_lines_to_add(
    place: Place, make: Callable[[Path], None]
) -> None:
    place.path.unlink()
    make(place.path)
    with pytest.raises(HostError, match="regular file"):
        place.file.publish(NAMES)
    assert place.file.status.section.lines() == LINES
    assert not place.path.is_file()


def test_other_names_of_the_file_stay_names_of_it(place: Place) -> None:
    other = place.path.with_name("other")
    os.link(place.path, other)
    place.file.publish(NAMES)
    assert other.samefile(place.path)
    assert b"web.ns" in other.read_bytes()
    place.file.publish({})
    assert other.read_bytes() == FIRST
    assert os.listdir(place.state) == ["hosts.ngrokd.bak"]


def test_an_acl_is_kept_and_one_of_the_folder_is_not_taken_on(place: Place) -> None:
    entries = [(1, 6), (4, 4), (16, 4), (32, 0)]
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, rights, 0xFFFFFFFF) for tag, rights in entries
    ) + struct.pack("<HHI", 8, 6, 65534)  # group nogroup
    parts = acl[4:20] + acl[-8:] + acl[20:-8]
    default = acl[:4] + parts
    os.setxattr(place.path.parent, "system.posix_acl_default", default)
    assert os.listxattr(place.path) == []
    place.file.publish(NAMES)
    assert os.listxattr(place.path) == []
    os.setxattr(place.path, "system.posix_acl_access", default)
    os.setxattr(place.path, "user.note", b"\x00label")
    before = place.path.stat().st_mode
    place.file.publish({})
    assert os.getxattr(place.path, "system.posix_acl_access") == default
    assert os.getxattr(place.path, "user.note") == b"\x00label"
    assert place.path.stat().st_mode == before


def test_a_block_list_of_200000_lines_takes_less_than_a_second_and_little_memory(
    place: Place,
) -> None:
    content = b"".join(b"0.0.0.0 ads%d.example.com\n" % number for number in range(200_000))
    content += b"# " + b"x" * 5_000_000  # and a huge line without an end
    place.path.write_bytes(content)
    began = time.process_time()
    assert place.file.publish(NAMES)
    took = time.process_time() - began
    assert len(place.file.reserved({})) == 200_000
    before = place.path.stat()
    began = time.process_time()
    assert not place.file.publish(NAMES)
    again = time.process_time() - began
    after = place.path.stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
    assert took < 1 and again < 0.2
    tracemalloc.start()
    try:
        place.file.publish({"other.ns": "10.107.0.3"})
        assert tracemalloc.get_traced_memory()[1] < 8 * len(content)
    finally:
        tracemalloc.stop()
    place.file.publish({})
    assert place.path.read_bytes() == content


def test_whoever_only_reads_or_locks_it_keeps_no_name_from_being_published(place: Place) -> None:
    readable = place.path.open("rb")
    fcntl.flock(readable, fcntl.LOCK_SH)
    with readable:
        assert place.file.publish(NAMES)
        assert place.file.publish({})


def test_whoever_only_reads_it_keeps_no_name_out_of_a_file_that_is_written_in_place(
    place: Place,
) -> None:
    os.link(place.path, place.path.with_name("other"))
    with place.path.open("rb") as readable:
        fcntl.flock(readable, fcntl.LOCK_SH)
        assert place.file.publish(NAMES)
        assert place.file.publish({})
    assert place.path.read_bytes() == FIRST


def test_a_file_that_ngrokd_made_goes_with_its_last_name_but_not_what_others_put_there(
    place: Place,
) -> None:
    place.path.unlink()
    place.file.publish(NAMES)
    assert place.file.publish({})
    assert not place.path.exists()
    place.file.publish(NAMES)
    theirs = place.path.with_name("theirs")  # an empty one of somebody's own
    theirs.touch()
    theirs.replace(place.path)
    place.file.publish(NAMES)
    place.file.publish({})
    assert place.path.read_bytes() == b""


def test_an_edit_in_the_moment_of_its_removal_is_not_removed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.path.unlink()
    place.file.publish(NAMES)
    take_out = exchange.take_out

    def edit_then_take_out(path: Path, out: Path, shared: Shared) -> None:
        monkeypatch.undo()
        with path.open("ab") as file:
            file.write(b"10.0.0.9 mine\n")
        take_out(path, out, shared)

    monkeypatch.setattr(exchange, "take_out", edit_then_take_out)
    assert place.file.publish({})
    assert place.path.read_bytes() == b"10.0.0.9 mine\n"


@pytest.mark.parametrize(("edit", "is_kept"), [(b"10.0.0.9 mine\n", True), (b"", False)])
def test_an_edit_that_a_kill_left_out_of_sight_is_kept_and_told(
    place: Place, caplog: pytest.LogCaptureFixture, edit: bytes, is_kept: bool
) -> None:
    place.path.write_bytes(FIRST + b"\n")
    place.file.publish(NAMES)
    orphan = place.path.with_name(f".hosts.ngrokd-99999999-{'0' * 16}")
    orphan.write_bytes(FIRST + b"\n" + edit)
    removed = place.daemon().remove_orphans()
    assert removed == ([] if is_kept else [orphan]) and not orphan.exists()
    kept = [each for each in place.path.parent.iterdir() if "-kept-" in each.name]
    assert [each.read_bytes() for each in kept] == ([FIRST + b"\n" + edit] if is_kept else [])
    assert all(str(each) in caplog.text for each in kept)


def test_a_file_that_takes_only_appended_lines_is_told_as_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(files, "replace", refuse)
    with pytest.raises(HostError, match="chattr -i -a "):
        place.file.publish(NAMES)
