"""The whole daemon and a hosts file that it may not write, or that somebody else writes."""

from __future__ import annotations

import pytest

from tests.integration.site import Site

pytestmark = pytest.mark.root

ENDPOINTS = 30


@pytest.mark.long
def test_a_hosts_file_that_cannot_be_written_costs_only_names_and_its_lines_are_shown(
    site: Site,
) -> None:
    site.start_cloud(*(f"tcp://e{n}.ns:{7000 + n}=127.0.0.1:{7000 + n}" for n in range(ENDPOINTS)))
    run, etc_hosts = site.namespace.run, "/etc/hosts"
    before = site.namespace.hosts.read_text()
    run("mount", "--bind", etc_hosts, etc_hosts)
    run("mount", "-o", "remount,bind,ro", etc_hosts)
    run("mount", "-o", "remount,bind,ro", "/etc")
    try:
        daemon = site.start_daemon().ready()
        status = daemon.status()
        assert status["endpoints"]["open"] == ENDPOINTS
        assert status["state"] == "degraded"
        hosts = status["hosts"]
        assert (hosts["path"], hosts["published"], hosts["names"]) == (etc_hosts, False, ENDPOINTS)
        assert hosts["problem"] in status["problems"]
        assert len(hosts["lines"]) == 20 and hosts["more_lines"] == ENDPOINTS + 2 - 20
        page = daemon.ctl("status").stdout
        assert "\t".join((daemon.endpoints()["tcp://e0.ns:7000"]["ip"], "e0.ns")) in page
        assert page.endswith("... 12 lines more: `ngrokctl list --hosts`\n")
        wanted = daemon.ctl("list", "--hosts").stdout
        assert wanted.splitlines()[:20] == hosts["lines"]
        assert daemon.output().count("names are not published") == 1
    finally:
        run("mount", "-o", "remount,bind,rw", "/etc")
        run("umount", etc_hosts)
    daemon.refresh()
    assert daemon.status()["hosts"]["published"]
    assert daemon.status()["state"] == "ready"
    assert site.namespace.hosts.read_text() == before + wanted
    assert (site.state / "hosts.ngrokd.bak").read_text() == before
    daemon.stop()
    assert site.namespace.hosts.read_text() == before


def test_names_that_are_removed_again_and_again_are_told_once_and_back_when_that_ends(
    site: Site,
) -> None:
    site.start_cloud("tcp://e0.ns:7000=127.0.0.1:7000")
    hosts = site.namespace.hosts
    before = hosts.read_bytes()
    daemon = site.start_daemon().ready()
    for _ in range(2):
        hosts.write_bytes(before)
        daemon.refresh()
        assert b"e0.ns" in hosts.read_bytes()
    for _ in range(5):
        hosts.write_bytes(before)
        daemon.refresh()
        assert hosts.read_bytes() == before
    status = daemon.status()
    assert not status["hosts"]["published"]
    assert len([each for each in status["problems"] if "keeps removing" in each]) == 1
    assert daemon.output().count("keeps removing") == 1
    assert daemon.endpoints()["tcp://e0.ns:7000"]["published"] is False
    assert daemon.endpoints()["tcp://e0.ns:7000"]["state"] == "open"
    daemon.stop()
    assert hosts.read_bytes() == before
