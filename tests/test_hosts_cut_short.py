"""A publication that is killed or fails at any of its system calls costs nobody a byte."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ngrokd.host.hosts import render
from ngrokd.host.hostsfile import HostsFile
from tests import cut_short
from tests.cut_short import KILLED, PUBLISHED, REFUSED, CutShort, failing_at, killed_at

pytestmark = pytest.mark.skipif(bool(cut_short.why_not()), reason=cut_short.why_not())

MARKER = "ngrokd managed section"
NAMES = {"web.ns": "10.107.0.2", "cache.ns": "10.107.0.3"}
BEFORE = (
    b"127.0.0.1 localhost\r\n"
    + render(b"", {"old.ns": "10.107.0.9"}, MARKER)
    + b"".join(b"0.0.0.0 ads%d.example.com # caf\xe9\n" % number for number in range(600))
    + b"::1 no-final-newline"
)
AFTER = render(BEFORE, NAMES, MARKER)
STRIDE = int(os.environ.get("CRASH_STRIDE", "3"))  # 1: every error at every call
ERRORS = ("EIO", "ENOSPC", "EMFILE", "EACCES", "EINTR")

# The user may do everything, group 7 may read, others nothing: acl(5), as the kernel keeps it.
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, rights, who)
    for tag, rights, who in [(1, 6, -1 & 0xFFFFFFFF), (4, 4, -1 & 0xFFFFFFFF), (8, 4, 7),
                             (16, 4, -1 & 0xFFFFFFFF), (32, 0, -1 & 0xFFFFFFFF)]
)  # fmt: skip


class Scene:
    """A hosts file alone in its folder, with everything that has to be kept; state beside it."""

    def __init__(self, folder: Path, in_place: bool) -> None:
        self.path = folder / "etc" / "hosts"
        self.state = folder / "state"
        self.in_place = in_place
        for each in (self.path.parent, self.state, folder / "elsewhere"):
            each.mkdir()
        self.path.write_bytes(BEFORE)
        os.setxattr(self.path, "user.note", b"kept")
        os.setxattr(self.path, "system.posix_acl_access", ACL)
        if in_place:
            os.link(self.path, folder / "elsewhere" / "hosts")
        self.kept = self._attributes()

    def _attributes(self) -> tuple[object, ...]:
        found = self.path.stat()
        names = sorted(os.listxattr(self.path))
        values = [os.getxattr(self.path, name) for name in names]
        return found.st_mode, found.st_uid, found.st_gid, found.st_nlink, names, values

    def check(self) -> None:
        """The next start finds the old file or the new, and removes every trace of the last."""
        if not self.in_place:
            assert self.path.read_bytes() in (BEFORE, AFTER)
        file = HostsFile(self.path, MARKER, self.state)
        file.remove_orphans()
        file.mend()
        assert self.path.read_bytes() in (BEFORE, AFTER)
        assert self._attributes() == self.kept
        assert os.listdir(self.path.parent) == ["hosts"]
        assert set(os.listdir(self.state)) <= {"hosts.ngrokd.bak"}
        copy = self.state / "hosts.ngrokd.bak"
        assert not copy.exists() or copy.read_bytes() == render(BEFORE, {}, MARKER)
        file.publish({})
        assert self.path.read_bytes() == render(BEFORE, {}, MARKER)


@pytest.fixture(scope="module")
def server() -> Iterator[CutShort]:
    with CutShort() as server:
        yield server


def scene(folder: Path, name: str, in_place: bool) -> Scene:
    (folder / name).mkdir()
    return Scene(folder / name, in_place)


@pytest.mark.long
@pytest.mark.parametrize("in_place", [False, True])
def test_a_kill_at_any_call_leaves_the_old_file_or_the_new(
    server: CutShort, tmp_path: Path, in_place: bool
) -> None:
    first = scene(tmp_path, "first", in_place)
    calls = server.calls(first.path, first.state, tmp_path / "trace")
    first.check()
    assert ("pwrite64" if in_place else "renameat2", 1) in calls
    for name, number in calls:
        cut = scene(tmp_path, f"{name}-{number}", in_place)
        assert server.publish(cut.path, cut.state, *killed_at(name, number)) == KILLED
        cut.check()


@pytest.mark.long
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("in_place", [False, True])
def test_an_error_at_any_call_leaves_the_old_file_or_the_new(
    server: CutShort, tmp_path: Path, in_place: bool, error: str
) -> None:
    first = scene(tmp_path, "first", in_place)
    calls = server.calls(first.path, first.state, tmp_path / "trace")
    # Each error at other calls, so that all of them together have met every one.
    for name, number in calls[ERRORS.index(error) % STRIDE :: STRIDE]:
        failed = scene(tmp_path, f"{name}-{number}", in_place)
        status = server.publish(failed.path, failed.state, *failing_at(name, number, error))
        assert status in (PUBLISHED, REFUSED), (name, number)
        assert failed.path.read_bytes() in (BEFORE, AFTER), (name, number)
        if status == PUBLISHED:
            assert failed.path.read_bytes() == AFTER
        failed.check()


@pytest.mark.parametrize(
    ("name", "error", "in_place"),
    [
        ("write", "ENOSPC", False),
        ("fsync", "EIO", False),
        ("openat", "EMFILE", False),
        ("pwrite64", "EIO", True),  # nor can the old content be put back: the next start does
        ("fallocate", "ENOSPC", True),
        ("fsync", "EIO", True),
        ("openat", "EMFILE", True),
    ],
)
def test_an_error_that_comes_again_and_again_leaves_the_old_file(
    server: CutShort, tmp_path: Path, name: str, error: str, in_place: bool
) -> None:
    failed = scene(tmp_path, "failed", in_place)
    options = ["-e", f"trace={name}", "-e", f"inject={name}:error={error}"]
    assert server.publish(failed.path, failed.state, *options) == REFUSED
    failed.check()


@pytest.mark.parametrize(
    ("name", "number", "in_place"),
    [("unlink", 2, False), ("pwrite64", 2, True)],  # the first: of ctypes; of the lock
)
def test_a_kill_at_the_worst_moment_leaves_the_old_file_or_the_new(
    server: CutShort, tmp_path: Path, name: str, number: int, in_place: bool
) -> None:
    cut = scene(tmp_path, "cut", in_place)
    assert server.publish(cut.path, cut.state, *killed_at(name, number)) == KILLED
    assert cut.path.read_bytes() != BEFORE
    cut.check()
