"""Endpoints on the machine's own addresses: moved by a reload, followed, and never in silence."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration import programs
from tests.integration.netns import receive_exactly
from tests.integration.site import Daemon, Overrides, Site

pytestmark = pytest.mark.root

LAN_IP, OTHER_IP = "192.168.77.1", "192.168.77.9"
ECHO, WEB, DB = "tcp://echo.ns:7000", "http://web.ns", "tcp://db.ns:5432"


@pytest.fixture
def lan(site: Site) -> Iterator[Site]:
    """A site with an interface `lan0` that has an address, and servers behind three endpoints."""
    site.run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    try:
        site.run("ip", "addr", "add", f"{LAN_IP}/24", "dev", "lan0")
        site.run("ip", "link", "set", "lan0", "up")
        site.run("ip", "link", "set", "lan1", "up")
        site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
        site.start_cloud(*(f"{url}=127.0.0.1:7000" for url in (ECHO, WEB, DB)))
        yield site
    finally:
        site.run("ip", "link", "delete", "lan0")


def reload(site: Site, daemon: Daemon, net: dict[str, object]) -> None:
    since = len(daemon.lines)
    site.write_config({"net": net})
    daemon.send(signal.SIGHUP)
    daemon.expect("configuration read again", since)
    daemon.refresh()


def speaks(client: socket.socket) -> bool:
    client.sendall(b"still")
    return receive_exactly(client, 5) == b"still"


def where(daemon: Daemon, url: str) -> tuple[str, int, str]:
    """How the JSON of `list` says it."""
    one = daemon.endpoints()[url]
    return str(one["listen_interface"]), int(one["network_port"]), str(one["listen_address"])


def listeners(site: Site, *ports: int) -> dict[int, str]:
    """The inode of the listening socket of each of these ports."""
    found = {}
    for line in site.run("ss", "-Htlne").stdout.splitlines():
        words = line.split()
        port = int(words[3].rpartition(":")[2])
        if port in ports and "10.107." in words[3]:
            found[port] = next(word for word in words if word.startswith("ino:"))
    return found


def test_a_reload_moves_what_it_concerns_and_nothing_of_the_others(lan: Site) -> None:
    daemon = lan.start_daemon().ready()
    echo, db = lan.network.connect("echo.ns", 7000), lan.network.connect("db.ns", 5432)
    assert speaks(echo) and speaks(db)
    before = listeners(lan, 7000, 80)
    assert set(before) == {7000, 80}
    steps: tuple[tuple[str, str], ...] = (
        ("0.0.0.0", "0.0.0.0"),
        (LAN_IP, LAN_IP),
        ("0.0.0.0", "0.0.0.0"),
        ("lan0", LAN_IP),
    )
    clients = []
    for interface, ip in steps:
        since = len(daemon.lines)
        reload(lan, daemon, {"overrides": {"db.ns": interface}})
        assert where(daemon, DB) == (interface, 9080, f"{ip}:9080")
        named = daemon.matching("endpoint .* (open|closed|failed)", since)
        assert named and all("db.ns" in line for line in named), named
        (warning,) = daemon.matching("WARNING other hosts can reach", since)
        assert f"db.ns:5432 on {ip}:9080" in warning
        assert daemon.status()["notes"] == [f"other hosts can reach db.ns:5432 on {ip}:9080"]
        clients.append(lan.network.connect(LAN_IP, 9080))
        assert all(map(speaks, (echo, db, *clients))), interface
    assert listeners(lan, 7000, 80) == before
    assert "db.ns" not in lan.namespace.hosts.read_text()
    page = daemon.ctl("list").stdout
    assert f"{LAN_IP}:9080" in page and "1 endpoint without a name here" in page
    counted = daemon.endpoints()
    assert (counted[ECHO]["total_connections"], counted[ECHO]["errors"]) == (1, 0)
    assert counted[DB]["connections"] == 1 + len(clients)

    reload(lan, daemon, {})
    assert where(daemon, DB) == ("virtual", 0, "10.107.0.2:5432")
    assert all(map(speaks, (echo, db, *clients)))
    assert daemon.status()["notes"] == [] and daemon.status()["problems"] == []
    assert listeners(lan, 7000, 80) == before
    for client in (echo, db, *clients):
        client.close()
    assert daemon.stop() == 0
    lan.assert_nothing_is_left(daemon)


def test_an_interfaces_address_is_followed_and_without_one_the_endpoint_waits(lan: Site) -> None:
    daemon = lan.start_daemon({"net": {"overrides": {"db.ns": "lan0"}}}).ready()
    assert where(daemon, DB)[2] == f"{LAN_IP}:9080"
    client = lan.network.connect("echo.ns", 7000)

    lan.run("ip", "addr", "add", f"{OTHER_IP}/24", "dev", "lan0")
    lan.run("ip", "addr", "del", f"{LAN_IP}/24", "dev", "lan0")
    lan.run("ip", "addr", "replace", f"{OTHER_IP}/24", "dev", "lan0")
    daemon.refresh()
    assert where(daemon, DB)[2] == f"{OTHER_IP}:9080"
    with lan.network.connect(OTHER_IP, 9080) as other:
        assert speaks(other)

    lan.run("ip", "addr", "flush", "dev", "lan0")
    since = len(daemon.lines)
    for _ in range(3):
        daemon.refresh()
    one = daemon.endpoints()[DB]
    assert (one["state"], one["ip"], one["local_listener"]) == ("failed", "", False)
    assert "net.overrides.db.ns: lan0: interface lan0 has no IPv4 address" in one["reason"]
    assert len(daemon.matching("db.ns:5432 failed", since)) == 1

    lan.run("ip", "addr", "add", f"{LAN_IP}/24", "dev", "lan0")
    daemon.refresh()
    assert where(daemon, DB) == ("lan0", 9080, f"{LAN_IP}:9080")
    assert speaks(client)
    client.close()


NEIGHBOUR_IP = "192.168.77.2"
KNOCK = """
import socket
try:
    with socket.create_connection((%r, %d), 10) as client:
        client.sendall(b"still")
        print(client.recv(5))
except ConnectionError as exc:
    print(type(exc).__name__)
"""


def test_a_neighbour_reaches_what_is_exposed_and_nothing_else(lan: Site) -> None:
    neighbour = ["unshare", "-n", "sh", "-c", "echo there; exec sleep 60"]
    with lan.namespace.popen(*neighbour, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"there\n"
        there = ["nsenter", f"--target={other.pid}", "--net"]
        lan.run("ip", "link", "set", "lan1", "netns", str(other.pid))
        try:
            for words in (
                f"ip addr add {NEIGHBOUR_IP}/24 dev lan1",
                "ip link set lan1 up",
                f"ip route add default via {LAN_IP}",
            ):
                lan.run(*there, *words.split())
            daemon = lan.start_daemon({"net": {"overrides": {"db.ns": LAN_IP}}}).ready()
            at = lan.network.address_of("echo.ns")

            def knock(ip: str, port: int) -> str:
                done = lan.run(*there, sys.executable, "-c", KNOCK % (ip, port))
                return done.stdout.strip()

            assert knock(LAN_IP, 9080) == "b'still'"
            assert knock(at, 7000) in ("ConnectionResetError", "BrokenPipeError")
        finally:
            home = lan.namespace.argv()[1].partition("=")[2]
            lan.run(*there, "ip", "link", "set", "lan1", "netns", home)
            other.kill()
    daemon.expect(f"WARNING echo.ns:7000: turned away {NEIGHBOUR_IP}.*{at}:7000.*net.overrides")
    assert daemon.endpoints()[ECHO]["failures"] == {"foreign_client": 1}
    for source in (LAN_IP, "127.0.0.1", "10.107.0.1", at, ""):
        with lan.network.new_socket() as client:
            client.settimeout(10)
            client.bind((source, 0))
            client.connect((at, 7000))
            assert speaks(client), source


@pytest.mark.long
def test_a_subnet_with_the_name_server_or_the_gateway_in_it_is_not_taken(lan: Site) -> None:
    lan.run("ip", "route", "add", "default", "via", "10.107.0.2", "dev", "lan0", "onlink")
    over = "10.107.0.2 is the gateway of a route by interface lan0"
    daemon = lan.start_daemon().ready()
    assert daemon.status()["interface"]["mode"] == "loopback"
    (warning,) = daemon.matching("WARNING 10.107.0.0/16 is in use on this machine")
    assert over in warning and "net.subnet" in warning
    assert over in daemon.ctl("doctor", check=False).stdout
    assert lan.interface_words() == []
    assert daemon.stop() == 0

    lan.run("ip", "route", "del", "default")
    daemon = lan.start_daemon().ready()
    assert daemon.status()["interface"]["mode"] != "loopback"
    lan.ask_names_of("10.107.9.9")  # while it runs: told, and kept
    daemon.refresh()
    daemon.expect("WARNING 10.107.9.9 is a name server of /etc/resolv.conf, which meets 10.107")
    assert "10.107.0.2/32" in lan.interface_words()
    assert daemon.stop() == 0
    daemon = lan.start_daemon().ready()
    assert daemon.status()["interface"]["mode"] == "loopback"


@pytest.mark.long
def test_taken_network_ports_are_passed_over_and_what_was_given_outlives_a_restart(
    lan: Site,
) -> None:
    everything: Overrides = {"net": {"listen_interface": LAN_IP}}
    taken = [lan.network.listen("0.0.0.0", 9080 + n) for n in range(20)]
    taken.append(lan.network.listen(LAN_IP, 9100))
    daemon = lan.start_daemon(everything).ready()
    ports = {url: where(daemon, url)[1] for url in (ECHO, WEB, DB)}
    assert sorted(ports.values()) == [9101, 9102, 9103]
    kept: dict[str, Any] = json.loads((lan.state / "network_ports.json").read_text())
    assert {f"tcp://{name}" for name in kept} >= {ECHO, DB}
    assert daemon.stop() == 0
    for sock in taken:
        sock.close()

    daemon = lan.start_daemon(everything).ready()
    assert {url: where(daemon, url)[1] for url in (ECHO, WEB, DB)} == ports
    assert not lan.has_section()
    assert daemon.stop() == 0


@pytest.mark.long
def test_a_name_leads_to_the_machines_address_where_the_port_is_the_endpoints_own(
    lan: Site,
) -> None:
    daemon = lan.start_daemon(
        {"net": {"start_port": 5432, "overrides": {"db.ns": LAN_IP}}}
    ).ready()
    assert where(daemon, DB) == (LAN_IP, 5432, f"{LAN_IP}:5432")
    assert lan.network.address_of("db.ns") == LAN_IP
    assert daemon.endpoints()[DB]["published"] is True
    reload(lan, daemon, {"start_port": 5432, "overrides": {"db.ns": "0.0.0.0"}})
    assert lan.network.address_of("db.ns") == "127.0.0.1"
    with lan.network.connect("db.ns", 5432) as client:
        assert speaks(client)


@pytest.mark.long
def test_no_port_past_the_last_one_is_given_and_the_rest_says_what_to_do(lan: Site) -> None:
    daemon = lan.start_daemon(
        {"net": {"start_port": 65534, "listen_interface": "0.0.0.0"}}
    ).ready()
    found = daemon.endpoints().values()
    assert sorted(one["network_port"] for one in found) == [0, 65534, 65535]
    (failed,) = (one for one in found if one["state"] == "failed")
    assert "set net.start_port lower" in failed["reason"]


@pytest.mark.long
def test_without_ngrok_what_others_take_away_still_comes_back(lan: Site) -> None:
    taken = lan.network.listen("0.0.0.0", 80)
    daemon = lan.start_daemon({"net": {"overrides": {"db.ns": "lan0"}}}).ready()
    assert daemon.endpoints()[WEB]["state"] == "failed"
    lan.cloud.stop()
    taken.close()
    lan.run("ip", "addr", "del", "10.107.0.3/32", "dev", "ngrokd0")
    lan.run("ip", "addr", "flush", "dev", "lan0")
    lan.run("ip", "addr", "add", f"{OTHER_IP}/24", "dev", "lan0")

    daemon.ctl("refresh", check=False)

    assert "10.107.0.3/32" in lan.interface_words()
    assert daemon.endpoints()[WEB]["state"] == "open"
    assert where(daemon, DB)[2] == f"{OTHER_IP}:9080"


@pytest.mark.long
def test_names_that_a_killed_run_left_go_at_once_if_nothing_can_be_served(lan: Site) -> None:
    daemon = lan.start_daemon().ready()
    daemon.send(signal.SIGKILL)
    daemon.wait()
    lan.cloud.stop()
    (lan.state / "endpoints.json").unlink()
    assert lan.has_section()

    daemon = lan.start_daemon()

    daemon.expect("WARNING.*http://127.0.0.1:4040.*refused")
    assert not lan.has_section()
    assert "10.107.0.2/32" not in lan.interface_words()
