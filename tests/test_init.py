"""The init files work: the SysV script against a stand-in daemon on a machine of its own."""

from __future__ import annotations

import os
import plistlib
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.namespace import Namespace

INIT = Path(__file__).parent.parent / "init"

# Goes into the background like ngrokd: the parent returns once the child has written its pid.
STAND_IN = """#!{python}
import os, signal, sys
pid_file, config = {pid_file!r}, {config!r}
text = open(config).read() if os.path.exists(config) else ""
if "broken" in text:
    print("config.yml:1: broken", file=sys.stderr)
    sys.exit(2)
if sys.argv[1] == "check-config":
    sys.exit(0)
assert sys.argv[1:3] == ["--config", config], sys.argv
with open({seen!r}, "w") as seen:
    print(sys.argv[3:], os.environ.get("NGROK_API_KEY"), file=seen)
if "hangs" in text:
    signal.pause()
if "refuses" in text:
    sys.exit(1)
reading, writing = os.pipe()
if os.fork():
    os.close(writing)
    os.read(reading, 1)
    os._exit(0)
os.setsid()
signal.signal(signal.SIGTERM, lambda number, frame: (os.remove(pid_file), os._exit(0)))
signal.signal(signal.SIGHUP, lambda number, frame: open({seen!r}, "w").write("reloaded"))
if "stubborn" in text:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(pid_file, "w") as file:
    file.write(str(os.getpid()) + "\\n")
devnull = os.open(os.devnull, os.O_RDWR)
for number in (0, 1, 2):
    os.dup2(devnull, number)
os.write(writing, b"1")
while True:
    signal.pause()
"""


class Service:
    """The SysV script on a private machine, with a stand-in for the daemon."""

    def __init__(self, machine: Namespace, folder: Path) -> None:
        self._machine = machine
        self.config, self.pid_file = folder / "config.yml", folder / "ngrokd.pid"
        self.daemon, self.seen = folder / "ngrokd", folder / "seen"
        self.daemon.write_text(
            STAND_IN.format(
                python=sys.executable,
                pid_file=str(self.pid_file),
                config=str(self.config),
                seen=str(self.seen),
            )
        )
        self.daemon.chmod(0o755)
        (machine.etc / "default/ngrokd").unlink(missing_ok=True)
        self.defaults(DAEMON=self.daemon, CONFIG=self.config, STOP_TIMEOUT="1")
        self.configure()

    def defaults(self, **variables: object) -> None:
        """Adds lines to /etc/default/ngrokd."""
        (self._machine.etc / "default").mkdir(exist_ok=True)
        with open(self._machine.etc / "default/ngrokd", "a") as file:
            file.writelines(f'{name}="{value}"\n' for name, value in variables.items())

    def configure(self, extra: str = "") -> None:
        self.config.write_text(f"server:\n  pid_file: '{self.pid_file}'  # here\n# {extra}\n")

    def __call__(self, action: str) -> subprocess.CompletedProcess[str]:
        return self._machine.run("sh", INIT / "ngrokd.init", action, check=False)

    def code(self, action: str) -> int:
        return self(action).returncode

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def kill(self) -> None:
        """Ends the stand-in as a crash does, and waits for that."""
        pidfd = os.pidfd_open(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        ended, _, _ = select.select([pidfd], [], [], 10)
        os.close(pidfd)
        assert ended


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """One for all tests here: they change nothing of it but /etc/default/ngrokd."""
    with Namespace(tmp_path_factory.mktemp("machine")) as machine:
        yield machine


@pytest.fixture
def service(machine: Namespace, tmp_path: Path) -> Iterator[Service]:
    service = Service(machine, tmp_path)
    yield service
    if service.pid_file.exists() and service.code("status") == 0:
        service.kill()


@pytest.fixture(params=["with start-stop-daemon", "without it"])
def either(request: pytest.FixtureRequest, service: Service, tmp_path: Path) -> Service:
    """The script on machines with and without start-stop-daemon: Debian's, and all others."""
    if request.param == "with start-stop-daemon":
        if shutil.which("start-stop-daemon") is None:
            pytest.skip("start-stop-daemon is not installed")
        return service
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("basename", "head", "id", "ps", "rm", "sed", "sleep", "timeout", "tr"):
        found = shutil.which(tool)
        if found:
            (folder / tool).symlink_to(found)
    service.defaults(PATH=folder)
    return service


@pytest.mark.root
def test_start_status_and_stop(either: Service) -> None:
    assert either.code("status") == 3
    assert either("start").returncode == 0
    assert either.code("status") == 0
    assert str(either.pid) in either("status").stdout
    assert either.code("stop") == 0
    assert either.code("status") == 3
    assert not either.pid_file.exists()


@pytest.mark.root
def test_start_of_a_running_daemon_and_stop_of_none_are_done_already(service: Service) -> None:
    assert service.code("stop") == 0
    assert service.code("start") == 0
    first = service.pid
    assert service.code("start") == 0
    assert service.pid == first


@pytest.mark.root
def test_restart_makes_a_new_process_and_try_restart_only_of_a_running_one(either: Service) -> None:
    assert either.code("try-restart") == 0
    assert either.code("status") == 3
    assert either.code("restart") == 0
    first = either.pid
    assert either.code("try-restart") == 0
    assert either.pid != first


@pytest.mark.root
def test_a_daemon_that_ignores_sigterm_is_killed(either: Service) -> None:
    either.configure("stubborn")
    assert either.code("start") == 0
    assert either.code("stop") == 0
    assert either.code("status") == 3


@pytest.mark.root
def test_a_dead_daemon_with_a_pid_file_is_told_and_started_again(service: Service) -> None:
    service("start")
    service.kill()
    assert service.code("status") == 1
    assert service.code("start") == 0
    assert service.code("status") == 0


@pytest.mark.root
def test_a_pid_that_another_program_has_by_now_is_not_stopped(service: Service) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        service.pid_file.write_text(f"{other.pid}\n")
        assert service.code("status") == 1
        assert service.code("stop") == 0
        assert service.code("start") == 0
        assert other.poll() is None
        other.communicate()


@pytest.mark.root
def test_a_start_that_never_ends_fails_in_time(service: Service) -> None:
    service.configure("hangs")
    service.defaults(START_TIMEOUT="1")
    result = service("start")
    assert result.returncode == 1
    assert "did not answer within 1 seconds" in result.stderr


@pytest.mark.root
def test_a_refused_start_is_a_failure(either: Service) -> None:
    either.configure("refuses")
    assert either.code("start") == 1


@pytest.mark.root
def test_a_wrong_configuration_fails_a_start_and_spares_a_running_daemon(service: Service) -> None:
    service("start")
    running = service.pid
    service.configure("broken")
    for action in ("restart", "try-restart", "reload", "force-reload"):
        result = service(action)
        assert result.returncode == 6
        assert "config.yml:1: broken" in result.stderr
    assert service.code("status") == 0
    assert service.pid == running
    assert service.code("stop") == 0
    assert service.code("start") == 6


@pytest.mark.root
def test_reload_sends_a_signal_and_needs_a_running_daemon(service: Service) -> None:
    assert service.code("force-reload") == 7
    service("start")
    first = service.pid
    assert service.code("force-reload") == 0
    assert service.pid == first
    assert service.code("stop") == 0  # answered after the earlier signal
    assert service.seen.read_text() == "reloaded"


@pytest.mark.root
def test_arguments_and_variables_of_the_defaults_file_reach_the_daemon(service: Service) -> None:
    service.defaults(DAEMON_ARGS="--verbose --extra", NGROK_API_KEY="from-defaults")
    service("start")
    assert service.seen.read_text() == "['--verbose', '--extra'] from-defaults\n"


@pytest.mark.root
def test_a_missing_program_is_not_installed(service: Service) -> None:
    service.daemon.unlink()
    result = service("start")
    assert result.returncode == 5
    assert "/etc/default/ngrokd" in result.stderr


@pytest.mark.root
def test_who_is_not_root_may_ask_for_the_status_only(service: Service, machine: Namespace) -> None:
    def code(action: str) -> int:
        script = (INIT / "ngrokd.init").read_text()
        return machine.run(
            "setpriv", "--reuid=65534", "sh", "-s", action, check=False, input=script
        ).returncode

    assert code("start") == code("stop") == code("reload") == 4
    assert code("status") == 3


@pytest.mark.root
@pytest.mark.parametrize("action", ["", "fly"])
def test_an_unknown_action_is_a_mistake_of_usage(service: Service, action: str) -> None:
    result = service(action)
    assert result.returncode == 2
    assert "Usage" in result.stderr


@pytest.mark.root
def test_the_real_daemon_is_started_reloaded_and_stopped(
    machine: Namespace, tmp_path: Path
) -> None:
    daemon = Path(sys.executable).parent / "ngrokd"
    if not daemon.exists():
        pytest.skip(f"{daemon} is not there: `make venv` installs it")
    service = Service(machine, tmp_path)
    service.defaults(DAEMON=daemon, STOP_TIMEOUT="30")
    service.config.write_text(
        f"server:\n  pid_file: {tmp_path}/ngrokd.pid\n  socket_path: {tmp_path}/socket\n"
        f"  log_file: {tmp_path}/log\n  client_cert: {tmp_path}/state/tls.crt\n"
        f"  client_key: {tmp_path}/state/tls.key\n"
    )
    hosts = machine.hosts.read_bytes()
    try:
        assert service.code("start") == 0
        assert (tmp_path / "socket").exists()
        assert service.code("status") == 0
        assert service.code("force-reload") == 0
    finally:
        assert service.code("stop") == 0
    assert service.code("status") == 3
    assert not (tmp_path / "socket").exists()
    assert machine.hosts.read_bytes() == hosts


def test_the_script_tells_insserv_what_it_needs() -> None:
    header = (INIT / "ngrokd.init").read_text().partition("### END INIT INFO")[0]
    for field in ("Provides", "Required-Start", "Required-Stop", "Default-Start", "Default-Stop"):
        assert f"# {field}:" in header


@pytest.mark.parametrize("name", ["ngrokd.init", "ngrokd.openrc", "ngrokd.default"])
@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_shells_can_read_it(name: str, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", INIT / name], check=True)


@pytest.mark.parametrize("name", ["ngrokd.init", "ngrokd.openrc"])
def test_scripts_are_executable(name: str) -> None:
    assert os.access(INIT / name, os.X_OK)


def test_the_launchd_job_starts_the_daemon_with_its_configuration() -> None:
    job = plistlib.loads((INIT / "com.ngrok.ngrokd.plist").read_bytes())
    assert job["Label"] == "com.ngrok.ngrokd"
    assert job["ProgramArguments"] == [
        "/usr/local/bin/ngrokd",
        "--config=/etc/ngrokd/config.yml",
    ]
    assert job["RunAtLoad"] is True
    assert job["KeepAlive"] is True


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "ngrokd.service"
    text = (INIT / "ngrokd.service").read_text()
    assert "/usr/local/bin/ngrokd --foreground" in text
    unit.write_text(text.replace("/usr/local/bin/ngrokd", "/bin/true"))
    result = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_logrotate_takes_its_file(tmp_path: Path) -> None:
    logrotate = shutil.which("logrotate", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if logrotate is None:
        pytest.skip("logrotate is not installed")
    rules = tmp_path / "ngrokd"
    shutil.copy(INIT / "ngrokd.logrotate", rules)
    rules.chmod(0o644)
    result = subprocess.run(
        [logrotate, "-d", "-s", tmp_path / "state", rules], capture_output=True, text=True
    )
    assert result.returncode == 0
    assert "error" not in result.stderr
