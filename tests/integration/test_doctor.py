"""`ngrokctl doctor` on a machine that is well, meddled with, and left by a dead daemon."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.integration.site import NGROKCTL, Daemon, Site, clean_environment

pytestmark = pytest.mark.root

URLS = ("http://web.ns=127.0.0.1:7000", "tcp://db.ns:5432=127.0.0.1:7001")


def examined(site: Site, daemon: Daemon, *words: object) -> tuple[int, dict[str, Any]]:
    """The exit code, and each check by its name."""
    done = daemon.ctl("doctor", "--json", "--config", site.config, *words, check=False)
    assert done.stderr == ""
    checks = json.loads(done.stdout)["checks"]
    return done.returncode, {each["check"]: each for each in checks}


def grades(checks: dict[str, Any], *wanted: str) -> set[str]:
    return {name for name, each in checks.items() if each["grade"] in wanted}


def test_a_machine_that_is_well_has_nothing_to_mend(site: Site) -> None:
    site.start_cloud(*URLS)
    daemon = site.start_daemon().ready()
    before = daemon.status()["connections"], site.namespace.hosts.read_bytes()
    code, checks = examined(site, daemon)
    assert (code, grades(checks, "failed", "warning", "skipped")) == (0, set())
    assert len(checks) == 18
    assert checks["interface"]["text"] == "ngrokd0 has all 2 addresses"
    assert checks["resolver"]["text"] == "`getent hosts` finds db.ns, web.ns"
    assert checks["ingress access"]["text"] == "the ingress takes this machine's certificate"
    assert (daemon.status()["connections"], site.namespace.hosts.read_bytes()) == before


def test_each_thing_that_others_did_is_told_with_what_mends_it(site: Site) -> None:
    site.start_cloud(*URLS)
    daemon = site.start_daemon({"bound_endpoints": {"poll_interval": 600}}).ready()
    site.run("ip", "addr", "del", "10.107.0.2/32", "dev", "ngrokd0")
    site.run("ip", "link", "add", "br0", "type", "bridge")
    site.run("ip", "addr", "add", "10.107.9.1/24", "dev", "br0")
    site.namespace.hosts.write_bytes(site.hosts_before + b"10.9.9.9 db.ns\n")
    (site.state / "tls.key").chmod(0o644)
    try:
        code, checks = examined(site, daemon)
    finally:
        site.run("ip", "link", "delete", "br0")
    assert code == 1
    wrong = {"interface", "subnet", "hosts file", "resolver", "permissions"}
    assert grades(checks, "failed") == wrong
    assert "10.107.0.2" in checks["interface"]["text"]
    assert "br0 has the address 10.107.9.1/24" in checks["subnet"]["text"]
    assert checks["permissions"]["mend"] == f"chmod 600 {site.state / 'tls.key'}"


def test_what_it_says_mends_it_does(site: Site) -> None:
    site.start_cloud(*URLS)
    daemon = site.start_daemon({"bound_endpoints": {"poll_interval": 600}}).ready()
    site.run("ip", "addr", "del", "10.107.0.2/32", "dev", "ngrokd0")
    site.namespace.hosts.write_bytes(site.hosts_before)
    _, checks = examined(site, daemon)
    assert grades(checks, "failed") == {"interface", "hosts file", "resolver"}
    assert checks["interface"]["mend"].startswith(f"ngrokctl --socket {site.socket_path} refresh ")
    daemon.ctl("refresh")
    assert examined(site, daemon)[0] == 0


@pytest.mark.long
def test_where_the_hosts_file_is_read_only_the_lines_to_add_are_told(site: Site) -> None:
    site.start_cloud(*URLS)
    site.run("mount", "--bind", "/etc/hosts", "/etc/hosts")
    try:
        site.run("mount", "-o", "remount,bind,ro", "/etc/hosts")
        daemon = site.start_daemon().ready()
        code, checks = examined(site, daemon)
        daemon.stop()
    finally:
        site.run("umount", "/etc/hosts")
    assert (code, grades(checks, "failed")) == (1, {"hosts file"})
    assert checks["hosts file"]["mend"].splitlines()[1:] == [
        "# BEGIN ngrokd managed section",
        "10.107.0.2\tdb.ns",
        "10.107.0.3\tweb.ns",
        "# END ngrokd managed section",
    ]


@pytest.mark.long
def test_a_dead_daemon_is_told_with_all_that_it_left(site: Site) -> None:
    site.start_cloud(*URLS)
    daemon = site.start_daemon().ready()
    daemon.process.kill()
    daemon.wait()
    code, checks = examined(site, daemon)
    assert code == 1
    assert grades(checks, "failed") == {"daemon"}
    assert grades(checks, "warning") == {"interface", "hosts file"}
    assert grades(checks, "skipped") == {"resolver", "listeners", "endpoints"}
    assert "localhost:4443" in checks["ingress"]["text"]  # as the API named it once


def test_without_ngrok_the_machine_is_looked_at_all_the_same(site: Site) -> None:
    site.write_config({"api": {"url": "http://127.0.0.1:1"}})
    argv = ("--socket", site.socket_path, "doctor", "--json", "--config", site.config)
    done = site.run(NGROKCTL, *argv, check=False, env=clean_environment())
    checks = {each["check"]: each for each in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1
    assert grades(checks, "failed") == {"daemon", "API", "certificate", "ingress"}
    assert checks["daemon"]["mend"] == f"ngrokd start --config {site.config}"
    assert "server.ca_file" in checks["configuration"]["text"]  # no cloud has written it
    assert grades(checks, "ok") >= {"subnet", "descriptors", "log", "versions"}


@pytest.mark.long
def test_an_ordinary_user_is_told_what_only_root_may_look_at(site: Site) -> None:
    site.start_cloud(*URLS)
    site.start_daemon().ready()
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    argv = (*as_nobody, NGROKCTL, "--socket", site.socket_path, "doctor", "--json")
    done = site.run(*argv, "--config", site.config, check=False, env=clean_environment())
    checks = {each["check"]: each for each in json.loads(done.stdout)["checks"]}
    assert checks["daemon"]["grade"] == "skipped"
    again = f"{NGROKCTL} --socket {site.socket_path} doctor --config {site.config}"
    assert checks["daemon"]["mend"] == f"sudo {again}"
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_a_daemon_that_hangs_is_not_taken_for_dead(site: Site) -> None:
    site.start_cloud(*URLS)
    daemon = site.start_daemon().ready()
    os.kill(daemon.process.pid, signal.SIGSTOP)
    try:
        _, checks = examined(site, daemon)
    finally:
        os.kill(daemon.process.pid, signal.SIGCONT)
    assert grades(checks, "failed", "warning") == {"daemon"}
    assert checks["daemon"]["mend"] == f"ngrokd restart --config {site.config}"


@pytest.mark.long
def test_it_goes_by_what_the_daemon_was_started_with(site: Site) -> None:
    site.start_cloud(*URLS)
    site.write_config({"net": {"interface_name": "ngrokd7"}})
    settings = json.loads(site.config.read_text())
    key = settings["api"].pop("key")
    site.config.write_text(json.dumps(settings))
    daemon = site.start_daemon_as_configured(["env", f"NGROK_API_KEY={key}"]).ready()
    done = daemon.ctl("doctor", "--json", check=False)
    checks = {each["check"]: each for each in json.loads(done.stdout)["checks"]}
    assert (done.returncode, grades(checks, "failed", "warning", "skipped")) == (0, set())
    assert checks["configuration"]["text"] == f"{site.config} is valid"
    assert checks["interface"]["text"] == "ngrokd7 has all 2 addresses"


@pytest.mark.long
def test_a_broken_configuration_is_told_line_by_line_and_the_rest_is_checked(site: Site) -> None:
    site.start_cloud(*URLS)
    daemon = site.start_daemon().ready()
    site.config.write_text(site.config.read_text().replace('"poll_interval": 1', '"pol": 1'))
    code, checks = examined(site, daemon)
    assert (code, grades(checks, "failed")) == (1, {"configuration"})
    assert "bound_endpoints.pol" in checks["configuration"]["text"]
