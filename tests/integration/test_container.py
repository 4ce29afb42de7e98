"""A container's daemon: process 1, capabilities, bind mounts, and what is not there."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ngrokd.host.privileges import NEEDED, NET_BIND_SERVICE
from tests.integration import oci, programs
from tests.integration.netns import receive_all, receive_exactly
from tests.integration.oci import DOCKERS, HOSTS, Container, Shape
from tests.integration.site import HEALTH_PORT, KEY, NGROKCTL, Site

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(oci.why_not()), reason=oci.why_not() or "-"),
]

Start = Callable[[Shape], Container]
WITH_KEY = {"NGROK_API_KEY": KEY}


@pytest.fixture
def start(site: Site) -> Start:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    site.start_cloud("http://web.ns=127.0.0.1:7000", "tcp://echo.ns:7000=127.0.0.1:7000")

    def start_container(shape: Shape) -> Container:
        container = Container(site, shape)
        site.keep(container)
        return container.ready()

    return start_container


def effective(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("CapEff:")).split()[1], 16)


def listens_at(container: Container) -> dict[str, str]:
    listed = container.execute(NGROKCTL, "list", "--json").stdout
    endpoints = json.loads(listed)["endpoints"]
    return {each["hostname"]: each["listen_address"] for each in endpoints}


def greets(site: Site, ip: str, port: int) -> bool:
    with site.network.connect(ip, port) as client:
        client.sendall(b"hello")
        return receive_exactly(client, 5) == b"hello"


def host_that_arrives(site: Site, ip: str, port: int) -> bytes:
    """Of a request for another host, as the server gets it, which gives everything back."""
    with site.network.connect(ip, port) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: another\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        return receive_all(client).partition(b"Host: ")[2].partition(b"\r\n")[0]


def test_a_container_has_addresses_and_names_of_its_own_and_leaves_nothing(
    site: Site, start: Start
) -> None:
    container = start(Shape(environ=WITH_KEY))
    hosts = container.hosts.stat()

    assert container.execute("getent", "hosts", "web.ns").stdout.startswith("10.107.")
    assert greets(site, container.execute("getent", "hosts", "web.ns").stdout.split()[0], 80)
    assert not site.has_section()
    assert effective(container.daemon) == NEEDED
    assert site.network.http(HEALTH_PORT, "GET", "/readyz")[0] == 200
    assert container.matching("it is written in place") != []

    assert container.end() == 0
    assert container.hosts.read_text() == HOSTS
    assert container.hosts.stat().st_ino == hosts.st_ino
    assert site.interface_words() == []
    assert container.matching(" (WARNING|ERROR|CRITICAL) ") == []


@pytest.mark.long
def test_the_key_may_come_from_a_file(site: Site, start: Start) -> None:
    secret = site.folder / "secret"
    secret.write_text(f"{KEY}\n")
    container = start(Shape(environ={"NGROK_API_KEY_FILE": str(secret)}))
    assert container.status()["registered"] is True


def test_without_net_admin_the_loopback_range_serves(site: Site, start: Start) -> None:
    container = start(Shape(capabilities=DOCKERS, tun=False, environ=WITH_KEY))
    interface = container.status()["interface"]
    assert interface["mode"] == "loopback"
    ip = container.execute("getent", "hosts", "web.ns").stdout.split()[0]
    assert ip.startswith("127.") and greets(site, ip, 80)


def test_without_any_capability_low_ports_are_replaced(site: Site, start: Start) -> None:
    container = start(Shape(capabilities=(), tun=False, environ=WITH_KEY))
    ip, _, port = listens_at(container)["web.ns"].partition(":")
    assert port == "9080" and host_that_arrives(site, ip, 9080) == b"web.ns"
    assert effective(container.daemon) == 0 == effective(container.first) & NET_BIND_SERVICE
    assert container.end() == 0


def test_a_read_only_container_lacks_only_names_and_says_so(site: Site, start: Start) -> None:
    container = start(Shape(read_only=True, environ=WITH_KEY))
    (problem,) = container.status()["problems"]
    assert "/etc/hosts" in problem and "Read-only file system" in problem
    ip, _, port = listens_at(container)["web.ns"].partition(":")
    assert port == "80" and greets(site, ip, 80)
    assert container.end() == 0


def test_orphans_of_exec_are_buried(start: Start) -> None:
    container = start(Shape(environ=WITH_KEY))
    for _ in range(5):
        container.execute("sh", "-c", "sleep 0.01 & exit 0")
    count = "while grep -qs '^State:.Z' /proc/[0-9]*/status; do sleep 0.02; done"
    container.execute("timeout", "10", "sh", "-c", count)


def test_hup_reaches_the_daemon(start: Start) -> None:
    container = start(Shape(environ=WITH_KEY))
    container.tell(signal.SIGHUP)
    container.expect("configuration read again")


@pytest.mark.parametrize("victim", [pytest.param("first", marks=pytest.mark.long), "daemon"])
def test_after_a_kill_the_container_says_so_and_the_next_one_starts(
    site: Site, start: Start, victim: str
) -> None:
    container = start(Shape(environ=WITH_KEY))
    operator = container.status()["operator_id"]
    os.kill(getattr(container, victim), signal.SIGKILL)
    assert container.wait() == 128 + signal.SIGKILL

    after = start(Shape(environ=WITH_KEY))
    assert after.status()["operator_id"] == operator
    assert after.end() == 0
    assert after.hosts.read_text() == HOSTS
    assert site.interface_words() == []
