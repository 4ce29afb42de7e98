"""The poll: which endpoints exist now. A job for a pool thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional

from ngrokd.cloud.api import Api
from ngrokd.cloud.discovery import discover, names_a_url
from ngrokd.cloud.pages import Pages
from ngrokd.errors import ApiUnavailable
from ngrokd.model import Discovered


@dataclass(frozen=True)
class Polled:
    """What a poll found, and the pages that say so."""

    discovered: Discovered = field(default_factory=Discovered)
    pages: Pages = field(default_factory=dict)


def poll(api: Api, operator_id: str, before: Optional[Polled] = None) -> Polled:
    """Everything bound to this operator. Raises ApiError: then nothing is known to have changed.

    `before`: the last one. Of a list of thousands that has not changed nothing is read again, and
    what is found is the same value.
    """
    listing = api.bound_endpoints(operator_id, before.pages if before else None)
    if before and listing.unchanged:
        return before
    if listing.count and not any(names_a_url(item) for item in listing.each()):
        raise ApiUnavailable(
            f"the ngrok API listed {listing.count} endpoints, and none of them names a URL: that is"
            " no list of endpoints, so nothing is changed; it is tried again"
        )
    return Polled(discover(listing.each(), before.discovered if before else None), listing.pages)
