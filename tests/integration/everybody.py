"""A namespace in which every user can run our Python, wherever it is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

from tests.namespace import Namespace

NOBODY = 65534
AS_USER = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
REPOSITORY = Path(__file__).resolve().parents[2]

# Shows "$@" to every user of this namespace, also where a folder above is root's alone.
_OPEN_UP = """
set -e
stash=$1; blocked=$2; shift 2
count=0
for path in "$@"; do
  count=$((count + 1)); mkdir -p "$stash/$count"; mount --bind "$path" "$stash/$count"
done
mount -t tmpfs -o mode=755 none "$blocked"
count=0
for path in "$@"; do
  count=$((count + 1)); mkdir -p "$path"; mount --bind "$stash/$count" "$path"
done
"""


def open_up(namespace: Namespace, folder: Path) -> None:
    """`folder` is for what is kept out of the way meanwhile."""
    needed = [Path(sys.base_prefix), Path(sys.prefix), REPOSITORY]
    blocked = {top for path in needed if (top := _first_closed(path)) is not None}
    for top in blocked:
        inside = [path for path in needed if top in path.parents]
        namespace.run("sh", "-c", _OPEN_UP, "sh", folder / f"stash{top.name}", top, *inside)


def make_private(namespace: Namespace, folder: str) -> None:
    """An empty folder of root's, in this namespace only."""
    namespace.run("mount", "-t", "tmpfs", "-o", "mode=755", "none", folder)


def _first_closed(path: Path) -> Optional[Path]:
    """The topmost folder above `path` that others may not enter."""
    for parent in reversed(path.parents):
        if not parent.stat().st_mode & 0o001:
            return parent
    return None
