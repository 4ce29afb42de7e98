"""The poll: which endpoints exist now. A job for a pool thread."""

from __future__ import annotations

from ngrokd.cloud.api import Api
from ngrokd.cloud.discovery import discover, names_a_url
from ngrokd.errors import ApiUnavailable
from ngrokd.model import Discovered


def poll(api: Api, operator_id: str) -> Discovered:
    """Everything bound to this operator. Raises ApiError: then nothing is known to have changed."""
    items = api.bound_endpoints(operator_id)
    if items and not any(names_a_url(item) for item in items):
        raise ApiUnavailable(
            f"the ngrok API listed {len(items)} endpoints, and none of them names a URL: that is no"
            " list of endpoints, so nothing is changed; it is tried again"
        )
    return discover(items)
