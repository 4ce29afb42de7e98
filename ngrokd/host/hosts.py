"""Our section of a hosts file: what the file's bytes are to be. Pure.

The section is inserted behind the last line end of the file. So nothing has to be added to a file
whose last line has none, and taking the section out again gives back the very bytes.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.model import HostsSection

# A marker is a line of its own; an editor may have given it white space or a CR at its end.
_MARKER = re.compile(
    rb"[ \t]*# (BEGIN|END) (ngrokd managed section(?: \([^()\r\n]*\))?)[ \t]*\r?"
)
_WORDS = b" ngrokd managed section"

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")

# What we write, also after an editor turned it into CRLF. Anything else between our markers was
# put there by somebody, and is kept.
_OUR_LINE = re.compile(rb"[0-9a-fA-F.:]+\t[A-Za-z0-9._-]+\r?\n?")
_OUR_LINES = re.compile(rb"(?:[0-9a-fA-F.:]+\t[A-Za-z0-9._-]+\r?\n)*")  # what nearly all are
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]{1,45}")
_PUBLISHABLE = re.compile(r"[A-Za-z0-9._-]+")


def marker_of(interface_name: str) -> str:
    """The words that mark the section of the instance with this interface."""
    words = "ngrokd managed section"
    if interface_name == NetSettings.interface_name:
        return words
    return f"{words} ({interface_name})"


def render(content: bytes, names: Mapping[str, str], marker: str) -> bytes:
    """`content` with our section holding exactly `names` (hostname: address); none: no section.

    Every byte outside the section stays. Raises HostError if the markers are broken.
    """
    if not _MARKER.fullmatch(f"# BEGIN {marker}".encode()):
        raise HostError(f"`{marker}` cannot mark a section; set net.interface_name to another name")
    parts = _split(content, marker)
    return parts.before + _section(names, marker) + parts.after


def holds(content: bytes, names: Mapping[str, str], marker: str) -> bool:
    """Our section of the file is there, and has exactly these names and nothing else."""
    try:
        return render(content, names, marker) == content
    except HostError:
        return False


def reserved(content: bytes, marker: str) -> frozenset[str]:
    """Names, in lower case, that the file maps outside our section. Never raises.

    Where our markers are broken, lines behind BEGIN still count as ours while they look like ours.
    """
    return frozenset(names_of(outside(content, marker)))


def outside(content: bytes, marker: str) -> bytes:
    """All that is not ours; where markers are broken, by the look of the lines behind BEGIN."""
    with contextlib.suppress(HostError):
        parts = _split(content, marker)
        return parts.before + parts.after
    kept = []
    position = 0
    for found in _marks(content, marker):
        if found.kind != b"BEGIN":
            continue
        kept.append(content[position : found.start])
        position = found.end
        position += sum(map(len, _our_lines(content, position)))
    kept.append(content[position:])
    return b"".join(kept)


def of_others(content: bytes) -> bytes:
    """All but the sections of any ngrokd; where markers are broken, by the look of the lines."""
    kept = []
    position = 0
    for found in _marks(content):
        kept.append(content[position : found.start])
        position = found.end
        while found.kind == b"BEGIN" and (line := _line_at(content, position)):
            if not _OUR_LINE.fullmatch(line):
                break
            position += len(line)
    kept.append(content[position:])
    return b"".join(kept)


def entries(content: bytes, marker: str) -> frozenset[tuple[str, str]]:
    """(hostname, address) of the lines that are ours, also where markers are broken. Never raises.

    It is what programs of this machine find under names of ours.
    """
    found: set[tuple[str, str]] = set()
    marks = list(_marks(content, marker))
    ends = [mark.kind for mark in marks] == [b"BEGIN", b"END"]
    for mark in marks:
        if mark.kind != b"BEGIN":
            continue
        if ends:
            lines = _LINE.findall(content[mark.end : marks[-1].start])
            ours = [line for line in lines if _OUR_LINE.fullmatch(line)]
        else:
            ours = list(_our_lines(content, mark.end))
        found.update((name, ip) for ip, name in _pairs(b"".join(ours)))
    return frozenset(found)


def has_markers(content: bytes, marker: str) -> bool:
    """At least one of ours is there: whoever adds the section once more breaks them."""
    return any(True for _ in _marks(content, marker))


def handmade(content: bytes, own: Mapping[str, str]) -> frozenset[str]:
    """Of our names (hostname: address), those that `content` maps to our address and nowhere else.

    Somebody has put them there, where our section cannot be written or has been forgotten.
    """
    found: dict[str, set[str]] = {}
    for ip, name in _pairs(content):
        if name in own:
            found.setdefault(name, set()).add(ip)
    return frozenset(name for name, ips in found.items() if ips == {own[name]})


def who_has(outside: bytes, names: Collection[str], path: str) -> dict[str, str]:
    """Of these names, in lower case, those that the file maps outside our section: what has them.

    No number of a line: it would change with every line above, and be news each time.
    """
    found: dict[str, str] = {}
    section = b""  # of another ngrokd
    for line in outside.split(b"\n"):
        mark = _MARKER.fullmatch(line) if _WORDS in line else None
        if mark:
            section = mark[2] if mark[1] == b"BEGIN" else b""
        for ip, name in _pairs(line):
            if name in names and name not in found:
                found[name] = _anothers(section) if section else _a_line(ip, path)
    return found


def others(content: bytes, marker: str) -> list[str]:
    """The interfaces of the other ngrokds that have a section there, each once."""
    marks = (_MARKER.fullmatch(line) for line in content.split(b"\n") if _WORDS in line)
    words = [mark[2] for mark in marks if mark and mark[1] == b"BEGIN"]
    return [_interface(each) for each in dict.fromkeys(words) if each != marker.encode()]


def _anothers(words: bytes) -> str:
    return (
        f"another ngrokd (interface {_interface(words)}) publishes it; if that one is gone, "
        "`ngrokd cleanup` with its configuration removes it"
    )


def _interface(words: bytes) -> str:
    named = words[len(_WORDS) - 1 :].decode("latin-1").strip(" ()")
    return named if named.isprintable() and named else NetSettings.interface_name


def _a_line(ip: str, path: str) -> str:
    shown = ip if _ADDRESS.fullmatch(ip) else "something"
    return (
        f"{path} maps it to {shown}, outside ngrokd's section; remove it there to have it published"
    )


def names_of(content: bytes) -> Iterator[str]:
    """Every name of every line, in lower case, as hosts(5) reads it."""
    return (name for _, name in _pairs(content))


def _pairs(content: bytes) -> Iterator[tuple[str, str]]:
    """(address, name in lower case) for every name of every line."""
    for line in content.split(b"\n"):  # a CR alone ends none: it is white space to resolvers
        read = line.partition(b"\0")[0].partition(b"#")[0]  # resolvers end a text at its NUL
        ip, *names = read.decode("latin-1").split() or [""]
        for name in names:
            yield ip, name.lower()


@dataclass(frozen=True)
class _Mark:
    """A marker line: `start` to `end` are its bytes, line end included."""

    kind: bytes
    words: bytes
    start: int
    end: int


@dataclass(frozen=True)
class _Parts:
    before: bytes
    after: bytes


def _section(names: Mapping[str, str], marker: str) -> bytes:
    for name in names:
        if not _PUBLISHABLE.fullmatch(name):
            raise HostError(f"{name!r} cannot stand in a hosts file; nothing was written")
    return "".join(f"{line}\n" for line in HostsSection(marker, names).lines()).encode("ascii")


def _split(content: bytes, marker: str) -> _Parts:
    marks = list(_marks(content))
    ours = [mark for mark in marks if mark.words == marker.encode()]
    if not ours:
        at = _place_for_section(content, marks)
        return _Parts(content[:at], content[at:])
    if [mark.kind for mark in ours] != [b"BEGIN", b"END"]:
        raise HostError(_broken(content, ours, marker))
    begin, end = ours
    if any(begin.start < mark.start < end.start for mark in marks):
        raise HostError(
            f"the section of another ngrokd begins or ends inside line {_line(content, begin)} "
            f"to {_line(content, end)}, ngrokd's own section; nothing was written. "
            f"Mend: move the lines of one of the two sections out of the other"
        )
    foreign = b""
    if not _OUR_LINES.fullmatch(content, begin.end, end.start):
        lines = _LINE.findall(content[begin.end : end.start])
        foreign = b"".join(line for line in lines if not _OUR_LINE.fullmatch(line))
    return _Parts(content[: begin.start], foreign + content[end.end :])


def _place_for_section(content: bytes, marks: list[_Mark]) -> int:
    """Behind the last line end, but never between the markers of another instance."""
    at = content.rfind(b"\n") + 1
    if not marks:
        return at
    last = marks[-1]
    if last.kind == b"END" and last.end <= at:
        return at
    begins = [mark.start for mark in marks if mark.kind == b"BEGIN"]
    return begins[-1] if begins else min(at, last.start)


def _marks(content: bytes, marker: str = "") -> Iterator[_Mark]:
    """The marker lines of all instances, or of one; a block list is not looked at line by line."""
    at = content.find(_WORDS)
    while at >= 0:
        start = content.rfind(b"\n", 0, at) + 1
        end = content.find(b"\n", at)
        end = len(content) if end < 0 else end
        found = _MARKER.fullmatch(content, start, end)
        if found and (not marker or found[2] == marker.encode()):
            yield _Mark(found[1], found[2], start, min(end + 1, len(content)))
        at = content.find(_WORDS, end)


def _our_lines(content: bytes, position: int) -> Iterator[bytes]:
    """Those that begin there, up to the first that is not ours."""
    while (line := _line_at(content, position)) and _OUR_LINE.fullmatch(line):
        yield line
        position += len(line)


def _line_at(content: bytes, position: int) -> bytes:
    end = content.find(b"\n", position)
    return content[position : end + 1] if end >= 0 else content[position:]


def _line(content: bytes, mark: _Mark) -> int:
    return content.count(b"\n", 0, mark.start) + 1


def _broken(content: bytes, ours: list[_Mark], marker: str) -> str:
    seen = ", ".join(f"{mark.kind.decode()} in line {_line(content, mark)}" for mark in ours)
    return (
        f"the lines `# BEGIN {marker}` and `# END {marker}` must stand there once each and in this "
        f"order, but there is {seen}; nothing was written. Mend: remove these lines and the "
        "entries of ngrokd between them"
    )
