"""The machine that systemd boots for a test is not this one, and goes with the test."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.booted import Booted, remove_groups, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")

# Boots, says so, and is then killed with no chance to end anything.
KILLED = """
import sys
from pathlib import Path
from tests.integration.booted import Booted
machine = Booted(Path(sys.argv[1]))
print(machine.name, flush=True)
sys.stdin.read()
"""


def inside(name: str) -> list[str]:
    """The processes in that control group or in one below."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cgroup"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if f"/{name}" in file.read_text():
                found.append(file.parent.name)
    return found


def test_its_files_and_units_are_its_own(tmp_path: Path) -> None:
    hosts = Path("/etc/hosts").read_bytes()
    with Booted(tmp_path) as machine:
        machine.write("/etc/hosts", "127.0.0.1 elsewhere\n")
        machine.run("sh", "-c", "echo gone > etc/hosts")  # from where commands start
        assert machine.read("/etc/hosts") == "gone\n"
        assert machine.systemctl("is-system-running").stdout == "running\n"
        assert machine.read("/proc/1/comm") == "systemd\n"
        assert inside(machine.name)
        assert "nginx.service" not in machine.systemctl("list-units", "--all").stdout
    assert Path("/etc/hosts").read_bytes() == hosts
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert not inside(machine.name)


def test_it_ends_with_the_test_even_if_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as test:
        assert test.stdout is not None
        name = test.stdout.readline().strip()
        processes = [os.pidfd_open(int(pid)) for pid in inside(name)]
        test.send_signal(signal.SIGKILL)
    assert processes
    for pidfd in processes:
        ended, _, _ = select.select([pidfd], [], [], 10)
        os.close(pidfd)
        assert ended
    remove_groups(name)
