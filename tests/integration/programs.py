"""Programs that a test starts inside a namespace, and their output line by line."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Optional, Union

from tests.integration.netns import PATIENCE_S, PAUSE_S, Network
from tests.namespace import Namespace
from tests.nursery import Child

MOST_SHOWN = 40  # lines of a program's output in a failed assertion
PEERS = Path(__file__).with_name("peers.py")


class Program:
    """A running program whose output (both streams) is kept and can be waited for."""

    def __init__(
        self, namespace: Namespace, argv: Sequence[object], env: Optional[dict[str, str]] = None
    ) -> None:
        self.name = Path(str(argv[0])).name
        self.process = self._start(namespace, argv, env)
        self._lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the program itself."""
        return int(self.process.pid)

    @property
    def lines(self) -> list[str]:
        """What it has written so far."""
        with self._news:
            return list(self._lines)

    def matching(self, pattern: str, since: int = 0) -> list[str]:
        """The lines from number `since` on in which the pattern is found."""
        return [line for line in self.lines[since:] if re.search(pattern, line)]

    def expect(self, pattern: str, since: int = 0, timeout_s: float = PATIENCE_S) -> str:
        """The first line with that pattern, from line `since` on; waits for it."""
        deadline = time.monotonic() + timeout_s
        with self._news:
            while True:
                for line in self._lines[since:]:
                    if re.search(pattern, line):
                        return line
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    raise AssertionError(f"{self.name} never wrote {pattern!r}:\n{self.output()}")
                self._news.wait(left)

    def output(self) -> str:
        """All of it, or the last of it where that is long."""
        with self._news:
            return "\n".join(self._lines[-MOST_SHOWN:])

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit status; the output is whole then."""
        status = int(self.process.wait(timeout_s))
        self._reader.join(timeout_s)
        return status

    def send(self, number: signal.Signals) -> None:
        """A signal."""
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends it; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def listens(self, network: Network, port: int, ip: str = "127.0.0.1") -> None:
        """Returns once it accepts connections there."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                network.connect(ip, port, timeout_s=1).close()
                return
            except OSError:
                pass  # not yet
            try:
                self.process.wait(PAUSE_S)
            except subprocess.TimeoutExpired:
                continue
            break
        raise AssertionError(f"{self.name} does not listen on {ip}:{port}:\n{self.output()}")

    def _start(
        self, namespace: Namespace, argv: Sequence[object], env: Optional[dict[str, str]]
    ) -> Union[subprocess.Popen[str], Child]:
        return namespace.popen(
            *argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._news:
                self._lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.wait()


def nginx(namespace: Namespace, network: Network, folder: Path, port: int, ws_port: int) -> Program:
    """Serves `folder`/www; `/ws` goes on to the WebSocket server at `ws_port`."""
    www = folder / "www"
    www.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    config = folder / "nginx.conf"
    config.write_text(f"""
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    root {www};
    location /ws {{
      proxy_pass http://127.0.0.1:{ws_port};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
    }}
    location /up/ {{ dav_methods PUT; client_max_body_size 0; }}
    location /small/ {{ dav_methods PUT; client_max_body_size 1k; }}
    location /host {{ default_type text/plain; return 200 "$http_host\\n"; }}
  }}
}}
""")
    program = Program(namespace, ["/usr/sbin/nginx", "-p", folder, "-c", config, "-e", "stderr"])
    program.listens(network, port)
    return program


def redis(namespace: Namespace, network: Network, folder: Path, port: int) -> Program:
    """A server that keeps nothing."""
    argv = ["redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", folder]
    program = Program(namespace, [*argv, "--save", "", "--appendonly", "no"])
    program.listens(network, port)
    return program


def iperf3(namespace: Namespace, port: int) -> Program:
    """A server. Not asked by connecting: it would take that for a test."""
    program = Program(namespace, ["iperf3", "-s", "-B", "127.0.0.1", "-p", port, "--forceflush"])
    program.expect("Server listening")
    return program


def peers(namespace: Namespace, network: Network, *kinds: str) -> Program:
    """The small servers of peers.py, each given as KIND=PORT or KIND=FIRST-LAST."""
    program = Program(namespace, [sys.executable, PEERS, *kinds])
    program.expect("^ready$")
    return program
