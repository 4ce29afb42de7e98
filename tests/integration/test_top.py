"""`ngrokctl top` beside a real daemon: what flows, and a daemon that hangs and ends."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from ngrokd.control import ctl
from tests.namespace import Namespace
from tests.terminal import Terminal

ROOT = Path(__file__).parent.parent.parent
PYTHON = ["env", f"PYTHONPATH={ROOT}", sys.executable]

# Sends 50 kB and reads them back twenty times a second, until its input ends.
_CLIENT = """
import select, socket, sys
conn = socket.create_connection((sys.argv[1], 7000), 10)
while not select.select([sys.stdin], [], [], 0.05)[0]:
    conn.sendall(b"x" * 50_000)
    left = 50_000
    while left:
        left -= len(conn.recv(65536))
"""


@pytest.mark.root
@pytest.mark.long
def test_top_shows_what_flows_and_outlives_the_daemon(namespace: Namespace, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    ask = [*PYTHON, "-m", ctl.__name__, "--socket", folder / "ngrokd.sock"]
    with (tmp_path / "log").open("w") as log:
        run = [*PYTHON, "-m", "ngrokd", "--foreground", "--sandbox", "--dir", folder]
        daemon = namespace.popen(*run, stdout=log, stderr=log)
    try:
        namespace.run(*ask, "wait", "--endpoints", "3", "--timeout", "50")
        listed = namespace.run(*ask, "list").stdout.splitlines()
        address = next(line.split()[1] for line in listed if "echo." in line).partition(":")[0]
        client = namespace.popen(*PYTHON, "-c", _CLIENT, address, stdin=-1)
        with Terminal(tmp_path) as terminal:
            terminal.run([*map(str, ask), "top", "--interval", "0.5", "--sort", "traffic"])
            shown = terminal.until("KiB/s up")
            assert shown.split("\n")[5].startswith("tcp://echo.sandbox:7000    open         1 ")
            client.communicate(timeout=30)
            assert client.returncode == 0
            daemon.send_signal(signal.SIGSTOP)
            terminal.until("no answer for 7 s: the daemon on ")
            daemon.send_signal(signal.SIGCONT)
            terminal.until("is ready (pid")
            daemon.terminate()
            daemon.wait(30)
            terminal.until("no answer for ", lambda shown: "no ngrokd answers" in shown)
            terminal.press("q")
            terminal.until("ended 0\n")
            assert terminal.is_as_before()
    finally:
        daemon.send_signal(signal.SIGCONT)
        daemon.kill()
        daemon.wait(30)
