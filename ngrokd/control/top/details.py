"""Everything about one endpoint, and what the keys of `ngrokctl top` do. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from ngrokd.control import pages
from ngrokd.control.answers import at, moment, number, text
from ngrokd.control.text import pairs, size, span
from ngrokd.control.top.samples import Row

HELP = (
    "Up, Down, PgUp, PgDn, Home, End  move the cursor (also k, j, Space, g, G)",
    "Enter                            everything about that endpoint",
    "/                                show those with these words in URL, address,",
    "                                 state or reason; Esc drops the filter",
    "n  c  u  d                       sort by name, open connections, up, down",
    "b  e  a  t                       by up and down, errors, last activity, state",
    "r                                the other way round",
    "q, Ctrl-C                        quit",
    "",
    "UP/s, DOWN/s  bytes a second to the endpoint and from it, since the last look",
    "ACTIVE        how long ago bytes flowed last",
)


def page(rows: Sequence[Row], key: str, width: Optional[int], now: float) -> list[str]:
    """The endpoint with this key, also if it does not match the filter. `now` in Unix seconds."""
    found = next((row for row in rows if row.key == key), None)
    if found is None:
        return ["This endpoint is gone."]
    endpoint = found.endpoint
    return pairs(
        [
            ("Endpoint", text(endpoint, "url") or "(no URL)"),
            ("Id", text(endpoint, "id")),
            ("State", text(endpoint, "state")),
            ("Reason", text(endpoint, "reason")),
            ("Hostname", text(endpoint, "hostname")),
            ("Address", text(endpoint, "listen_address") or text(endpoint, "ip")),
            ("In hosts file", "yes" if at(endpoint, "published") else "no"),
            ("Connections", _connections(endpoint)),
            ("Up", _traffic(found.rates.up, number(endpoint, "bytes_up"))),
            ("Down", _traffic(found.rates.down, number(endpoint, "bytes_down"))),
            ("Errors", _errors(endpoint)),
            ("Last error", _last_error(endpoint, now)),
            ("Last active", _ago(endpoint, "last_activity", now) or "never"),
        ],
        width,
    )


def _connections(endpoint: object) -> str:
    numbers = (int(number(endpoint, word)) for word in ("connections", "total_connections"))
    return "{} open, {} total".format(*numbers)


def _traffic(rate: Optional[float], total: float) -> str:
    return f"{'-' if rate is None else size(rate) + '/s'}, {size(total)} in all"


def _errors(endpoint: object) -> str:
    causes = pages.failures(at(endpoint, "failures"))
    total = str(int(number(endpoint, "errors")))
    return f"{total} ({causes})" if causes else total


def _last_error(endpoint: object, now: float) -> str:
    told = (_ago(endpoint, "last_error_at", now), text(endpoint, "last_error"))
    return ": ".join(part for part in told if part) if told[1] else ""


def _ago(endpoint: object, key: str, now: float) -> str:
    when = moment(endpoint, key)
    return "" if when is None else f"{span(now - when)} ago"
