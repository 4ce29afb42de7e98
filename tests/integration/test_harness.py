"""The real servers answer directly, so that what fails elsewhere is not their doing."""

from __future__ import annotations

import hashlib
import json
import socket

import pytest

from tests.integration import programs
from tests.integration.netns import receive_all
from tests.integration.site import Site

pytestmark = pytest.mark.root


def test_nginx_redis_and_iperf3_answer_without_the_daemon(site: Site) -> None:
    network, namespace = site.network, site.namespace
    web = programs.nginx(namespace, network, site.folder / "web", 8080, 8090)
    site.keep(web)
    (site.folder / "web" / "www" / "index.html").write_text("hello\n")
    site.keep(programs.redis(namespace, network, site.folder, 6379))
    site.keep(programs.iperf3(namespace, 5201))

    assert site.run("curl", "-sS", "http://127.0.0.1:8080/").stdout == "hello\n"
    assert site.run("redis-cli", "ping").stdout == "PONG\n"
    site.run("iperf3", "-c", "127.0.0.1", "-n", "1M")


def test_the_small_servers_do_what_they_say_without_the_daemon(site: Site) -> None:
    network = site.network
    kinds = ("echo=7000", "after_end=7001", "ends_first=7002", "report=7003", "greeter=7004")
    site.keep(programs.peers(site.namespace, network, *kinds))

    with network.connect("127.0.0.1", 7001) as client:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        digest = hashlib.sha256(b"question").hexdigest().encode()
        assert receive_all(client) == digest + b"\nquestion"
    with network.connect("127.0.0.1", 7002) as client:
        assert receive_all(client) == b"goodbye\n"
        client.sendall(b"afterwards")
    with network.connect("127.0.0.1", 7003) as client:
        assert json.loads(receive_all(client))["bytes"] == len(b"afterwards")
    with network.connect("127.0.0.1", 7004) as client:
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"goodbye\n"
