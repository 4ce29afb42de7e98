"""Where it runs: a namespace with a stand-in cloud, the far side and a distant line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ngrokd.forward import wire
from ngrokd.model import Target
from tests.bench.counters import Busy
from tests.bench.launcher import write_launcher
from tests.integration.netns import Network
from tests.integration.programs import Program
from tests.namespace import Namespace

NATIVE = Path(__file__).parent / "native"
WARNINGS = ("-std=c11", "-O2", "-Wall", "-Wextra")
LIBRARIES = {"load": ("-pthread",), "far": ("-lssl", "-lcrypto"), "delay": ()}
HOST, INGRESS_NAME = "127.0.0.1", "localhost"
API_PORT, UPSTREAM_PORT = 4040, 9000
SANDBOX, NATIVE_INGRESS = "sandbox", "native"
INGRESS_PORTS = {SANDBOX: 4443, NATIVE_INGRESS: 4444}
DISTANT_PORTS = {SANDBOX: 4453, NATIVE_INGRESS: 4454}
ROUND_TRIP_MS = 50.0
CONGESTION_CONTROL = "cubic"
TARGET = Target("bench.example", 7000)
LOAD_TIMEOUT_S = 150.0  # load ends itself before

@dataclass(frozen=True)
class Way:
    """Where a proxy finds an ingress."""

    ingress: str  # SANDBOX or NATIVE_INGRESS
    distant: bool = False

    @property
    def port(self) -> int:
        """On loopback."""
        return (DISTANT_PORTS if self.distant else INGRESS_PORTS)[self.ingress]


class Stage:
    """Owner: the benchmark. Everything on it ends with `stack`."""

    def __init__(
        self, folder: Path, stack: contextlib.ExitStack, python: str, ingresses: tuple[str, ...]
    ) -> None:
        self.folder, self.python, self.ingresses = folder, python, ingresses
        self._stack = stack
        self._build()
        self.namespace: Namespace = stack.enter_context(Namespace(folder))
        self.network = Network(self.namespace)
        self.environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        self.request = wire.encode_request(TARGET)
        self._prepare_network()
        self._launcher = write_launcher(folder, python)
        self._start_cloud()
        self._start_far()
        for ingress in ingresses:
            self._start_delay(ingress)

    @property
    def ca_file(self) -> Path:
        """The ingress's root, for whoever verifies it."""
        return self.folder / "cloud" / "cloud" / "root.crt"

    def ngrokd(self, *words: object) -> list[object]:
        """The command line of this checkout's ngrokd, run by the chosen Python."""
        return [self.python, "-I", self._launcher, *words]

    def start(self, argv: list[object]) -> Program:
        """A program inside; who starts it ends it."""
        return Program(self.namespace, argv, self.environment)

    def load(self, mode: str, to: str, upgrade: bytes, *more: object) -> dict[str, Any]:
        """What the load client found. It says itself what went wrong."""
        argv = self.load_argv(mode, to, upgrade, *more)
        done = self.namespace.run(*argv, timeout=LOAD_TIMEOUT_S, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, argv))}: {done.stderr.strip()}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def load_argv(self, mode: str, to: str, upgrade: bytes, *more: object) -> list[object]:
        """Its command line."""
        frame = ["--upgrade", upgrade.hex()] if upgrade else []
        return [self.folder / "load", mode, "--to", to, *frame, *more]

    def busy(self, ingress: str, proxy_pid: int) -> Busy:
        """CPU of the proxy and of that ingress."""
        pid = self._cloud.pid if ingress == SANDBOX else self._far.pid
        return Busy((proxy_pid, pid))

    def resumed_share(self) -> Optional[float]:
        """Of the native ingress's handshakes since the last question; None: there was none."""
        since = len(self._far.lines)
        self._far.send(signal.SIGUSR1)
        told = json.loads(self._far.expect("full", since))
        count = told["full"] + told["resumed"]
        return float(told["resumed"] / count) if count else None

    def _build(self) -> None:
        for name, libraries in LIBRARIES.items():
            source, made = NATIVE / f"{name}.c", self.folder / name
            subprocess.run(["cc", *WARNINGS, source, "-o", made, *libraries], check=True)

    def _prepare_network(self) -> None:
        """Of this namespace alone.

        Some workloads need many ports one after the other. And loopback gets Debian's congestion
        control, whatever the machine has: BBR, for one, would pace the packets.
        """
        ports = "echo 10000 65000 > /proc/sys/net/ipv4/ip_local_port_range"
        self.namespace.run("sh", "-c", ports)
        for where in ("127.0.0.0/8", HOST):
            words = ("table", "local", "local", where, "dev", "lo", "proto", "kernel")
            route = (*words, "scope", "host", "src", HOST)
            self.namespace.run("ip", "route", "change", *route, "congctl", CONGESTION_CONTROL)

    def _keep(self, program: Program) -> Program:
        self._stack.enter_context(program)
        return program

    def _start_cloud(self) -> None:
        ports = ["--port", API_PORT, "--ingress-port", INGRESS_PORTS[SANDBOX]]
        endpoint = f"tcp://{TARGET.hostname}:{TARGET.port}={HOST}:{UPSTREAM_PORT}"
        words = ["sandbox", "--no-samples", "--dir", self.folder / "cloud"]
        argv = self.ngrokd(*words, "--endpoint", endpoint, *ports)
        self._cloud = self._keep(self.start(argv))
        self._cloud.listens(self.network, API_PORT)

    def _start_far(self) -> None:
        pem = self.folder / "cloud" / "cloud"
        bundle = self.folder / "clients-ca.pem"
        bundle.write_bytes(self.ca_file.read_bytes() + (pem / "intermediate.crt").read_bytes())
        answer = wire.encode_response(wire.ConnResponse("ep_bench", "tcp"))
        argv: list[object] = [self.folder / "far"]
        argv += ["--tls", f"{HOST}:{INGRESS_PORTS[NATIVE_INGRESS]}"]
        argv += ["--plain", f"{HOST}:{UPSTREAM_PORT}", "--ca", bundle, "--answer", answer.hex()]
        argv += ["--cert", pem / "ingress.crt", "--key", pem / "ingress.key"]
        self._far = self._keep(self.start(argv))
        self._far.expect("^ready$")

    def _start_delay(self, ingress: str) -> None:
        argv: list[object] = [self.folder / "delay", "--delay", ROUND_TRIP_MS / 2]
        argv += ["--listen", f"{HOST}:{DISTANT_PORTS[ingress]}"]
        argv += ["--to", f"{HOST}:{INGRESS_PORTS[ingress]}"]
        self._keep(self.start(argv)).expect("^ready$")
