"""Daemons that went into the background, which are no children of the test."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

from tests.integration.netns import PATIENCE_S
from tests.integration.site import NGROKD, Site, clean_environment


def start(site: Site, config: Path) -> subprocess.CompletedProcess[str]:
    """`ngrokd --config FILE`, as an init script calls it; both streams are in `stdout`."""
    said = site.folder / "said"
    argv = site.namespace.argv(NGROKD, "--config", config)
    with open(said, "w") as output:  # a pipe that the daemon kept open would be waited for
        done = subprocess.run(
            argv,
            stdout=output,
            stderr=output,
            timeout=PATIENCE_S,
            check=False,
            env=clean_environment(),
        )
    return subprocess.CompletedProcess(argv, done.returncode, said.read_text(), "")


def end(pid_file: Path, number: signal.Signals = signal.SIGTERM) -> None:
    """Returns when it has ended."""
    pid = int(pid_file.read_text())
    living = os.pidfd_open(pid)
    os.kill(pid, number)
    ended = select.select([living], [], [], PATIENCE_S)[0]
    os.close(living)
    assert ended, f"{pid} does not end"
