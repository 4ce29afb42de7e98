"""The journal of a write in place: it mends its own file or is kept, and never harms another."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ngrokd.errors import HostError
from ngrokd.host import files, hosts, inplace
from ngrokd.host.hostsfile import HostsFile
from ngrokd.host.journal import Entry, decode, encode
from tests.control_room import NOBODY, as_user

MARKER = "ngrokd managed section"
OLD = b"".join(b"10.0.0.1 host%d\n" % number for number in range(300))
NEW = hosts.render(OLD[:700], {f"n{n}.ns": "10.107.0.2" for n in range(90)}, MARKER) + OLD[700:]
HALF = NEW[:4096] + OLD.ljust(len(NEW), b"\0")[4096:]  # of which the lines behind are lost
MINE = b"10.0.0.1 mine\n"
NAMES = {"web.ns": "10.107.0.2"}


class Place:
    """A hosts file with the state of a daemon that was killed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "etc" / "hosts"
        self.state = folder / "state"
        for each in (self.path.parent, self.state):
            each.mkdir()
        self.path.write_bytes(HALF)
        self.journal = self.state / "hosts.ngrokd.journal"
        self.journal.write_bytes(encode(Entry(str(self.path), OLD, NEW)))

    def daemon(self) -> HostsFile:
        return HostsFile(self.path, MARKER, self.state)

    def kept(self) -> list[bytes]:
        assert not self.journal.exists()
        found = sorted(self.state.glob("hosts.ngrokd.journal.kept-*"))
        return [each.read_bytes() for each in found]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_journal_is_read_back_and_nothing_else_is_taken_for_one() -> None:
    entry = Entry("/etc/hosts", OLD, NEW)
    content = encode(entry)
    assert decode(content) == entry
    for broken in (b"", b"{}", content[:-1], content + b"x", b"[]\n", b"\xff\n", b"[" * 100_000):
        assert decode(broken) is None


@pytest.mark.parametrize("appended", [b"", MINE])
def test_a_half_written_file_is_mended_and_what_was_appended_since_stays(
    place: Place, appended: bytes
) -> None:
    place.path.write_bytes(HALF + appended)
    file = place.daemon()
    assert file.mend() == str(place.path)
    assert place.path.read_bytes() == OLD + appended
    assert place.kept() == []
    assert file.mend() == ""


@pytest.mark.parametrize("content", [OLD, NEW, NEW + MINE, MINE + OLD])
def test_a_file_that_lacks_nothing_is_left_as_it_is(
    place: Place, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    place.path.write_bytes(content)
    assert place.daemon().mend() == ""
    assert place.path.read_bytes() == content
    assert place.kept() == [] and caplog.text == ""


@pytest.mark.parametrize("content", [MINE + HALF, NEW[:-16], OLD[:-16], OLD[16:], None])
def test_in_doubt_the_file_stays_and_the_journal_is_kept_and_told_once(
    place: Place, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    noted = place.journal.read_bytes()
    place.path.unlink()
    if content is not None:
        place.path.write_bytes(content)
    file = place.daemon()
    assert file.mend() == ""
    assert place.kept() == [noted]
    assert (place.path.read_bytes() if place.path.exists() else None) == content
    assert caplog.text.count("may lack lines") == 1
    assert file.publish(NAMES)
    assert place.daemon().mend() == ""
    assert place.kept() == [noted]
    assert caplog.text.count("may lack lines") == 1


def plant_link(journal: Path) -> None:
    journal.rename(journal.with_name("real"))
    journal.symlink_to("real")


def plant_socket(journal: Path) -> None:
    journal.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(journal))


def plant_fifo(journal: Path) -> None:
    journal.unlink()
    os.mkfifo(journal)


def another_owner(journal: Path) -> None:
    os.chown(journal, 65534, 65534)


def another_owner_of_the_folder(journal: Path) -> None:
    os.chown(journal.parent, 65534, 65534)


@pytest.mark.parametrize(
    "plant",
    [
        plant_link,
        plant_socket,
        plant_fifo,
        lambda journal: journal.parent.chmod(0o777),
        lambda journal: journal.parent.chmod(0o770),
        pytest.param(another_owner, marks=pytest.mark.root),
        pytest.param(another_owner_of_the_folder, marks=pytest.mark.root),
    ],
)
def test_a_journal_that_somebody_else_can_have_put_there_changes_no_file(
    place: Place, caplog: pytest.LogCaptureFixture, plant: Callable[[Path], None]
) -> None:
    plant(place.journal)
    assert place.daemon().mend() == ""
    assert place.path.read_bytes() == HALF
    assert not os.path.lexists(place.journal)
    assert "another user can have written it" in caplog.text


@pytest.mark.parametrize("name", ["/etc/victim", "/tmp/a\0b", "/tmp/\ud800", "", "/"])
def test_a_journal_of_another_file_is_kept_and_keeps_no_name_from_being_published(
    place: Place, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    noted = json.dumps({"path": name, "old": 1, "new": 1}).encode() + b"\nab"
    place.journal.write_bytes(noted)
    place.path.write_bytes(OLD)
    assert place.daemon().publish(NAMES)
    assert hosts.holds(place.path.read_bytes(), NAMES, MARKER)
    assert place.kept() == [noted]
    assert f"net.hosts_file is {place.path} now" in caplog.text


@pytest.mark.parametrize(
    ("error", "is_kept"), [(errno.EMFILE, False), (errno.EIO, True), (errno.EACCES, True)]
)
def test_a_journal_that_cannot_be_read_is_not_lost(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: int, is_kept: bool
) -> None:
    noted = place.journal.read_bytes()
    read = files.read_regular

    def fail(path: Path, max_bytes: int = files.MAX_STATE_BYTES) -> bytes:
        if path == place.journal:
            raise OSError(error, os.strerror(error))
        return read(path, max_bytes)

    monkeypatch.setattr(files, "read_regular", fail)
    file = place.daemon()
    if is_kept:
        assert file.publish(NAMES)
        assert place.kept() == [noted]
        return
    with pytest.raises(HostError, match="half written before, and not mended"):
        file.publish(NAMES)
    assert place.path.read_bytes() == HALF
    monkeypatch.undo()
    assert file.publish(NAMES)
    assert place.path.read_bytes() == hosts.render(OLD, NAMES, MARKER)


def test_a_journal_that_cannot_be_moved_away_is_not_written_over(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place.path.write_bytes(MINE)
    os.link(place.path, place.path.with_name("other"))
    noted = place.journal.read_bytes()

    def refuse(path: Path, target: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "rename", refuse)
    file = place.daemon()
    assert file.publish(NAMES)
    assert file.publish({})
    assert place.path.read_bytes() == MINE
    assert place.journal.read_bytes() == noted
    assert caplog.text.count("Mend: move it away") == 1


def test_a_file_that_changes_while_it_is_mended_is_mended_the_next_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inplace, "write", lambda path, content, expected: False)
    file = place.daemon()
    with pytest.raises(HostError, match="another program writes"):
        file.mend()
    monkeypatch.undo()
    assert file.mend() == str(place.path)


def test_a_hosts_file_that_is_a_pipe_by_now_is_not_waited_for(place: Place) -> None:
    place.path.unlink()
    os.mkfifo(place.path)
    with pytest.raises(HostError, match="regular file"):
        place.daemon().mend()
    assert place.journal.exists()


def test_the_folder_is_synced_when_a_write_is_done_so_that_no_power_cut_revives_its_journal(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[Path, bool]] = []
    monkeypatch.setattr(
        files, "sync_folder", lambda folder: synced.append((folder, place.journal.exists()))
    )
    place.daemon().mend()
    assert synced == [(place.state, False)]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_a_user_who_may_not_enter_the_state_folder_is_told_of_no_journal(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """As with `ngrokd stop` of an ordinary user, beside root's /etc/ngrokd."""
    place.state.chmod(0o700)

    def mend() -> str:
        os.chdir(place.path.parent)  # a handle for the folders above, which are root's own
        file = HostsFile(Path("hosts"), MARKER, Path("../state"))
        return f"{file.mend()!r} {caplog.messages}"

    for folder in place.path.parents:
        if folder.stat().st_mode & 0o001 == 0 and str(folder).startswith("/tmp/pytest"):
            folder.chmod(0o711)
    assert as_user(NOBODY, [], mend) == "'' []"
