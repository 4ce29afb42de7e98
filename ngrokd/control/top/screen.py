"""The terminal: takes it, draws on it, reads its keys, and gives it back as it was. By curses."""

from __future__ import annotations

import contextlib
import curses
import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Optional

from ngrokd.control.protocol import BAD_ARGUMENTS
from ngrokd.control.text import places, showable
from ngrokd.control.tones import Tone
from ngrokd.control.top.frame import Line, Room
from ngrokd.errors import ControlError

ESCAPE_MS = 50  # a key of several bytes has come by then, also over ssh; else it was Esc
MAX_KEYS = 16  # of a frame: what was pasted by mistake keeps nobody from Ctrl-C
MAX_EMPTY_READS = 3  # a signal may take one away; a terminal that has gone is readable for ever

_PAIRS = {Tone.GOOD: 1, Tone.WARN: 2, Tone.BAD: 3}
_COLOURS = {
    Tone.GOOD: curses.COLOR_GREEN,
    Tone.WARN: curses.COLOR_YELLOW,
    Tone.BAD: curses.COLOR_RED,
}
_ATTRIBUTES = {
    Tone.TITLE: curses.A_BOLD,
    Tone.CHOSEN: curses.A_REVERSE,
    Tone.WARN: curses.A_BOLD,
    Tone.BAD: curses.A_BOLD,
    Tone.FAINT: curses.A_DIM,
}
_KEYS = {
    curses.KEY_UP: "up",
    curses.KEY_DOWN: "down",
    curses.KEY_LEFT: "left",
    curses.KEY_RIGHT: "right",
    curses.KEY_PPAGE: "page_up",
    curses.KEY_NPAGE: "page_down",
    curses.KEY_HOME: "home",
    curses.KEY_END: "end",
    curses.KEY_ENTER: "enter",
    curses.KEY_BACKSPACE: "backspace",
    10: "enter",
    13: "enter",
    27: "escape",
    8: "backspace",
    127: "backspace",
    21: "clear",  # Ctrl-U
    12: "redraw",  # Ctrl-L
}


class Screen:
    """The whole terminal between `with` and its end. Owner: the main thread."""

    def __init__(self, colour: bool) -> None:
        self._wants_colour = colour
        self._has_colour = False
        self._empty_reads = 0
        self.has_more = False  # keys were left for the next time
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> Screen:
        """Raises ControlError where the terminal cannot show it."""
        _check_terminal()
        with contextlib.ExitStack() as stack:
            curses.set_escdelay(ESCAPE_MS)
            self._window = curses.initscr()
            stack.callback(curses.endwin)
            curses.noecho()
            stack.callback(curses.echo)
            curses.cbreak()
            stack.callback(curses.nocbreak)
            self._window.keypad(True)
            stack.callback(self._window.keypad, False)
            stack.callback(self._clear_foot)
            self._window.nodelay(True)
            with contextlib.suppress(curses.error):  # a terminal that always shows its cursor
                curses.curs_set(0)
            self._take_colours()
            self._restore = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        exc: Optional[BaseException],
        where: Optional[TracebackType],
    ) -> None:
        self._restore.close()

    @property
    def room(self) -> Room:
        """Without the last column: a sign in the last corner would scroll some terminals."""
        height, width = self._window.getmaxyx()
        return Room(width - 1, height)

    def fit(self) -> None:
        """Takes up the size that the terminal has now."""
        try:
            now = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            return  # it has gone, which `keys` notices
        if now.lines and now.columns and (now.lines, now.columns) != self._window.getmaxyx():
            curses.resizeterm(now.lines, now.columns)
            self._window.clear()

    def draw(self, lines: Sequence[Line]) -> None:
        """One frame; curses sends only what is other than before."""
        self._window.erase()
        for y, line in enumerate(lines):
            x = 0
            for piece, tone in line:
                self._window.addstr(y, x, self._showable(piece), self._attribute(tone))
                x += places(piece)
        self._window.refresh()

    def keys(self) -> Optional[list[str]]:
        """What was typed, by name or letter, once the terminal is readable. None: it has gone."""
        typed: list[str] = []
        code = self._window.getch()
        self._empty_reads = self._empty_reads + 1 if code == -1 else 0
        if self._empty_reads >= MAX_EMPTY_READS:
            return None
        taken = 0
        while code != -1:
            taken += 1
            if code in _KEYS:
                typed.append(_KEYS[code])
            elif 32 <= code < 127:
                typed.append(chr(code))
            code = self._window.getch() if taken < MAX_KEYS else -1
        self.has_more = taken == MAX_KEYS
        return typed

    def redraw(self) -> None:
        """Everything is sent anew with the next frame: something else wrote on the terminal."""
        self._window.redrawwin()

    def _clear_foot(self) -> None:
        """Where the shell goes on if the terminal has no second screen to come back from."""
        with contextlib.suppress(curses.error):  # no such line: it is being made smaller
            self._window.move(self._window.getmaxyx()[0] - 1, 0)
            self._window.clrtoeol()
            self._window.refresh()

    def _take_colours(self) -> None:
        if not self._wants_colour or not curses.has_colors():
            return
        curses.start_color()
        try:
            curses.use_default_colors()
            background = -1
        except curses.error:
            background = curses.COLOR_BLACK
        for tone, pair in _PAIRS.items():
            curses.init_pair(pair, _COLOURS[tone], background)
        self._has_colour = True

    def _attribute(self, tone: Tone) -> int:
        if self._has_colour and tone in _PAIRS:
            return curses.color_pair(_PAIRS[tone])
        return _ATTRIBUTES.get(tone, curses.A_NORMAL)

    def _showable(self, piece: str) -> str:
        encoding = self._window.encoding
        return showable(piece, encoding).encode(encoding, "replace").decode(encoding)


def _check_terminal() -> None:
    """`initscr` would end the program if it does not know the terminal."""
    name = os.environ.get("TERM", "")
    try:
        curses.setupterm(name or "unknown", sys.stdout.fileno())
    except curses.error as exc:
        raise _unsuitable(f"TERM is {name!r}, which is not known here") from exc
    if curses.tigetstr("cup") is None:
        raise _unsuitable(f"TERM is {name!r}, which cannot move its cursor")


def _unsuitable(reason: str) -> ControlError:
    return ControlError(
        BAD_ARGUMENTS, f"{reason}: set TERM, or `ngrokctl top --once` prints one frame"
    )
