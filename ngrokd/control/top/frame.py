"""What `ngrokctl top` shows, line by line, for a width and a height. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ngrokd.control import pages, tones
from ngrokd.control.alive import tone_of
from ngrokd.control.answers import at, moment, number, text, texts
from ngrokd.control.text import ABSENT, GAP, age, clean, cut, padded, places, size, span
from ngrokd.control.tones import Tone
from ngrokd.control.top import details
from ngrokd.control.top.samples import Picture, Rates, Row
from ngrokd.control.top.view import Mode, Sort, View, arranged

LEAST_URL = 10  # places

Line = Sequence[tuple[str, Tone]]  # pieces of text, side by side


@dataclass(frozen=True)
class Room:
    """Of the screen. None: as much as it takes, as in a pipe."""

    width: Optional[int] = None
    height: Optional[int] = None


@dataclass(frozen=True)
class _Column:
    """Shown where a line has at least `room` places; `sort` is what orders by it."""

    title: str
    width: int = 0
    room: int = 0
    sort: Optional[Sort] = None
    right: bool = True


_COLUMNS = (
    _Column("ENDPOINT", sort=Sort.NAME, right=False),
    _Column("ADDRESS", 20, room=112, right=False),
    _Column("STATE", 7, room=66, sort=Sort.STATE, right=False),
    _Column("OPEN", 5, room=30, sort=Sort.CONNECTIONS),
    _Column("TOTAL", 7, room=124),
    _Column("UP/s", 8, room=40, sort=Sort.UP),
    _Column("DOWN/s", 8, room=40, sort=Sort.DOWN),
    _Column("ERRORS", 6, room=58, sort=Sort.ERRORS),
    _Column("ACTIVE", 6, room=74, sort=Sort.ACTIVE),
)
_FOOT = {
    Mode.LIST: "q quit  Enter details  / filter  sort: n c u d b e a t  r reverse  ? help",
    Mode.DETAILS: "Esc back  Up, Down: another endpoint  q quit",
    Mode.HELP: "any key: back  q quit",
}


def frame(picture: Picture, view: View, room: Room, now: float) -> list[Line]:
    """The whole screen. `now` in Unix seconds."""
    rows = arranged(picture.rows, view)
    head = _head(picture, view, len(rows))
    if view.mode is Mode.HELP:
        body = [_plain(line) for line in details.HELP]
    elif view.mode is Mode.DETAILS:
        body = [_plain(line) for line in details.page(picture.rows, view.chosen, room.width, now)]
    else:
        body = _table(rows, view, room, now)
    if room.height is None:
        return [_fitted(line, room.width) for line in [*head, *body]]
    lines = [*head, *body][: max(0, room.height - 1)]
    lines += [_plain("")] * (room.height - 1 - len(lines))
    return [_fitted(line, room.width) for line in [*lines, _foot(view)]][: room.height]


def page_of(picture: Picture, view: View, height: int) -> int:
    """How many rows have room on the screen: without head, titles and foot."""
    return max(0, height - len(_head(picture, view, 0)) - 2)


def as_text(lines: Sequence[Line], colour: bool = False) -> str:
    """For a pipe, or a terminal that is to keep it."""
    told = []
    for line in lines:
        pieces = [tones.painted(text, tone) if colour else text for text, tone in line]
        told.append("".join(pieces).rstrip())
    return "\n".join(told)


def _head(picture: Picture, view: View, shown: int) -> list[Line]:
    """The daemon, its sums, its first problem, and an empty line."""
    status = picture.sample.status
    if picture.outage is not None:
        silent = f"no answer for {span(picture.silent_s)}: "
        first = [(silent, Tone.BAD), (clean(picture.outage.reason), Tone.PLAIN)]
    else:
        state = tone_of(status)
        first = [(pages.headline(status), Tone.TITLE if state is Tone.GOOD else state)]
    lines = [first, _plain(_sums(picture)), _plain(_number(picture, view, shown))]
    problems = texts(status, "problems")
    if problems:
        more = f"({len(problems) - 1} more: `ngrokctl status`) " if problems[1:] else ""
        lines.append([("! ", Tone.WARN), (clean(more + problems[0]), Tone.PLAIN)])
    return [*lines, _plain("")]


def _sums(picture: Picture) -> str:
    connections = at(picture.sample.status, "connections")
    told = [f"{int(number(connections, word))} {word}" for word in ("open", "total", "failed")]
    return f"Connections  {', '.join(told)}   {_both(picture.rates)}"


def _both(rates: Rates) -> str:
    if rates.up is None or rates.down is None:
        return ""
    return f"{size(rates.up)}/s up, {size(rates.down)}/s down"


def _number(picture: Picture, view: View, shown: int) -> str:
    """How many endpoints there are, and how many of them are seen in what order."""
    states = [text(row.endpoint, "state") for row in picture.rows]
    told = [f"{states.count(state)} {state}" for state in tones.ENDPOINTS if state in states]
    order = f"by {view.sort.value}{', reversed' if view.is_reversed else ''}"
    some = f"{shown} with {clean(view.filter)!r} of " if view.filter else ""
    return f"Endpoints    {some}{', '.join(told) or 'none'}   {order}"


def _table(rows: Sequence[Row], view: View, room: Room, now: float) -> list[Line]:
    if not rows:
        return [_plain("No endpoint matches the filter." if view.filter else "No endpoints.")]
    seen = rows if room.height is None else rows[view.top : view.top + room.height]
    columns = [c for c in _COLUMNS if room.width is None or room.width >= c.room]
    titles = {c.title: c.title for c in columns}
    cells = [_cells(row, now) for row in seen]
    longest = max(places(_url(row)) for row in rows)
    widths = _widths(columns, [titles, *cells], longest, room.width)
    first: Line = [
        (_cell(c, c.title, widths), Tone.CHOSEN if c.sort is view.sort else Tone.TITLE)
        for c in columns
    ]
    lines = [_joined(first)]
    for row, found in zip(seen, cells):
        line = [(_cell(c, found[c.title], widths), Tone.PLAIN) for c in columns]
        if row.key == view.chosen:
            whole = GAP.join(piece for piece, _ in line)
            lines.append([(whole, Tone.CHOSEN)])
            continue
        tone = tones.of_endpoint(text(row.endpoint, "state"))
        lines.append(
            _joined([(p, tone if c.title == "STATE" else t) for c, (p, t) in zip(columns, line)])
        )
    return lines


def _cells(row: Row, now: float) -> dict[str, str]:
    endpoint = row.endpoint
    last = moment(endpoint, "last_activity")
    return {
        "ENDPOINT": _url(row),
        "ADDRESS": clean(text(endpoint, "listen_address") or text(endpoint, "ip") or ABSENT),
        "STATE": clean(text(endpoint, "state")),
        "OPEN": str(int(number(endpoint, "connections"))),
        "TOTAL": str(int(number(endpoint, "total_connections"))),
        "UP/s": ABSENT if row.rates.up is None else size(row.rates.up),
        "DOWN/s": ABSENT if row.rates.down is None else size(row.rates.down),
        "ERRORS": str(int(number(endpoint, "errors"))),
        "ACTIVE": ABSENT if last is None else age(now - last),
    }


def _widths(
    columns: Sequence[_Column],
    lines: Sequence[dict[str, str]],
    longest: int,
    room: Optional[int],
) -> dict[str, int]:
    """The numbers keep their places from frame to frame; the name takes what is left over."""
    widths = {c.title: max(c.width, *(places(line[c.title]) for line in lines)) for c in columns}
    name = max(longest, len("ENDPOINT"))
    if room is not None:
        others = sum(widths[c.title] + len(GAP) for c in columns[1:])
        name = max(LEAST_URL, min(name, room - others))
    return {**widths, "ENDPOINT": name}


def _cell(column: _Column, content: str, widths: dict[str, int]) -> str:
    width = widths[column.title]
    return padded(cut(content, width), width, column.right)


def _url(row: Row) -> str:
    return clean(text(row.endpoint, "url") or text(row.endpoint, "id") or "(no URL)")


def _foot(view: View) -> Line:
    if view.mode is Mode.FILTER:
        return [("filter: ", Tone.TITLE), (f"{view.filter}_", Tone.PLAIN)]
    return [(_FOOT.get(view.mode, ""), Tone.FAINT)]


def _plain(line: str) -> Line:
    return [(line, Tone.PLAIN)]


def _joined(line: Line) -> Line:
    pieces: list[tuple[str, Tone]] = []
    for piece in line:
        pieces += [(GAP, Tone.PLAIN), piece] if pieces else [piece]
    return pieces


def _fitted(line: Line, width: Optional[int]) -> Line:
    if width is None:
        return line
    pieces: list[tuple[str, Tone]] = []
    left = width
    for piece, tone in line:
        kept = cut(piece, left)
        pieces.append((kept, tone))
        left -= places(kept)
        if kept != piece:
            break
    return pieces
