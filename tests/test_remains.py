"""What a write that was cut short left: halves are told from edits, and lines that are missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.host.hosts import render
from ngrokd.host.remains import is_missing_lines, mended

MARKER = "ngrokd managed section"
OLD = b"".join(b"old line %d\n" % number for number in range(300))
NEW = OLD[:700] + b"".join(b"new line %d\n" % number for number in range(400)) + OLD[700:]
MINE = b"10.0.0.1 mine\n"


def stages(old: bytes, new: bytes) -> list[bytes]:
    """Whatever a kill, or an error and a kill, leaves: at every sector of the write."""
    room = old.ljust(len(new), b"\0")
    written = new + old[len(new) :]
    back = old + written[len(old) :]
    cuts = range(0, len(room), 512)
    return [written[:cut] + room[cut:] for cut in cuts] + [
        back[:cut] + written[cut:] for cut in cuts
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [(OLD, NEW), (NEW, OLD), (b"", NEW), (OLD, b""), (b"a\nb\n", b"a\n"), (b"a", b"xy")],
)
def test_every_half_of_a_write_is_mended_with_what_was_appended_since(
    old: bytes, new: bytes
) -> None:
    for half in stages(old, new):
        for appended in (b"", MINE):
            is_whole = half in (old, new)
            assert mended(half + appended, old, new) == (None if is_whole else old + appended)


@given(
    st.lists(st.sampled_from((b"a\n", b"b\n", b"long " * 40 + b"\n")), max_size=30),
    st.lists(st.sampled_from((b"a\n", b"b\n", b"c\n")), max_size=9),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_what_somebody_shortened_is_never_taken_for_a_half(
    lines: list[bytes], names: list[bytes], at: int, gone: int
) -> None:
    old = b"".join(lines)
    new = b"".join([*lines[:at], *names, *lines[at:]])
    edited = b"".join([*lines[:gone], *lines[gone + 1 :]])
    if len(edited) < len(old):
        assert mended(edited, old, new) is None
        assert mended(edited, new, old) is None


@pytest.mark.parametrize("edited", [MINE + OLD, OLD + MINE, OLD.replace(b"old line 7\n", b""), b""])
def test_an_edit_of_a_whole_file_is_no_half(edited: bytes) -> None:
    assert mended(edited, OLD, NEW) is None
    assert mended(edited, OLD, OLD[:700]) is None


def section(*names: str) -> bytes:
    return render(b"", dict.fromkeys(names, "10.107.0.2"), MARKER)


@pytest.mark.parametrize(
    ("current", "former", "is_missing"),
    [
        (MINE, MINE + section("a.ns"), False),
        (MINE + section("a.ns"), section("b.ns", "c.ns") + MINE, False),
        (MINE + section("a.ns"), MINE + section("b.ns").replace(b"section", b"section (x)"), False),
        (MINE, section("a.ns")[:-30] + b"10.0.0.2 other\n", True),
        (MINE, b"10.0.0.1 mi", False),
        (MINE, b"10.0.0.1 ml", True),
        (MINE.replace(b"\n", b"\r\n"), MINE, False),
        (MINE, b"\0" * 512, False),
        (MINE, b"", False),
        (b"", MINE, True),
        (OLD[:700] + bytes(700), OLD, True),
    ],
)
def test_only_lines_that_no_ngrokd_wrote_are_missing(
    current: bytes, former: bytes, is_missing: bool
) -> None:
    assert is_missing_lines(current, former) is is_missing
