"""Several programs write one hosts file at the same time, and nobody loses a line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from ngrokd.host import exchange, inplace, lease
from ngrokd.host.exchange import CannotExchange, ChangedMeanwhile, Shared, Stranded
from ngrokd.host.hosts import holds, marker_of, outside
from ngrokd.host.hostsfile import HostsFile

ROUNDS = 300
FINISHED_S = 120

# A daemon: other names in every round, whatever happens to its section in between.
_DAEMON = """
import sys
from pathlib import Path
from ngrokd.errors import HostError
from ngrokd.host.hostsfile import HostsFile

path, marker, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
refused = 0
for number in range(last + 1):
    try:
        # A new one each time, so that a section that is overwritten is put back at once.
        HostsFile(path, marker).publish(
            {f"n{i}.ns": f"10.107.{number % 250}.{i + 2}" for i in range(number % 7 + 1)}
        )
    except HostError:
        refused += 1
print(refused)
"""

# An administrator: one line more in every round, in the ways that programs save files.
_EDITOR = """
import os, sys, threading
from pathlib import Path

path, in_place = Path(sys.argv[1]), sys.argv[3] == "True"
for number in range(int(sys.argv[2])):
    line = b"192.168.0.1 mine-%d\\n" % number
    if number % 3 == 0 or (number % 3 == 1 and in_place):
        with path.open("ab") as file:
            file.write(line)
    elif number % 3 == 1:
        new = path.with_name("hosts.new")
        new.write_bytes(line + path.read_bytes())
        new.replace(path)
    else:
        with path.open("r+b") as file:
            content = file.read()
            file.seek(0)
            file.truncate()
            file.write(line + content)
    threading.Event().wait(0.003)
"""


def start(code: str, *words: object) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def finish(*programs: subprocess.Popen[str]) -> list[str]:
    return [program.communicate(timeout=FINISHED_S)[0] for program in programs]


def final(number: int) -> dict[str, str]:
    return {f"n{i}.ns": f"10.107.{number % 250}.{i + 2}" for i in range(number % 7 + 1)}


@pytest.mark.parametrize("in_place", [False, True])
def test_two_daemons_and_an_editor_lose_no_line_of_anybody(tmp_path: Path, in_place: bool) -> None:
    path = tmp_path / "etc" / "hosts"
    path.parent.mkdir()
    first = b"127.0.0.1 localhost\n"
    path.write_bytes(first)
    if in_place:
        os.link(path, tmp_path / "other-name")
    markers = [marker_of("ngrokd0"), marker_of("ngrokd1")]
    daemons = [start(_DAEMON, path, marker, ROUNDS) for marker in markers]
    finish(start(_EDITOR, path, ROUNDS, in_place))
    refused = [int(answer) for answer in finish(*daemons)]
    assert max(refused) < ROUNDS / 10

    for marker in markers:  # what the editor has overwritten is back at the next poll
        HostsFile(path, marker).publish(final(ROUNDS))
    content = path.read_bytes()
    assert all(holds(content, final(ROUNDS), marker) for marker in markers)
    others = outside(outside(content, markers[0]), markers[1]).splitlines(keepends=True)
    mine = {first, *(b"192.168.0.1 mine-%d\n" % number for number in range(ROUNDS))}
    assert len(others) == len(set(others)) and set(others) <= mine
    # Where a busy machine stopped a daemon between two calls, an edit may stand beside the file.
    kept = [each for each in path.parent.iterdir() if each != path]
    assert len(kept) < ROUNDS / 10
    assert {each.name[:18] for each in kept} <= {"hosts.ngrokd-kept-"}
    lacking = mine - set(others)
    found = b"".join(each.read_bytes() for each in kept)
    assert {line for line in lacking if line not in found} == set()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "hosts"
    file.write_bytes(b"old")
    (tmp_path / "new").write_bytes(b"new")
    return file


def put(path: Path, expected: bytes = b"old", insist: bool = False) -> None:
    exchange.put(path.with_name("new"), path, b"new", Shared(expected, insist))


@pytest.mark.parametrize(
    "edits",
    [
        [b"in place"],
        [b"by renaming"],
        [b"by renaming", b"in place"],  # the last one first; the other while that is put back
        [b"in place", b"by renaming"],
    ],
)
def test_an_edit_in_the_moment_of_the_exchange_is_put_back(
    path: Path, monkeypatch: pytest.MonkeyPatch, edits: list[bytes]
) -> None:
    swap = exchange._swap
    newest, first = edits[0], edits[-1]
    edits = list(edits)
    kinds = len(edits)

    def edit_then_swap(new: Path, at: Path) -> bool:
        if edits:
            edit = edits.pop()
            if b"renaming" in edit:
                path.with_name("edit").write_bytes(edit)
                path.with_name("edit").replace(path)
            else:
                path.write_bytes(edit)
        return swap(new, at)

    monkeypatch.setattr(exchange, "_swap", edit_then_swap)
    if kinds == 1:
        with pytest.raises(ChangedMeanwhile):
            put(path)
        assert path.with_name("new").read_bytes() == b"new"
    else:
        with pytest.raises(Stranded) as caught:
            put(path)
        kept = Path(str(caught.value.strerror).rpartition(" ")[2])
        assert kept.read_bytes() == first
    assert path.read_bytes() == newest


def test_a_file_that_is_open_for_writing_is_waited_for_unless_we_insist(path: Path) -> None:
    with path.open("r+b"):
        assert lease.is_being_written(path)
        with pytest.raises(ChangedMeanwhile):
            put(path)
        assert path.read_bytes() == b"old"
        put(path, insist=True)
    assert path.read_bytes() == b"new"


def test_a_writer_that_opened_it_just_before_the_exchange_keeps_its_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = exchange._swap
    writers: list[BinaryIO] = []

    def open_then_swap(new: Path, at: Path) -> bool:
        if not writers:
            writers.append(path.open("ab"))
        return swap(new, at)

    monkeypatch.setattr(exchange, "_swap", open_then_swap)
    with pytest.raises(ChangedMeanwhile):
        put(path)
    writers[0].write(b" and appended")
    writers[0].close()
    assert path.read_bytes() == b"old and appended"


def test_where_files_cannot_be_exchanged_it_is_compared_and_renamed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*words: object) -> None:
        raise CannotExchange

    monkeypatch.setattr(exchange, "_rename", cannot)
    with pytest.raises(ChangedMeanwhile):
        put(path, expected=b"older")
    put(path)
    assert path.read_bytes() == b"new"
    assert not path.with_name("new").exists()


def test_a_file_that_appears_where_none_was_is_not_replaced(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.unlink()
    rename = exchange._rename

    def appear(old: Path, new: Path, flags: int) -> None:
        try:
            rename(old, new, flags)
        finally:
            path.write_bytes(b"somebody's first")

    monkeypatch.setattr(exchange, "_rename", appear)
    with pytest.raises(ChangedMeanwhile):
        put(path, expected=b"")
    assert path.read_bytes() == b"somebody's first"


def test_what_cannot_be_put_back_is_kept_and_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = exchange._rename
    calls = []

    def fail_second(old: Path, new: Path, flags: int) -> None:
        calls.append(flags)
        if len(calls) == 1:
            path.write_bytes(b"an edit")
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        rename(old, new, flags)

    monkeypatch.setattr(exchange, "_rename", fail_second)
    with pytest.raises(Stranded, match=r"is kept as .*hosts\.ngrokd-kept-") as caught:
        put(path)
    assert Path(str(caught.value.strerror).rpartition(" ")[2]).read_bytes() == b"an edit"


def test_whoever_opens_a_file_that_is_held_alone_waits_and_the_holder_lives(path: Path) -> None:
    with path.open("r+b") as file:
        with lease.alone(file.fileno()) as is_refused:
            assert not is_refused
            reader = subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE)
            with pytest.raises(subprocess.TimeoutExpired):
                reader.wait(0.3)
            file.write(b"whole")
            file.flush()
        assert reader.communicate(timeout=10)[0] == b"whole"
        with path.open("rb"), lease.alone(file.fileno()) as is_refused:
            assert is_refused


def test_a_link_that_is_made_in_the_moment_of_the_exchange_is_put_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = exchange._rename
    (path.parent / "theirs").write_bytes(b"old")

    def link_first(old: Path, new: Path, flags: int) -> None:
        monkeypatch.undo()
        path.unlink()
        path.symlink_to("theirs")
        rename(old, new, flags)

    monkeypatch.setattr(exchange, "_rename", link_first)
    with pytest.raises(ChangedMeanwhile):
        put(path)
    assert path.is_symlink() and path.read_bytes() == b"old"


def test_a_link_that_has_come_before_is_not_replaced(path: Path) -> None:
    path.rename(path.with_name("theirs"))
    path.symlink_to("theirs")
    with pytest.raises(ChangedMeanwhile):
        put(path)
    assert path.is_symlink() and path.read_bytes() == b"old"


_LEASED = """
import fcntl, os, signal, sys
held = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(held, fcntl.F_SETSIG, signal.SIGURG)
fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("in_place", [False, True])
def test_a_file_that_another_ngrokd_writes_in_place_is_looked_at_again(
    path: Path, in_place: bool
) -> None:
    argv = [sys.executable, "-S", "-c", _LEASED, str(path)]
    other = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    try:
        if in_place:
            assert not inplace.write(path, b"new", b"old")
        else:
            with pytest.raises(ChangedMeanwhile):
                put(path)
    finally:
        other.communicate("\n", timeout=10)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("longer", [b"", b" and longer than it was"])
def test_what_went_in_while_a_write_in_place_was_stopped_is_not_written_over(
    path: Path, monkeypatch: pytest.MonkeyPatch, longer: bytes
) -> None:
    reserve = inplace._reserve
    with path.open("ab", buffering=0) as theirs:  # as if the lease had been taken away

        def append(descriptor: int, size: int) -> None:
            reserve(descriptor, size)
            theirs.write(b" theirs")

        monkeypatch.setattr(inplace, "_reserve", append)
        assert not inplace.write(path, b"new" + longer, b"old")
    assert path.read_bytes() == b"old theirs"
