"""A machine of the tests' own with ngrokd's SysV script on it, and a stand-in for the daemon."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tests.namespace import Namespace

INIT = Path(__file__).parent.parent / "init"
ORDINARY_USER = 65534

# Folders of the machine under test, empty and its own. /usr/local holds its programs.
FRESH = ("/run", "/var/log", "/usr/local")

# Goes into the background like ngrokd: the parent returns once the child has written its pid, which
# is refused while another one lives. The configuration's words choose how it misbehaves.
STAND_IN = """#!{python} -IS
import os, signal, sys
pid_file, config = {pid_file!r}, {config!r}
text = open(config).read() if os.path.exists(config) else ""
def tell(*words):
    with open({told!r}, "a") as file:
        print(*words, file=file)
def stand_at_the_gate():
    import socket
    with socket.socket(socket.AF_UNIX) as gate:
        gate.connect({gate!r})
        gate.recv(1)
words = sys.argv[1:]
if words[:1] == ["cleanup"]:
    tell(*words)
    sys.exit("cannot-clean" in text)
if "broken" in text:
    print("config.yml:1: broken", file=sys.stderr)
    sys.exit(2)
if words[:1] == ["check-config"]:
    sys.exit(0)
if text:
    assert words[:2] == ["--config", config], words
tell("start", *words[2:], os.environ.get("NGROK_API_KEY"), os.environ.get("NOTIFY_SOCKET"))
if "hangs" in text:
    signal.pause()
if "refuses" in text:
    sys.exit(1)
if "waits" in text:
    stand_at_the_gate()
try:
    content = open(pid_file).read().strip()
except OSError:
    content = ""
if content and not content.isdigit():
    sys.exit("not a pid file")
if content and {name!r} in open("/proc/" + content + "/cmdline").read():
    sys.exit("already runs with pid " + content)
reading, writing = os.pipe()
if os.fork():
    os.close(writing)
    os.read(reading, 1)
    os._exit(0)
os.setsid()
def end(number, frame):
    tell("term")
    if "slow" in text:
        os.remove(pid_file)
        stand_at_the_gate()
    elif "stubborn" in text:
        return
    elif "second" in text:
        signal.signal(signal.SIGTERM, lambda number, frame: (os.remove(pid_file), os._exit(0)))
        return
    else:
        os.remove(pid_file)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGHUP, lambda number, frame: tell("reload"))
if "dies" in text:
    os._exit(0)
held = open(pid_file, "w", buffering=1)  # until its end, as the daemon does
held.write(str(os.getpid()) + "\\n")
devnull = os.open(os.devnull, os.O_RDWR)
for number in (0, 1, 2):
    os.dup2(devnull, number)
os.write(writing, b"1")
while True:
    signal.pause()
"""


@dataclass(frozen=True)
class Userland:
    """Which shell runs the script, and which tools there are (all of Debian's, or `tools`)."""

    name: str
    shell: Sequence[str]
    tools: Optional[Sequence[str]] = None

    def missing(self) -> str:
        """What must be installed before it can be had, or ""."""
        return "" if shutil.which(self.shell[0]) else f"{self.shell[0]} is not installed"

    def path(self, folder: Path) -> str:
        """What PATH is to be there; "" leaves it alone."""
        if self.tools is None:
            return ""
        if folder.exists():
            return str(folder)
        folder.mkdir()
        for tool in self.tools:
            program = self.shell[0] if self.shell[0] == "busybox" else tool
            (folder / tool).symlink_to(str(shutil.which(program)))
        return str(folder)


_LEAST = ("id", "rm", "sed", "sleep", "tr")
DASH = Userland("dash and Debian's tools", ["dash"])
BASH = Userland("bash and Debian's tools", ["bash"])
BUSYBOX = Userland(
    "BusyBox alone", ["busybox", "ash"], (*_LEAST, "start-stop-daemon", "timeout", "ps")
)
BARE = Userland("dash and hardly a tool", ["dash"], _LEAST)
USERLANDS = (DASH, BASH, BUSYBOX, BARE)


class Service:
    """The script as installed in /etc/init.d, with a stand-in for the daemon."""

    def __init__(self, machine: Namespace, folder: Path, userland: Userland = DASH) -> None:
        self.machine, self._folder, self._userland = machine, folder, userland
        self.config, self.pid_file = folder / "config.yml", folder / "ngrokd.pid"
        self.daemon, self.gate = folder / "ngrokd", folder / "gate"
        self._told = folder / "told"
        self._gate = socket.socket(socket.AF_UNIX)
        self._gate.settimeout(10)
        self._gate.bind(str(self.gate))
        self._gate.listen()
        self.daemon.write_text(self._stand_in())
        self.daemon.chmod(0o755)
        self.script = machine.etc / "init.d/ngrokd"
        self.script.parent.mkdir(exist_ok=True)
        self._install_script()
        self.defaults_file = machine.etc / "default/ngrokd"
        self.defaults_file.parent.mkdir(exist_ok=True)
        self.use(userland)
        self.configure()

    def use(self, userland: Userland) -> None:
        """Writes /etc/default/ngrokd anew, for that userland."""
        self._userland = userland
        self.defaults_file.unlink(missing_ok=True)
        self.defaults(DAEMON=self.daemon, CONFIG=self.config)
        path = userland.path(self._folder / f"bin of {userland.name}")
        if path:
            self.defaults(PATH=path)

    def _install_script(self) -> None:
        """As delivered, but that its seconds are shorter while it waits for a daemon's end."""
        text = (INIT / "ngrokd.init").read_text()
        for line, shorter in (("pause=0.2\n", "pause=0.02\n"), ("AT_ONCE=5 ", "AT_ONCE=2 ")):
            assert text.count(f"\n{line}") == 1, line
            text = text.replace(f"\n{line}", f"\n{shorter}")
        self.script.write_text(text)
        self.script.chmod(0o755)

    def _stand_in(self) -> str:
        return STAND_IN.format(
            python=sys.executable,
            pid_file=str(self.pid_file),
            config=str(self.config),
            told=str(self._told),
            gate=str(self.gate),
            name=str(self.daemon),
        )

    def defaults(self, **variables: object) -> None:
        """Adds lines to /etc/default/ngrokd."""
        with open(self.defaults_file, "a") as file:
            file.writelines(f'{name}="{value}"\n' for name, value in variables.items())

    def configure(self, *behaviour: str) -> None:
        """Writes the configuration, with what the stand-in is to do wrong."""
        words = " ".join(behaviour)
        self.config.write_text(f"server:\n  pid_file: '{self.pid_file}'  # here\n# {words}\n")

    def argv(self, verb: str, user: int = 0) -> list[str]:
        """The script's command line."""
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        return [*(as_user if user else []), *self._userland.shell, "/etc/init.d/ngrokd", verb]

    def __call__(self, verb: str, user: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs the script."""
        return self.machine.run(*self.argv(verb, user), check=False)

    def code(self, verb: str, user: int = 0) -> int:
        """Its exit code."""
        return self(verb, user).returncode

    def begin(self, verb: str) -> subprocess.Popen[str]:
        """Runs the script beside the test."""
        return self.machine.popen(
            *self.argv(verb), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    @contextlib.contextmanager
    def daemon_at_the_gate(self) -> Iterator[None]:
        """Waits for a stand-in that waits there; leaving lets it go on."""
        waiting, _ = self._gate.accept()
        with waiting:
            yield

    def close(self) -> None:
        """Ends what a test left."""
        self._gate.close()
        for pid in self.running():
            kill(pid)

    def reset(self) -> None:
        """As it was at first. Every signal that a daemon got before has been told of."""
        for pid in self.running():
            kill(pid, signal.SIGTERM)
        for file in (self.pid_file, self._told, self.daemon, self.config):
            file.unlink(missing_ok=True)
        self.daemon.write_text(self._stand_in())
        self.daemon.chmod(0o755)
        self.configure()

    def run_daemon(self) -> int:
        """Starts the stand-in without the script; its pid."""
        self.machine.run(self.daemon, "--config", self.config)
        return self.pid

    @property
    def pid(self) -> int:
        """What the pid file says."""
        return int(self.pid_file.read_text())

    @property
    def told(self) -> list[str]:
        """What the stand-in did, a line each."""
        return self._told.read_text().splitlines() if self._told.exists() else []

    def running(self) -> list[int]:
        """The stand-ins that run."""
        return sorted(_processes_of(str(self.daemon)))

    def kill(self) -> None:
        """Ends the stand-in as a crash does, and waits for that."""
        kill(self.pid)


@contextlib.contextmanager
def service_on(machine: Namespace, userland: Userland = DASH) -> Iterator[Service]:
    """In a folder where an ordinary user may look too, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="ngrokd-init-") as name:
        Path(name).chmod(0o755)
        service = Service(machine, Path(name), userland)
        try:
            yield service
        finally:
            service.close()


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Returns once the process is gone."""
    pidfd = os.pidfd_open(pid)
    try:
        os.kill(pid, number)
        ended, _, _ = select.select([pidfd], [], [], 10)
    finally:
        os.close(pidfd)
    assert ended, f"{pid} does not end"


def fresh_folders(machine: Namespace) -> None:
    """Empty folders of its own where the machine's programs keep theirs."""
    for folder in FRESH:
        machine.run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
    machine.run("mkdir", "-p", "/run/lock", "/usr/local/bin", "/usr/local/sbin")


def _processes_of(program: str) -> Iterator[int]:
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:
            continue  # it ended meanwhile
        if b"python" in words[0] and os.fsencode(program) in words[:3]:
            yield int(file.parent.name)
