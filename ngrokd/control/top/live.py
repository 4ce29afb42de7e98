"""The live view: keys, answers and signals in, frames out."""

from __future__ import annotations

import select
import sys
import time
from dataclasses import replace
from typing import Union

from ngrokd.control.commands import Call
from ngrokd.control.top import command
from ngrokd.control.top.frame import frame, page_of
from ngrokd.control.top.interrupts import Interrupts
from ngrokd.control.top.samples import (
    Outage,
    Rows,
    Sample,
    first,
    following,
    interrupted,
    still,
)
from ngrokd.control.top.screen import Screen
from ngrokd.control.top.source import Source
from ngrokd.control.top.view import Mode, View, pressed, scrolled

TICK_S = 1.0  # the times on the screen go on by themselves
HUNG_UP = 1


def run(call: Call, view: View, begin: Sample) -> int:
    """Until a key or a signal ends it; returns the exit code."""
    with Interrupts() as interrupts, Screen(call.colour) as screen:
        source = Source(lambda: command.look(call), call.options.interval, interrupts.wake)
        live = Live(screen, view, begin)
        source.start()
        try:
            return _loop(live, screen, source, interrupts)
        finally:
            source.stop()


def _loop(live: Live, screen: Screen, source: Source, interrupts: Interrupts) -> int:
    while True:
        live.draw()
        patience_s = 0.0 if screen.has_more else TICK_S
        readable = select.select([sys.stdin, interrupts], [], [], patience_s)[0]
        interrupts.clear()
        if interrupts.ended_by:
            return 128 + interrupts.ended_by  # as a shell reports it
        for news in source.news():
            live.take(news)
        if sys.stdin in readable or screen.has_more:
            keys = screen.keys()
            if keys is None:
                return HUNG_UP
            live.press(keys, interrupts)
        if live.is_over:
            return 0


class Live:
    """What is on the screen. Owner: the main thread."""

    def __init__(self, screen: Screen, view: View, begin: Sample) -> None:
        self._screen = screen
        self._view = view
        picture = first(begin)
        self._picture = replace(picture, rows=Rows(picture.rows))

    @property
    def is_over(self) -> bool:
        """A key has said so."""
        return self._view.mode is Mode.OVER

    def take(self, news: Union[Sample, Outage]) -> None:
        """An answer of the daemon, or that there is none."""
        if isinstance(news, Sample):
            picture = following(self._picture, news)
        else:
            picture = interrupted(self._picture, news)
        self._picture = replace(picture, rows=Rows(picture.rows))

    def press(self, keys: list[str], interrupts: Interrupts) -> None:
        """In their order, until one or a signal ends it."""
        for key in keys:
            if self.is_over or interrupts.ended_by:
                return
            if key == "redraw":
                self._screen.redraw()
            self._view = pressed(self._view, key, self._picture.rows, self._page())

    def draw(self) -> None:
        """The next frame, for the size that the terminal has now."""
        self._screen.fit()
        self._picture = still(self._picture, time.monotonic())
        self._view = scrolled(self._view, self._picture.rows, self._page())
        self._screen.draw(frame(self._picture, self._view, self._screen.room, time.time()))

    def _page(self) -> int:
        return page_of(self._picture, self._view, self._screen.room.height or 0)
