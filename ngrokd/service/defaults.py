"""Reading /etc/default/ngrokd as far as it can be read without a shell."""

from __future__ import annotations

import re
from collections.abc import Callable

from ngrokd.service.disk import Found
from ngrokd.service.layout import DEFAULTS

# `NAME=value`, `export NAME="value"  # why`. What a shell would expand or run is left out.
_LINE = re.compile(
    r"^\s*(?:export\s+)?([A-Za-z_]\w*)="
    r"(?:\"([^\"$`\\]*)\"|'([^']*)'|([^\s\"'$`\\#;&|<>()]*))\s*(?:#.*)?$",
    re.MULTILINE,
)


def variables(found: Callable[[str], Found]) -> dict[str, str]:
    """What it sets, the last assignment of each name. {} if there is no such file."""
    content = found(DEFAULTS.path).content or b""
    text = content.decode("utf-8", "replace")
    return {name: "".join(values) for name, *values in _LINE.findall(text)}
