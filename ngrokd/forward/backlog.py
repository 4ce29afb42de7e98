"""Bytes that one side of a tunnel has not taken yet."""

from __future__ import annotations

from typing import Union

Bytes = Union[bytes, memoryview]
SMALL_BYTES = 4 * 1024  # pieces that are joined: each costs a hundred bytes, and a send of its own


class Backlog:
    """A queue of copies: what is put may change afterwards. Owner: the tunnel's thread."""

    __slots__ = ("kept",)

    def __init__(self) -> None:
        self.kept = bytearray()

    def __len__(self) -> int:
        return len(self.kept)

    def put(self, data: Bytes) -> None:
        """Append a copy of `data`."""
        self.kept += data

    def first(self) -> memoryview:
        """What to offer to the socket next. Release it before the next call of `sent`."""
        return memoryview(self.kept)

    def sent(self, count: int) -> None:
        """The socket took `count` bytes of `first` (0: none)."""
        del self.kept[:count]

    def clear(self) -> None:
        """Forget everything: nobody is left to take it."""
        self.kept.clear()


class OwnBacklog:
    """A queue of bytes that nobody changes: only small ones are copied. Owner: as above."""

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[memoryview] = []  # a few at most; an empty deque takes 600 bytes
        self.size = 0

    def __len__(self) -> int:
        return self.size

    def put(self, data: Bytes) -> None:
        """Append `data`."""
        if not len(data):
            return
        self.size += len(data)
        if self._pieces and len(self._pieces[-1]) + len(data) <= SMALL_BYTES:
            data = bytes(self._pieces.pop()) + data
        self._pieces.append(memoryview(data))

    def first(self) -> memoryview:
        """What to offer to the socket next, if there is something; there may be more behind it."""
        return self._pieces[0]

    def sent(self, count: int) -> None:
        """The socket took `count` bytes of `first` (0: none)."""
        self.size -= count
        first = self._pieces[0]
        if count < len(first):
            self._pieces[0] = first[count:]
        else:
            del self._pieces[0]

    def clear(self) -> None:
        """Forget everything: nobody is left to take it."""
        self._pieces.clear()
        self.size = 0
