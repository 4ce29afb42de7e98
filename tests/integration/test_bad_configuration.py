"""A configuration or a machine that is in the way is named, with its cause and mend."""

from __future__ import annotations

import pytest

from tests.integration import programs
from tests.integration.netns import receive_exactly
from tests.integration.site import HEALTH_PORT, Site, run_ngrokd

pytestmark = pytest.mark.root

MALFORMED: dict[str, tuple[str, str]] = {
    "an_unknown_key": ("net:\n  subnet: 10.107.0.0/16\n  colour: red\n", ":3: net.colour: "),
    "an_unknown_section": ("nett:\n  subnet: 10.107.0.0/16\n", ":1: nett: "),
    "a_wrong_type": (
        "bound_endpoints:\n  poll_interval: often\n",
        ":2: bound_endpoints.poll_interval: ",
    ),
    "a_bad_range": (
        "bound_endpoints:\n\n  poll_interval: 0\n",
        ":3: bound_endpoints.poll_interval: ",
    ),
    "a_subnet_that_is_none": ("net: {subnet: 10/99}\n", ":1: net.subnet: "),
    "a_duplicate_key": ("net:\n  subnet: 10.1.0.0/16\n  subnet: 10.2.0.0/16\n", ":3: net.subnet: "),
    "no_yaml": ("net:\n  subnet: [10.1.0.0/16\n", ":"),
    "a_tab": ("net:\n\tsubnet: 10.1.0.0/16\n", ":2: "),
    "no_mapping": ("- net\n", ":1: "),
    "a_plain_http_api": ("api:\n  url: http://api.ngrok.com\n", ":2: api.url: "),
}


def _serving(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    site.start_cloud("tcp://one.ns:7000=127.0.0.1:7000", "tcp://two.ns:7000=127.0.0.1:7000")


def _must_serve(site: Site, name: str) -> None:
    with site.network.connect(name, 7000) as client:
        assert receive_exactly(client, 8) == b"goodbye\n"


@pytest.mark.parametrize(("text", "where"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_configuration_is_refused_with_file_and_line(
    site: Site, text: str, where: str
) -> None:
    site.config.write_text(text)

    started = run_ngrokd(site, "--foreground", "--config", site.config)

    assert started.returncode == 2
    assert started.stderr.startswith(f"{site.config}{where}")
    assert started.stdout == ""
    assert "Traceback" not in started.stderr
    assert site.interface_words() == [] and not site.has_section()


def test_all_faults_are_told_at_once(site: Site) -> None:
    site.config.write_text("net:\n  colour: red\n  subnet: 10/99\nserver:\n  health_port: 99999\n")

    checked = run_ngrokd(site, "check-config", site.config)
    started = run_ngrokd(site, "--foreground", "--config", site.config)

    assert (checked.returncode, checked.stderr) == (2, started.stderr)
    lines = checked.stderr.splitlines()
    assert len(lines) == 3
    for line, where in zip(lines, ("2: net.colour", "3: net.subnet", "5: server.health_port")):
        assert line.startswith(f"{site.config}:{where}: ")


def test_a_configuration_that_is_not_there_is_named(site: Site) -> None:
    done = run_ngrokd(site, "--foreground", "--config", site.folder / "none.yml")

    assert done.returncode == 2
    assert f"{site.folder}/none.yml" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_state_folder_that_cannot_be_made_is_named(site: Site) -> None:
    _serving(site)
    (site.folder / "file").write_text("in the way")

    daemon = site.start_daemon({"server": {
        "client_cert": str(site.folder / "file" / "tls.crt"),
        "client_key": str(site.folder / "file" / "tls.key"),
    }})  # fmt: skip

    line = daemon.expect(f"{site.folder}/file")
    assert "server.client_cert" in line
    assert daemon.wait() == 1
    assert daemon.matching("Traceback") == []
    assert site.cloud.operators() == []
    site.assert_nothing_is_left(daemon)


def test_a_state_folder_that_cannot_be_written_costs_no_operator_and_recovers(site: Site) -> None:
    _serving(site)
    site.state.mkdir(0o700)
    site.run("mount", "-t", "tmpfs", "-o", "ro", "none", site.state)
    try:
        daemon = site.start_daemon()
        daemon.expect(f"(WARNING|ERROR|ngrokd:).*{site.state}")
        assert site.cloud.operators() == []
        assert daemon.matching("Traceback") == []
    finally:
        site.run("umount", "-l", site.state)
    if daemon.process.poll() is None:
        daemon.ready()
        _must_serve(site, "one.ns")
    else:
        assert daemon.wait() == 1
        site.start_daemon_as_configured().ready()
        _must_serve(site, "one.ns")
    assert len(site.cloud.operators()) == 1


def test_a_port_in_use_costs_only_its_endpoint_says_whose_program_it_is_and_is_retried(
    site: Site,
) -> None:
    _serving(site)
    holder = site.network.listen("0.0.0.0", 81)
    site.cloud.add("tcp://taken.ns:81", "127.0.0.1:7000")

    daemon = site.start_daemon().ready()

    line = daemon.expect(r"WARNING.*endpoint taken.ns:81 failed: 10\.107\.\d+\.\d+:81")
    # Its pid would need the right to trace other programs, which the daemon gives up.
    assert "user root on 0.0.0.0:81" in line and "ss -ltnp sport = :81" in line
    assert daemon.endpoints()["tcp://taken.ns:81"]["state"] == "failed"
    assert "taken.ns" not in site.namespace.hosts.read_text()
    _must_serve(site, "one.ns")
    holder.close()
    daemon.wait_for("--for", "taken.ns", "--timeout", 10)
    with site.network.connect("taken.ns", 81) as client:
        assert receive_exactly(client, 8) == b"goodbye\n"
    assert len(daemon.matching("WARNING.*taken.ns")) == 1


def test_an_address_that_cannot_be_bound_costs_only_its_endpoint(site: Site) -> None:
    _serving(site)

    daemon = site.start_daemon({"net": {"overrides": {"two.ns": "192.0.2.7"}}}).ready()

    line = daemon.expect("WARNING.*endpoint two.ns:7000 failed: ")
    assert "192.0.2.7" in line
    assert "Mend" in line or "net." in line
    assert daemon.endpoints()["tcp://two.ns:7000"]["state"] == "failed"
    _must_serve(site, "one.ns")
    site.run("ip", "addr", "add", "192.0.2.7/32", "dev", "lo")
    try:
        daemon.wait_for("--for", "two.ns", "--timeout", 10)
    finally:
        site.run("ip", "addr", "del", "192.0.2.7/32", "dev", "lo")


def test_a_health_port_in_use_is_a_problem_and_nothing_else(site: Site) -> None:
    _serving(site)
    holder = site.network.listen("127.0.0.1", HEALTH_PORT)

    daemon = site.start_daemon().ready()

    line = daemon.expect(f"WARNING.*127.0.0.1:{HEALTH_PORT}")
    assert "server.health_port" in line
    daemon.eventually(lambda now: str(HEALTH_PORT) in str(now["problems"]), "it is no problem")
    _must_serve(site, "one.ns")
    holder.close()


def test_a_control_socket_that_cannot_be_made_ends_the_start_and_says_why(site: Site) -> None:
    _serving(site)

    path = site.folder / "no" / "ne" / "x.sock"  # one folder that is missing would be made
    daemon = site.start_daemon({"server": {"socket_path": str(path)}})

    assert daemon.wait() == 1
    line = daemon.expect(str(path))
    assert "server.socket_path" in line
    assert daemon.matching("Traceback") == []
    site.assert_nothing_is_left(daemon)


def test_a_hosts_file_that_cannot_be_written_is_a_problem_and_addresses_still_work(
    site: Site,
) -> None:
    _serving(site)
    hosts = site.folder / "hosts.d"
    hosts.write_text("in the way")

    daemon = site.start_daemon({"net": {"hosts_file": str(hosts / "hosts")}}).ready()

    line = daemon.expect(f"(WARNING|ERROR).*{hosts}/hosts")
    assert "net.hosts_file" in line or "Mend" in line
    daemon.eventually(lambda now: now["state"] == "degraded", "it is no problem")
    endpoint = daemon.endpoints()["tcp://one.ns:7000"]
    assert (endpoint["state"], endpoint["published"]) == ("open", False)
    _must_serve(site, endpoint["ip"])


def test_broken_markers_in_the_hosts_file_are_left_alone_and_named(site: Site) -> None:
    _serving(site)
    broken = site.hosts_before + b"# BEGIN ngrokd managed section\n10.9.9.9\tmine.example\n"
    site.namespace.hosts.write_bytes(broken)

    daemon = site.start_daemon().ready()

    daemon.expect("(WARNING|ERROR).*BEGIN ngrokd managed section.*nothing was written.*Mend")
    assert site.namespace.hosts.read_bytes() == broken
    _must_serve(site, daemon.endpoints()["tcp://one.ns:7000"]["ip"])
    assert daemon.stop() in (0, 1)
    assert site.namespace.hosts.read_bytes() == broken
