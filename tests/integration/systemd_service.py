"""ngrokd as a service of a machine that systemd booted, with a stand-in cloud beside it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Callable, Optional

from tests.integration.booted import Booted
from tests.integration.site import NGROKCTL, NGROKD

UNIT = Path(__file__).parent.parent.parent / "init" / "ngrokd.service"
INSTALLED = "/usr/local/bin/ngrokd"  # what an installer replaces
PATIENCE_S = 20
API_PORT, INGRESS_PORT = 7081, 7443
CONFIG = "/etc/ngrokd/config.yml"

CLOUD = f"""
[Service]
ExecStart={NGROKD} sandbox --dir /var/lib/cloud --config-out /run/cloud.yml \\
    --port {API_PORT} --ingress-port {INGRESS_PORT}
ExecStartPost=sh -c 'until test -s /run/cloud.yml; do sleep 0.05; done'
"""

Settings = Mapping[str, Mapping[str, object]]


class Service:
    """ngrokd as a service of a machine that systemd booted."""

    def __init__(self, machine: Booted) -> None:
        self.machine = machine
        self.hosts_before = machine.read("/etc/hosts")
        machine.write("/etc/systemd/system/cloud.service", CLOUD)
        text = UNIT.read_text().replace(INSTALLED, str(NGROKD))
        machine.write("/etc/systemd/system/ngrokd.service", text)
        self.configure()
        machine.systemctl("daemon-reload")
        machine.run("mkdir", "/var/lib/cloud")
        machine.systemctl("start", "cloud")

    def configure(self, settings: Optional[Settings] = None) -> None:
        """The configuration, changed by `settings`; JSON is YAML."""
        config: dict[str, dict[str, object]] = {
            "api": {"url": f"http://127.0.0.1:{API_PORT}", "key": "sandbox-key"},
            "server": {"ca_file": "/var/lib/cloud/cloud/intermediate.crt"},
            "bound_endpoints": {"poll_interval": 1},
        }
        for section, values in (settings or {}).items():
            config.setdefault(section, {}).update(values)
        self.machine.write(CONFIG, json.dumps(config, indent=1), "0600")

    @contextlib.contextmanager
    def changed(
        self, service: str = "", settings: Optional[Settings] = None, section: str = ""
    ) -> Iterator[None]:
        """Started with these lines in [Service] and these settings; stopped after, as before.

        `section` is a whole drop-in, with the name of its section.
        """
        self.stop()
        folder = "/etc/systemd/system/ngrokd.service.d"
        self.machine.write(f"{folder}/test.conf", section or f"[Service]\n{service}\n")
        self.configure(settings)
        self.machine.systemctl("daemon-reload")
        self.machine.systemctl("start", "ngrokd", check=False)
        try:
            yield
        finally:
            self.stop()
            self.machine.run("rm", f"{folder}/test.conf")
            self.configure()
            self.machine.systemctl("daemon-reload")

    def start(self) -> None:
        """Does nothing to one that runs."""
        self.machine.systemctl("start", "ngrokd")

    def stop(self) -> None:
        """Forgets failures, too."""
        self.machine.systemctl("stop", "ngrokd")
        self.machine.systemctl("reset-failed", "ngrokd", check=False)

    def show(self, name: str) -> str:
        """A property of the unit."""
        return self.machine.show("ngrokd", name)

    @property
    def pid(self) -> int:
        """Of the daemon, as it is counted inside."""
        return int(self.show("MainPID"))

    def ctl(self, *words: object, **options: object) -> subprocess.CompletedProcess[str]:
        """ngrokctl, as root."""
        return self.machine.run(NGROKCTL, *words, **options)

    def kill(self, number: signal.Signals) -> None:
        """To the daemon alone."""
        self.machine.systemctl("kill", "--kill-whom=main", f"--signal={number.name}", "ngrokd")

    def until(self, holds: Callable[[], bool], why: str) -> None:
        """Asks until that holds; fails after a while."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                log = self.machine.run("journalctl", "-o", "short-precise", "-n", "60").stdout
                raise AssertionError(f"{why}:\n{self.show('StatusText')}\n{log}")

    def messages(self) -> list[str]:
        """What the unit's processes wrote since boot."""
        return [entry["MESSAGE"] for entry in self.machine.journal("ngrokd.service")]

    def serves(self) -> bool:
        """A program finds the endpoint by its name, at port 80."""
        curl = ("curl", "-sS", "--max-time", "10", "http://hello.sandbox/")
        return "Hello from the ngrokd sandbox" in self.machine.run(*curl, check=False).stdout

    def leftovers(self) -> list[str]:
        """What is there of a daemon: names, interface, addresses, socket, pid file, processes."""
        found = []
        if self.machine.read("/etc/hosts") != self.hosts_before:
            found.append(self.machine.read("/etc/hosts"))
        found += [
            line
            for line in self.machine.run("ip", "-br", "addr").stdout.splitlines()
            if "10.107." in line or "ngrokd" in line
        ]
        script = "ls -d /run/*ngrokd* /run/.*ngrokd* /etc/.*ngrokd* 2>/dev/null || true"
        found += self.machine.run("sh", "-c", script).stdout.splitlines()
        processes = self.machine.run("ps", "-ww", "-e", "-o", "args=").stdout.splitlines()
        return found + [line for line in processes if CONFIG in line]
