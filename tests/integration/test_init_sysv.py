"""The SysV script and the real daemon, as `service ngrokd VERB` and the boot run it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.integration.init_host import CONFIG, PID_FILE, SOCKET, InitHost
from tests.integration.overlaid import Overlaid, why_not
from tests.integration.site import KEY

pytestmark = pytest.mark.root

SCRIPT = "/etc/init.d/ngrokd"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InitHost]:
    """One machine for all: its process 1 is BusyBox's init, which reaps."""
    if why_not():
        pytest.skip(why_not())
    with Overlaid(tmp_path_factory.mktemp("machine")) as machine:
        host = InitHost(machine)
        host.install("ngrokd.init", SCRIPT)
        yield host


@pytest.fixture
def host(shared: InitHost) -> Iterator[InitHost]:
    yield shared
    shared.clear()


def _service(host: InitHost, verb: str) -> subprocess.CompletedProcess[str]:
    return host.try_("service", "ngrokd", verb)


def _code(host: InitHost, verb: str) -> int:
    return _service(host, verb).returncode


def test_a_life_from_start_to_stop(host: InitHost) -> None:
    assert _code(host, "status") == 3
    assert _service(host, "start").stdout == f"ngrokd: started (pid {host.pid()})\n"
    host.ctl("status")  # answered at once
    first = host.pid()
    assert host.daemons() == [first]
    assert _code(host, "start") == 0
    assert _code(host, "status") == 0
    host.ctl("wait", "--endpoints", 3, "--timeout", 20)
    assert "hello" in host.sh("curl -sSf http://hello.sandbox/")
    assert _code(host, "restart") == 0
    assert host.daemons() == [host.pid()] != [first]
    second = host.pid()
    assert _code(host, "try-restart") == 0
    assert host.daemons() == [host.pid()] != [second]
    assert _service(host, "stop").stdout == "ngrokd: stopped\n"
    host.assert_nothing_is_left()
    assert _code(host, "status") == 3
    assert _code(host, "stop") == 0


def test_a_reload_makes_the_running_daemon_read_its_configuration(host: InitHost) -> None:
    assert [_code(host, verb) for verb in ("reload", "force-reload")] == [7, 7]
    assert _code(host, "start") == 0
    first = host.pid()
    host.configure({"bound_endpoints": {"poll_interval": 77}})
    assert _code(host, "reload") == 0
    host.until_logged("configuration read again, changed: .*poll_interval")
    host.configure({"forward": {"idle_timeout": 77}})
    assert _code(host, "force-reload") == 0
    host.until_logged("configuration read again, changed: .*idle_timeout")
    # Where it looked by itself before it was told to, it looks twice.
    host.until_logged_times("configuration read again", 2 + host.log().count("was saved, so"))
    assert host.daemons() == [first]


def test_a_mistake_in_the_configuration_spares_the_daemon_that_runs(host: InitHost) -> None:
    assert _code(host, "start") == 0
    first = host.pid()
    host.configure({"server": {"log_lvel": "info"}, "net": {"subnet": "everywhere"}})
    for verb in ("restart", "try-restart", "reload", "force-reload"):
        done = _service(host, verb)
        assert done.returncode == 6
        assert len([line for line in done.stderr.splitlines() if f"{CONFIG}:" in line]) == 2
    assert host.daemons() == [first]
    host.ctl("status")
    assert _code(host, "stop") == 0
    host.assert_nothing_is_left()
    assert _code(host, "start") == 6
    host.assert_nothing_is_left()


def test_what_a_killed_daemon_left_hinders_no_start_and_is_taken_away_by_stop(
    host: InitHost,
) -> None:
    assert _code(host, "start") == 0
    host.ctl("wait", "--endpoints", 3, "--timeout", 20)
    first = host.pid()
    host.kill()
    assert host.has_names()
    assert _code(host, "status") == 1
    assert _code(host, "start") == 0
    assert host.daemons() == [host.pid()] != [first]
    host.ctl("wait", "--endpoints", 3, "--timeout", 20)
    host.kill()
    assert host.has_names()
    done = _service(host, "stop")
    assert (done.returncode, done.stderr) == (0, "")
    host.assert_nothing_is_left()
    assert _code(host, "status") == 3


def test_a_daemon_that_hangs_is_killed_and_cleaned_up_after(host: InitHost) -> None:
    assert _code(host, "start") == 0
    host.ctl("wait", "--endpoints", 3, "--timeout", 20)
    host.defaults(STOP_TIMEOUT=0)
    host.sh(f"sed -i 's/^AT_ONCE=5 /AT_ONCE=1 /' {SCRIPT}; kill -STOP {host.pid()}")
    done = _service(host, "stop")
    assert done.returncode == 0
    assert "killed" in done.stderr
    host.assert_nothing_is_left()


def test_a_pid_that_is_another_programs_by_now_is_left_alone(host: InitHost) -> None:
    # By its name it is an ngrokd, as that of another configuration is.
    other = host.sh("bash -c 'exec -a ngrokd sleep 1000' >/dev/null 2>&1 & echo $!").strip()
    host.sh(f"echo {other} >{PID_FILE}")
    assert _code(host, "status") == 1
    assert _code(host, "stop") == 0
    host.sh(f"echo {other} >{PID_FILE}")
    assert _code(host, "start") == 0
    assert host.daemons() == [host.pid()]
    host.sh(f"kill {other}")  # it is still there


def test_several_starts_at_once_are_one(host: InitHost) -> None:
    starts = [_begin(host, "start") for _ in range(3)]
    assert [start.wait(60) for start in starts] == [0, 0, 0]
    assert host.daemons() == [host.pid()]
    host.ctl("status")


def test_whatever_is_asked_at_once_ends_in_one_daemon_or_in_none(host: InitHost) -> None:
    verbs = ("start", "stop", "restart", "start", "stop")
    asked = [_begin(host, verb) for verb in verbs]
    assert [each.wait(60) for each in asked] == [0] * len(verbs)
    if _code(host, "status") == 0:
        assert host.daemons() == [host.pid()]
        assert _code(host, "stop") == 0
    host.assert_nothing_is_left()


def _begin(host: InitHost, verb: str) -> subprocess.Popen[bytes]:
    return host.popen(SCRIPT, verb, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_the_key_may_come_from_the_defaults_file(host: InitHost) -> None:
    host.configure({"api": {"key": ""}})
    host.defaults(NGROK_API_KEY=KEY, DAEMON_ARGS="--verbose")
    assert _code(host, "start") == 0
    host.ctl("wait", "--timeout", 20)
    assert " DEBUG " in host.log()
    assert KEY not in host.log()


def test_the_first_start_writes_the_configuration(host: InitHost) -> None:
    host.sh(f"rm {CONFIG}")
    done = _service(host, "start")
    assert (done.returncode, f"{CONFIG} was written" in done.stderr) == (0, True)
    assert host.sh(f"stat -c %a {CONFIG}") == "600\n"
    host.ctl("status")
    assert _code(host, "restart") == 0
    assert _code(host, "stop") == 0
    host.assert_nothing_is_left()


def test_another_pid_file_and_socket_are_followed(host: InitHost) -> None:
    files: dict[str, object] = {"pid_file": "/run/other.pid", "socket_path": "/run/other.sock"}
    host.configure({"server": files})
    assert _code(host, "start") == 0
    host.sh("test -S /run/other.sock && test -s /run/other.pid && test ! -e /run/ngrokd.pid")
    assert _code(host, "status") == 0
    assert _code(host, "stop") == 0
    assert host.sh("ls /run/other* 2>&- || true") == ""


def test_it_works_where_busybox_is_all_there_is(host: InitHost) -> None:
    host.sh("mkdir /run/bin && for tool in id rm sed sleep tr timeout start-stop-daemon; do"
            " ln -s /bin/busybox /run/bin/$tool; done")  # fmt: skip
    host.defaults(PATH="/run/bin")
    codes = [
        host.try_("busybox", "ash", SCRIPT, verb).returncode
        for verb in ("status", "start", "status", "reload", "restart", "stop", "status")
    ]
    assert codes == [3, 0, 0, 0, 0, 0, 3]
    host.assert_nothing_is_left()


def test_a_socket_that_cannot_be_made_fails_the_start_with_the_reason(host: InitHost) -> None:
    host.configure({"server": {"socket_path": "/proc/ngrokd.sock"}})
    done = _service(host, "start")
    assert done.returncode == 1
    assert "/proc/ngrokd.sock" in done.stderr
    assert host.daemons() == []
    assert not host.machine.exists(SOCKET)
