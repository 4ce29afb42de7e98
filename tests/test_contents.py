"""What a hosts file says, as it was last taken apart or written."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given

from ngrokd.errors import HostError
from ngrokd.host import hosts
from ngrokd.host.contents import Contents
from ngrokd.model import HostsSection, HostsStatus
from tests.test_hosts import contents, publications

MARKER = "ngrokd managed section"
OTHER = "127.0.0.1 localhost\n10.0.0.1 theirs.ns\n"


def told(seen: Contents, names: Mapping[str, str]) -> tuple[frozenset[str], HostsStatus]:
    """All that it says, with a section that is not the very one that was written."""
    return seen.reserved({}), seen.status("/etc/hosts", HostsSection(MARKER, dict(names)), "")


def of(content: bytes, names: Mapping[str, str]) -> tuple[frozenset[str], HostsStatus]:
    """The same of a file that is read for the first time."""
    fresh = Contents(MARKER)
    fresh.see(content)
    return told(fresh, names)


@given(contents, publications, publications, contents)
def test_what_was_written_is_known_as_if_it_had_been_read(
    content: bytes, first: Mapping[str, str], second: Mapping[str, str], edited: bytes
) -> None:
    seen = Contents(MARKER)
    for names in (first, second, second):
        seen.see(content)
        try:
            content = hosts.render(content, names, MARKER)
        except HostError:
            return
        seen.has(names, content)
        assert told(seen, names) == of(content, names)
    for later in (edited, content):
        seen.see(later)
        assert told(seen, second) == of(later, second)


def test_an_edit_of_our_section_is_seen_though_the_names_are_those_that_were_written() -> None:
    names = {"a.ns": "10.107.0.2", "b.ns": "10.107.0.3"}
    section = HostsSection(MARKER, names)
    seen = Contents(MARKER)
    seen.see(OTHER.encode())
    content = hosts.render(OTHER.encode(), names, MARKER)
    seen.has(names, content)
    assert seen.status("/etc/hosts", section, "").published
    seen.see(content.replace(b"10.107.0.3\tb.ns\n", b""))
    assert not seen.status("/etc/hosts", section, "").published
    seen.has(names, content)
    assert seen.status("/etc/hosts", section, "").published
