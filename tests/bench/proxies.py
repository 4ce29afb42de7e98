"""The proxies that are compared, each started against one ingress."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ngrokd.control import client
from ngrokd.errors import NgrokdError
from tests.bench.stage import API_PORT, HOST, INGRESS_NAME, TARGET, Stage, Way
from tests.integration.programs import Program

NGROKD, NGROKD_OFF, HAPROXY, STUNNEL = "ngrokd", "ngrokd-off", "haproxy", "stunnel"
DAEMONS = (NGROKD, NGROKD_OFF)  # off: no ingress connections are kept ready
PEERS = (HAPROXY, STUNNEL)
PORTS = {HAPROXY: 5001, STUNNEL: 5002}
NETWORKS = {NGROKD: 107, NGROKD_OFF: 108}  # 127.N.0.0/16
PATIENCE_S = 30.0
LOOK_S = 0.05
WARM_UP, DISTANT_WARM_UP = 20, 4  # connections before anything is measured

HAPROXY_CONFIG = """\
global
  nbthread 1
  maxconn 6000
defaults
  mode tcp
  timeout connect 10s
  timeout client 300s
  timeout server 300s
listen bench
  bind {host}:{port}
  server ingress {host}:{ingress} ssl crt {pem} ca-file {ca} verify required \
sni str({name}) verifyhost {name}
"""
STUNNEL_CONFIG = """\
foreground = yes
pid =
syslog = no
debug = warning
[bench]
client = yes
accept = {host}:{port}
connect = {host}:{ingress}
cert = {pem}
CAfile = {ca}
verifyChain = yes
checkHost = {name}
sni = {name}
"""


@dataclass(frozen=True)
class Proxy:
    """One that runs. `upgrade`: what the client has to send first; the daemon sends it itself."""

    name: str
    pid: int
    address: str
    upgrade: bytes = b""


@contextlib.contextmanager
def running(stage: Stage, way: Way, names: tuple[str, ...]) -> Iterator[list[Proxy]]:
    """Those, freshly started and warmed up."""
    with contextlib.ExitStack() as stack:
        proxies = [_start(stage, stack, way, name) for name in names]
        for proxy in proxies:
            warm_up(stage, proxy, DISTANT_WARM_UP if way.distant else WARM_UP)
        yield proxies


def warm_up(stage: Stage, proxy: Proxy, count: int = WARM_UP) -> None:
    """Some connections, so that code is loaded and tickets have come."""
    stage.load("connect", proxy.address, proxy.upgrade, "--count", count, "--seconds", 10)


def start(stage: Stage, stack: contextlib.ExitStack, way: Way, name: str) -> Proxy:
    """One, as it is after its start; it ends with `stack`."""
    return _start(stage, stack, way, name)


def _start(stage: Stage, stack: contextlib.ExitStack, way: Way, name: str) -> Proxy:
    if name in DAEMONS:
        return _start_daemon(stage, stack, way, name)
    return _start_peer(stage, stack, way, name)


def _start_daemon(stage: Stage, stack: contextlib.ExitStack, way: Way, name: str) -> Proxy:
    folder = stage.folder / name
    folder.mkdir(exist_ok=True)
    config, socket_path = folder / "config.yml", folder / "ngrokd.sock"
    config.touch(0o600)
    (folder / "hosts").touch()
    config.write_text(json.dumps(_daemon_config(stage, way, name)))
    program = stage.start(stage.ngrokd("--foreground", "--config", config))
    stack.enter_context(program)
    return Proxy(name, program.pid, _wait_for_endpoint(program, str(socket_path)))


def _daemon_config(stage: Stage, way: Way, name: str) -> dict[str, Any]:
    folder = stage.folder / name
    return {
        "api": {"url": f"http://{HOST}:{API_PORT}", "key": "sandbox-key"},
        "ingressEndpoint": f"{INGRESS_NAME}:{way.port}",
        "server": {
            "ca_file": str(stage.ca_file),
            "client_cert": str(folder / "state" / "tls.crt"),
            "client_key": str(folder / "state" / "tls.key"),
            "socket_path": str(folder / "ngrokd.sock"),
            "pid_file": str(folder / "ngrokd.pid"),
            "health_port": 0,
        },
        "net": {
            "interface_name": name,
            "subnet": f"127.{NETWORKS[name]}.0.0/16",
            "hosts_file": str(folder / "hosts"),  # of its own: two daemons serve the same name
        },
        "forward": {"warm_connections": "off" if name == NGROKD_OFF else "auto"},
    }


def _wait_for_endpoint(program: Program, socket_path: str) -> str:
    """The address where the daemon takes the bench's clients, once it does."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and program.process.poll() is None:
        with contextlib.suppress(NgrokdError):  # not up yet
            listed: Any = client.request(socket_path, "list", timeout_s=PATIENCE_S)
            for each in listed:
                if each["hostname"] == TARGET.hostname and each["state"] == "open":
                    return f"{each['ip']}:{each['port']}"
        time.sleep(LOOK_S)
    raise SystemExit(f"the daemon does not serve {TARGET}:\n{program.output()}")


def _start_peer(stage: Stage, stack: contextlib.ExitStack, way: Way, name: str) -> Proxy:
    pem = stage.folder / "client.pem"
    state = stage.folder / NGROKD / "state"  # the daemon's own identity
    if not pem.exists():
        pem.touch(0o600)
        pem.write_bytes((state / "tls.crt").read_bytes() + (state / "tls.key").read_bytes())
    config = stage.folder / f"{name}.conf"
    text = HAPROXY_CONFIG if name == HAPROXY else STUNNEL_CONFIG
    values = {"host": HOST, "port": PORTS[name], "ingress": way.port, "name": INGRESS_NAME}
    config.write_text(text.format(pem=pem, ca=stage.ca_file, **values))
    # -db: in the foreground, one process.
    # -db: in the foreground, one process.
    words: tuple[object, ...] = ("-db", "-f") if name == HAPROXY else ()
    program = stage.start([name, *words, config])
    stack.enter_context(program)
    program.listens(stage.network, PORTS[name])
    return Proxy(name, program.pid, f"{HOST}:{PORTS[name]}", stage.request)
