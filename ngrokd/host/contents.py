"""What a hosts file says, taken apart once for each content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from ngrokd.host import hosts
from ngrokd.model import HostsSection, HostsStatus


class Contents:
    """As they were last seen. Owner: main."""

    def __init__(self, marker: str) -> None:
        self._marker = marker
        # A block list has 200,000 lines: they are not read again while they are the same.
        self._seen: Optional[int] = None
        self._outside = b""
        self._reserved: frozenset[str] = frozenset()
        self._standing: frozenset[tuple[str, str]] = frozenset()  # (hostname, address), of ours
        self._names: Optional[Mapping[str, str]] = None  # what stands there, if we put it there
        self._is_marked = False
        self._asked_of: tuple[bytes, frozenset[str]] = (b"", frozenset())  # by `who_has`, last
        self._who: Mapping[str, str] = {}  # what it answered

    def see(self, content: bytes) -> None:
        """Takes it apart."""
        seen = hash(content)
        if seen == self._seen:
            return
        self._seen, self._names = seen, None
        self._standing = hosts.entries(content, self._marker)
        self._is_marked = hosts.has_markers(content, self._marker)
        outside = hosts.outside(content, self._marker)
        if outside != self._outside:
            self._outside = outside
            self._reserved = frozenset(hosts.names_of(outside))

    def has(self, names: Mapping[str, str], content: bytes) -> None:
        """Our section has become exactly that, in what was seen last, which is `content` now.

        So there is nothing to take apart. Nobody may change `names` afterwards.
        """
        if names is self._names:
            return
        standing = frozenset(names.items())
        if standing != self._standing:
            self._standing = standing
        self._seen, self._names, self._is_marked = hash(content), names, bool(names)

    def lacks(self, names: Mapping[str, str]) -> bool:
        """One of these at least, or it is there with another address."""
        return bool(names.items() - self._standing)

    def reserved(self, own: Mapping[str, str]) -> frozenset[str]:
        """Names outside our section, but those that lead to our address for them (`own`)."""
        shared = {name: own[name] for name in self._reserved.intersection(own)}
        if not shared:
            return self._reserved
        return self._reserved - hosts.handmade(self._outside, shared)

    def who_has(self, names: frozenset[str], path: str) -> Mapping[str, str]:
        """Of these names, in lower case: what has those outside our section."""
        if self._asked_of[0] is not self._outside or self._asked_of[1] != names:
            self._asked_of = self._outside, names
            self._who = hosts.who_has(self._outside, names, path)
        return self._who

    def status(self, path: str, section: HostsSection, problem: str) -> HostsStatus:
        """Beside what the section should be."""
        is_there = section.names is self._names or self._standing == section.names.items()
        return HostsStatus(path, section, is_there, problem, self._standing, self._is_marked)
