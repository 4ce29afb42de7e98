"""The example Dockerfile: what it copies exists; its health check tells ready from not ready."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from ngrokd import configfile
from ngrokd.config import DEFAULT_CONFIG_PATH, ServerSettings

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "init" / "Dockerfile").read_text(encoding="utf-8")
DOCUMENTATION = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
PATIENCE_S = 20


def instructions(name: str) -> list[str]:
    """What stands behind each instruction of that name, on one line."""
    lines = re.sub(r"^\s*#.*\n", "", TEXT, flags=re.MULTILINE).replace("\\\n", "").splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{name} ")]


def health_check(port: int) -> list[str]:
    """Its command, for that port and this Python."""
    (line,) = instructions("HEALTHCHECK")
    command: list[str] = json.loads(line.partition("CMD ")[2])
    assert command[0] == "python3"
    default = str(ServerSettings.health_port)
    assert default in command[-1]
    return [sys.executable, *command[1:-1], command[-1].replace(default, str(port))]


@contextmanager
def answering(status: int) -> Iterator[tuple[int, list[str]]]:
    """A health server's port, and the paths it was asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        """Answers all the same."""

        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"an answer")

        def log_message(self, format: str, *args: object) -> None:
            """Not into the test's output."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port, asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (404, False)])
def test_the_container_is_healthy_while_the_daemon_is_ready(status: int, healthy: bool) -> None:
    with answering(status) as (port, asked):
        done = subprocess.run(
            health_check(port), capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    assert (done.returncode == 0) == healthy
    assert done.stdout.strip() == "an answer"
    assert asked == ["/readyz"]


def test_the_container_is_not_healthy_without_a_daemon() -> None:
    with answering(200) as (port, _):
        pass
    done = subprocess.run(health_check(port), capture_output=True, timeout=PATIENCE_S, check=False)
    assert done.returncode != 0


def test_what_is_copied_exists() -> None:
    sources = [word for line in instructions("COPY") for word in line.split()[:-1]]
    local = [word for word in sources if not word.startswith(("--from", "/"))]
    assert "ngrokd" in local
    assert [name for name in local if not (ROOT / name).exists()] == []


def test_nothing_stands_between_the_container_and_the_program() -> None:
    assert [json.loads(line) for line in instructions("ENTRYPOINT")] == [["ngrokd", "--foreground"]]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert instructions("VOLUME") == [str(Path(DEFAULT_CONFIG_PATH).parent)]


def test_the_documented_settings_and_the_compose_file_can_be_read() -> None:
    files = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", DOCUMENTATION, re.S)]
    compose = [file for file in files if "services" in file]
    settings = [file for file in files if "services" not in file]
    assert len(compose) == 1 and compose[0]["services"]["ngrokd"]["cap_add"] == ["NET_ADMIN"]
    for file in settings:
        configfile.parse(yaml.safe_dump(file), "containers.md")
    assert settings
