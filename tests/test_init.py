"""The SysV script, with a stand-in for the daemon, on machines of every kind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.init_machine import (
    BUSYBOX,
    DASH,
    ORDINARY_USER,
    USERLANDS,
    Service,
    Userland,
    fresh_folders,
    service_on,
)
from tests.namespace import Namespace

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """One for all tests here: they change nothing of it but what a `Service` writes anew."""
    with Namespace(tmp_path_factory.mktemp("machine")) as machine:
        fresh_folders(machine)
        yield machine


@pytest.fixture
def service(machine: Namespace) -> Iterator[Service]:
    with service_on(machine) as service:
        yield service


@pytest.fixture(params=USERLANDS, ids=lambda userland: userland.name)
def any_service(request: pytest.FixtureRequest, machine: Namespace) -> Iterator[Service]:
    """The script under every shell, with the tools of Debian, of BusyBox, and without them."""
    userland: Userland = request.param
    if userland.missing():
        pytest.skip(userland.missing())
    with service_on(machine, userland) as service:
        yield service


def _name(userland: Userland) -> str:
    return userland.name


# ---- Everywhere


def test_a_life_from_start_to_stop_with_nothing_on_standard_error(any_service: Service) -> None:
    service = any_service

    def said(verb: str, code: int = 0) -> str:
        done = service(verb)
        assert (done.returncode, done.stderr) == (code, "")
        return done.stdout

    assert said("status", 3) == "ngrokd: is not running\n"
    assert said("start") == f"ngrokd: started (pid {service.pid})\n"
    first = service.pid
    assert said("status") == f"ngrokd: is running (pid {first})\n"
    assert said("reload") == said("force-reload")
    assert said("restart") == f"ngrokd: stopped\nngrokd: started (pid {service.pid})\n"
    assert service.running() == [service.pid] != [first]
    assert said("try-restart")
    assert said("stop") == "ngrokd: stopped\n"
    assert service.running() == []
    assert not service.pid_file.exists()
    assert said("stop") == said("status", 3)


def test_a_daemon_that_ignores_sigterm_is_killed_and_cleaned_up_after(any_service: Service) -> None:
    any_service.defaults(STOP_TIMEOUT="0")
    any_service.configure("stubborn")
    any_service.run_daemon()
    result = any_service("stop")
    assert result.returncode == 0
    assert "killed" in result.stderr
    assert any_service.running() == []
    assert "term" in any_service.told
    assert any_service.told[-1] == f"cleanup --config {any_service.config}"
    assert any_service.code("status") == 3


def test_a_dead_daemon_is_told_and_cleaned_up_after(any_service: Service) -> None:
    any_service.run_daemon()
    any_service.kill()
    assert any_service.code("status") == 1
    assert any_service.code("stop") == 0
    assert any_service.told[-1] == f"cleanup --config {any_service.config}"
    assert any_service.code("status") == 3


def test_a_refused_start_fails_and_shows_why(any_service: Service) -> None:
    any_service.configure("broken")
    result = any_service("start")
    assert (result.returncode, result.stderr) == (6, "config.yml:1: broken\n")
    any_service.configure("refuses")
    assert any_service.code("start") == 1


# ---- Start


# Without `timeout` nothing ends it; here are two kinds of that.
@pytest.mark.parametrize("any_service", [DASH, BUSYBOX], ids=_name, indirect=True)
def test_a_start_that_never_ends_fails_in_time(any_service: Service) -> None:
    any_service.configure("hangs")
    any_service.defaults(START_TIMEOUT="01")
    result = any_service("start")
    assert result.returncode == 1
    assert "did not answer within 1 seconds" in result.stderr
    assert any_service.running() == []


def test_a_daemon_that_ends_right_after_its_start_is_a_failure(service: Service) -> None:
    service.configure("dies")
    result = service("start")
    assert result.returncode == 1
    assert "its pid is not in" in result.stderr


def test_two_starts_at_once_start_one_daemon_and_both_succeed(any_service: Service) -> None:
    any_service.configure("waits")
    first = any_service.begin("start")
    with any_service.daemon_at_the_gate():
        any_service.configure()
        second = any_service.begin("start")
    outputs = [each.communicate(timeout=20)[0] for each in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert any_service.running() == [any_service.pid]


def test_a_stop_waits_for_the_start_before_it(service: Service) -> None:
    service.configure("waits")
    start = service.begin("start")
    with service.daemon_at_the_gate():
        stop = service.begin("stop")
        with pytest.raises(subprocess.TimeoutExpired):
            stop.wait(0.3)
    assert "started" in start.communicate(timeout=20)[0]
    assert stop.communicate(timeout=20)[0] == "ngrokd: stopped\n"
    assert (start.returncode, stop.returncode) == (0, 0)
    assert service.running() == []


def test_a_start_waits_for_the_stop_before_it(service: Service) -> None:
    service.configure("slow")
    first = service.run_daemon()
    stop = service.begin("stop")
    with service.daemon_at_the_gate():  # its pid file is gone
        service.configure()
        start = service.begin("start")
        with pytest.raises(subprocess.TimeoutExpired):
            start.wait(0.3)
        assert service.running() == [first]
    assert stop.communicate(timeout=20)[0] == "ngrokd: stopped\n"
    assert "started" in start.communicate(timeout=20)[0]
    assert service.running() == [service.pid]


def test_a_service_manager_far_above_does_not_keep_the_daemon_in_the_foreground(
    service: Service,
) -> None:
    service.defaults(XPC_SERVICE_NAME="some")
    service.machine.run("env", "NOTIFY_SOCKET=/run/some", *service.argv("start"))
    assert service.told == ["start None None"]
    service.reset()
    service.defaults(NOTIFY_SOCKET="/run/some")
    assert service.code("start") == 0
    assert service.told == ["start None None"]


def test_a_missing_default_configuration_is_left_to_the_daemon_to_write(service: Service) -> None:
    service.config.unlink()
    service.defaults(CONFIG="/etc/ngrokd/config.yml", PIDFILE=service.pid_file)
    assert service.code("start") == 0
    assert service.told == ["start None None"]
    assert service.code("restart") == 0


# ---- Stop


def test_stop_returns_after_the_end_of_the_process_not_of_its_pid_file(service: Service) -> None:
    service.configure("slow")
    service.run_daemon()
    stop = service.begin("stop")
    with service.daemon_at_the_gate():
        assert not service.pid_file.exists()
        with pytest.raises(subprocess.TimeoutExpired):
            stop.wait(0.3)
    assert stop.wait(20) == 0


def test_a_second_sigterm_comes_before_sigkill(service: Service) -> None:
    service.configure("second")
    service.defaults(STOP_TIMEOUT="1")
    service.run_daemon()
    result = service("stop")
    assert (result.returncode, result.stderr) == (0, "")
    assert "cleanup" not in "".join(service.told)


def test_a_cleanup_that_fails_is_told_and_the_daemon_is_stopped_all_the_same(
    service: Service,
) -> None:
    service.configure("cannot-clean")
    service.run_daemon()
    service.kill()
    result = service("stop")
    assert result.returncode == 0
    assert f"{service.daemon} cleanup --config {service.config}" in result.stderr
    assert service.code("status") == 3


def test_a_daemon_that_ended_and_is_not_waited_for_is_dead(service: Service) -> None:
    with subprocess.Popen([service.daemon, "zombie"]) as other:
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        service.pid_file.write_text(f"{other.pid}\n")
        assert service.code("status") == 1
        assert service.code("stop") == 0


# ---- Whose pid it is


def test_a_process_that_only_names_ngrokd_is_none(service: Service) -> None:
    for argv in (
        ["tail", "-f", "/var/log/ngrokd"],
        ["sh", "/etc/init.d/ngrokd"],
        [sys.executable, "/usr/bin/ask", "restart", "ngrokd"],
        ["ngrokd-exporter"],
    ):
        with _a_process_called(service.pid_file, *argv) as other:
            assert service.code("status") == 1, argv
            assert service.code("stop") == 0
            assert other.poll() is None


COMMAND_LINES = (
    ["ngrokd", "--config", "/etc/ngrokd/config.yml"],
    ["/opt/ngrokd/bin/python3.9", "-I", "/usr/local/bin/ngrokd"],
    ["python3", "-m", "ngrokd"],
    ["python3", "/src/ngrokd.py"],
)


def test_an_ngrokd_is_known_however_it_was_started(service: Service) -> None:
    for argv in COMMAND_LINES:
        with _a_process_called(service.pid_file, *argv):
            assert service.code("status") == 0, argv
            assert service.code("status", ORDINARY_USER) == 0  # who sees its name alone


def test_an_ngrokd_that_does_not_hold_the_pid_file_is_another_one(any_service: Service) -> None:
    with _a_process_called(any_service.pid_file, *COMMAND_LINES[0], holds=False) as other:
        assert any_service.code("status") == 1
        assert any_service.code("stop") == 0
        assert any_service.told == [f"cleanup --config {any_service.config}"]
        assert other.poll() is None
        any_service.pid_file.write_text(f"{other.pid}\n")
        assert any_service.code("start") == 0
        assert any_service.running() == [any_service.pid]
        assert other.poll() is None


# Puts other words over its own command line, of which the last one makes room enough.
_IMPOSTOR = """
import ctypes, sys
stat = open("/proc/self/stat").read().rpartition(")")[2].split()
start, end = int(stat[45]), int(stat[46])
words = sys.argv[1].replace("|", "\\0").encode()
ctypes.memmove(start, words.ljust(end - start, b"\\0"), end - start)
print(flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def _a_process_called(
    pid_file: Path, *argv: str, holds: bool = True
) -> Iterator[subprocess.Popen[str]]:
    """Its pid is in that file, which it has open if it `holds` it."""
    with open(pid_file, "w") as file, subprocess.Popen(
        [sys.executable, "-IS", "-c", _IMPOSTOR, "|".join(argv)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[file.fileno()] if holds else [],
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        file.write(f"{other.pid}\n")
        file.flush()
        yield other
        other.communicate()


# ---- Settings


def test_arguments_and_variables_of_the_defaults_file_reach_the_daemon(service: Service) -> None:
    service.defaults(DAEMON_ARGS="--verbose --extra", NGROK_API_KEY="from-defaults")
    service("start")
    assert service.told == ["start --verbose --extra from-defaults None"]


FOUND = (
    "server:\n  pid_file: {}\n",
    "server:\n  pid_file: {}",
    "server:\r\n  pid_file: {}\r\n",
    "server:\n  pid_file:   '{}'  # mine\n",
    'server:\n  "pid_file": "{}"\n',
    "server: {{log_level: info, pid_file: {}}}\n",
    "server: {{pid_file: {}, log_level: info}}\n",
    "{{server: {{'pid_file': '{}'}}}}\n",
    '{{\n  "server": {{\n    "pid_file": "{}",\n    "log_level": "info"\n  }}\n}}\n',
    "# pid_file: /no\nserver:\n  log_file: /x # pid_file: /no\n  pid_file: {}\n\nnet: {{}}\n",
    "server:\n  log_file: /var/log/pid_file.log\n  pid_file: {}\n  # a word\n  log_level: info\n",
    "server:\n  pid_file: {} of b\n",
    'server:\n  pid_file: "{} of b"\n',
)
REFUSED = (
    "server:\n  pid_file:\n    {}\n",
    "server:\n  pid_file: >-\n    {}\n",
    "server:\n  pid_file: {}\n    b\n",
    "server:\n  pid_file: {}\n\n    # more\n    b\n",
    'server:\n  pid_file: "\\x2f{}"\n',
    'server:\n  pid_file: "{}\\\n    b"\n',
    "server:\n  pid_file: '{}''s'\n",
    "server:\n  pid_file: !!str {}\n",
    "server:\n  pid_file: &pid {}\n",
    "server:\n  pid_file: *pid\n",
    "server: {{\n  pid_file: {},\n}}\n",
    "server:\n  pid_file: {0}\n  'pid_file': {0}\n",
    "server: {{pid_file: {0}, 'pid_file': {0}}}\n",
)


@pytest.mark.parametrize("any_service", [DASH, BUSYBOX], ids=_name, indirect=True)  # kinds of sed
def test_the_pid_file_is_found_however_the_configuration_is_written(any_service: Service) -> None:
    service = any_service
    service.run_daemon()
    other = service.pid_file.with_name(f"{service.pid_file.name} of b")
    os.link(service.pid_file, other)
    for text in FOUND:
        service.config.write_bytes(text.format(service.pid_file).encode())
        assert service.code("status") == 0, text
    for text in REFUSED:
        service.config.write_text(text.format(service.pid_file))
        result = service("status")
        assert (result.returncode, result.stdout) == (4, ""), text
        assert f"or set PIDFILE in {DEFAULTS}" in result.stderr
    assert service.code("stop") == 6
    service.defaults(PIDFILE=service.pid_file)
    assert service.code("stop") == 0


def test_the_pid_file_of_the_defaults_file_comes_first(service: Service) -> None:
    service.run_daemon()
    service.config.write_text("server: {pid_file: /elsewhere}\n")
    service.defaults(PIDFILE=service.pid_file)
    assert service.code("status") == 0


def test_timeouts_that_are_no_numbers_are_told_and_stop_nothing(any_service: Service) -> None:
    service = any_service
    service.defaults(START_TIMEOUT="soon", STOP_TIMEOUT="")
    result = service("start")
    assert result.returncode == 0
    assert "START_TIMEOUT=soon" in result.stderr
    assert "STOP_TIMEOUT= " in result.stderr
    service.defaults(START_TIMEOUT="9" * 20, STOP_TIMEOUT="08")
    result = service("stop")
    assert result.returncode == 0
    assert f"START_TIMEOUT={'9' * 20}" in result.stderr
    assert "STOP_TIMEOUT" not in result.stderr


def test_a_daemon_is_not_run_in_the_foreground_and_a_running_one_is_spared(
    service: Service,
) -> None:
    first = service.run_daemon()
    for words in ("--verbose --foreground", "--verbose\t--foreground", "--foreground\n"):
        service.defaults(DAEMON_ARGS=words, IFS="/")
        assert [service.code(verb) for verb in ("restart", "try-restart", "start")] == [6, 6, 6]
    assert service.running() == [first]
    assert service.code("stop") == 0
    assert "--foreground" in service("start").stderr


def test_a_defaults_file_that_ends_the_script_is_no_success(any_service: Service) -> None:
    any_service.run_daemon()
    settings = any_service.defaults_file.read_text()
    for line in ("exit 0", "set -e; false", "set -u; : $NONE_SUCH"):
        any_service.defaults_file.write_text(f"{settings}{line}\n")
        assert any_service.code("status") == 4
        result = any_service("stop")
        assert result.returncode == 6
        assert f"{DEFAULTS} ends the script" in result.stderr
        assert any_service.running() == [any_service.pid]


def test_a_defaults_file_with_a_mistake_is_told_with_its_line(service: Service) -> None:
    with open(service.defaults_file, "a") as file:
        file.write("NGROK_API_KEY='half\n")
    assert [service.code(verb) for verb in ("start", "stop", "restart", "status")] == [6, 6, 6, 4]
    assert f"{DEFAULTS}: " in service("start").stderr


DEFAULTS = "/etc/default/ngrokd"


def test_what_an_ordinary_user_may_not_read_makes_the_status_unknown_not_wrong(
    service: Service,
) -> None:
    service.defaults_file.chmod(0o600)
    assert service.code("status", ORDINARY_USER) == 4
    service.defaults_file.chmod(0o644)
    service.config.chmod(0o600)
    assert service.code("status", ORDINARY_USER) == 4
    service.config.chmod(0o644)
    assert service.code("status", ORDINARY_USER) == 3
    service.run_daemon()
    service.pid_file.chmod(0o600)
    result = service("status", ORDINARY_USER)
    assert result.returncode == 4
    assert "as root" in result.stdout


@pytest.mark.parametrize("hidepid", [1, 2])
def test_processes_hidden_from_an_ordinary_user_make_the_status_unknown(
    service: Service, hidepid: int
) -> None:
    service.run_daemon()
    hidden = f"mount -t proc -o hidepid={hidepid} proc /proc && exec \"$@\""
    argv = ["unshare", "--mount", "sh", "-c", hidden, "sh", *service.argv("status", ORDINARY_USER)]
    assert service.machine.run(*argv, check=False).returncode == 4


# ---- Other init systems around it


def test_what_red_hats_rc_wants_to_see_is_there_while_the_daemon_is(service: Service) -> None:
    seen = "test -e /var/lock/subsys/ngrokd"
    service.machine.run("mkdir", "-p", "/run/lock/subsys")
    try:
        assert service.code("start") == 0
        service.machine.run("sh", "-c", seen)
        assert service.code("stop") == 0
        assert service.machine.run("sh", "-c", seen, check=False).returncode == 1
        assert service.code("status") == 3
    finally:
        service.machine.run("rm", "-r", "/run/lock/subsys")


def test_under_systemd_it_hands_over_to_systemctl(service: Service) -> None:
    if not Path("/lib/lsb/init-functions.d/40-systemd").exists():
        pytest.skip("/lib/lsb/init-functions.d/40-systemd is not there (package systemd)")
    asked = "/run/asked"
    stand_in = f"printf '#!/bin/sh\\necho \"$*\" >>{asked}\\n' >/usr/local/bin/systemctl"
    service.machine.run("sh", "-c", f"mkdir -p /run/systemd/system && {stand_in}")
    service.machine.run("chmod", "755", "/usr/local/bin/systemctl")
    try:
        assert service.code("start") == 0
        assert "start ngrokd.service" in service.machine.run("cat", asked).stdout
        assert service.told == []
    finally:
        service.machine.run("rm", "-r", "/run/systemd", "/usr/local/bin/systemctl", asked)


@pytest.mark.parametrize("verb", ["", "fly"])
def test_an_unknown_verb_is_a_mistake_of_usage(any_service: Service, verb: str) -> None:
    result = any_service(verb)
    assert result.returncode == 2
    assert "Usage" in result.stderr
