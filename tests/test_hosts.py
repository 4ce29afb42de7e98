"""Outside our section no byte of a hosts file ever changes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ngrokd.errors import HostError
from ngrokd.host.hosts import marker_of, outside, render, reserved

MARKER = marker_of("ngrokd0")
OTHER = marker_of("ngrokd1")
NAMES = {"web.ns": "10.107.0.2", "cache.ns": "10.107.0.3"}
SECTION = (
    b"# BEGIN ngrokd managed section\n"
    b"10.107.0.2\tweb.ns\n"
    b"10.107.0.3\tcache.ns\n"
    b"# END ngrokd managed section\n"
)
OTHERS = SECTION.replace(b"managed section", b"managed section (ngrokd1)")

hostnames = st.from_regex(r"[a-z]{1,5}\.ns", fullmatch=True)
addresses = st.ip_addresses(v=4).map(str)
publications = st.dictionaries(hostnames, addresses, max_size=5)
contents = st.one_of(
    st.binary(),
    st.lists(
        st.sampled_from(
            [
                b"127.0.0.1 localhost",
                b"\n",
                b"\r\n",
                b"\r",
                b" ",
                b"# comment",
                b"caf\xe9",
                b"\x00",
                b"x # BEGIN ngrokd managed section",
                b"# BEGIN ngrokd managed sections",
                b"# BEGIN ngrokd managed section (ngrokd1)\n",
                b"# END ngrokd managed section (ngrokd1)",
            ]
        )
    ).map(b"".join),
)


def test_the_default_interface_has_the_plain_marker_and_others_their_name() -> None:
    assert MARKER == "ngrokd managed section"
    assert OTHER == "ngrokd managed section (ngrokd1)"


def test_the_section_is_as_documented_sorted_by_address_as_a_number() -> None:
    names = {"b.ns": "10.107.0.10", "a.ns": "10.107.0.10", "z.ns": "10.107.0.9", "six.ns": "::1"}
    assert render(b"127.0.0.1 localhost\n", names, MARKER) == (
        b"127.0.0.1 localhost\n"
        b"# BEGIN ngrokd managed section\n"
        b"10.107.0.9\tz.ns\n"
        b"10.107.0.10\ta.ns\n"
        b"10.107.0.10\tb.ns\n"
        b"::1\tsix.ns\n"
        b"# END ngrokd managed section\n"
    )


def test_without_names_there_is_no_section() -> None:
    assert render(b"127.0.0.1 localhost\n", {}, MARKER) == b"127.0.0.1 localhost\n"
    assert render(b"a\n" + SECTION + b"b\n", {}, MARKER) == b"a\nb\n"


def test_an_update_stays_where_the_section_is() -> None:
    content = b"before\n" + SECTION + b"after\n"
    assert render(content, {"web.ns": "10.107.0.2"}, MARKER) == (
        b"before\n" + SECTION.replace(b"10.107.0.3\tcache.ns\n", b"") + b"after\n"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"127.0.0.1 localhost",
        b"127.0.0.1 localhost\n",
        b"127.0.0.1 localhost\n\n\n",
        b"127.0.0.1 localhost\r\n127.0.1.1 caf\xe9\r\n",
        b"127.0.0.1 localhost\r\n127.0.1.1 box",
        b"127.0.0.1 localhost\rold mac",
        b"\xff\xfe\x00",
        b"\n" * 5,
    ],
)
def test_a_removed_section_leaves_the_very_bytes(content: bytes) -> None:
    published = render(content, NAMES, MARKER)
    assert SECTION in published
    assert render(published, {}, MARKER) == content


@given(contents, st.lists(publications, min_size=1, max_size=6))
@example(OTHERS.rstrip(b"\n"), [{"a.ns": "1.1.1.1"}])
def test_no_byte_outside_changes_in_any_sequence_of_updates(
    original: bytes, updates: list[dict[str, str]]
) -> None:
    content = original
    for names in updates:
        content = render(content, names, MARKER)
        assert outside(content, MARKER) == original
        assert render(content, names, MARKER) == content
        assert all(f"{ip}\t{name}\n".encode() in content for name, ip in names.items())
    assert render(content, {}, MARKER) == original


@given(
    contents.filter(lambda content: b"(ngrokd1)" not in content),
    st.lists(st.tuples(st.sampled_from([MARKER, OTHER]), publications), max_size=8),
)
def test_two_instances_never_disturb_each_other(
    original: bytes, updates: list[tuple[str, dict[str, str]]]
) -> None:
    content = original
    published: dict[str, dict[str, str]] = {MARKER: {}, OTHER: {}}
    for marker, names in updates:
        content = render(content, names, marker)
        published[marker] = names
        for each in (MARKER, OTHER):
            assert render(content, published[each], each) == content
    assert render(render(content, {}, OTHER), {}, MARKER) == original


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a\n# BEGIN ngrokd managed section\n10.0.0.1\tx\nmine\n", "BEGIN in line 2"),
        (b"# END ngrokd managed section\nmine\n", "END in line 1"),
        (b"# END ngrokd managed section\n# BEGIN ngrokd managed section\n", "END in line 1, BEGIN"),
        (SECTION + b"mine\n" + SECTION, "BEGIN in line 6"),
        (b"# BEGIN ngrokd managed section\n" + SECTION, "BEGIN in line 1, BEGIN in line 2"),
        (SECTION + b"# END ngrokd managed section\n", "END in line 5"),
    ],
)
@pytest.mark.parametrize("names", [NAMES, {}])
def test_broken_markers_are_explained_and_nothing_is_rendered(
    content: bytes, told: str, names: dict[str, str]
) -> None:
    with pytest.raises(HostError) as caught:
        render(content, names, MARKER)
    assert told in str(caught.value)
    assert "nothing was written" in str(caught.value)
    assert "Mend:" in str(caught.value)


def test_sections_of_two_instances_that_overlap_are_left_alone() -> None:
    content = SECTION.replace(b"10.107.0.3", OTHERS.partition(b"\n")[0] + b"\n10.107.0.3")
    with pytest.raises(HostError, match="another ngrokd"):
        render(content, {}, MARKER)


def test_the_other_instances_section_is_left_alone() -> None:
    content = b"a\n" + OTHERS + b"b\n"
    assert render(content, NAMES, MARKER) == content + SECTION
    assert render(content + SECTION, {}, MARKER) == content


def test_an_unfinished_last_line_of_another_instance_does_not_swallow_ours() -> None:
    content = b"a\n" + OTHERS.rstrip(b"\n")
    published = render(content, NAMES, MARKER)
    assert published == b"a\n" + SECTION + OTHERS.rstrip(b"\n")
    assert render(published, {}, OTHER) == b"a\n" + SECTION


def test_lines_somebody_put_between_our_markers_are_kept_behind_them() -> None:
    content = SECTION.replace(b"10.107.0.3", b"# my note\n192.168.1.1 nas\n\n10.107.0.3") + b"end\n"
    assert render(content, {}, MARKER) == b"# my note\n192.168.1.1 nas\n\nend\n"
    assert render(content, NAMES, MARKER) == SECTION + b"# my note\n192.168.1.1 nas\n\nend\n"


def test_a_section_an_editor_saved_with_crlf_is_still_ours() -> None:
    content = b"a\r\n" + SECTION.replace(b"\n", b"\r\n") + b"b\r\n"
    assert render(content, {}, MARKER) == b"a\r\nb\r\n"
    assert render(content, NAMES, MARKER) == b"a\r\n" + SECTION + b"b\r\n"


def test_a_section_whose_last_line_end_was_cut_off_is_still_ours() -> None:
    assert render(b"a\n" + SECTION.rstrip(b"\n"), {}, MARKER) == b"a\n"


def test_marker_text_within_a_users_comment_is_no_marker() -> None:
    content = b"## BEGIN ngrokd managed section\n127.0.0.1 x # END ngrokd managed section\n"
    assert render(content, NAMES, MARKER) == content + SECTION


@pytest.mark.parametrize("name", ["a b", "a\n10.0.0.1\tb", "a#b", "", "caf\xe9", "a\t"])
def test_a_name_that_could_break_out_of_its_line_is_never_written(name: str) -> None:
    with pytest.raises(HostError):
        render(b"", {name: "10.0.0.1"}, MARKER)


def test_an_interface_name_that_cannot_mark_a_section_is_refused() -> None:
    with pytest.raises(HostError, match=r"net\.interface_name"):
        render(b"", NAMES, marker_of("a)\nb"))


def test_reserved_names_are_those_outside_our_section_in_lower_case() -> None:
    content = (
        b"127.0.0.1\tlocalhost Box.Home box # not.this\n#10.0.0.1 commented\n\xe9\xe9\n10.0.0.1\n"
        b"::1 six\r\n" + SECTION + OTHERS.replace(b"web.ns", b"theirs.ns") + b"1.1.1.1 last"
    )
    assert reserved(content, MARKER) == {
        "localhost", "box.home", "box", "six", "theirs.ns", "cache.ns", "last",
    }


def test_a_line_ends_where_resolvers_end_it() -> None:
    assert reserved(b"10.0.0.1 a\r10.0.0.2 b\x0cc\n", MARKER) == {"a", "10.0.0.2", "b", "c"}
    assert reserved(b"10.0.0.1 a\0zz b\n10.0.0.2 c\n", MARKER) == {"a", "c"}


def test_what_stands_between_our_markers_behind_a_lone_cr_is_kept() -> None:
    content = SECTION.replace(b"\n# END", b"\r10.9.9.9\tmine\n# END")
    assert b"10.9.9.9\tmine" in render(content, {}, MARKER)


def test_names_in_a_broken_section_of_ours_are_not_reserved() -> None:
    content = b"127.0.0.1 localhost\n" + SECTION.partition(b"# END")[0] + b"10.0.0.1 mine\n"
    assert reserved(content, MARKER) == {"localhost", "mine"}


@given(st.binary())
def test_reading_reserved_names_never_fails(content: bytes) -> None:
    assert all(name == name.lower() for name in reserved(content, MARKER))


def test_a_block_list_of_200000_lines_goes_through_unchanged() -> None:
    content = b"".join(b"0.0.0.0 ads%d.example.com\r\n" % number for number in range(200_000))
    published = render(content, NAMES, MARKER)
    assert published == content + SECTION
    assert render(published, {}, MARKER) == content
