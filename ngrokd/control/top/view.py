"""What a person chose to see of the endpoints, and what each key changes of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from ngrokd.control.answers import moment, number, text
from ngrokd.control.top.samples import Row, Rows

MAX_FILTER = 60  # letters

_STATES = {"failed": 0, "open": 1, "skipped": 2}


class Sort(Enum):
    """By what the endpoints are ordered, the largest first but for names and states."""

    NAME = "name"
    CONNECTIONS = "connections"
    UP = "up"
    DOWN = "down"
    TRAFFIC = "traffic"  # both directions
    ERRORS = "errors"
    ACTIVE = "active"  # the last activity
    STATE = "state"  # failed ones first


class Mode(Enum):
    """What the screen shows, and so what keys do."""

    LIST = "list"
    FILTER = "filter"  # the list, while a filter is typed
    DETAILS = "details"  # of one endpoint
    HELP = "help"
    OVER = "over"  # nothing more: the program ends


@dataclass(frozen=True)
class View:
    """`chosen`: the key of the row that the cursor is on, "" before it was moved."""

    sort: Sort = Sort.NAME
    is_reversed: bool = False
    filter: str = ""
    mode: Mode = Mode.LIST
    chosen: str = ""
    top: int = 0  # the number of the first row on the screen


SORT_KEYS: Mapping[str, Sort] = {
    "n": Sort.NAME,
    "c": Sort.CONNECTIONS,
    "u": Sort.UP,
    "d": Sort.DOWN,
    "b": Sort.TRAFFIC,
    "e": Sort.ERRORS,
    "a": Sort.ACTIVE,
    "t": Sort.STATE,
}
_LINES = {"up": -1, "k": -1, "down": 1, "j": 1}
_PAGES = {"page_up": -1, "page_down": 1, " ": 1}
_ENDS = {"home": 0, "g": 0, "end": -1, "G": -1}


def arranged(rows: Sequence[Row], view: View) -> list[Row]:
    """Those that match the filter, in order; equals are in the order of their names."""
    if isinstance(rows, Rows):
        how = (view.sort, view.is_reversed, view.filter)
        return rows.order(how, lambda rows: _arranged(rows, view))
    return _arranged(rows, view)


def _arranged(rows: Sequence[Row], view: View) -> list[Row]:
    words = view.filter.lower().split()
    found = sorted((row for row in rows if _matches(row, words)), key=_name)
    if view.sort is Sort.NAME:
        return found[::-1] if view.is_reversed else found
    return sorted(found, key=lambda row: _weight(row, view.sort), reverse=view.is_reversed)


def pressed(view: View, key: str, rows: Sequence[Row], page: int) -> View:
    """The view after one key. `rows` are all, and `page` of them have room on the screen.

    Whoever draws it has it `scrolled` before, once for all keys that came.
    """
    if view.mode is Mode.FILTER:
        return _typed(view, key)
    if key in ("q", "Q"):
        return replace(view, mode=Mode.OVER)
    if view.mode is Mode.HELP:
        return replace(view, mode=Mode.LIST)
    if view.mode is Mode.DETAILS:
        if key in ("escape", "enter", "left", "backspace"):
            return replace(view, mode=Mode.LIST)
        return _moved(view, key, rows, page)
    return _in_list(view, key, rows, page)


def scrolled(view: View, rows: Sequence[Row], page: int) -> View:
    """With the chosen row on the screen, and no room left empty below the last one."""
    known = [row.key for row in arranged(rows, view)]
    top = view.top
    if view.chosen in known:
        chosen = known.index(view.chosen)
        top = min(chosen, max(top, chosen - max(1, page) + 1))
    return replace(view, top=max(0, min(top, len(known) - page)))


def _in_list(view: View, key: str, rows: Sequence[Row], page: int) -> View:
    if key in SORT_KEYS:
        return replace(view, sort=SORT_KEYS[key], is_reversed=False)
    if key == "r":
        return replace(view, is_reversed=not view.is_reversed)
    if key == "/":
        return replace(view, mode=Mode.FILTER)
    if key == "escape":
        return replace(view, filter="", chosen="", top=0)
    if key in ("?", "h"):
        return replace(view, mode=Mode.HELP)
    if key in ("enter", "right"):
        moved = view if _is_there(view, rows) else _moved(view, "home", rows, page)
        return replace(moved, mode=Mode.DETAILS) if moved.chosen else view
    return _moved(view, key, rows, page)


def _moved(view: View, key: str, rows: Sequence[Row], page: int) -> View:
    """The cursor on another row; before its first move it comes to the row at the top."""
    known = [row.key for row in arranged(rows, view)]
    if not known or key not in {**_LINES, **_PAGES, **_ENDS}:
        return view
    if key in _ENDS:
        goal = _ENDS[key] % len(known)
    elif view.chosen in known:
        step = _LINES.get(key, 0) + _PAGES.get(key, 0) * max(1, page)
        goal = max(0, min(known.index(view.chosen) + step, len(known) - 1))
    else:
        goal = min(view.top, len(known) - 1)
    return scrolled(replace(view, chosen=known[goal]), rows, page)


def _typed(view: View, key: str) -> View:
    if key == "enter":
        return replace(view, mode=Mode.LIST)
    if key == "escape":
        return replace(view, mode=Mode.LIST, filter="")
    if key == "backspace":
        return replace(view, filter=view.filter[:-1])
    if key == "clear":
        return replace(view, filter="")
    if len(key) == 1 and len(view.filter) < MAX_FILTER:
        return replace(view, filter=view.filter + key)
    return view


def _is_there(view: View, rows: Sequence[Row]) -> bool:
    return any(row.key == view.chosen for row in arranged(rows, view))


def _matches(row: Row, words: Sequence[str]) -> bool:
    """Whether each word occurs in what is shown of it."""
    shown = ("url", "listen_address", "ip", "state", "reason", "id")
    whole = " ".join(text(row.endpoint, key) for key in shown).lower()
    return all(word in whole for word in words)


def _name(row: Row) -> tuple[bool, str, str]:
    """By the name and not by `http://` or `tcp://`, which stand before it; skipped ones last."""
    url = text(row.endpoint, "url")
    is_skipped = text(row.endpoint, "state") == "skipped"
    return (is_skipped, url.partition("://")[2] or url, row.key)


def _weight(row: Row, sort: Sort) -> float:
    endpoint = row.endpoint
    if sort is Sort.STATE:
        return _STATES.get(text(endpoint, "state"), 1)
    weights = {
        Sort.CONNECTIONS: number(endpoint, "connections"),
        Sort.UP: row.rates.up or 0.0,
        Sort.DOWN: row.rates.down or 0.0,
        Sort.TRAFFIC: row.rates.sum,
        Sort.ERRORS: number(endpoint, "errors"),
        Sort.ACTIVE: moment(endpoint, "last_activity") or 0.0,
    }
    return -weights[sort]
