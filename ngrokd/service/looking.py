"""What this machine shows of its init system."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Optional

from ngrokd.service.disk import Disk
from ngrokd.service.systems import FOLDERS, TOOLS, Facts

Which = Callable[[str], Optional[str]]  # shutil.which, on the path that commands are run with


def look(disk: Disk, which: Which, platform: str = sys.platform) -> Facts:
    """Raises HostError."""
    first = disk.found("/proc/1/comm").content or b""
    return Facts(
        darwin=platform == "darwin",
        systemd_runs=disk.is_folder("/run/systemd/system"),
        openrc_runs=disk.is_folder("/run/openrc"),
        first_process=first.decode("utf-8", "replace").strip(),
        folders=frozenset(folder for folder in FOLDERS if disk.is_folder(folder)),
        tools=frozenset(tool for tool in TOOLS if which(tool)),
    )
