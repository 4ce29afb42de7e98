"""Which process is taken for the daemon of a configuration, and what no signal is sent to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ngrokd.config import Config, ServerSettings
from ngrokd.errors import HostError
from ngrokd.process import running
from ngrokd.verbs import lifecycle

# Holds a pid file and listens on a socket, each if it is named; its own name is argv[0]'s.
_HOLDER = """
import fcntl, os, socket, sys
pid_file, path = sys.argv[1:3]
if pid_file:
    file = open(pid_file, "w+")
    fcntl.lockf(file, fcntl.LOCK_EX)
    file.write(f"{os.getpid()}\\n")
    file.flush()
if path:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
print("ready", flush=True)
sys.stdin.read()
"""


class Holders:
    """Processes that hold the two files of a configuration."""

    def __init__(self, folder: Path) -> None:
        self.pid_file, self.socket_path = str(folder / "d.pid"), str(folder / "d.sock")
        self.config = Config(
            server=ServerSettings(pid_file=self.pid_file, socket_path=self.socket_path)
        )
        self._folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def start(self, name: str, pid_file: str = "", socket_path: str = "") -> int:
        script = self._folder / name
        script.write_text(_HOLDER)
        argv = [sys.executable, "-I", str(script), pid_file, socket_path]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        return process.pid


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[Holders]:
    """They end with the test."""
    made = Holders(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


def test_no_daemon_is_found_where_none_runs(holders: Holders) -> None:
    assert running.find(holders.config) is None
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(holders.socket_path)
    assert running.find(holders.config) is None


def test_a_daemon_is_found_by_the_pid_file_that_it_holds(holders: Holders) -> None:
    pid = holders.start("ngrokd", holders.pid_file)
    assert running.find(holders.config) == pid


def test_a_daemon_whose_pid_file_was_renamed_in_the_configuration_is_found_by_its_socket(
    holders: Holders,
) -> None:
    pid = holders.start("ngrokd", "", holders.socket_path)
    assert running.find(holders.config) == pid
    lifecycle.end(holders.config)
    assert holders.started[0].wait(30) == -signal.SIGTERM


def test_another_program_that_holds_the_pid_file_is_named_and_gets_no_signal(
    holders: Holders,
) -> None:
    pid = holders.start("other", holders.pid_file, holders.socket_path)
    with pytest.raises(HostError, match=f"locked by pid {pid}, which is not ngrokd"):
        running.find(holders.config)
    with pytest.raises(HostError):
        lifecycle.end(holders.config)
    assert running.send(pid, signal.SIGKILL) is False
    assert holders.started[0].poll() is None


def test_another_users_daemon_is_left_to_that_user(holders: Holders) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: a process of another user")
    process = subprocess.Popen(["ngrokd", "300"], executable="sleep", user=65534)
    try:
        with pytest.raises(HostError, match="another user's"):
            running.send(process.pid, signal.SIGTERM)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
