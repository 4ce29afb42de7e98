"""`ngrokctl events`: prints what happens as it comes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Optional

from ngrokd.control import eventpages
from ngrokd.control.answers import text
from ngrokd.control.following import events
from ngrokd.control.text import clean


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
    """Each with its time, as the log has it."""
    return [f"{clean(text(event, 'time'))}  {line}" for line in eventpages.lines(event)]
