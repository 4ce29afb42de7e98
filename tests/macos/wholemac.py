"""A Mac to type on: files of its own, macOS's programs, launchd, and ngrokd as there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.closing import Closing
from tests.integration.overlaid import NO_INIT, Overlaid
from tests.integration.site import clean_environment
from tests.macos import program, server

SOCKET = "/private/var/run/mac.sock"
FOLDERS = ("/usr/sbin", "/usr/bin")  # of macOS's programs: before whatever Linux has there
LINUX_ONLY = ("ip", "systemctl", "rc-service", "update-rc.d", "service")

# As macOS has it: /etc and /var are links into /private, and what Linux has for its own is gone. A
# folder that lies below the overlay may get a file just while it goes.
_MAKE = """
set -e
gone() {
    for try in 1 2 3 4 5 6 7 8 9; do rm -rf "$1" 2>&- && return; done
    rm -rf "$1"
}
mkdir -p /private/var/run /private/var/log /private/var/tmp /Library/LaunchDaemons
chmod 1777 /private/var/tmp
cp -a /etc /private/etc
umount -l /run
for each in /etc /run /var /private/etc/systemd /private/etc/init.d; do gone $each; done
ln -s private/etc /etc
ln -s private/var /var
printf '127.0.0.1\\tlocalhost\\n255.255.255.255\\tbroadcasthost\\n::1\\tlocalhost\\n' > /etc/hosts
"""


class WholeMac(Closing):
    """Runs commands on it. All that runs there ends with `close`."""

    def __init__(self, folder: Path, is_old: bool = False) -> None:
        self.machine = Overlaid(folder, first=NO_INIT)
        try:
            self.machine.sh(_MAKE)
            self._put_programs()
            self._server = self._begin(["--old"] if is_old else [])
        except BaseException:
            self.machine.close()
            raise

    def run(self, *argv: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """A command, whatever comes of it."""
        defaults = {"check": False, "env": clean_environment()}
        return self.machine.run(*argv, **{**defaults, **options})

    def do(self, *argv: object, **options: Any) -> str:
        """A command that must work; what it printed."""
        done = self.run(*argv, **options)
        assert done.returncode == 0, f"{argv}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def sh(self, script: str) -> str:
        """Lines for a shell, which must work."""
        return self.do("sh", "-c", script)

    def commands(self, first: str = "") -> list[str]:
        """What macOS's programs were asked, of those that begin so."""
        lines = self.do(server.COMMANDS).splitlines()
        return [line for line in lines if line.startswith(first)]

    def close(self) -> None:
        """Twice is harmless."""
        self.machine.close()
        self._server.wait(timeout=30)
        for stream in (self._server.stdin, self._server.stdout):
            if stream is not None:
                stream.close()

    def _put_programs(self) -> None:
        for name in server.PROGRAMS:
            for folder in FOLDERS:
                text = server.program(sys.executable, name, SOCKET)
                self.machine.write(f"{folder}/{name}", text, "0755")
        for name in program.MAINS:
            text = program.launcher(sys.executable, name)
            self.machine.write(f"/usr/local/bin/{name}", text, "0755")

    def _begin(self, words: Sequence[str]) -> subprocess.Popen[Any]:
        argv = ["env", f"--chdir={program.ROOT}", sys.executable, "-m", server.__name__]
        begun = self.machine.popen(
            *argv, SOCKET, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert begun.stdout is not None
        line = begun.stdout.readline()
        assert line == f"{server.UP}\n", f"the Mac does not start: {line!r}"
        return begun
