"""Bytes that one side of a tunnel has not taken yet."""

from __future__ import annotations

from collections import deque

EMPTY = memoryview(b"")


class Backlog:
    """A queue of bytes that copies only what a socket leaves over. Owner: the tunnel's thread.

    `put` borrows the buffer it is given until `sent` is called, which copies the rest of it.
    """

    def __init__(self) -> None:
        self._fresh = EMPTY  # borrowed
        self._kept = bytearray()  # ours; older than what is fresh

    def __len__(self) -> int:
        return len(self._kept) + len(self._fresh)

    def put(self, data: memoryview) -> None:
        """Append `data`, whose buffer must not change before the next call of `sent`."""
        if len(self._fresh):
            self._keep(0)
        if self._kept:
            self._kept += data
        else:
            self._fresh = data

    def first(self) -> memoryview:
        """What to offer to the socket next. Release it before the next call of `sent`."""
        return memoryview(self._kept) if self._kept else self._fresh[:]

    def sent(self, count: int) -> None:
        """The socket took `count` bytes of `first` (0: none)."""
        if self._kept:
            del self._kept[:count]
        elif len(self._fresh):
            self._keep(count)

    def clear(self) -> None:
        """Forget everything: nobody is left to take it."""
        self._fresh = EMPTY
        self._kept.clear()

    def _keep(self, count: int) -> None:
        if count < len(self._fresh):
            self._kept += self._fresh[count:]
        self._fresh = EMPTY


class OwnBacklog:
    """The same of bytes that nobody changes any more, so none is ever copied. Owner: as above."""

    def __init__(self) -> None:
        self._pieces: deque[memoryview] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, data: bytes) -> None:
        """Append `data`."""
        self._pieces.append(memoryview(data))
        self._size += len(data)

    def first(self) -> memoryview:
        """What to offer to the socket next; there may be more behind it."""
        return self._pieces[0][:] if self._pieces else EMPTY[:]

    def sent(self, count: int) -> None:
        """The socket took `count` bytes of `first` (0: none)."""
        if not count:
            return
        self._size -= count
        first = self._pieces[0]
        if count < len(first):
            self._pieces[0] = first[count:]
        else:
            self._pieces.popleft()

    def clear(self) -> None:
        """Forget everything: nobody is left to take it."""
        self._pieces.clear()
        self._size = 0
