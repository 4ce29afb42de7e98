"""ngrokd as people type it, root or not: the sandbox of `make run`, and a first start."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.everybody import AS_USER, NOBODY, make_private, open_up
from tests.integration.programs import Program
from tests.integration.site import NGROKCTL, NGROKD, clean_environment
from tests.namespace import Namespace

pytestmark = pytest.mark.root


@dataclass(frozen=True)
class Machine:
    """A namespace in which everybody can run our Python, and a folder for the user's files."""

    namespace: Namespace
    folder: Path

    def start(self, *prefix: str) -> Program:
        """Returns once it has said what to try."""
        argv = (*prefix, NGROKD, "--foreground", "--sandbox")
        program = Program(self.namespace, argv, self.environment())
        program.expect("End with Ctrl-C")
        return program

    def run_as_typed(self, line: str, *prefix: str) -> subprocess.CompletedProcess[str]:
        """A command line in a shell of that user."""
        # `timeout` ends what the shell started too.
        argv = (*prefix, "timeout", "15", "sh", "-c", line)
        return self.namespace.run(
            *argv, env=self.environment(), check=False, stdin=subprocess.DEVNULL
        )

    def environment(self) -> dict[str, str]:
        """Ours, with the user's own temporary folder."""
        home = str(self.folder)
        return {**clean_environment(), "TMPDIR": home, "HOME": home, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Of this module's own, because what it mounts would be in others' way."""
    folder = tmp_path_factory.mktemp("machine")
    with tempfile.TemporaryDirectory(prefix="user-") as home, Namespace(folder) as namespace:
        os.chown(home, NOBODY, NOBODY)
        open_up(namespace, folder)
        make_private(namespace, "/run")  # where a daemon is by default
        yield Machine(namespace, Path(home))


def _commands(program: Program) -> list[str]:
    """What it says to try."""
    lines = [line.strip() for line in program.lines]
    start = next(number for number, line in enumerate(lines) if line.startswith("Try"))
    end = next(number for number, line in enumerate(lines) if line.startswith("End with Ctrl-C"))
    return [line for line in lines[start + 1 : end] if line]


def _try_them(machine: Machine, program: Program, *prefix: str) -> list[str]:
    """Runs every command; their outputs."""
    outputs = []
    for command in _commands(program):
        done = machine.run_as_typed(command, *prefix)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        assert done.stdout, command
        outputs.append(done.stdout)
    return outputs


def _assert_nothing_is_left(machine: Machine, hosts_before: bytes, links_before: str) -> None:
    assert machine.namespace.hosts.read_bytes() == hosts_before
    assert machine.namespace.run("ip", "-br", "addr").stdout == links_before
    assert machine.namespace.run("ss", "-Htln").stdout == ""
    assert list(machine.folder.iterdir()) == []


@pytest.mark.parametrize("prefix", [AS_USER, ()], ids=["user", "root"])
def test_every_command_it_prints_works_as_it_stands_and_afterwards_nothing_is_left(
    machine: Machine, prefix: tuple[str, ...]
) -> None:
    hosts_before = machine.namespace.hosts.read_bytes()
    links_before = machine.namespace.run("ip", "-br", "addr").stdout

    with machine.start(*prefix) as program:
        outputs = _try_them(machine, program, *prefix)
        published = b"hello.sandbox" in machine.namespace.hosts.read_bytes()
        program.send(signal.SIGINT)
        assert program.wait() == 0

    commands = _commands(program)
    together = "".join(outputs)
    assert len(commands) >= 5
    assert [line.split()[0] for line in commands if "hello.sandbox" in line] == ["curl"]
    assert "hello\n" in outputs  # of the echo
    assert "ready" in together and "zeros-16M.bin" in together
    assert published == (prefix == ())
    assert program.matching("Traceback") == []
    _assert_nothing_is_left(machine, hosts_before, links_before)


def test_names_work_for_every_program_where_root_runs_it(machine: Machine) -> None:
    with machine.start() as program:
        page = machine.run_as_typed("curl -sS http://hello.sandbox/")
        assert page.returncode == 0 and "hello" in page.stdout.lower()
        assert machine.run_as_typed("getent hosts echo.sandbox").stdout.startswith("127.107.")
        program.send(signal.SIGTERM)
        assert program.wait() == 0


@pytest.mark.long
def test_doctor_looks_at_a_sandbox_whose_names_go_as_cleanup_says_once_it_was_killed(
    machine: Machine,
) -> None:
    hosts_before = machine.namespace.hosts.read_bytes()
    with machine.start() as program:
        (status,) = (line for line in _commands(program) if line.endswith(" status"))
        looked = machine.run_as_typed(f"{status[: -len('status')]}doctor")
        assert looked.returncode == 0, looked.stdout
        program.send(signal.SIGKILL)
        program.wait()
    told = machine.run_as_typed(f"{NGROKD} cleanup").stdout
    assert "daemon-as-started.yml" in told
    (record,) = machine.folder.glob("ngrokd-sandbox-*/daemon-as-started.yml")
    assert machine.run_as_typed(f"{NGROKD} cleanup --config {record}").returncode == 0
    assert machine.namespace.hosts.read_bytes() == hosts_before
    shutil.rmtree(record.parent)


def test_a_user_is_told_why_names_are_not_published(machine: Machine) -> None:
    with machine.start(*AS_USER) as program:
        assert program.matching("/etc/hosts") != []
        program.send(signal.SIGTERM)
        assert program.wait() == 0


def test_a_first_start_without_a_configuration_writes_a_commented_one_and_waits_for_a_key(
    machine: Machine,
) -> None:
    folder = machine.namespace.etc / "ngrokd"
    hosts_before = machine.namespace.hosts.read_bytes()

    argv = (NGROKD, "--foreground")
    with Program(machine.namespace, argv, machine.environment()) as program:
        program.expect("ngrokctl set-api-key")
        shown = machine.run_as_typed(f"{NGROKCTL} status")
        forbidden = machine.run_as_typed(f"{NGROKCTL} status", *AS_USER)
        assert program.stop(signal.SIGTERM) == 0

    assert shown.returncode == 0
    assert (forbidden.returncode, forbidden.stdout) == (5, "")
    assert "/var/run/ngrokd.sock" in forbidden.stderr
    assert "# " in (folder / "config.yml").read_text()
    assert (folder / "config.yml").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert machine.run_as_typed(f"{NGROKD} check-config").returncode == 0
    assert machine.namespace.hosts.read_bytes() == hosts_before
    assert machine.namespace.run("ls", "/run").stdout == ""


def test_a_user_who_may_not_write_the_default_configuration_is_told_what_to_do(
    machine: Machine,
) -> None:
    done = machine.run_as_typed(f"{NGROKD} --foreground", *AS_USER)

    assert done.returncode == 2
    assert "/etc/ngrokd" in done.stderr and "--config" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_configuration_that_may_not_be_read_is_named(machine: Machine) -> None:
    config = machine.folder / "secret.yml"
    config.write_text("api: {key: abc}\n")
    config.chmod(0o600)

    done = machine.run_as_typed(f"{NGROKD} --foreground --config {config}", *AS_USER)
    config.unlink()

    assert done.returncode == 2
    assert str(config) in done.stderr and "Permission denied" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_folders_that_may_not_be_written_are_named_with_the_mend(
    machine: Machine,
) -> None:
    config = machine.folder / "config.yml"
    own = f"socket_path: {machine.folder}/s, pid_file: {machine.folder}/p"
    keys = "client_cert: /run/state/tls.crt, client_key: /run/state/tls.key"

    config.write_text("server: {client_cert: /run/state/tls.crt}\n")
    pid_file = machine.run_as_typed(f"{NGROKD} --foreground --config {config}", *AS_USER)
    config.write_text(f"server: {{{own}, {keys}}}\n")
    state = machine.run_as_typed(f"{NGROKD} --foreground --config {config}", *AS_USER)
    config.unlink()

    assert (pid_file.returncode, state.returncode) == (2, 2)
    for setting in ("server.pid_file: ", "server.socket_path: ", "server.client_cert: "):
        assert setting in pid_file.stderr
    assert "server.client_cert: /run/state/tls.crt cannot be written by user" in state.stderr
    assert "server.pid_file" not in state.stderr
    assert "run as root" in state.stderr.splitlines()[-1]
    assert "Traceback" not in pid_file.stderr + state.stderr
