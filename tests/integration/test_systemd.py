"""The unit under real systemd: a life from start to stop, crashes, and what it may not do."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.integration.booted import Booted, why_not
from tests.integration.systemd_service import CONFIG, Service

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")

# CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_NET_BIND_SERVICE, CAP_NET_ADMIN: linux/capability.h
CAPABILITIES = 1 << 0 | 1 << 1 | 1 << 10 | 1 << 12
PRIORITIES = {"DEBUG": "7", "INFO": "6", "WARNING": "4", "ERROR": "3", "CRITICAL": "2"}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    with Booted(tmp_path_factory.mktemp("booted")) as machine:
        yield machine


@pytest.fixture(scope="module")
def service(machine: Booted) -> Service:
    """Not started. What is protected where it is there is there."""
    machine.run("touch", *sorted(path for path in NOT_WRITABLE if path.startswith("/etc/")))
    return Service(machine)


@pytest.fixture
def running(service: Service) -> Service:
    """Started, if a test before this one did not leave it so."""
    service.start()
    return service


def test_started_means_that_the_names_are_there(service: Service) -> None:
    service.stop()
    service.start()
    assert service.show("ActiveState") == "active"
    assert service.serves()
    assert service.show("StatusText") == "ready: 3 of 3 endpoints open"


def test_the_status_tells_what_the_daemon_does(running: Service) -> None:
    text = running.machine.systemctl("status", "ngrokd").stdout
    assert 'Status: "ready: 3 of 3 endpoints open"' in text
    assert "endpoint hello.sandbox:80 open at 10.107.0." in text


def test_it_is_not_started_while_ngrok_has_not_answered(service: Service) -> None:
    service.stop()
    service.machine.run("rm", "-f", "/etc/ngrokd/endpoints.json")
    service.machine.systemctl("kill", "--signal=STOP", "cloud")
    try:
        service.machine.systemctl("start", "--no-block", "ngrokd")
        service.until(lambda: service.ctl("status", check=False).returncode == 0, "no answer")
        assert service.show("ActiveState") == "activating"
    finally:
        service.machine.systemctl("kill", "--signal=CONT", "cloud")
    service.start()  # waits for the start that is under way
    assert service.serves()


def test_it_runs_with_four_capabilities_and_can_gain_none(running: Service) -> None:
    status = running.machine.read(f"/proc/{running.pid}/status")
    fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(fields[name], 16) == CAPABILITIES, name
    assert int(fields["CapAmb"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"


WRITABLE = {"/etc", "/etc/hosts", "/etc/ngrokd", "/run", "/var/log"}
NOT_WRITABLE = {
    *("/usr/bin", "/var/lib", "/root", "/boot", "/run/systemd", "/proc/sys/kernel", "/sys"),
    *("/etc/systemd/system", "/etc/cron.d", "/etc/crontab", "/etc/rc.local"),
    *("/etc/ld.so.preload", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.cache"),
    *("/etc/bash.bashrc", "/etc/profile", "/etc/profile.d", "/etc/environment"),
    *("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts.allow", "/etc/hosts.deny"),
}


def test_it_can_write_where_it_must_and_nowhere_else(running: Service) -> None:
    script = """
    for path in "$@"; do test -e $path || echo no $path; test ! -w $path || echo $path; done
    """
    paths = sorted(WRITABLE | NOT_WRITABLE)
    look = ("nsenter", f"--target={running.pid}", "--mount", "--", "sh", "-c", script, "sh")
    assert set(running.machine.run(*look, *paths).stdout.splitlines()) == WRITABLE


def test_the_machine_can_still_replace_what_it_cannot_write(running: Service) -> None:
    running.machine.run("sed", "-i", "$a added:x:4242:", "/etc/group")
    look = ("nsenter", f"--target={running.pid}", "--mount", "--", "grep", "-c", "^added:")
    assert running.machine.run(*look, "/etc/group").stdout == "1\n"


def test_it_cannot_read_the_passwords_of_the_machine(running: Service) -> None:
    look = ("nsenter", f"--target={running.pid}", "--mount", "--", "cat", "/etc/shadow")
    assert running.machine.read("/etc/shadow")
    assert running.machine.run(*look).stdout == ""


def test_only_the_device_that_it_needs_opens(running: Service) -> None:
    script = """
    mknod /dev/test-kmsg c 1 11
    true < /dev/test-kmsg && echo kmsg before
    echo $$ > /sys/fs/cgroup/system.slice/ngrokd.service/cgroup.procs
    true < /dev/net/tun && echo tun
    true < /dev/null && echo null
    true < /dev/test-kmsg && echo kmsg
    rm /dev/test-kmsg
    """
    done = running.machine.run("sh", "-c", script)
    assert done.stdout.splitlines() == ["kmsg before", "tun", "null"], done.stderr


def test_lines_in_the_journal_have_their_priority_and_no_time_of_their_own(
    service: Service,
) -> None:
    with service.changed(settings={"server": {"log_level": "debug"}, "net": {"start_port": 1}}):
        entries = service.machine.journal("ngrokd.service")
        ours = [e for e in entries if e["MESSAGE"].split(" ")[0] in PRIORITIES]
        assert {"DEBUG", "INFO"} <= {e["MESSAGE"].split(" ")[0] for e in ours}
        for entry in ours:
            assert entry["PRIORITY"] == PRIORITIES[entry["MESSAGE"].split(" ")[0]], entry
            assert entry["SYSLOG_IDENTIFIER"] == "ngrokd"


def test_a_reload_takes_the_new_configuration_and_a_broken_one_harms_nobody(
    service: Service,
) -> None:
    with service.changed():
        pid = service.pid
        before = len(service.messages())
        service.configure({"bound_endpoints": {"poll_interval": 7}})
        assert service.machine.systemctl("reload", "ngrokd").returncode == 0
        changed = "INFO configuration read again, changed: bound_endpoints.poll_interval"
        service.until(lambda: changed in service.messages()[before:], "not reloaded")
        service.until(lambda: service.show("ActiveState") == "active", "still reloading")
        service.configure({"bound_endpoints": {"poll_interval": -1}})
        assert service.machine.systemctl("reload", "ngrokd", check=False).returncode != 0
        fault = re.compile(re.escape(CONFIG) + r":[0-9]+: bound_endpoints.poll_interval: -1")
        assert any(fault.match(message) for message in service.messages())
        assert (service.show("ActiveState"), service.pid) == ("active", pid)
        assert service.serves()


def test_a_restart_is_another_process_with_the_same_names(running: Service) -> None:
    pid = running.pid
    running.machine.systemctl("restart", "ngrokd")
    assert running.pid != pid
    assert running.serves()


def test_a_stop_leaves_nothing(running: Service) -> None:
    running.machine.systemctl("stop", "ngrokd")
    assert running.leftovers() == []
    assert (running.show("ActiveState"), running.show("Result")) == ("inactive", "success")


def test_what_others_write_into_the_hosts_file_meanwhile_is_seen_and_kept(service: Service) -> None:
    hosts = "/etc/hosts"
    try:
        with service.changed():
            # sed, as most programs, replaces the file: one that was bound alone would be the old.
            service.machine.run("sed", "-i", "1i 192.0.2.7 mine", hosts)
            service.machine.run("sed", "-i", "/hello.sandbox/d", hosts)
            service.until(service.serves, "the name did not come back")
            assert service.machine.read(hosts).startswith("192.0.2.7 mine\n")
        assert service.machine.read(hosts) == "192.0.2.7 mine\n" + service.hosts_before
    finally:
        service.machine.write(hosts, service.hosts_before)


def test_after_a_kill_nothing_is_left(service: Service) -> None:
    with service.changed("Restart=no"):
        assert service.leftovers()
        service.kill(signal.SIGKILL)
        service.until(lambda: service.show("ActiveState") == "failed", "it did not end")
        assert service.leftovers() == []


def test_after_a_kill_it_is_started_again(service: Service) -> None:
    with service.changed("RestartSec=0"):
        pid = service.pid
        service.kill(signal.SIGKILL)
        service.until(lambda: service.show("NRestarts") == "1", "not restarted")
        service.start()  # waits for the start that is under way
        assert service.pid != pid
        assert service.serves()
        assert service.machine.read("/etc/hosts").count("BEGIN ngrokd") == 1


def test_a_broken_configuration_fails_once_and_is_not_tried_again(service: Service) -> None:
    with service.changed("RestartSec=0", {"bound_endpoints": {"poll_interval": -1}}):
        assert service.show("ActiveState") == "failed"
        assert service.show("ExecMainStatus") == "2"
        assert service.show("NRestarts") == "0"
        assert service.leftovers() == []


def test_a_daemon_that_turns_is_left_alone_and_a_stuck_one_is_killed_and_replaced(
    service: Service,
) -> None:
    with service.changed("WatchdogSec=1\nRestartSec=0"):
        pid = service.pid
        seen: set[str] = set()

        def signs() -> int:
            seen.add(service.show("WatchdogTimestampMonotonic"))
            return len(seen)

        service.until(lambda: signs() > 3, "no signs of life")  # for more than a second
        assert (service.pid, service.show("NRestarts")) == (pid, "0")
        service.kill(signal.SIGSTOP)
        service.until(lambda: service.show("NRestarts") == "1", "not restarted")
        service.start()
        assert service.pid != pid
        assert service.serves()
    log = service.machine.run("journalctl", "_PID=1", "-u", "ngrokd").stdout
    assert "Watchdog timeout (limit 1s)!" in log


def test_connections_are_drained_for_longer_than_the_unit_allows_for_a_stop(
    service: Service,
) -> None:
    with service.changed("TimeoutStopSec=2s", {"forward": {"drain_timeout": 3}}):
        held = subprocess.Popen(
            service.machine.argv("nc", "echo.sandbox", "7000"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            assert held.stdin is not None and held.stdout is not None
            held.stdin.write(b"still here\n")
            held.stdin.flush()
            assert held.stdout.readline() == b"still here\n"
            service.machine.systemctl("stop", "ngrokd")
        finally:
            held.kill()
            held.communicate()
        assert service.show("Result") == "success"
        assert any("1 connection cut" in message for message in service.messages())
        assert service.leftovers() == []


def test_it_logs_to_a_file_and_ngrokctl_may_stop_it_for_good(service: Service) -> None:
    log = "/var/log/ngrokd.log"
    with service.changed("RestartSec=0", {"server": {"log_file": log}}):
        assert "endpoint hello.sandbox:80 open" in service.machine.read(log)
        service.machine.run("sh", "-c", """echo '{"command":"stop"}' | nc -U /run/ngrokd.sock""")
        service.until(lambda: service.show("ActiveState") == "inactive", "not stopped")
        assert (service.show("Result"), service.show("NRestarts")) == ("success", "0")
        assert service.leftovers() == []
        assert "stopped" in service.machine.read(log)


def test_a_stop_ends_a_start_that_waits_for_ngrok(service: Service) -> None:
    service.stop()
    service.machine.run("rm", "-f", "/etc/ngrokd/endpoints.json")
    service.machine.systemctl("kill", "--signal=STOP", "cloud")
    try:
        service.machine.systemctl("start", "--no-block", "ngrokd")
        service.until(lambda: service.ctl("status", check=False).returncode == 0, "no answer")
        service.machine.systemctl("stop", "ngrokd")
        assert (service.show("ActiveState"), service.show("Result")) == ("inactive", "success")
        assert service.leftovers() == []
    finally:
        service.machine.systemctl("kill", "--signal=CONT", "cloud")


def test_an_enabled_unit_comes_and_goes_with_the_machine(service: Service) -> None:
    down = "[Unit]\nRequires=basic.target cloud.service\nAllowIsolate=yes\n"
    service.machine.write("/etc/systemd/system/down.target", down)
    service.machine.systemctl("enable", "ngrokd")
    try:
        service.machine.systemctl("isolate", "down.target")
        assert service.leftovers() == []
        service.machine.systemctl("start", "multi-user.target")
        assert service.serves()
    finally:
        service.machine.systemctl("disable", "ngrokd")


def test_nothing_that_is_not_allowed_was_tried(service: Service) -> None:
    """Of all that the tests before this one made the daemon do."""
    tried = [m for m in service.messages() if "not permitted" in m or "Traceback" in m]
    assert tried == []
