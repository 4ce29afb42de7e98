"""`ngrokctl events` beside a real daemon that meets what daemons meet."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.integration import programs
from tests.integration.programs import Program
from tests.integration.site import NGROKCTL, Daemon, Site, clean_environment

pytestmark = pytest.mark.root

ONE = "tcp://one.ns:7000=127.0.0.1:7000"


@pytest.fixture
def daemon(site: Site) -> Iterator[Daemon]:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    site.start_cloud(ONE)
    yield site.start_daemon().ready()


@pytest.fixture
def follower(site: Site, daemon: Daemon) -> Program:
    argv = [NGROKCTL, "--socket", daemon.socket_path, "events"]
    follower = Program(site.namespace, argv, clean_environment())
    site.keep(follower)
    follower.expect("ngrokd .* is ready; endpoints: 1 open")
    return follower


def test_what_comes_and_goes_is_told_once_each(
    site: Site, daemon: Daemon, follower: Program
) -> None:
    site.cloud.add("tcp://two.ns:7000", "127.0.0.1:7000")
    follower.expect(r"tcp://two.ns:7000 open at 10\.107\.\d+\.\d+:7000$")
    site.cloud.add("tcp://*.ns:1")
    follower.expect(r"tcp://\*.ns:1 skipped: ")
    site.cloud.remove("tcp://two.ns:7000")
    follower.expect("tcp://two.ns:7000 closed$")

    site.cloud.api_fault("status", status=500, path="/bound_endpoints")
    follower.expect("poll failed: ")
    follower.expect("ngrokd is ready, with problems$")
    site.cloud.heal()
    follower.expect("poll works again$")
    follower.expect("ngrokd is ready$")

    assert daemon.stop() == 0
    follower.expect("ngrokd is stopping$")
    assert follower.wait() == 0
    assert follower.lines[-1].endswith("ngrokd has stopped")
    told = [line.split("  ", 1)[1] for line in follower.lines]
    assert len(told) == len(set(told))


@pytest.mark.long
def test_a_hosts_file_that_cannot_be_written_is_told_and_so_is_its_mend(
    site: Site, daemon: Daemon, follower: Program
) -> None:
    site.run("mount", "--bind", "/etc", "/etc")
    site.run("mount", "-o", "remount,ro,bind", "/etc")
    try:
        site.cloud.add("tcp://two.ns:7000", "127.0.0.1:7000")
        follower.expect("problem: .*names are not published.*/etc/hosts.*Read-only")
    finally:
        site.run("umount", "-l", "/etc")
    follower.expect("no problem any more: .*/etc/hosts")
    follower.expect("ngrokd is ready$")
    assert daemon.stop() == 0


@pytest.mark.long
def test_a_daemon_that_is_killed_ends_it_with_three(
    site: Site, daemon: Daemon, follower: Program
) -> None:
    daemon.send(signal.SIGKILL)
    assert follower.wait() == 3
    assert "ended without a word" in follower.output()
