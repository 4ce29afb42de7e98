"""The files of `init/`, wherever this copy of ngrokd keeps them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ngrokd.errors import HostError

# What is installed; the Dockerfile, for one, is not.
_WANTED = re.compile(
    r"ngrokd\.(?:service|init|openrc|default|logrotate)|com\.ngrok\.ngrokd\.plist"
    r"|man/[\w.-]+\.[1-8]|completions/[\w-]+\.(?:bash|zsh|fish)"
)


def folder() -> Path:
    """In an installed package, else in a checkout. Raises HostError."""
    package = Path(__file__).parent.parent
    for place in (package / "init", package.parent / "init"):
        if (place / "ngrokd.service").is_file():
            return place
    raise HostError(f"{package}/init is not there: install ngrokd again as a whole")


def sources(place: Path) -> dict[str, bytes]:
    """By name, `man/ngrokd.8` too. Raises HostError."""
    try:
        return {name: (place / name).read_bytes() for name in _names(place)}
    except OSError as exc:
        raise HostError(f"{exc.filename} cannot be read ({exc.strerror})") from exc


def _names(place: Path) -> Iterator[str]:
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        if _WANTED.fullmatch(name) and path.is_file():
            yield name
