"""What a run is to be read with: the machine, the versions, and a profile if one is asked for."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SAMPLES_PER_S = 500
_AUTOGROUP = Path("/proc/self/autogroup")  # as "/autogroup-16 nice 0"; takes the number alone
_VERSIONS = "import platform, ssl; print(platform.python_version(), 'with', ssl.OPENSSL_VERSION)"


def described(python: str) -> list[tuple[str, str]]:
    """The machine and the programs, each with its name."""
    cpus = Path("/proc/cpuinfo").read_text()
    model = cpus.partition("model name")[2].partition("\n")[0].strip("\t: ")
    return [
        ("machine", f"{os.cpu_count()} cores, {model}, Linux {platform.release()}"),
        ("ngrokd", f"Python {_said(python, '-c', _VERSIONS)} ({python})"),
        ("haproxy", _said("haproxy", "-v")),
        ("stunnel", _said("stunnel", "-version", beginning="stunnel")),
    ]


def _said(*argv: str, beginning: str = "") -> str:
    """The first line that begins so."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return next((line for line in lines if line.startswith(beginning)), "?")


@contextlib.contextmanager
def niceness(value: int) -> Iterator[None]:
    """Of us and of all that is started meanwhile.

    Where the kernel groups processes by session (sched_autogroup), it weighs the groups first.
    """
    os.nice(value)
    with contextlib.ExitStack() as stack:
        if value and _AUTOGROUP.exists():
            before = _AUTOGROUP.read_text().split()[-1]
            _AUTOGROUP.write_text(str(value))
            stack.callback(_AUTOGROUP.write_text, before)
        yield


@contextlib.contextmanager
def profiled(out: Path, pid: int) -> Iterator[None]:
    """py-spy looks at the process meanwhile and writes its stacks to `out`, one a line, counted.

    Time in C counts for the line of Python that called it; the process is not halted for a look,
    which would be what is measured.
    """
    beside = Path(sys.executable).parent
    spy = shutil.which("py-spy", path=f"{beside}:{os.environ['PATH']}")
    if spy is None:
        raise SystemExit(f"--profile needs py-spy: {beside}/pip install py-spy")
    out.parent.mkdir(parents=True, exist_ok=True)
    argv = [spy, "record", "--nonblocking", "--format", "raw", "--rate", str(SAMPLES_PER_S)]
    with subprocess.Popen(
        [*argv, "--output", str(out), "--pid", str(pid), "--duration", "600"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        try:
            yield
        finally:
            running.send_signal(signal.SIGINT)  # it writes what it has
