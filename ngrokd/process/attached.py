"""Running one of this machine's programs on our own terminal, for as long as it takes.

`host/command.py` is for commands with an answer to read and a bound. This is for `systemctl start`
and the like, whose words are for the person who typed, and which Ctrl-C should end too.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence

from ngrokd.errors import HostError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# A service must not depend on who starts it; a terminal's own settings do no harm.
_KEPT = frozenset({"TERM", "LANG", "LC_ALL", "LC_MESSAGES", "NO_COLOR", "HOME"})


def run(argv: Sequence[str]) -> None:
    """Runs it as at boot, without our environment. Raises HostError unless it ends with 0."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT}
    status = spawn(argv, {**kept, "PATH": PATH})
    if status != 0:
        raise HostError(f"`{' '.join(argv)}`: exit status {status}")


def spawn(argv: Sequence[str], environ: Mapping[str, str], path: str = PATH) -> int:
    """The exit status of the program, or minus the signal that ended it. Raises HostError.

    `path`: where the program is looked for, as in the variable of that name.
    """
    program = shutil.which(argv[0], path=path)
    if program is None:
        raise HostError(f"there is no program {argv[0]} on this machine")
    sys.stdout.flush()
    sys.stderr.flush()
    return os.spawnve(os.P_WAIT, program, list(argv), environ)
