"""`ngrokctl events`: prints what happens as it comes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Optional

from ngrokd.control import eventpages
from ngrokd.control.answers import moment
from ngrokd.control.following import events


def watch(socket_path: str, as_json: bool, say: Callable[[str], None]) -> None:
    """Until the daemon has stopped; `say` gets each line. Raises what `following.events` does."""
    lines = _json if as_json else _words
    for event in events(socket_path, _output()):
        for line in lines(event):
            say(line)


def _output() -> Optional[int]:
    try:
        return sys.stdout.fileno()
    except (OSError, AttributeError):  # it is no file, as in tests, or there is none
        return None


def _json(event: Mapping[str, object]) -> list[str]:
    return [json.dumps(event)]


def _words(event: Mapping[str, object]) -> list[str]:
    """Each with its time, as the clock on the wall shows it."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment(event, "time")))
    return [f"{when}  {line}" for line in eventpages.lines(event)]
