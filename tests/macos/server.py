"""A Mac as one process, which programs named as those of macOS ask: `python -m tests.macos.server`.

Arguments: a socket, and `--old` for macOS 10.9. It ends with its input. Each program is a few lines
that hand their words to it (`program`), so that all of them see one machine.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from ngrokd.host.command import CommandError
from tests.macos.launchctl import Answer, Launchctl, reply
from tests.macos.launchd import UNKNOWN, Jobs
from tests.macos.mac import Mac
from tests.macos.resolver import Resolver

UP = "the Mac is up"
LAUNCHCTL, COMMANDS = "launchctl", "mac-commands"  # the second tells what the others were asked
THROTTLE_S = 2.0  # of 10: tests wait for it
RESOLVERS = ("dscacheutil", "killall")
OF_KERNEL = ("ifconfig", "netstat", "route", "sysctl")
PROGRAMS = (LAUNCHCTL, *RESOLVERS, *OF_KERNEL, COMMANDS)


class Server:
    """Owner: the one thread that serves."""

    def __init__(self, is_old: bool) -> None:
        self.launchctl = Launchctl(Jobs(throttle_s=THROTTLE_S), is_old)
        self._resolver = Resolver(Path("/etc/hosts"))
        self._mac = Mac()
        self._commands: list[str] = []

    def ask(self, asking: socket.socket) -> None:
        """One program's words, answered now or later."""
        name, *words = json.loads(asking.recv(65536))
        raw = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        uid = struct.unpack("3i", raw)[1]
        if name == COMMANDS:
            reply(asking, (0, "".join(f"{line}\n" for line in self._commands), ""))
            return
        self._commands.append(" ".join([name, *words]))
        if name == LAUNCHCTL:
            self.launchctl.ask(words, uid, asking)
        else:
            reply(asking, self._answer([name, *words]))

    def _answer(self, words: Sequence[str]) -> Answer:
        run = self._resolver if words[0] in RESOLVERS else self._mac
        try:
            return 0, run(words), ""
        except CommandError as exc:
            return exc.returncode or UNKNOWN, "", exc.stderr
        except AssertionError as exc:
            return UNKNOWN, "", f"{exc}\n"


def serve(path: str, is_old: bool) -> None:
    """Until standard input ends."""
    server = Server(is_old)
    with socket.socket(socket.AF_UNIX) as listening, selectors.DefaultSelector() as selector:
        listening.bind(path)
        Path(path).chmod(0o666)  # anybody may ask
        listening.listen()
        selector.register(listening, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        print(UP, flush=True)
        while True:
            for key, _ in selector.select(0.02):
                if key.fileobj is sys.stdin:
                    server.launchctl.jobs.close()
                    return
                server.ask(listening.accept()[0])
            server.launchctl.turn()


def program(python: str, name: str, path: str) -> str:
    """The text of a program of that name, which asks the Mac at `path`."""
    return (
        f"#!{python} -IS\nimport json, socket, sys\nwith socket.socket(socket.AF_UNIX) as asking:\n"
        f"    asking.connect({path!r})\n"
        f"    asking.sendall(json.dumps([{name!r}, *sys.argv[1:]]).encode())\n"
        "    told = b''.join(iter(lambda: asking.recv(65536), b''))\n"
        "status, out, err = json.loads(told)\nsys.stdout.write(out)\nsys.stderr.write(err)\n"
        "sys.exit(status)\n"
    )


if __name__ == "__main__":
    serve(sys.argv[1], is_old="--old" in sys.argv)
