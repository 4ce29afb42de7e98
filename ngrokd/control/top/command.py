"""`ngrokctl top`: one frame for a pipe, or the live view on a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

from ngrokd.control.answers import mapping, mappings
from ngrokd.control.commands import Call, Outcome
from ngrokd.control.protocol import BAD_ARGUMENTS
from ngrokd.control.top.frame import Room, as_text, frame
from ngrokd.control.top.samples import Sample, as_json, first, following
from ngrokd.control.top.view import Sort, View, arranged
from ngrokd.errors import ControlError

LiveView = Callable[[Call, View, Sample], int]

LOOK_S = 5.0  # for one answer


def top(call: Call) -> Outcome:
    """Raises what the first look at the daemon does; later the view itself tells of it."""
    options = call.options
    view = View(sort=Sort(options.sort), filter=options.filter)
    if options.once or options.json:
        return once(call, view)
    _need_terminal()
    begin = look(call)
    live = _live_view()
    return Outcome({}, "", live(call, view, begin))


def look(call: Call) -> Sample:
    """What the daemon says now."""
    status = mapping(call.ask("status", timeout_s=LOOK_S))
    endpoints = mappings(call.ask("list", timeout_s=LOOK_S))
    return Sample(time.monotonic(), status, endpoints)


def once(call: Call, view: View) -> Outcome:
    """Two looks, since one tells no rate."""
    begin = first(look(call))
    threading.Event().wait(call.options.interval)  # of an event that never comes: Ctrl-C ends it
    picture = following(begin, look(call))
    page = as_text(frame(picture, view, Room(call.width), time.time()), call.colour)
    return Outcome(as_json(picture, arranged(picture.rows, view)), page)


def _need_terminal() -> None:
    streams = (sys.stdin, sys.stdout)
    if not all(stream is not None and stream.isatty() for stream in streams):
        raise ControlError(
            BAD_ARGUMENTS, "`top` needs a terminal: `ngrokctl top --once` prints one frame"
        )


def _live_view() -> LiveView:
    """Imported where it is used: a Python without curses can do all the rest."""
    try:
        from ngrokd.control.top.live import run
    except ImportError as exc:
        raise ControlError(
            "no_curses", f"this Python has no curses ({exc}): `ngrokctl top --once` needs none"
        ) from exc
    return run
