"""Finds where a JSON object ends that comes in pieces, looking at each byte once. Sans-IO."""

from __future__ import annotations

import re

_MARK = re.compile(rb'[{}"\\]')
_BLANK = b" \t\r\n"


class Outline:
    """Braces and strings of one object, nothing else. Owner: the thread that serves its client."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False  # what comes first in the next piece
        self._told = False

    def ends_in(self, piece: bytes) -> bool:
        """Takes the next bytes: the object ends in them, and only blanks are behind it. Once."""
        if self._told:
            return False
        at = 1 if self._escaped and piece else 0
        self._escaped = self._escaped and not piece
        while True:
            found = _MARK.search(piece, at)
            if found is None:
                return False
            at = found.end()
            mark = found.group()
            if mark == b"\\":
                self._escaped = at == len(piece)
                at += 1
            elif mark == b'"':
                self._in_string = not self._in_string
            elif not self._in_string:
                self._depth += 1 if mark == b"{" else -1
                if self._depth <= 0:
                    self._told = True
                    return self._depth == 0 and not piece[at:].strip(_BLANK)
