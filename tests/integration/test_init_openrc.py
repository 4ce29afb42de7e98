"""The OpenRC service and the real daemon, under Debian's OpenRC."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration import overlaid
from tests.integration.init_host import CONFIG, DEFAULTS, PID_FILE, InitHost
from tests.integration.overlaid import Overlaid
from tests.integration.site import KEY

pytestmark = pytest.mark.root

SERVICE = "/etc/init.d/ngrokd"
CRASHED = 32

# What a boot makes of /run, and a service that says that there is a network.
BOOT = """
mkdir -p /run/openrc && cd /run/openrc
mkdir daemons exclusive failed hotplugged inactive options scheduled started starting stopped \\
    stopping tmp wasinactive
echo default > softlevel
printf '#!/sbin/openrc-run\\ndepend() { provide net; }\\nstart() { :; }\\n' > /etc/init.d/wire
chmod 755 /etc/init.d/wire
touch /etc/insserv.conf
rc-update --update
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InitHost]:
    """One machine for all: its process 1 is BusyBox's init, which reaps."""
    packages = overlaid.packages("openrc", "librc1", "libeinfo1")
    if len(packages) < 3:
        pytest.skip(f"needs openrc in {overlaid.ARCHIVES}: apt-get install --download-only openrc")
    if overlaid.why_not():
        pytest.skip(overlaid.why_not())
    with Overlaid(tmp_path_factory.mktemp("machine"), packages) as machine:
        host = InitHost(machine)
        host.install("ngrokd.openrc", SERVICE)
        host.sh(BOOT)
        yield host


@pytest.fixture
def host(shared: InitHost) -> Iterator[InitHost]:
    yield shared
    shared.clear()
    shared.sh("rc-service ngrokd zap")


def _code(host: InitHost, *words: str) -> int:
    return host.try_("rc-service", "ngrokd", *words).returncode


def _table(host: InitHost) -> str:
    """What rc-status says of it."""
    lines = host.sh("rc-status --all --nocolor").splitlines()
    return next((line for line in lines if line.split()[:1] == ["ngrokd"]), "")


def test_a_life_from_start_to_stop(host: InitHost) -> None:
    assert _code(host, "status") == 3
    assert _code(host, "reload") == 1  # not started
    assert _code(host, "start") == 0
    host.ctl("status")  # answered at once
    first = host.pid()
    assert host.daemons() == [first]
    assert _code(host, "start") == 0
    assert _code(host, "status") == 0
    assert "started" in _table(host)
    host.configure({"bound_endpoints": {"poll_interval": 77}})
    assert _code(host, "reload") == 0
    host.until_logged("configuration read again, changed: .*poll_interval")
    assert host.daemons() == [first]
    assert _code(host, "restart") == 0
    assert host.daemons() == [host.pid()] != [first]
    assert _code(host, "stop") == 0
    assert _code(host, "status") == 3
    host.assert_nothing_is_left()


def test_a_crash_is_shown_and_mended_by_a_restart(host: InitHost) -> None:
    assert _code(host, "start") == 0
    host.ctl("wait", "--endpoints", 3, "--timeout", 20)
    host.kill()
    assert _code(host, "status") == CRASHED
    assert "crashed" in _table(host)
    assert _code(host, "--ifcrashed", "restart") == 0
    assert host.daemons() == [host.pid()]
    assert _code(host, "status") == 0


def test_what_a_killed_daemon_left_is_taken_away_by_stop(host: InitHost) -> None:
    assert _code(host, "start") == 0
    host.ctl("wait", "--endpoints", 3, "--timeout", 20)
    host.kill()
    assert host.has_names()
    assert _code(host, "stop") == 0
    host.assert_nothing_is_left()


def test_a_pid_that_is_another_programs_by_now_is_left_alone(host: InitHost) -> None:
    # By its name it is an ngrokd, as that of another configuration is.
    other = host.sh("bash -c 'exec -a ngrokd sleep 1000' >/dev/null 2>&1 & echo $!").strip()
    assert _code(host, "start") == 0
    host.kill()
    host.sh(f"echo {other} >{PID_FILE}")
    assert _code(host, "status") == CRASHED
    assert _code(host, "restart") == 0
    assert host.daemons() == [host.pid()]
    host.sh(f"kill {other}")  # it is still there


def test_a_mistake_in_the_configuration_spares_the_daemon_that_runs(host: InitHost) -> None:
    assert _code(host, "start") == 0
    first = host.pid()
    host.configure({"server": {"log_lvel": "info"}})
    for verb in ("restart", "reload", "checkconfig"):
        done = host.try_("rc-service", "ngrokd", verb)
        assert done.returncode != 0
        assert f"{CONFIG}:" in done.stderr
    assert host.daemons() == [first]
    assert _code(host, "status") == 0
    assert _code(host, "stop") == 0
    assert _code(host, "start") == 1
    host.assert_nothing_is_left()


@pytest.mark.parametrize("named_in", ["settings", "configuration"])
def test_what_is_no_pid_file_is_never_taken_for_one(host: InitHost, named_in: str) -> None:
    precious = "/srv/precious"
    host.machine.write(precious, "words\n")
    assert _code(host, "start") == 0
    first = host.pid()
    if named_in == "settings":
        host.defaults(PIDFILE=precious)
    else:
        host.configure({"server": {"pid_file": precious}})
    stop = host.try_("rc-service", "ngrokd", "stop")
    assert stop.returncode == 1
    assert f"{precious} is not a pid file" in stop.stderr
    assert _code(host, "status") == 4
    assert host.machine.read(precious) == "words\n"
    assert host.daemons() == [first]
    host.sh("rm /etc/default/ngrokd 2>&- || true")
    host.configure()
    assert _code(host, "status") == 0
    assert _code(host, "stop") == 0
    host.assert_nothing_is_left()


def test_settings_that_cannot_be_are_told_and_a_daemon_is_stoppable_all_the_same(
    host: InitHost,
) -> None:
    host.configure({"server": {"pid_file": "/run/\xe4.pid"}})  # JSON has an escape there
    refused = host.try_("rc-service", "ngrokd", "start")
    assert (refused.returncode, host.daemons()) == (1, [])
    assert "set PIDFILE in /etc/default/ngrokd" in refused.stderr
    host.configure()
    host.machine.write(DEFAULTS, "exit 0\n")
    ended = host.try_("rc-service", "ngrokd", "start")
    assert (ended.returncode, host.daemons()) == (1, [])
    assert "ends the script" in ended.stderr
    host.defaults(START_TIMEOUT="08", STOP_TIMEOUT="9" * 20, DAEMON_ARGS="--verbose\t--foreground")
    foreground = host.try_("rc-service", "ngrokd", "start")
    assert (foreground.returncode, "--foreground" in foreground.stderr) == (1, True)
    host.defaults(START_TIMEOUT="08", STOP_TIMEOUT="9" * 20)
    assert _code(host, "start") == 0
    assert _code(host, "status") == 0
    stop = host.try_("rc-service", "ngrokd", "stop")
    assert (stop.returncode, f"STOP_TIMEOUT={'9' * 20}" in stop.stdout + stop.stderr) == (0, True)
    host.assert_nothing_is_left()


def test_a_daemon_that_hangs_is_killed_and_cleaned_up_after(host: InitHost) -> None:
    assert _code(host, "start") == 0
    host.ctl("wait", "--endpoints", 3, "--timeout", 20)
    host.defaults(STOP_TIMEOUT=0)
    host.sh(f"sed -i 's/^AT_ONCE=5 /AT_ONCE=1 /' {SERVICE}; kill -STOP {host.pid()}")
    assert _code(host, "stop") == 0
    host.assert_nothing_is_left()


def test_settings_come_from_either_file(host: InitHost) -> None:
    host.configure({"api": {"key": ""}, "server": {"pid_file": "/run/other.pid"}})
    host.machine.write("/etc/conf.d/ngrokd", f"NGROK_API_KEY={KEY}\n")
    host.machine.write(DEFAULTS, "DAEMON_ARGS='--verbose'\n")
    assert _code(host, "start") == 0
    host.ctl("wait", "--timeout", 20)
    assert " DEBUG " in host.log()
    assert host.daemons() == [int(host.machine.read("/run/other.pid"))]
    assert _code(host, "stop") == 0
    host.assert_nothing_is_left()


def test_a_daemon_that_was_started_by_hand_is_taken_over(host: InitHost) -> None:
    host.sh("ngrokd --config /etc/ngrokd/config.yml")
    first = host.pid()
    assert _code(host, "start") == 0
    assert host.daemons() == [first]
    assert _code(host, "stop") == 0
    host.assert_nothing_is_left()


def test_what_cannot_be_started_says_why(host: InitHost) -> None:
    host.defaults(DAEMON="/nowhere/ngrokd")
    missing = host.try_("rc-service", "ngrokd", "start")
    assert missing.returncode == 1
    assert "/nowhere/ngrokd is not there" in missing.stderr


def test_a_start_that_never_ends_fails_in_time(host: InitHost) -> None:
    host.machine.write("/run/ngrokd-that-hangs", "#!/bin/sh\nexec sleep 1000\n", "0755")
    host.defaults(DAEMON="/run/ngrokd-that-hangs", START_TIMEOUT=1)
    done = host.try_("rc-service", "ngrokd", "start")
    assert done.returncode == 1
    assert "did not answer within 1 seconds" in done.stderr
    assert _code(host, "status") == 3


def test_it_starts_after_the_network_and_does_without(host: InitHost) -> None:
    assert "wire" in host.sh("rc-service ngrokd iwant")
    assert host.sh("rc-service ngrokd ineed").strip() == ""
