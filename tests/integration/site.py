"""A machine of the test's own with a stand-in cloud on it, and daemons started there."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ngrokd.control import client, waiting
from ngrokd.control.arguments import Arguments
from ngrokd.control.commands import Call
from ngrokd.errors import DaemonUnreachable, NgrokdError
from tests.integration.netns import PATIENCE_S, PAUSE_S, Network
from tests.integration.programs import Program
from tests.namespace import Namespace
from tests.nursery import Child

BIN = Path(sys.executable).parent
NGROKD, NGROKCTL = BIN / "ngrokd", BIN / "ngrokctl"
API_PORT, INGRESS_PORT, HEALTH_PORT = 4040, 4443, 8081
KEY = "sandbox-key"
CONTROL_S = 60.0  # one poll may take 30
SECTION = b"ngrokd managed section"

Overrides = Mapping[str, Mapping[str, object]]


class Cloud(Program):
    """`ngrokd sandbox`, and its control API."""

    def __init__(self, namespace: Namespace, network: Network, folder: Path, *urls: str) -> None:
        endpoints = [word for url in urls for word in ("--endpoint", url)]
        ports = ["--port", API_PORT, "--ingress-port", INGRESS_PORT]
        argv = [NGROKD, "sandbox", "--no-samples", "--dir", folder, *ports, *endpoints]
        super().__init__(namespace, argv)
        self._network = network
        self.listens(network, API_PORT)
        self.ca_file = Path(str(self.ask("GET", "")["ca_file"]))

    def _start(
        self, namespace: Namespace, argv: Sequence[object], env: Optional[dict[str, str]]
    ) -> Child:
        return namespace.nursery.start("ngrokd", *map(str, argv[1:]))

    def ask(self, method: str, path: str, body: Optional[object] = None) -> Any:
        """The control API's answer; anything but a 200 is a fault of the test."""
        content = b"" if body is None else json.dumps(body).encode()
        kind = "application/json" if content else ""
        status, answer = self._network.http(API_PORT, method, f"/sandbox{path}", content, kind)
        assert status == 200, f"{method} /sandbox{path}: {status} {answer!r}"
        return json.loads(answer)

    def add(self, url: str, upstream: str = "", **more: object) -> list[str]:
        """Lists one more endpoint; the ids (several with `members`)."""
        answer = self.ask("POST", "/endpoints", {"url": url, "upstream": upstream, **more})
        return [each["id"] for each in answer["endpoints"]]

    def remove(self, url: str) -> None:
        """No longer lists it."""
        found = self.ask("GET", "/endpoints")["endpoints"]
        for each in found:
            if each["url"] == url:
                self.ask("DELETE", f"/endpoints/{each['id']}")

    def replace(self, *endpoints: Mapping[str, object]) -> None:
        """Lists exactly these."""
        self.ask("PUT", "/endpoints", {"endpoints": list(endpoints)})

    def api_fault(self, kind: str, **more: object) -> str:
        """Its id."""
        return str(self.ask("POST", "/faults/api", {"kind": kind, **more})["id"])

    def ingress_fault(self, kind: str, **more: object) -> str:
        """Its id."""
        return str(self.ask("POST", "/faults/ingress", {"kind": kind, **more})["id"])

    def heal(self) -> None:
        """No faults any more."""
        self.ask("DELETE", "/faults")

    def operators(self) -> list[dict[str, Any]]:
        """Those that exist."""
        found: list[dict[str, Any]] = self.ask("GET", "/operators")["operators"]
        return found

    def requests(self) -> list[dict[str, Any]]:
        """What the API was asked, oldest first."""
        found: list[dict[str, Any]] = self.ask("GET", "/requests")["requests"]
        return found


class Daemon(Program):
    """`ngrokd --foreground`."""

    def __init__(
        self,
        namespace: Namespace,
        network: Network,
        config: Path,
        socket_path: Path,
        under: Sequence[object] = (),
    ) -> None:
        argv = [*under, NGROKD, "--foreground", "--config", config]
        super().__init__(namespace, argv, clean_environment())
        self._namespace, self._network = namespace, network
        self.socket_path = socket_path

    def ctl(
        self, *words: object, input: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """ngrokctl, to its end; a status other than 0 raises unless `check=False`."""
        argv = ["ngrokctl", "--socket", str(self.socket_path), *map(str, words)]
        return self._namespace.nursery.run(*argv, input=input, check=check)

    def ready(self) -> Daemon:
        """Returns once it is registered and one poll has been applied."""
        self.wait_for("--timeout", 60)
        return self

    def wait_for(self, *words: object) -> None:
        """What `ngrokctl wait` does, without a process for it; a failure shows the output."""
        options = Arguments().parse(["wait", *map(str, words)])
        call = Call(options, str(self.socket_path), None)
        goal = waiting.Goal(options.hostname or "", options.endpoints)
        try:
            waiting.wait(
                lambda command, timeout_s: call.ask(command, timeout_s=timeout_s),
                goal,
                options.timeout,
                lambda _: self._pause(),
            )
        except NgrokdError as exc:
            raise AssertionError(f"{exc}\n{self.output()}") from exc

    def refresh(self) -> dict[str, Any]:
        """Polls now; what that changed."""
        answer: dict[str, Any] = self._asked("refresh")
        return answer

    def status(self) -> dict[str, Any]:
        """All of it."""
        answer: dict[str, Any] = self._asked("status")
        return answer

    def endpoints(self) -> dict[str, dict[str, Any]]:
        """By URL."""
        return {each["url"]: each for each in self._asked("list")}

    def eventually(self, holds: Callable[[dict[str, Any]], bool], why: str) -> dict[str, Any]:
        """The first status for which that holds; asks again until it does."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            status = self.status()
            if holds(status):
                return status
            self._pause()
        raise AssertionError(f"{why}: {json.dumps(status, indent=1)}\n{self.output()}")

    def ready_page(self) -> int:
        """The HTTP status of /ready."""
        return self._network.http(HEALTH_PORT, "GET", "/ready")[0]

    def _asked(self, verb: str) -> Any:
        """Not by ngrokctl, which takes longer to start than to answer. Waits for the socket."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return client.request(str(self.socket_path), verb, timeout_s=CONTROL_S)
            except NgrokdError as exc:
                absent = isinstance(exc, DaemonUnreachable) and self.process.poll() is None
                if not absent or time.monotonic() > deadline:
                    raise AssertionError(f"{verb}: {exc}\n{self.output()}") from exc
            self._pause()

    def _pause(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PAUSE_S)


class Site:
    """A namespace, its network, and a folder; everything started here ends with `close`.

    The namespace may serve one site after the other: `close` leaves nothing in it.
    """

    def __init__(self, folder: Path, namespace: Namespace) -> None:
        self.folder = folder
        self.namespace = namespace
        self.state = folder / "state"
        self.config = folder / "config.yml"
        self.socket_path = folder / "ngrokd.sock"
        self._stack = contextlib.ExitStack()
        self._stack.callback(self._restore)
        self.network = Network(namespace)
        self.hosts_before = namespace.hosts.read_bytes()

    def keep(self, program: Program) -> None:
        """It is ended when the site is."""
        self._stack.enter_context(program)

    def start_cloud(self, *urls: str) -> Cloud:
        """Each of `urls` is URL=HOST:PORT. Started again, it is the same cloud."""
        cloud = Cloud(self.namespace, self.network, self.folder / "cloud", *urls)
        self.keep(cloud)
        self.cloud = cloud
        return cloud

    def start_daemon(
        self, overrides: Optional[Overrides] = None, under: Sequence[object] = ()
    ) -> Daemon:
        """With a configuration for this site's cloud, changed by `overrides`."""
        self.write_config(overrides)
        return self.start_daemon_as_configured(under)

    def start_daemon_as_configured(self, under: Sequence[object] = ()) -> Daemon:
        """With the configuration that is there. `under`: a command that executes ngrokd."""
        daemon = Daemon(self.namespace, self.network, self.config, self.socket_path, under)
        self.keep(daemon)
        return daemon

    def write_config(self, overrides: Optional[Overrides] = None) -> None:
        """JSON is YAML."""
        ca_file = self.folder / "cloud" / "cloud" / "intermediate.crt"
        config: dict[str, dict[str, object]] = {
            "api": {"url": f"http://127.0.0.1:{API_PORT}", "key": KEY},
            "server": {
                "ca_file": str(ca_file),
                "client_cert": str(self.state / "tls.crt"),
                "client_key": str(self.state / "tls.key"),
                "socket_path": str(self.socket_path),
                "pid_file": str(self.folder / "ngrokd.pid"),
                "health_port": HEALTH_PORT,
            },
            "bound_endpoints": {"poll_interval": 1},
            "net": {"interface_name": "ngrokd0", "subnet": "10.107.0.0/16"},
            "forward": {"connect_timeout": 3, "drain_timeout": 5},
        }
        for section, values in (overrides or {}).items():
            config.setdefault(section, {}).update(values)
        self.config.touch(0o600)
        self.config.write_text(json.dumps(config, indent=2) + "\n")

    def run(self, *argv: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """A program on this machine, to its end."""
        return self.namespace.run(*argv, **options)

    def ask_names_of(self, server: str) -> None:
        """This machine's programs ask that name server, until the site ends."""
        file = self.namespace.etc / "resolv.conf"
        before = file.read_bytes()
        self._stack.callback(file.write_bytes, before)
        file.write_text(f"nameserver {server}\n")

    def has_section(self) -> bool:
        """ngrokd's section stands in the hosts file."""
        return SECTION in self.namespace.hosts.read_bytes()

    def interface_words(self) -> list[str]:
        """What `ip` tells of the interface; [] if there is none."""
        done = self.run("ip", "-br", "addr", "show", "dev", "ngrokd0", check=False)
        return done.stdout.split()

    def assert_nothing_is_left(self, daemon: Daemon) -> None:
        """Of that daemon, which has ended."""
        assert self.namespace.hosts.read_bytes() == self.hosts_before
        assert self.interface_words() == []
        assert "10.107." not in self.run("ip", "addr").stdout
        assert not self.socket_path.exists()
        assert not (self.folder / "ngrokd.pid").exists()
        listening = self.run("ss", "-Htln").stdout
        assert "10.107." not in listening and f":{HEALTH_PORT} " not in listening
        assert not Path(f"/proc/{daemon.pid}").exists()
        assert self._processes() == []
        assert _hosts_files(self.namespace.etc) == _hosts_files(Path("/etc"))

    def _processes(self) -> list[str]:
        """Command lines that name this site's configuration."""
        found = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(self.config) in line:
                    found.append(line)
        return found

    def close(self) -> None:
        """Ends everything, in the reverse order of its start."""
        self._stack.close()

    def _restore(self) -> None:
        """For the next site, whatever a failed test or a killed daemon left."""
        if self.namespace.hosts.read_bytes() != self.hosts_before:
            self.namespace.hosts.write_bytes(self.hosts_before)
        if self.interface_words():
            self.run("ip", "link", "delete", "ngrokd0")


def clean_environment() -> dict[str, str]:
    """Ours without what the programs under test would read."""
    return {name: value for name, value in os.environ.items() if not name.startswith("NGROK")}


def _hosts_files(etc: Path) -> list[str]:
    """A temporary file that was left would be among them."""
    return sorted(path.name for path in etc.glob("*hosts*"))


def run_ngrokd(site: Site, *words: object) -> subprocess.CompletedProcess[str]:
    """An ngrokd that is expected to end by itself."""
    argv: Sequence[object] = (NGROKD, *words)
    return site.run(*argv, check=False, env=clean_environment(), timeout=PATIENCE_S)
