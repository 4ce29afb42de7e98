"""From `ngrokd install` to `ngrokd uninstall --purge`, under each init system, and without one."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

import pytest

from ngrokd.configfile import DEFAULT_TEXT
from tests.integration import booted, overlaid
from tests.integration.booted import Booted
from tests.integration.overlaid import NO_INIT, Overlaid, changes, survey
from tests.integration.programs import Program
from tests.integration.site import KEY, NGROKCTL, NGROKD, clean_environment

pytestmark = [pytest.mark.root, pytest.mark.long]

CONFIG = "/etc/ngrokd/config.yml"
CLOUD = "/srv/cloud"  # the stand-in cloud's folder
API = "http://127.0.0.1:4040"

# What a boot with OpenRC makes of /run, and a service that says that there is a network.
BOOT_OPENRC = """
cd /run && mkdir openrc && cd openrc
mkdir daemons exclusive failed hotplugged inactive options scheduled started starting stopped \\
    stopping tmp wasinactive
echo default > softlevel
printf '#!/sbin/openrc-run\\ndepend() { provide net; }\\nstart() { :; }\\n' > /etc/init.d/wire
chmod 755 /etc/init.d/wire
touch /etc/insserv.conf
rc-update --update
"""

# What running it, whatever it is that runs, changes on a machine.
RUNTIME = ("/run/systemd", "/run/log", "/run/openrc", "/run/lock", "/var/lib/systemd", CLOUD)


class Host:
    """A machine with one init system, on which a person types."""

    def __init__(self, name: str, machine: Union[Booted, Overlaid]) -> None:
        self.name = name
        self.machine = machine
        self._programs: list[Program] = []

    def type(self, program: object, *words: object, **options: Any) -> str:
        """A command that must work; what it printed."""
        done = self.try_(program, *words, **options)
        assert done.returncode == 0, f"{program} {words}: {done.stdout}{done.stderr}"
        return done.stdout

    def try_(
        self, program: object, *words: object, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """A command, whatever comes of it."""
        options = {"check": False, "env": clean_environment(), **options}
        return self.machine.run(program, *words, **options)

    def ngrokd(self, *words: object) -> str:
        """`ngrokd WORDS`, which must work."""
        return self.type(NGROKD, *words)

    def code(self, *words: object) -> int:
        """The exit status of `ngrokd WORDS`."""
        return self.try_(NGROKD, *words).returncode

    def sh(self, script: str) -> str:
        """In a shell."""
        return self.type("sh", "-c", script)

    def exists(self, path: str) -> bool:
        """Also a dangling link."""
        return self.try_("sh", "-c", f"test -e {path} || test -L {path}").returncode == 0

    def append(self, path: str, text: str) -> None:
        """To a file."""
        self.type("sh", "-c", f"cat >> {path}", input=text)

    def popen(self, *argv: object, **options: Any) -> subprocess.Popen[Any]:
        """For `Program`. Signals do not reach it; it ends with the machine."""
        return subprocess.Popen(self.machine.argv(*argv), **options)

    def start_cloud(self, config: str = CONFIG) -> None:
        """A stand-in cloud, where the configuration points to."""
        argv = [*(NGROKD, "sandbox", "--dir", CLOUD, "--port", 4040, "--ingress-port", 4443)]
        program = Program(self, argv, clean_environment())  # type: ignore[arg-type]
        self._programs.append(program)
        program.expect("url:")
        ca_file = self.sh(f"ls {CLOUD}/*/intermediate.crt {CLOUD}/intermediate.crt 2>&-; :").strip()
        assert ca_file
        self.sh(
            f"sed -i -e 's|url: https://api.ngrok.com|url: {API}|' "
            f"-e 's|ca_file: \"\"|ca_file: {ca_file}|' {config}"
        )

    def operators(self) -> list[Any]:
        """Those that exist at the stand-in cloud."""
        page = self.sh(f"curl -sSf {API}/sandbox/operators")
        found: list[Any] = json.loads(page)["operators"]
        return found

    def pid(self) -> int:
        """Of the daemon that runs; 0: none does."""
        return int(self.sh("cat /run/ngrokd.pid 2>&- || echo 0"))

    def changed(self, before: dict[str, list[object]]) -> set[str]:
        """Files that are not as they were."""
        return {path for path in changes(self.machine, before) if not path.startswith(RUNTIME)}

    def end(self) -> None:
        """After the machine, with which its programs have ended."""
        for program in self._programs:
            program.wait()


@contextlib.contextmanager
def _host(name: str, folder: Path) -> Iterator[Host]:
    reason = booted.why_not() if name == "systemd" else overlaid.why_not()
    if reason:
        pytest.skip(reason)
    packages = overlaid.packages("openrc", "librc1", "libeinfo1") if name == "openrc" else []
    if name == "openrc" and len(packages) < 3:
        pytest.skip(f"needs openrc in {overlaid.ARCHIVES}: apt-get install --download-only openrc")
    first = NO_INIT if name == "none" else overlaid.BUSYBOX_INIT
    with Booted(folder) if name == "systemd" else Overlaid(folder, packages, first) as machine:
        host = Host(name, machine)
        host.sh("rm -rf /etc/ngrokd /etc/default/ngrokd /var/log/ngrokd.log*")
        if name == "openrc":
            host.sh(BOOT_OPENRC)
        yield host
    host.end()


@pytest.fixture(params=["systemd", "openrc", "sysv"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    """A machine of each init system."""
    with _host(request.param, tmp_path) as host:
        yield host


@pytest.fixture
def sysv(tmp_path: Path) -> Iterator[Host]:
    """A machine with sysvinit's scripts."""
    with _host("sysv", tmp_path) as host:
        yield host


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Host]:
    """A machine on which nothing starts services."""
    with _host("none", tmp_path) as host:
        yield host


def test_its_whole_life_works_as_it_is_documented_and_a_purge_leaves_nothing(host: Host) -> None:
    """One machine and one daemon for all of it: each step costs a second."""
    before = survey(host.machine)
    _install_is_idempotent_and_does_what_it_shows(host, before)
    host.start_cloud()
    host.ngrokd("stop")  # harmless
    assert host.code("reload") == 1

    host.ngrokd("start")
    host.type(NGROKCTL, "set-api-key", KEY)
    listed = host.type(NGROKCTL, "list")
    assert "hello.sandbox" in listed and "open" in listed
    assert "hello" in host.sh("curl -sSf http://hello.sandbox/")
    assert len(host.operators()) == 1

    _verbs_go_through_the_init_system(host)
    if host.name == "sysv":  # it is found before any init system is asked
        _a_mistake_takes_no_daemon_down(host)
    _uninstall_keeps_configuration_and_state(host, before)

    host.ngrokd("uninstall", "--purge")
    assert host.operators() == []
    assert "ngrokd0" not in host.sh("ip -br link")
    assert host.changed(before) == set()


def _install_is_idempotent_and_does_what_it_shows(
    host: Host, before: dict[str, list[object]]
) -> None:
    shown = host.ngrokd("install", "--dry-run")
    assert host.changed(before) == set()
    done = host.ngrokd("install")
    after = survey(host.machine)
    assert "nothing to do" in host.ngrokd("install")
    assert host.changed(after) == set()
    assert [_done(line) for line in shown.splitlines()] == done.splitlines()[:-1]
    assert host.pid() == 0  # it is not started


def _done(line: str) -> str:
    """What is told of a step once it is done, from what --dry-run said of it."""
    for would, did in (("write", "wrote"), ("make", "made"), ("link", "linked"), ("run", "ran")):
        line = line.replace(f"would {would}", did)
    return line.partition(" (mode")[0].partition(" -> ")[0]


def _verbs_go_through_the_init_system(host: Host) -> None:
    first = host.pid()
    assert f"runs already (pid {first})" in host.ngrokd("start")
    host.ngrokd("reload")
    host.ngrokd("restart")
    assert host.pid() not in (0, first)


def _a_mistake_takes_no_daemon_down(host: Host) -> None:
    pid = host.pid()
    host.append(CONFIG, "bound: 1\nnett: 2\n")
    for verb in ("restart", "reload", "start"):
        failed = host.try_(NGROKD, verb)
        assert failed.returncode == 2
        assert len([line for line in failed.stderr.splitlines() if CONFIG in line]) == 2
        assert host.pid() == pid
    host.ngrokd("stop")
    assert host.pid() == 0
    assert host.code("uninstall", "--purge") == 2
    assert host.exists(CONFIG)


def _uninstall_keeps_configuration_and_state(host: Host, before: dict[str, list[object]]) -> None:
    host.append(CONFIG, "# mine\n")
    host.ngrokd("uninstall")  # on sysv also with mistakes in the configuration
    assert host.sh(f"tail -n 1 {CONFIG}") == "# mine\n"
    kept = {path for path in host.changed(before) if not path.startswith("/var/log/ngrokd.log")}
    assert CONFIG in kept and "/etc/ngrokd/operator_id" in kept
    assert all(path.startswith("/etc/ngrokd") for path in kept)
    host.sh(f"sed -i '/^bound: /d; /^nett: /d' {CONFIG}")
    assert "was not installed" in host.ngrokd("uninstall")


def test_the_service_starts_at_boot_and_is_found_and_stopped_whatever_its_pid_file(
    sysv: Host,
) -> None:
    sysv.ngrokd("install")
    sysv.sh("for script in /etc/rc2.d/S??ngrokd; do $script start; done")  # as /etc/init.d/rc does
    pid = sysv.pid()
    assert pid != 0
    refused = sysv.try_(NGROKD, "uninstall", "--config", "/srv/other.yml")
    assert refused.returncode == 1
    assert CONFIG in refused.stderr and "/srv/other.yml" in refused.stderr
    assert sysv.exists("/etc/init.d/ngrokd")

    sysv.sh(f"sed -i 's|pid_file: .*|pid_file: /run/elsewhere.pid|' {CONFIG}")
    assert f"runs already (pid {pid})" in sysv.ngrokd("start")
    assert "ended the daemon" in sysv.ngrokd("uninstall")
    assert sysv.pid() == 0 and not sysv.exists("/run/ngrokd.sock")
    assert sysv.sh("ls /etc/rc?.d").count("ngrokd") == 0


def test_without_a_tool_for_them_the_links_are_made_by_hand(sysv: Host) -> None:
    sysv.sh("rm /usr/sbin/update-rc.d /usr/sbin/service")
    before = survey(sysv.machine)
    sysv.ngrokd("install")
    assert sysv.sh("readlink /etc/rc3.d/S90ngrokd /etc/rc6.d/K10ngrokd") == "../init.d/ngrokd\n" * 2
    sysv.ngrokd("start")
    assert sysv.pid() != 0
    sysv.ngrokd("uninstall", "--purge")
    assert sysv.changed(before) == set()


def test_an_operator_is_not_orphaned_by_a_purge_that_cannot_reach_ngrok(sysv: Host) -> None:
    before = survey(sysv.machine)
    path = "/srv/x/config.yml"
    sysv.sh("mkdir /srv/x")
    sysv.append(path, DEFAULT_TEXT.replace("/etc/ngrokd", "/srv/x"))
    sysv.ngrokd("install", "--config", "/srv/y/../x/config.yml")
    sysv.start_cloud(path)
    sysv.append("/etc/default/ngrokd", f"NGROK_API_KEY={KEY}\n")  # good for leaving too
    sysv.ngrokd("start")
    sysv.type(NGROKCTL, "wait", "--timeout", "20")
    operator = sysv.sh("cat /srv/x/operator_id").strip()
    sysv.sh(f"sed -i 's|url: {API}|url: http://127.0.0.1:9|' {path}")

    failed = sysv.try_(NGROKD, "uninstall", "--purge")

    assert failed.returncode == 1
    assert operator in failed.stderr and "--force" in failed.stderr
    assert f"run `ngrokd uninstall --purge --config {path}` again" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
    assert sysv.exists("/etc/init.d/ngrokd") and sysv.pid() == 0
    assert sysv.exists("/srv/x/operator_id") and sysv.exists("/srv/x/tls.key")

    shown = sysv.ngrokd("uninstall", "--purge", "--dry-run")
    assert f"would delete operator {operator} at http://127.0.0.1:9" in shown
    sysv.sh(f"sed -i 's|url: http://127.0.0.1:9|url: {API}|' {path}")
    assert f"deleted operator {operator}" in sysv.ngrokd("uninstall", "--purge")
    assert sysv.operators() == []
    assert sysv.changed(before) == set()


def test_a_forced_purge_says_which_operator_stays(sysv: Host) -> None:
    before = survey(sysv.machine)
    sysv.ngrokd("install")
    sysv.append("/etc/ngrokd/operator_id", "k8sop_0123456789abcdefghijklmnopq\n")
    nothing_known = sysv.try_(NGROKD, "uninstall", "--purge")
    assert nothing_known.returncode == 1 and "NGROK_API_KEY" in nothing_known.stderr
    assert sysv.code("uninstall", "--force") == 2
    said = sysv.ngrokd("uninstall", "--purge", "--force")
    assert "operator k8sop_0123456789abcdefghijklmnopq stays at ngrok" in said
    assert sysv.changed(before) == set()


def test_a_script_of_another_origin_is_refused_and_survives(sysv: Host) -> None:
    sysv.append("/etc/init.d/ngrokd", "#!/bin/sh\n# another ngrokd\n")
    before = survey(sysv.machine)
    failed = sysv.try_(NGROKD, "install")
    assert failed.returncode == 1
    assert "/etc/init.d/ngrokd" in failed.stderr and "nothing was changed" in failed.stderr
    sysv.ngrokd("uninstall", "--purge")
    assert sysv.changed(before) == set()


def test_an_ordinary_user_sees_the_steps_and_may_not_do_them(sysv: Host) -> None:
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    needed = (Path(sys.base_prefix), Path(sys.prefix), NGROKD)
    sysv.type("chmod", "o+rx", *{parent for path in needed for parent in path.parents})
    failed = sysv.try_(*user, NGROKD, "install")
    shown = sysv.try_(*user, NGROKD, "install", "--dry-run")
    assert failed.returncode == 1 and "sudo ngrokd install" in failed.stderr
    assert shown.returncode == 0 and "would write /etc/init.d/ngrokd" in shown.stdout


def test_a_program_that_everybody_could_replace_is_refused(sysv: Host) -> None:
    sysv.sh(f"mkdir -m 777 /opt/open && ln -s {NGROKD} /opt/open/ngrokd")
    refused = sysv.try_("/opt/open/ngrokd", "install")
    assert refused.returncode == 1
    assert "everybody may write to /opt/open" in refused.stderr
    assert not sysv.exists("/etc/init.d/ngrokd")
    sysv.sh("chmod 755 /opt/open && chown 65534 /opt/open")
    warned = sysv.try_("/opt/open/ngrokd", "install")
    assert warned.returncode == 0
    assert "/opt/open belongs to user 65534" in warned.stderr
    assert "DAEMON=/opt/open/ngrokd" in sysv.sh("cat /etc/init.d/ngrokd")


def test_a_configuration_that_others_could_replace_is_refused(sysv: Host) -> None:
    sysv.sh("mkdir /srv/bob && ln -s /etc/cron.d /srv/bob/n && chown 65534 /srv/bob")
    before = survey(sysv.machine)
    refused = sysv.try_(NGROKD, "install", "--config", "/srv/bob/n/config.yml")
    assert refused.returncode == 1 and "/srv/bob belongs to user 65534" in refused.stderr
    sysv.sh("chown 0 /srv/bob && chmod 777 /srv/bob")
    refused = sysv.try_(NGROKD, "install", "--config", "/srv/bob/c.yml")
    assert refused.returncode == 1 and "everybody" in refused.stderr
    sysv.sh("chmod 755 /srv/bob && chown 65534 /srv/bob")
    assert sysv.changed(before) == set()


def test_a_container_is_told_that_nothing_starts_services_there(container: Host) -> None:
    failed = container.try_(NGROKD, "install")
    assert failed.returncode == 1
    assert "process 1 is sleep" in failed.stderr and "ngrokd --foreground" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_without_an_init_system_the_verbs_work_by_the_pid_file(container: Host) -> None:
    before = survey(container.machine)
    assert "not running" in container.ngrokd("stop")
    assert container.code("reload") == 1

    assert "started (pid " in container.ngrokd("start")
    first = container.pid()
    assert container.sh(f"head -n 1 {CONFIG}").startswith("# ngrokd")
    assert f"runs already (pid {first})" in container.ngrokd("start")
    assert f"(pid {first})" in container.ngrokd("reload")
    container.ngrokd("restart")
    assert container.pid() not in (0, first)
    container.sh(f"kill -9 {container.pid()}")
    assert "dead" in container.ngrokd("stop")
    assert container.pid() == 0
    container.ngrokd("start")
    assert f"stopped (pid {container.pid()})" in container.ngrokd("stop")

    container.ngrokd("uninstall", "--purge")
    assert container.changed(before) == set()


def test_config_is_honoured_by_every_command(container: Host) -> None:
    text = DEFAULT_TEXT.replace("/run/ngrokd", "/run/two").replace("/etc/ngrokd", "/srv/two")
    container.sh("mkdir /srv/two")
    container.append("/srv/two/c.yml", text)
    config = ("--config", "/srv/two/c.yml")
    container.ngrokd("start", *config)
    assert container.exists("/run/two.pid") and not container.exists("/run/ngrokd.pid")
    assert "not running" in container.ngrokd("stop")
    container.ngrokd(*config, "restart")
    container.ngrokd("reload", *config)
    container.ngrokd("stop", *config)
    assert not container.exists("/run/two.pid")
    container.ngrokd("install", "--init", "sysv", *config)
    assert "CONFIG=/srv/two/c.yml" in container.sh("cat /etc/init.d/ngrokd")
    container.ngrokd("start")  # the service that is installed
    assert container.exists("/run/two.pid") and not container.exists("/run/ngrokd.pid")
    container.ngrokd("uninstall")
    assert not container.exists("/run/two.pid")


def test_an_image_can_be_made_for_an_init_system_that_does_not_run(container: Host) -> None:
    before = survey(container.machine)
    container.ngrokd("install", "--init", "systemd")
    assert container.exists("/etc/systemd/system/multi-user.target.wants/ngrokd.service")
    assert "nothing to do" in container.ngrokd("install", "--init", "systemd")
    container.ngrokd("uninstall", "--purge")
    assert container.changed(before) == set()
