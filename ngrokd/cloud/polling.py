"""The poll: which endpoints exist now. A job for a pool thread."""

from __future__ import annotations

from ngrokd.cloud.api import Api
from ngrokd.cloud.discovery import discover
from ngrokd.model import Discovered


def poll(api: Api, operator_id: str) -> Discovered:
    """Everything bound to this operator. Raises ApiError: then nothing is known to have changed."""
    return discover(api.bound_endpoints(operator_id))
