"""The program `ngrokd`, also `python3 -m ngrokd`."""

from __future__ import annotations

import os
import sys

from ngrokd.process.pid1 import run_under_init

INTERRUPTED = 130


def main() -> int:
    """The exit status. As process 1 of a container, what buries the dead forks off first."""
    in_container = os.getpid() == 1

    def run() -> int:
        # Imported after that fork: what process 1 has loaded is in memory twice.
        try:
            from ngrokd import cli
        except KeyboardInterrupt:
            return INTERRUPTED
        return cli.main(implied=["--foreground"] if in_container else [])

    return run_under_init(run)


if __name__ == "__main__":
    sys.exit(main())
