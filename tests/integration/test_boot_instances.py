"""Two daemons on one machine: the same one twice, side by side, and in each other's way."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import pytest

from tests.integration import background, programs
from tests.integration.netns import receive_exactly
from tests.integration.site import (
    HEALTH_PORT,
    NGROKCTL,
    Daemon,
    Overrides,
    Site,
    run_ngrokd,
)

pytestmark = pytest.mark.root

PAIR = (("client_cert", "crt"), ("client_key", "key"))


class Second:
    """Another instance on the site's machine, with a folder of its own."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.folder = site.folder / "second"
        self.folder.mkdir()
        self.config = self.folder / "config.yml"
        self.socket_path = self.folder / "ngrokd.sock"
        self.pid_file = self.folder / "ngrokd.pid"

    def write_config(
        self, net: dict[str, object], server: Optional[dict[str, object]] = None
    ) -> None:
        """The site's, but for its own paths and these."""
        self._site.write_config()
        config = json.loads(self._site.config.read_text())
        config["net"] = net
        config["server"].update(
            {
                "client_cert": str(self.folder / "state" / "tls.crt"),
                "client_key": str(self.folder / "state" / "tls.key"),
                "socket_path": str(self.socket_path),
                "pid_file": str(self.pid_file),
                "health_port": HEALTH_PORT + 1,
                **(server or {}),
            }
        )
        self.config.write_text(json.dumps(config))
        self.config.chmod(0o600)

    def start(self) -> Daemon:
        """In the foreground."""
        site = self._site
        daemon = Daemon(site.namespace, site.network, self.config, self.socket_path)
        site.keep(daemon)
        return daemon


def _serving(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    site.start_cloud("tcp://one.ns:7000=127.0.0.1:7000")


def _must_serve(site: Site, address: str) -> None:
    with site.network.connect(address, 7000) as client:
        assert receive_exactly(client, 8) == b"goodbye\n"


def _picture(site: Site, *files: Path) -> list[object]:
    """All that a second daemon must not touch."""
    shown: list[object] = [site.run("ip", "-o", "addr").stdout, site.run("ss", "-Hltn").stdout]
    for file in (site.namespace.hosts, site.socket_path, site.folder / "ngrokd.pid", *files):
        found = file.lstat()
        content = b"" if file.is_socket() else file.read_bytes()
        shown.append((file, found.st_ino, found.st_mtime_ns, found.st_mode, content))
    shown += sorted(path.name for path in (*site.folder.iterdir(), *site.namespace.etc.iterdir()))
    shown += [(path.name, path.read_bytes()) for path in sorted(site.state.iterdir())]
    return shown


@pytest.mark.parametrize("how", [pytest.param("foreground", marks=pytest.mark.long), "background"])
def test_the_same_daemon_a_second_time_names_the_first_and_touches_nothing(
    site: Site, how: str
) -> None:
    _serving(site)
    log = site.folder / "ngrokd.log"
    quiet: Overrides = {"bound_endpoints": {"poll_interval": 600}, "server": {"log_file": str(log)}}
    daemon = site.start_daemon(quiet).ready()
    (site.folder / "said").touch()
    before = _picture(site, log)

    if how == "foreground":
        second = run_ngrokd(site, "--foreground", "--config", site.config)
        said = second.stderr
    else:
        second = background.start(site, site.config)
        said = second.stdout

    assert second.returncode == 1
    assert said == (
        f"ngrokd: ngrokd already runs with pid {daemon.pid} ({site.folder}/ngrokd.pid): "
        "stop it first\n"
    )
    assert _picture(site, log) == before
    _must_serve(site, "one.ns")
    assert daemon.stop() == 0
    site.assert_nothing_is_left(daemon)


@pytest.mark.long
def test_two_instances_work_side_by_side_and_clean_up_only_their_own(site: Site) -> None:
    _serving(site)
    second = Second(site)
    second.write_config({"interface_name": "ngrokd1", "subnet": "10.108.0.0/16"})
    hosts = site.namespace.hosts

    one, two = site.start_daemon().ready(), second.start().ready()

    text = hosts.read_text()
    assert "# BEGIN ngrokd managed section\n10.107.0.2\tone.ns\n" in text
    # The name is the first one's already, and a second line for it would be nobody's answer.
    assert "10.108.0.2/32" not in text
    _must_serve(site, "10.107.0.2")
    assert two.endpoints()["tcp://one.ns:7000"]["state"] == "skipped"

    assert one.stop() == 0
    two.wait_for("--for", "one.ns", "--timeout", 10)
    text = hosts.read_text()
    assert "# BEGIN ngrokd managed section (ngrokd1)\n10.108.0.2\tone.ns\n" in text
    assert "# BEGIN ngrokd managed section\n" not in text
    _must_serve(site, "10.108.0.2")
    assert site.interface_words() == []

    two.send(signal.SIGKILL)
    two.wait()
    one = site.start_daemon().ready()
    cleaned = run_ngrokd(site, "cleanup", "--config", second.config)
    assert (cleaned.returncode, cleaned.stderr) == (0, "")
    assert "interface ngrokd1 is removed" in cleaned.stdout
    assert "(ngrokd1)" not in hosts.read_text()
    assert "10.108." not in site.run("ip", "addr").stdout
    assert not second.socket_path.exists() and not second.pid_file.exists()
    one.wait_for("--for", "one.ns", "--timeout", 10)
    _must_serve(site, "10.107.0.2")
    assert one.stop() == 0
    site.assert_nothing_is_left(one)


@pytest.mark.parametrize(
    "subnet", ["10.107.0.0/16", pytest.param("10.108.0.0/16", marks=pytest.mark.long)]
)
def test_a_second_instance_with_the_same_interface_is_refused_and_the_first_is_named(
    site: Site, subnet: str
) -> None:
    _serving(site)
    second = Second(site)
    second.write_config({"interface_name": "ngrokd0", "subnet": subnet})
    quiet: Overrides = {"bound_endpoints": {"poll_interval": 600}}
    one = site.start_daemon(quiet).ready()
    before = _picture(site)

    two = second.start()

    assert two.wait() == 1
    line = two.expect("ngrokd: .*the interface ngrokd0")
    assert f"(pid {one.pid})" in line and "net.interface_name" in line
    assert two.matching("Traceback") == []
    assert not second.socket_path.exists() and not second.pid_file.exists()
    assert _picture(site) == before
    cleaned = run_ngrokd(site, "cleanup", "--config", second.config)
    assert cleaned.returncode == 1 and f"(pid {one.pid})" in cleaned.stderr
    assert _picture(site) == before
    _must_serve(site, "one.ns")
    assert one.stop() == 0
    site.assert_nothing_is_left(one)

    two = second.start().ready()
    assert two.stop() == 0


def test_a_second_instance_with_the_same_socket_is_refused_and_the_first_is_named(
    site: Site,
) -> None:
    _serving(site)
    second = Second(site)
    second.write_config(
        {"interface_name": "ngrokd1", "subnet": "10.108.0.0/16"},
        {"socket_path": str(site.socket_path)},
    )
    quiet: Overrides = {"bound_endpoints": {"poll_interval": 600}}
    one = site.start_daemon(quiet).ready()
    before = _picture(site)

    two = second.start()

    assert two.wait() == 1
    two.expect(f"ngrokd: control socket .*pid {one.pid}")
    assert _picture(site) == before
    assert not second.pid_file.exists()
    assert one.stop() == 0


OWN: dict[str, object] = {"interface_name": "ngrokd1", "subnet": "10.108.0.0/16"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("shared", "words"),
    [
        ("pid file", "ngrokd already runs with pid {pid} ({folder}/ngrokd.pid)"),
        ("state folder", "another ngrokd (pid {pid}) uses the state folder {folder}/state"),
        ("hosts section", "(pid {pid}) has ngrokd's section in /etc/hosts"),
    ],
)
def test_what_two_instances_share_by_mistake_is_refused_and_the_first_is_named(
    site: Site, shared: str, words: str
) -> None:
    _serving(site)
    second = Second(site)
    net: dict[str, object] = dict(OWN)
    server: dict[str, object] = {}
    quiet: dict[str, Mapping[str, object]] = {"bound_endpoints": {"poll_interval": 600}}
    if shared == "pid file":
        server = {"pid_file": str(site.folder / "ngrokd.pid")}
    elif shared == "state folder":
        server = {name: str(site.state / f"tls.{end}") for name, end in PAIR}
    else:
        quiet["net"] = {"subnet": "127.109.0.0/16"}
        net = {"interface_name": "ngrokd0", "subnet": "127.108.0.0/16"}
    second.write_config(net, server)
    one = site.start_daemon(quiet).ready()
    before = _picture(site)

    two = second.start()

    assert two.wait() == 1
    said = " ".join(two.lines)
    assert words.format(pid=one.pid, folder=site.folder) in said
    assert two.matching("Traceback") == []
    assert _picture(site) == before
    assert not second.socket_path.exists()
    _must_serve(site, "one.ns")
    assert one.stop() == 0
    site.assert_nothing_is_left(one)


@pytest.mark.long
def test_a_subnet_or_a_health_port_that_two_share_is_told_and_both_serve(site: Site) -> None:
    _serving(site)
    site.cloud.add("tcp://two.ns:7000", "127.0.0.1:7000")
    second = Second(site)
    second.write_config({**OWN, "subnet": "10.107.0.0/16"}, {"health_port": HEALTH_PORT})
    one = site.start_daemon({"net": {"overrides": {}}}).ready()

    two = second.start().ready()

    status = two.status()
    assert status["state"] == "degraded" and status["interface"]["mode"] == "loopback"
    assert any("set net.subnet" in note for note in status["interface"]["notes"])
    assert any(str(HEALTH_PORT) in problem for problem in status["problems"])
    for daemon in (one, two):
        for endpoint in daemon.endpoints().values():
            if endpoint["state"] != "skipped":  # the other one's name
                _must_serve(site, endpoint["ip"])
    assert two.stop() == 0
    _must_serve(site, "one.ns")
    assert one.status()["problems"] == []
    assert one.stop() == 0
    site.assert_nothing_is_left(one)


@pytest.mark.long
def test_a_loopback_range_that_two_share_costs_the_later_one_what_is_taken(site: Site) -> None:
    _serving(site)
    second = Second(site)
    second.write_config({**OWN, "subnet": "127.108.0.0/16", "hosts_file": "/etc/hosts.second"})
    shared: Overrides = {"net": {"subnet": "127.108.0.0/16"}}
    one, two = site.start_daemon(shared).ready(), second.start().ready()

    (failed,) = two.endpoints().values()
    assert failed["state"] == "failed"
    assert "127.108.0.2:7000 cannot be listened on" in failed["reason"]
    assert "sudo ss -ltnp sport = :7000" in failed["reason"] or str(one.pid) in failed["reason"]
    _must_serve(site, "one.ns")
    assert one.stop() == 0
    two.wait_for("--for", "one.ns", "--timeout", 10)
    _must_serve(site, "127.108.0.2")
    assert two.stop() == 0


@pytest.mark.long
def test_a_killed_instance_is_cleaned_up_after_while_connections_of_the_other_run(
    site: Site,
) -> None:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    site.start_cloud("tcp://one.ns:7000=127.0.0.1:7000", "tcp://two.ns:7000=127.0.0.1:7000")
    second = Second(site)
    second.write_config(OWN)
    one, two = site.start_daemon().ready(), second.start().ready()
    client = site.network.connect("one.ns", 7000)
    section = site.namespace.hosts.read_bytes()

    two.send(signal.SIGKILL)
    two.wait()
    assert "10.108.0.1/16" in site.run("ip", "addr").stdout
    cleaned = run_ngrokd(site, "cleanup", "--config", second.config)

    assert (cleaned.returncode, cleaned.stderr) == (0, "")
    assert "10.108." not in site.run("ip", "addr").stdout
    assert not second.socket_path.exists() and not second.pid_file.exists()
    assert site.namespace.hosts.read_bytes() == section
    client.sendall(b"still")
    assert receive_exactly(client, 5) == b"still"
    client.close()
    assert one.status()["state"] == "ready" and one.ready_page() == 200
    again = run_ngrokd(site, "cleanup", "--config", second.config)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert one.stop() == 0
    site.assert_nothing_is_left(one)


@pytest.mark.long
def test_while_it_runs_cleaning_up_is_refused_and_touches_nothing(site: Site) -> None:
    _serving(site)
    quiet: Overrides = {"bound_endpoints": {"poll_interval": 600}}
    daemon = site.start_daemon(quiet).ready()
    before = _picture(site)

    cleaned = run_ngrokd(site, "cleanup", "--config", site.config)

    assert cleaned.returncode == 1
    assert f"ngrokd runs with pid {daemon.pid}" in cleaned.stderr
    assert cleaned.stdout == ""
    assert _picture(site) == before
    _must_serve(site, "one.ns")

    (site.folder / "ngrokd.pid").unlink()
    cleaned = run_ngrokd(site, "cleanup", "--config", site.config)
    assert cleaned.returncode == 1 and f"pid {daemon.pid}" in cleaned.stderr
    site.socket_path.unlink()
    cleaned = run_ngrokd(site, "cleanup", "--config", site.config)
    assert cleaned.returncode == 1 and f"pid {daemon.pid}" in cleaned.stderr
    _must_serve(site, "one.ns")
    assert daemon.stop() == 0


@pytest.mark.long
def test_a_killed_background_daemon_is_cleaned_up_after_and_started_again(site: Site) -> None:
    _serving(site)
    site.write_config({"server": {"log_file": str(site.folder / "ngrokd.log")}})
    ctl = (NGROKCTL, "--socket", site.socket_path)
    pid_file = site.folder / "ngrokd.pid"
    for number in (signal.SIGKILL, signal.SIGTERM):
        assert background.start(site, site.config).returncode == 0
        site.run(*ctl, "wait", "--for", "one.ns", "--timeout", 20)
        _must_serve(site, "one.ns")
        background.end(pid_file, number)
        cleaned = run_ngrokd(site, "cleanup", "--config", site.config)
        assert (cleaned.returncode, cleaned.stderr) == (0, "")
        assert bool(cleaned.stdout) is (number is signal.SIGKILL)
        assert site.namespace.hosts.read_bytes() == site.hosts_before
        assert site.interface_words() == [] and not pid_file.exists()
