"""A daemon of root with little of root, and one of an ordinary user, do all that they should."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ngrokd.host.privileges import NEEDED
from tests.integration import programs
from tests.integration.everybody import AS_USER, NOBODY, make_private, open_up
from tests.integration.netns import receive_all, receive_exactly
from tests.integration.programs import Program
from tests.integration.site import NGROKD, Daemon, Site, clean_environment
from tests.namespace import Namespace

pytestmark = pytest.mark.root

SOMEBODY = 4711
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
WANTED = {**dict.fromkeys(SETS, NEEDED), "NoNewPrivs": 1}

# In the place of `ip`: notes its rights, then does what it was asked.
_WITNESS = """#!/bin/sh
grep -E '^(Cap|NoNewPrivs)' /proc/self/status | tr '\\n' ' ' >> {notes}
echo >> {notes}
exec {real} "$@"
"""


def rights(text: str) -> dict[str, int]:
    found = re.findall(r"^\s*(Cap\w+|NoNewPrivs):\s+([0-9a-f]+)", text.replace(" ", "\n"), re.M)
    return {name: int(value, 16) for name, value in found}


def rights_of_threads(pid: int) -> dict[str, dict[str, int]]:
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        found[task.name] = rights((task / "status").read_text())
    return found


@contextlib.contextmanager
def witness(site: Site) -> Iterator[Path]:
    """The file in which every `ip` of the daemon notes its rights."""
    place = site.run("readlink", "-f", "/usr/sbin/ip").stdout.strip()
    real, script, notes = (site.folder / name for name in ("ip", "witness", "notes"))
    shutil.copy(place, real)
    script.write_text(_WITNESS.format(notes=notes, real=real))
    script.chmod(0o755)
    site.run("mount", "--bind", script, place)
    try:
        yield notes
    finally:
        site.run("umount", place)


@contextlib.contextmanager
def owned_by_somebody(*paths: Path) -> Iterator[None]:
    before = [path.stat() for path in paths]
    for path in paths:
        os.chown(path, SOMEBODY, SOMEBODY)
    try:
        yield
    finally:
        for path, known in zip(paths, before):
            os.chown(path, known.st_uid, known.st_gid)


def greets(site: Site, name: str, port: int) -> bool:
    with site.network.connect(name, port) as client:
        client.sendall(b"hello")
        return receive_exactly(client, 5) == b"hello"


def host_that_arrives(site: Site, ip: str, port: int) -> bytes:
    """Of a request for another host, as the server gets it, which gives everything back."""
    with site.network.connect(ip, port) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: another\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        return receive_all(client).partition(b"Host: ")[2].partition(b"\r\n")[0]


def test_every_thread_and_command_of_roots_daemon_has_exactly_what_it_needs(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    site.start_cloud("http://web.ns=127.0.0.1:7000", "tcp://echo.ns:7000=127.0.0.1:7000")
    with witness(site) as notes:
        daemon = site.start_daemon().ready()
        assert greets(site, "web.ns", 80)
        threads = rights_of_threads(daemon.pid)
        assert len(threads) >= 4
        assert {name: sets for name, sets in threads.items() if sets != WANTED} == {}
        assert daemon.stop() == 0
        commands = [rights(line) for line in notes.read_text().splitlines()]
    assert len(commands) >= 4
    assert [sets for sets in commands if sets != WANTED] == []
    assert daemon.matching(" (WARNING|ERROR|CRITICAL) ") == []
    site.assert_nothing_is_left(daemon)


def test_files_and_folders_of_others_are_read_and_written_and_stay_theirs(site: Site) -> None:
    hosts = site.namespace.hosts
    group = 4242
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    site.start_cloud("tcp://echo.ns:7000=127.0.0.1:7000")
    log = site.folder / "theirs" / "ngrokd.log"
    log.parent.mkdir(0o700)
    site.state.mkdir(0o700)
    key = site.folder / "key"
    key.write_text("sandbox-key\n")
    key.chmod(0o600)
    site.write_config({"server": {"socket_group": str(group), "log_file": str(log)}})
    with owned_by_somebody(hosts, site.state, log.parent, site.config, key):
        daemon = site.start_daemon_as_configured().ready()
        assert greets(site, "echo.ns", 7000)
        assert (hosts.stat().st_uid, hosts.stat().st_gid) == (SOMEBODY, SOMEBODY)
        control = site.socket_path.stat()
        assert (control.st_uid, control.st_gid, stat.S_IMODE(control.st_mode)) == (0, group, 0o660)
        assert (site.state / "tls.key").stat().st_mode & 0o077 == 0
        assert daemon.stop() == 0
        assert " open at " in log.read_text()
        assert "in place" not in log.read_text()
    site.assert_nothing_is_left(daemon)


def test_whose_program_is_in_the_way_is_told_where_it_cannot_be_named(site: Site) -> None:
    site.start_cloud("http://web.ns=127.0.0.1:7000")
    with site.network.listen("0.0.0.0", 80):
        daemon = site.start_daemon().ready()
        reason = daemon.endpoints()["http://web.ns"]["reason"]
    assert "a program of user root on 0.0.0.0:80" in reason
    assert "sudo ss -ltnp sport = :80" in reason


# An ordinary user


class UsersDaemon(Daemon):
    """The same of an ordinary user."""

    def __init__(self, site: Site) -> None:
        argv = [*AS_USER, NGROKD, "--foreground", "--config", site.config]
        environ = {**clean_environment(), "PYTHONDONTWRITEBYTECODE": "1"}
        Program.__init__(self, site.namespace, argv, environ)
        self._namespace, self._network = site.namespace, site.network
        self.socket_path = site.socket_path


@pytest.fixture
def users_site(tmp_path: Path) -> Iterator[Site]:
    """In a folder of that user, on a machine of its own, where every user can run our Python."""
    with tempfile.TemporaryDirectory(prefix="user-") as home, Namespace(tmp_path) as namespace:
        open_up(namespace, tmp_path)
        make_private(namespace, "/run")
        site = Site(Path(home), namespace)
        try:
            yield site
        finally:
            site.close()


def users_daemon(site: Site, *endpoints: str) -> UsersDaemon:
    """Ready, with everything it reads its user's own."""
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    cloud = site.start_cloud(*endpoints)
    authority = site.folder / "ca.crt"
    shutil.copy(cloud.ca_file, authority)
    site.write_config({"server": {"ca_file": str(authority)}})
    for path in (site.folder, site.config, authority):
        os.chown(path, NOBODY, NOBODY)
    daemon = UsersDaemon(site)
    site.keep(daemon)
    daemon.ready()
    return daemon


def test_an_ordinary_user_serves_on_the_loopback_range_and_is_told_what_that_costs(
    users_site: Site,
) -> None:
    site = users_site
    daemon = users_daemon(site, "http://web.ns=127.0.0.1:7000", "tcp://echo.ns:7000=127.0.0.1:7000")

    web, echo = (daemon.endpoints()[url] for url in ("http://web.ns", "tcp://echo.ns:7000"))
    assert web["ip"].startswith("127.") and web["listen_address"] == f"{web['ip']}:9080"
    assert echo["ip"].startswith("127.") and echo["listen_address"] == f"{echo['ip']}:7000"
    assert host_that_arrives(site, web["ip"], 9080) == b"web.ns"
    assert greets(site, echo["ip"], 7000)
    assert all(sets["NoNewPrivs"] == 1 for sets in rights_of_threads(daemon.pid).values())
    told = daemon.matching(" WARNING ")
    assert [line.count("Mend: ") for line in told] == [1] * len(told), told
    assert daemon.stop() == 0
    assert not site.has_section()
    assert sorted(os.listdir(site.state)) != []
    assert all(path.stat().st_uid == NOBODY for path in site.state.iterdir())


@pytest.mark.long
def test_a_low_port_that_is_freed_for_everybody_is_used_at_the_next_poll(users_site: Site) -> None:
    site = users_site
    daemon = users_daemon(site, "http://web.ns=127.0.0.1:7000", "tls://web.ns=127.0.0.1:7000")
    (line,) = daemon.matching("WARNING.*ip_unprivileged_port_start")
    found = re.search(r"net\.ipv4\.ip_unprivileged_port_start=\d+", line)
    assert found and found[0].endswith("=80"), "of 80 and 443, what frees the lower one"
    assert any("ports below 1024 are refused" in note for note in daemon.status()["notes"])

    before = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()
    site.run("sysctl", "-w", found[0])  # of the namespace's own network
    assert Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text() == before
    daemon.refresh()

    web = daemon.endpoints()["http://web.ns"]
    assert web["listen_address"] == f"{web['ip']}:80"
    assert greets(site, web["ip"], 80) and greets(site, web["ip"], 443)
    assert daemon.status()["notes"] == []
