"""Which endpoints there are, and what their coming and going does to connections."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest

from tests import nameserver
from tests.integration import programs
from tests.integration.crowd import Crowd
from tests.integration.netns import receive_all, receive_exactly
from tests.integration.site import Site

pytestmark = pytest.mark.root

ENDPOINTS = 20
CONNECTIONS = 500
PAYLOAD_BYTES = 20_000
LISTED = 250  # three pages of the API
STREAM_BYTES = 40_000_000
NAME_SERVER = Path(nameserver.__file__)


@pytest.mark.long
def test_500_connections_at_once_over_20_endpoints_each_get_their_own_bytes(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, f"echo=7000-{7000 + ENDPOINTS - 1}"))
    site.start_cloud(*(f"tcp://e{n}.ns:{7000 + n}=127.0.0.1:{7000 + n}" for n in range(ENDPOINTS)))
    daemon = site.start_daemon({"forward": {"connect_timeout": 20}}).ready()
    addresses = [(site.network.address_of(f"e{n}.ns"), 7000 + n) for n in range(ENDPOINTS)]
    assert len({ip for ip, _ in addresses}) == ENDPOINTS
    hellos = [b"hello %6d" % n for n in range(CONNECTIONS)]
    payloads = [n.to_bytes(4, "big") + os.urandom(PAYLOAD_BYTES) for n in range(CONNECTIONS)]

    crowd = Crowd(site.network, addresses * (CONNECTIONS // ENDPOINTS))
    assert crowd.exchange(hellos) == hellos
    assert daemon.status()["connections"]["open"] == CONNECTIONS
    answers = crowd.exchange(payloads)
    crowd.close()

    assert [n for n in range(CONNECTIONS) if answers[n] != payloads[n]] == []
    status = daemon.eventually(lambda now: now["connections"]["open"] == 0, "some stay open")
    counted = {name: status["connections"][name] for name in ("open", "total", "failed")}
    assert counted == {"open": 0, "total": CONNECTIONS, "failed": 0}


def test_endpoints_that_come_and_go_do_not_disturb_the_others(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000-7001"))
    cloud = site.start_cloud(
        "tcp://stays.ns:7000=127.0.0.1:7000", "tcp://stays.ns:7001=127.0.0.1:7001"
    )
    # No poll of its own takes away what a refresh is to tell.
    daemon = site.start_daemon({"bound_endpoints": {"poll_interval": 3600}}).ready()
    body = os.urandom(STREAM_BYTES)
    answers: dict[int, bytes] = {}
    ports = (7000, 7001, 7000, 7001)
    clients = [site.network.connect("stays.ns", port) for port in ports]
    echoes = [
        threading.Thread(target=_stream, args=(client, body, answers, number))
        for number, client in enumerate(clients)
    ]
    ip = site.network.address_of("stays.ns")

    for thread in echoes:
        thread.start()
    for round_ in range(6):
        for n in range(5):
            cloud.add(f"tcp://guest{round_}-{n}.ns:9000", "127.0.0.1:7000")
        assert len(daemon.refresh()["opened"]) == 5
        for n in range(5):
            cloud.remove(f"tcp://guest{round_}-{n}.ns:9000")
        assert len(daemon.refresh()["closed"]) == 5
    for thread in echoes:
        thread.join(60)

    assert [number for number in range(len(ports)) if answers.get(number) != body] == []
    assert site.network.address_of("stays.ns") == ip
    assert len(daemon.matching("endpoint stays.ns:7000 open")) == 1
    assert "guest" not in site.namespace.hosts.read_text()
    assert daemon.status()["connections"]["failed"] == 0


def test_the_poll_itself_finds_what_is_new_and_what_is_gone(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    cloud = site.start_cloud("tcp://old.ns:7000=127.0.0.1:7000")
    daemon = site.start_daemon().ready()
    old = daemon.endpoints()["tcp://old.ns:7000"]["ip"]

    cloud.replace({"url": "tcp://new.ns:7000", "upstream": "127.0.0.1:7000"})

    daemon.expect("endpoint new.ns:7000 open")
    daemon.expect("endpoint old.ns:7000 closed")
    daemon.wait_for("--for", "new.ns", "--timeout", 5)
    daemon.eventually(lambda now: now["endpoint_count"] == 1, "two endpoints")
    with site.network.connect("new.ns", 7000) as client:
        client.sendall(b"hello")
        assert receive_exactly(client, 5) == b"hello"
    with pytest.raises(OSError):
        site.network.connect(old, 7000, timeout_s=0.5)
    assert "old.ns" not in site.namespace.hosts.read_text()


def test_a_connection_goes_on_when_its_endpoint_is_removed(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    cloud = site.start_cloud("tcp://going.ns:7000=127.0.0.1:7000")
    daemon = site.start_daemon().ready()
    client = site.network.connect("going.ns", 7000)
    client.sendall(b"before")
    assert receive_exactly(client, 6) == b"before"

    cloud.remove("tcp://going.ns:7000")
    assert daemon.refresh()["closed"] == ["going.ns:7000"]

    client.sendall(b"after")
    client.shutdown(socket.SHUT_WR)
    assert receive_all(client) == b"after"
    client.close()


def test_what_others_take_away_is_there_again_after_the_next_poll(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    site.start_cloud("tcp://one.ns:7000=127.0.0.1:7000", "tcp://two.ns:7000=127.0.0.1:7000")
    daemon = site.start_daemon().ready()
    section = "/ngrokd managed section/,/ngrokd managed section/d"
    damages = (
        "ip addr del 10.107.0.2/32 dev ngrokd0",
        "ip link set ngrokd0 down",
        "ip link delete ngrokd0",
        f"sed '{section}' /etc/hosts >/etc/hosts.new; mv /etc/hosts.new /etc/hosts",
    )

    for damage in damages:
        site.run("sh", "-c", damage)
        daemon.refresh()
        daemon.refresh()  # what the first one found in its way
        for name in ("one.ns", "two.ns"):
            with site.network.connect(name, 7000) as client:
                assert receive_exactly(client, 8) == b"goodbye\n", damage

    assert daemon.stop() == 0
    site.assert_nothing_is_left(daemon)


def test_names_share_a_port_and_a_name_has_several_ports(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000", "greeter=7001"))
    site.start_cloud(
        "http://one.ns=127.0.0.1:7000",
        "http://two.ns=127.0.0.1:7001",
        "tcp://one.ns:81=127.0.0.1:7001",
        "tls://one.ns=127.0.0.1:7001",
    )
    daemon = site.start_daemon().ready()
    network = site.network
    assert network.address_of("one.ns") != network.address_of("two.ns")
    assert site.namespace.hosts.read_text().count("one.ns") == 1
    assert daemon.status()["endpoint_count"] == 4

    for name, port in (("two.ns", 80), ("one.ns", 81), ("one.ns", 443)):
        with network.connect(name, port) as client:
            assert receive_exactly(client, 8) == b"goodbye\n"
    with network.connect("one.ns", 80) as client:
        client.sendall(b"echoed")
        assert receive_exactly(client, 6) == b"echoed"


@pytest.mark.long
def test_a_name_keeps_its_address_after_a_restart_and_while_it_is_away(site: Site) -> None:
    names = [f"n{number}.ns" for number in range(8)]
    cloud = site.start_cloud(*(f"http://{name}=127.0.0.1:7000" for name in names))
    first = site.start_daemon().ready()
    before = {name: site.network.address_of(name) for name in names}
    cloud.remove("http://n3.ns")
    first.refresh()
    assert first.stop(signal.SIGTERM) == 0
    cloud.add("http://n9.ns", "127.0.0.1:7000")
    cloud.add("http://n3.ns", "127.0.0.1:7000")

    site.start_daemon_as_configured().ready()

    assert {name: site.network.address_of(name) for name in names} == before
    assert site.network.address_of("n9.ns") not in before.values()
    assert len(cloud.operators()) == 1


def test_the_members_of_a_pool_are_one_endpoint(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000", "greeter=7001"))
    cloud = site.start_cloud("tcp://pool.ns:7000=127.0.0.1:7001")
    daemon = site.start_daemon().ready()
    ip = site.network.address_of("pool.ns")

    cloud.add("tcp://pool.ns:7000", "127.0.0.1:7001", members=3)
    assert daemon.refresh()["opened"] == []

    listed = daemon.endpoints()
    assert list(listed) == ["tcp://pool.ns:7000"]
    assert daemon.status()["endpoints"] == {"open": 1, "failed": 0, "skipped": 0}
    first = cloud.ask("GET", "/endpoints")["endpoints"][0]["id"]
    cloud.ask("DELETE", f"/endpoints/{first}")
    assert daemon.refresh()["closed"] == []
    assert site.network.address_of("pool.ns") == ip
    with site.network.connect("pool.ns", 7000) as client:
        assert receive_exactly(client, 8) == b"goodbye\n"


@pytest.mark.long
def test_250_endpoints_on_three_pages_are_all_there(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    cloud = site.start_cloud()
    cloud.replace(
        *({"url": f"http://n{n}.ns", "upstream": "127.0.0.1:7000"} for n in range(LISTED))
    )
    daemon = site.start_daemon()

    daemon.wait_for("--endpoints", LISTED, "--timeout", 20)

    addresses = {site.network.address_of(f"n{n}.ns") for n in range(LISTED)}
    assert len(addresses) == LISTED
    assert daemon.status()["endpoints"] == {"open": LISTED, "failed": 0, "skipped": 0}
    for name in ("n0.ns", "n99.ns", "n100.ns", "n249.ns"):
        with site.network.connect(name, 80) as client:
            assert receive_exactly(client, 8) == b"goodbye\n"
    assert daemon.stop() == 0
    site.assert_nothing_is_left(daemon)


@pytest.mark.long
def test_an_international_name_is_published_as_programs_ask_for_it(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    cloud = site.start_cloud("tcp://xn--bcher-kva.ns:7000=127.0.0.1:7000")
    cloud.add("tcp://B\u00dcCHER.ns:7000", "127.0.0.1:7000")
    daemon = site.start_daemon()

    daemon.wait_for("--for", "xn--bcher-kva.ns", "--timeout", 20)

    assert daemon.status()["endpoints"] == {"open": 1, "failed": 0, "skipped": 0}
    url, tongue = "http://b\u00fccher.ns:7000/", {**os.environ, "LC_ALL": "C.UTF-8"}
    asked = site.run("curl", "-s", "--http0.9", "-m", "2", url, env=tongue, check=False)
    assert asked.stdout.startswith("goodbye\nGET / ")
    assert "Host: xn--bcher-kva.ns:7000" in asked.stdout
    with site.network.connect("xn--bcher-kva.ns", 7000) as client:
        assert receive_exactly(client, 8) == b"goodbye\n"


def test_a_name_that_hides_a_public_one_is_published_and_told_once(site: Site) -> None:
    argv = [sys.executable, NAME_SERVER, "db.example.com=93.184.216.34"]
    server = programs.Program(site.namespace, argv)
    site.keep(server)
    server.expect("ready")
    site.ask_names_of("127.0.0.1")
    site.start_cloud("tcp://db.example.com:7000=127.0.0.1:7000", "tcp://api.ns:7000=127.0.0.1:7000")
    daemon = site.start_daemon().ready()
    assert site.network.address_of("db.example.com") == "10.107.0.3"  # ours, as any program sees it
    told = "db.example.com (93.184.216.34) also resolves outside of this machine"
    daemon.expect(re.escape(told))
    for _ in range(2):
        daemon.refresh()
    listed = {e["hostname"]: e["resolves_elsewhere"] for e in daemon.endpoints().values()}
    assert listed == {"db.example.com": ["93.184.216.34"], "api.ns": []}
    assert daemon.output().count("also resolve") == 1
    assert daemon.status()["state"] == "ready"


def test_an_endpoint_that_cannot_be_served_is_skipped_and_the_others_are_fine(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    cloud = site.start_cloud("http://good.ns=127.0.0.1:7000")
    unusable = (
        "tcp://no-port.ns",
        "http://*.wild.ns",
        "http://two words.ns",
        "http://line\nbreak.ns",
        "ftp://files.ns:21",
        "tcp://far.ns:70000",
        "http://localhost",
        "http://ip6-localhost",
        f"tcp://{socket.gethostname()}:7000",
        "https://api.ngrok.com",
        "https://kubernetes-binding-ingress.ngrok.io",
        "http://10.0.0.1",
        "http://nul\0.ns",
        "http://tab\t10.0.0.1.ns",
        "http://a.ns#\n10.0.0.1 evil.ns",
        "http://" + "x" * 300,
        "http://one.two.three.four.five.six",
        "http://xn--99999999.ns",
        "http://stra\u00dfe.ns",
        "",
    )
    for url in unusable:
        cloud.add(url, "127.0.0.1:7000")
    daemon = site.start_daemon().ready()

    status = daemon.status()
    assert status["endpoints"] == {"open": 1, "failed": 0, "skipped": len(unusable)}
    skipped = [each for each in daemon.endpoints().values() if each["state"] == "skipped"]
    assert all(each["reason"] for each in skipped)
    with site.network.connect("good.ns", 80) as client:
        assert receive_exactly(client, 8) == b"goodbye\n"
    section = site.namespace.hosts.read_bytes().replace(site.hosts_before, b"")
    assert section.count(b"\n") == 3 and b"evil" not in section
    assert len(daemon.matching("WARNING.*skipped")) == len(unusable)
    daemon.refresh()
    assert len(daemon.matching("WARNING.*skipped")) == len(unusable)  # said once, not at every poll


def _stream(client: socket.socket, body: bytes, answers: dict[int, bytes], number: int) -> None:
    sender = threading.Thread(target=_send_and_end, args=(client, body))
    sender.start()
    answers[number] = receive_all(client)
    sender.join()
    client.close()


def _send_and_end(client: socket.socket, body: bytes) -> None:
    client.sendall(body)
    client.shutdown(socket.SHUT_WR)
