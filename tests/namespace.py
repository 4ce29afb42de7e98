"""A machine of the test's own: network and mount namespaces with a private /etc."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any, Optional

from tests.closing import Closing
from tests.nursery import Nursery

_MARK = "private-copy-of-a-test"

# The shell inside reports that the private /etc is mounted, then lives until its input ends,
# so the namespaces cannot outlive the test process.
_ANCHOR = """
set -e
mount --make-rprivate /
mount --bind "$1" /etc
ip link set lo up
echo ready
exec cat
"""


class Namespace(Closing):
    """Runs commands on a machine whose interfaces and /etc are its own and end with it.

    `etc` is the private /etc as seen from outside.
    """

    def __init__(self, folder: Path) -> None:
        self.etc = folder / "etc"
        shutil.copytree(
            "/etc", self.etc, symlinks=True, ignore_dangling_symlinks=True, dirs_exist_ok=True
        )
        self._anchor = subprocess.Popen(
            ["unshare", "-n", "-m", "sh", "-c", _ANCHOR, "anchor", str(self.etc)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._anchor.stdout is not None
        line = self._anchor.stdout.readline()
        assert line == "ready\n", f"the namespace did not come up: {line!r}"
        self._nursery: Optional[Nursery] = None
        self._refuse_the_machines_own_etc()

    @property
    def hosts(self) -> Path:
        """The private /etc/hosts, readable from outside."""
        return self.etc / "hosts"

    def argv(self, *argv: object) -> list[str]:
        """`argv` as a command line that runs inside."""
        # --root: without it nsenter leaves a chroot that the tests run in, and the private /etc.
        where = ["--net", "--mount", "--root", "--wd=/"]
        return ["nsenter", f"--target={self._anchor.pid}", *where, "--", *map(str, argv)]

    def run(self, *argv: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs to the end (60 s at most); raises CalledProcessError unless `check=False`."""
        options = {"check": True, "timeout": 60, "capture_output": True, "text": True, **options}
        return subprocess.run(self.argv(*argv), **options)

    def popen(self, *argv: object, **options: Any) -> subprocess.Popen[Any]:
        """Starts a program; `nsenter` execs it, so the pid is the program's own."""
        return subprocess.Popen(self.argv(*argv), **options)

    @property
    def nursery(self) -> Nursery:
        """Where ngrokd's programs are forked inside, without the time that their start takes.

        Another one once the environment is another: what is forked has that of its parent.
        """
        env = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith(("NGROK", "PYTEST"))
        }
        if self._nursery is not None and self._nursery.env != env:
            self._nursery.close()
            self._nursery = None
        if self._nursery is None:
            self._nursery = Nursery(self.argv(), env)
        return self._nursery

    def _refuse_the_machines_own_etc(self) -> None:
        """Before anything else runs inside: what is seen there as /etc must be the copy."""
        token = secrets.token_hex(16)
        (self.etc / _MARK).write_text(token)
        seen = self.run("cat", f"/etc/{_MARK}", check=False).stdout
        if seen != token:
            self.close()
            raise RuntimeError("/etc inside the namespace is not the private copy: nothing is run")

    def close(self) -> None:
        """Ends the namespaces (programs still in them keep them alive until they end)."""
        if self._nursery is not None:
            self._nursery.close()
        assert self._anchor.stdin is not None and self._anchor.stdout is not None
        self._anchor.stdin.close()
        self._anchor.stdout.close()
        self._anchor.wait(timeout=10)


def why_not() -> str:
    """Why namespaces cannot be made here, or ""."""
    if os.geteuid() != 0:
        return "needs root: namespaces of its own with a private /etc"
    missing = [tool for tool in ("unshare", "nsenter", "ip", "mount") if shutil.which(tool) is None]
    return f"needs {', '.join(missing)}" if missing else ""
