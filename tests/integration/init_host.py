"""A machine with an init system on which ngrokd is installed by hand, and a stand-in cloud."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any, Optional

from tests.integration.overlaid import Overlaid
from tests.integration.programs import Program
from tests.integration.site import KEY, NGROKCTL, NGROKD, clean_environment

INIT = Path(__file__).parent.parent.parent / "init"
CONFIG, DEFAULTS = "/etc/ngrokd/config.yml", "/etc/default/ngrokd"
PID_FILE, SOCKET, LOG = "/var/run/ngrokd.pid", "/var/run/ngrokd.sock", "/var/log/ngrokd.log"
CLOUD, API_PORT = "/srv/cloud", 4040
SECTION = "ngrokd managed section"

# One process of the machine's for all: to enter it takes longer than any of this.
_CLEAR = f"""
while pids=$(pgrep -f '^[^ ]*python[^ ]* .*/ngrokd( --.*)?$'); do kill -9 $pids; sleep 0.02; done
ip link delete ngrokd0 2>&-
rm -f {DEFAULTS} /etc/conf.d/ngrokd {PID_FILE} {SOCKET} {LOG}*
umask 077
cat >{CONFIG} <<'END'
{{0}}END
umask 022
cat >/etc/hosts <<'END'
{{1}}END
"""

Overrides = dict[str, dict[str, object]]


class InitHost:
    """Everything is where the init files look for it; nothing runs yet but the cloud."""

    def __init__(self, machine: Overlaid) -> None:
        self.machine = machine
        link = "ln -s {0} {1} /usr/local/bin/ && ngrokd --version >/dev/null"
        self.sh(link.format(NGROKD, NGROKCTL))
        self._hosts_before = machine.read("/etc/hosts")
        argv = [NGROKD, "sandbox", "--dir", CLOUD, "--port", API_PORT, "--ingress-port", 4443]
        self._cloud = Program(self, argv, clean_environment())  # type: ignore[arg-type]
        self._cloud.expect("url:")
        self.configure()

    def popen(self, *argv: object, **options: Any) -> subprocess.Popen[Any]:
        """Runs beside the test; a signal does not reach it, it ends with the machine."""
        return self.machine.popen(*argv, **options)

    def try_(self, *argv: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """A command, whatever comes of it."""
        return self.machine.run(*argv, check=False, env=clean_environment(), **options)

    def sh(self, script: str) -> str:
        """A shell script that must work; what it printed."""
        done = self.try_("sh", "-c", script)
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def install(self, name: str, path: str, mode: str = "0755") -> None:
        """A file of init/."""
        self.machine.write(path, (INIT / name).read_text(), mode)

    def configure(self, overrides: Optional[Overrides] = None) -> None:
        """Writes the configuration for the cloud here, changed by `overrides`. JSON is YAML."""
        self.machine.write(CONFIG, self._config(overrides), "0600")

    def _config(self, overrides: Optional[Overrides] = None) -> str:
        config: dict[str, dict[str, object]] = {
            "api": {"url": f"http://127.0.0.1:{API_PORT}", "key": KEY},
            "server": {"ca_file": f"{CLOUD}/cloud/intermediate.crt"},
            "forward": {"drain_timeout": 1},
        }
        for section, values in (overrides or {}).items():
            config.setdefault(section, {}).update(values)
        return json.dumps(config, indent=1) + "\n"

    def defaults(self, **variables: object) -> None:
        """Writes /etc/default/ngrokd."""
        lines = [f"{name}={shlex.quote(str(value))}\n" for name, value in variables.items()]
        self.machine.write(DEFAULTS, "".join(lines))

    def ctl(self, *words: object) -> str:
        """ngrokctl, which must work."""
        done = self.try_(NGROKCTL, *words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout

    def log(self) -> str:
        """What the daemon has logged."""
        return self.sh(f"cat {LOG} 2>&- || true")

    def pid(self) -> int:
        """What the pid file says; 0: there is none."""
        return int(self.sh(f"cat {PID_FILE} 2>&- || echo 0"))

    def kill(self) -> None:
        """Ends the daemon as a crash does; returns once it is gone."""
        self._kill(self.pid())

    def daemons(self) -> list[int]:
        """The pids of those that run with the configuration here."""
        pattern = f"^[^ ]*python[^ ]* .*/ngrokd --config {CONFIG}"
        pids = f"$(echo 1 $(pgrep -d ' ' -f {shlex.quote(pattern)}))"
        words = self.sh(f'ps -o pid=,ppid= -p "{pids}"').split()
        parents = {int(pid): int(parent) for pid, parent in zip(words[::2], words[1::2])}
        # A child that becomes another program in a moment is none.
        return sorted(pid for pid, parent in parents.items() if pid != 1 and parent == 1)

    def has_names(self) -> bool:
        """A section of ours stands in the hosts file."""
        return SECTION in self.machine.read("/etc/hosts")

    def assert_nothing_is_left(self) -> None:
        """Of any daemon that ran here, but for its log and its state."""
        assert self.daemons() == []
        assert self.machine.read("/etc/hosts") == self._hosts_before
        assert "ngrokd0" not in self.sh("ip -br link")
        assert "10.107." not in self.sh("ip addr")
        assert self.sh(f"ls {PID_FILE} {SOCKET} /run/lock/subsys/ngrokd 2>&- || true") == ""

    def until_logged(self, pattern: str) -> None:
        """Returns once a line of the log matches."""
        found = f"until grep -q '{pattern}' {LOG}; do sleep 0.05; done"
        self.sh(f"timeout 20 sh -c {shlex.quote(found)}")

    def until_logged_times(self, pattern: str, count: int) -> None:
        """Returns once so many lines of the log match."""
        found = f"until test $(grep -c '{pattern}' {LOG}) -ge {count}; do sleep 0.05; done"
        self.sh(f"timeout 20 sh -c {shlex.quote(found)}")

    def clear(self) -> None:
        """For the next test: as it was at first, whatever is there."""
        self.machine.sh(_CLEAR.format(self._config(), self._hosts_before), env=clean_environment())

    def _kill(self, pid: int) -> None:
        gone = f"timeout 20 sh -c 'while test -d /proc/{pid}; do sleep 0.05; done'"
        self.sh(f"kill -9 {pid} && {gone}")
