"""The names of the endpoints, for a shell that completes them: at once or not at all."""

from __future__ import annotations

import re

from ngrokd.control.answers import mappings, text
from ngrokd.control.client import request
from ngrokd.errors import NgrokdError

LOOK_S = 1.0  # a person has pressed Tab and waits

# The shell puts it on the command line, so only what a hostname may have in it.
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,252}")


def known(socket_path: str) -> list[str]:
    """Sorted; none if no daemon answers in time: a prompt is no place for an error message."""
    try:
        endpoints = mappings(request(socket_path, "list", timeout_s=LOOK_S))
    except NgrokdError:
        return []
    names = {text(endpoint, "hostname") for endpoint in endpoints}
    return sorted(name for name in names if _NAME.fullmatch(name))
