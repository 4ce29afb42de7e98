"""How much memory a daemon takes at rest, and how soon after its start it answers.

    .venv/bin/python -m tests.bench.rest [--python PYTHON] [--packages FOLDER] [--starts N] [--tls]

As root. The daemon runs in a network namespace with a private /etc, against a stand-in cloud with
three endpoints, started by PYTHON as `make install` starts it: isolated, with a folder of its own
for packages (FOLDER, if PYTHON has them not itself). What is measured is this checkout. `--tls`
puts TLS in front of the API, as ngrok has it.

Printed, in the foreground and in the background, in MB of 1024 KiB: RSS as `VmRSS` of /proc tells
it (what the 30 MB are about), PSS (pages shared with other programs count in part), and what is
anonymous (the daemon's own, however much else runs); then the median and the worst time from exec
to an answer on the control socket. A background start is over when its command returns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from tests.cloud_fake import Authority
from tests.integration.netns import Network, receive_all
from tests.namespace import Namespace, why_not

ROOT = Path(__file__).parent.parent.parent
API_PORT, TLS_PORT, INGRESS_PORT = 4040, 4041, 4443
PATIENCE_S = 30.0
LOOK_S = 0.002  # how often it is tried whether something has come
STILL_S = 1.5  # memory that has not changed for so long is at rest
POLLS, CONNECTIONS = 100, 1000

_LAUNCHER = """\
import sys

sys.path.insert(0, {root!r})
sys.path += {packages!r}
sys.argv[0] = "ngrokd"
from ngrokd.cli import main

sys.exit(main())
"""


@dataclass(frozen=True)
class Memory:
    """In KiB."""

    rss: int
    pss: int
    anonymous: int

    def __str__(self) -> str:
        return "".join(f"{each / 1024:10.1f}" for each in (self.rss, self.pss, self.anonymous))


def memory_of(pid: int) -> Memory:
    """As the kernel counts it now."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return Memory(sizes["Rss"], sizes["Pss"], sizes["Anonymous"])


def at_rest(pid: int) -> Memory:
    """Once it has not changed for `STILL_S`."""
    known, since = memory_of(pid), time.monotonic()
    while time.monotonic() - since < STILL_S:
        time.sleep(STILL_S / 10)
        now = memory_of(pid)
        if now.anonymous != known.anonymous:
            known, since = now, time.monotonic()
    return memory_of(pid)


def until(holds: Callable[[], Any], what: str) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        answer = holds()
        if answer:
            return answer
        time.sleep(LOOK_S)
    raise SystemExit(f"waited in vain: {what}")


class Bench:
    """A stand-in cloud in a namespace, and one daemon after the other against it."""

    def __init__(self, folder: Path, namespace: Namespace, args: argparse.Namespace) -> None:
        self.folder = folder
        self.namespace = namespace
        self.network = Network(namespace)
        self.state = folder / "state"
        self.socket_path = folder / "ngrokd.sock"
        self._args = args
        self._launcher = folder / "ngrokd"
        self._launcher.write_text(
            _LAUNCHER.format(root=str(ROOT), packages=[str(each) for each in args.packages])
        )
        self._environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        subprocess.run(
            [args.python, "-I", "-m", "compileall", "-q", ROOT / "ngrokd"], check=True
        )

    def start_cloud(self, stack: contextlib.ExitStack) -> None:
        """With its three samples: hello, files, echo."""
        ports = ["--port", API_PORT, "--ingress-port", INGRESS_PORT]
        ready = self.folder / "cloud.yml"
        cloud = self.namespace.popen(
            *(sys.executable, "-m", "ngrokd", "sandbox", "--dir", self.folder / "cloud"),
            *("--config-out", ready, *ports),
            env={**self._environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
        )
        stack.callback(cloud.wait)
        stack.callback(cloud.terminate)
        until(ready.exists, "the stand-in cloud")
        url = f"http://127.0.0.1:{API_PORT}"
        if self._args.tls:
            url = f"https://localhost:{TLS_PORT}"
            self._put_tls_in_front(stack)
        self._configure(url)

    def _put_tls_in_front(self, stack: contextlib.ExitStack) -> None:
        authority = Authority()
        certificate, key = authority.server("localhost")
        (self.folder / "server.pem").write_text(certificate + key)
        for name, pem in (("1", authority.root_pem()), ("2", authority.intermediate_pem())):
            (self.namespace.etc / "ssl" / "certs" / f"bench-{name}.pem").write_text(pem)
            with (self.namespace.etc / "ssl" / "certs" / "ca-certificates.crt").open("a") as all_of:
                all_of.write(pem)
        self.namespace.run("openssl", "rehash", "/etc/ssl/certs")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.pem")
        listening = stack.enter_context(self.network.listen("127.0.0.1", TLS_PORT))
        serve = threading.Thread(target=self._relay, args=(listening, context), daemon=True)
        serve.start()

    def _relay(self, listening: socket.socket, context: ssl.SSLContext) -> None:
        """One request after the other; each ends with its connection."""
        while True:
            raw, _ = listening.accept()
            with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as front:
                request = front.recv(1 << 20)
                length = request.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
                body = request.partition(b"\r\n\r\n")[2]
                while len(body) < int(length or 0):
                    more = front.recv(1 << 20)
                    request, body = request + more, body + more
                with self.network.connect("127.0.0.1", API_PORT) as behind:
                    behind.sendall(request)
                    front.sendall(receive_all(behind))

    def _configure(self, url: str) -> None:
        config = {
            "api": {"url": url, "key": "sandbox-key"},
            "server": {
                "ca_file": str(self.folder / "cloud" / "cloud" / "intermediate.crt"),
                "client_cert": str(self.state / "tls.crt"),
                "client_key": str(self.state / "tls.key"),
                "socket_path": str(self.socket_path),
                "pid_file": str(self.folder / "ngrokd.pid"),
                "log_file": str(self.folder / "ngrokd.log"),
                "health_port": 8081,
            },
        }
        path = self.folder / "config.yml"
        path.touch(0o600)
        path.write_text(json.dumps(config))

    def forget(self) -> None:
        """The next start registers."""
        shutil.rmtree(self.state, ignore_errors=True)

    @contextlib.contextmanager
    def daemon(self, foreground: bool) -> Iterator[tuple[int, float]]:
        """Its pid, and the seconds until it answered."""
        argv: list[object] = [self._args.python, "-I", self._launcher]
        argv += ["--config", self.folder / "config.yml", *(["--foreground"] if foreground else [])]
        log = (self.folder / "stderr.log").open("ab")
        began = time.monotonic()
        process = self.namespace.popen(*argv, env=self._environment, stdout=log, stderr=log)
        if foreground:
            until(self._answers, f"the daemon; see {self.folder}/stderr.log")
        elif process.wait(PATIENCE_S) or not self._answers():
            raise SystemExit(f"no daemon: {(self.folder / 'stderr.log').read_text()}")
        took = time.monotonic() - began
        pid = int((self.folder / "ngrokd.pid").read_text())
        try:
            yield pid, took
        finally:
            self.ask("stop")
            process.wait(PATIENCE_S)
            until(lambda: not Path(f"/proc/{pid}").exists(), "the daemon's end")
            log.close()

    def ask(self, command: str) -> Any:
        """Its answer on the control socket."""
        with socket.socket(socket.AF_UNIX) as conn:
            conn.settimeout(PATIENCE_S)
            conn.connect(str(self.socket_path))
            conn.sendall(json.dumps({"command": command, "args": []}).encode() + b"\n")
            with conn.makefile("rb") as lines:
                return json.loads(lines.readline())

    def _answers(self) -> bool:
        try:
            return bool(self.ask("ping"))
        except (OSError, ValueError):
            return False

    def is_ready(self) -> bool:
        """Registered, and the three endpoints are open."""
        endpoints = self.ask("list")["data"]
        return [each["state"] for each in endpoints] == ["open"] * 3

    def renew(self) -> None:
        """A new certificate, in use."""
        before = (self.state / "tls.crt").read_bytes()
        self.ask("rotate-cert")
        until(lambda: (self.state / "tls.crt").read_bytes() != before, "a new certificate")
        self.ask("refresh")

    def connect(self, count: int) -> None:
        """One request after the other through the tunnel."""
        for _ in range(count):
            with self.network.connect("hello.sandbox", 80) as conn:
                conn.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if b" 200 " not in receive_all(conn)[:20]:
                    raise SystemExit("a request through the tunnel failed")


def measure_memory(bench: Bench, foreground: bool) -> None:
    """One line for each thing that a daemon lives through."""

    def show(what: str, pid: int) -> None:
        print(f"  {what:28}{at_rest(pid)}", flush=True)

    print("foreground" if foreground else "background")
    bench.forget()
    with bench.daemon(foreground) as (pid, _):
        until(bench.is_ready, "a registration")
        show("after a registration", pid)
        bench.renew()
        show("after a renewal", pid)
    with bench.daemon(foreground) as (pid, _):
        until(bench.is_ready, "a poll")
        show("after a restart", pid)
        for _ in range(POLLS):
            bench.ask("refresh")
        show(f"after {POLLS} polls", pid)
        bench.connect(CONNECTIONS // 5)
        show(f"after {CONNECTIONS // 5} connections", pid)
        bench.connect(CONNECTIONS - CONNECTIONS // 5)
        show(f"after {CONNECTIONS} connections", pid)


def measure_starts(bench: Bench, foreground: bool, count: int) -> None:
    """Each is one whole start and stop."""
    times = []
    for _ in range(count):
        with bench.daemon(foreground) as (_, took):
            times.append(took * 1000)
    kind = "foreground" if foreground else "background"
    median, worst = statistics.median(times), max(times)
    print(f"  {kind:28}{median:10.0f}{worst:10.0f}", flush=True)


def main() -> Optional[str]:
    """What sys.exit takes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", default=sys.executable, help="what runs the daemon")
    parser.add_argument("--packages", action="append", default=[], type=Path, metavar="FOLDER")
    parser.add_argument("--starts", type=int, default=10, metavar="N")
    parser.add_argument("--tls", action="store_true", help="the API is asked over TLS")
    args = parser.parse_args()
    if why_not():
        return why_not()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ngrokd-rest-")))
        bench = Bench(folder, stack.enter_context(Namespace(folder)), args)
        bench.start_cloud(stack)
        version = subprocess.run([args.python, "-V"], capture_output=True, text=True).stdout.strip()
        print(f"{version} ({args.python}), API over {'TLS' if args.tls else 'plain HTTP'}")
        print(f"{'MB':30}{'RSS':>10}{'PSS':>10}{'anonymous':>10}")
        for foreground in (True, False):
            measure_memory(bench, foreground)
        print(f"{'ms until it answers':30}{'median':>10}{'worst':>10}")
        for foreground in (True, False):
            measure_starts(bench, foreground, args.starts)
    return None


if __name__ == "__main__":
    sys.exit(main())
