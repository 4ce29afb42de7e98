"""A real daemon at its limits: a gigabyte both ways, thousands at once, no descriptor left."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration import programs
from tests.integration.netns import Network, receive_exactly
from tests.integration.site import Daemon, Site

pytestmark = [pytest.mark.root, pytest.mark.long]

GIGABYTE = 10**9
BLOCK = hashlib.shake_128(b"a block").digest(1 << 20)
CROWD = 5000
PATIENCE_S = 90.0
CLOSING_S = 240.0
LOOK_S = 3.0  # how long CPU time is looked at
IDLE_SHARE = 0.25  # of one processor: polls, ticks and ten pauses a second, but no spinning
DESCRIPTORS = 256
SPARED = 20  # of those kept for the daemon itself, what clients must leave at any time
FEW_DESCRIPTORS, ROOM, AT_ONCE = 200, 100, 8
RESET = b"\1\0\0\0\0\0\0\0"  # linger for 0 s: close(2) sends RST
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads, proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def held(daemon: Daemon) -> int:
    """Descriptors without those of connections that are kept warm."""
    return descriptors(daemon.pid) - int(daemon.status()["warm_connections"]["ready"])


def limits(pid: int, of_what: str = "Max open files") -> tuple[str, str]:
    """Soft and hard."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(of_what))
    soft, hard = line[len(of_what) :].split()[:2]
    return soft, hard


def must_echo(network: Network, name: str) -> None:
    with network.connect(name, 7000) as client:
        client.sendall(b"hello")
        assert receive_exactly(client, 5) == b"hello"


def echoing(site: Site, *names: str) -> None:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    site.start_cloud(*(f"tcp://{name}.ns:7000=127.0.0.1:7000" for name in names))


def test_the_descriptor_limit_is_raised_to_the_hard_one_and_no_core_is_left(site: Site) -> None:
    site.start_cloud()
    under = ["prlimit", "--nofile=1000:3000", "--core=4096:8192"]
    daemon = site.start_daemon(under=under).ready()

    assert limits(daemon.pid) == ("3000", "3000")
    assert limits(daemon.pid, "Max core file size") == ("0", "8192")


# A gigabyte


def test_a_gigabyte_goes_up_and_comes_back_unchanged_at_the_same_time(site: Site) -> None:
    echoing(site, "echo")
    daemon = site.start_daemon().ready()
    sent, received = hashlib.sha256(), hashlib.sha256()

    with site.network.connect("echo.ns", 7000, PATIENCE_S) as client:
        reader = threading.Thread(target=hash_all, args=(client, received))
        reader.start()
        left = GIGABYTE
        while left:
            block = BLOCK[: min(left, len(BLOCK))]
            sent.update(block)
            client.sendall(block)
            left -= len(block)
        client.shutdown(socket.SHUT_WR)
        reader.join(PATIENCE_S)
        assert not reader.is_alive()
    daemon.eventually(lambda now: now["connections"]["open"] == 0, "it stays open")

    assert received.hexdigest() == sent.hexdigest()
    listed = daemon.endpoints()["tcp://echo.ns:7000"]
    assert (listed["bytes_up"], listed["bytes_down"]) == (GIGABYTE, GIGABYTE)
    assert listed["errors"] == 0


def until_none_is_open(daemon: Daemon) -> None:
    """The stand-in ingress, of threads, takes its time with thousands of ends."""
    began, spent = time.monotonic(), cpu_seconds(daemon.pid)
    while daemon.status()["connections"]["open"]:
        assert time.monotonic() < began + CLOSING_S, "some stay open"
        threading.Event().wait(0.5)
    spent = cpu_seconds(daemon.pid) - spent
    print(f"closed after {time.monotonic() - began:.0f} s, of which the daemon worked {spent:.0f}")


def hash_all(client: socket.socket, into: hashlib._Hash) -> None:
    buffer = memoryview(bytearray(1 << 20))
    while count := client.recv_into(buffer):
        into.update(buffer[:count])


# Thousands at once


class Burst:
    """Many clients of one address, connecting at the same moment; each wants one byte echoed.

    `ends` tells of each how it went; who is in none of the kinds was left hanging.
    """

    def __init__(self, network: Network, address: tuple[str, int], count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._sockets = []
        self.ends: dict[int, str] = {}
        with network.entered():
            self._sockets = [socket.socket() for _ in range(count)]
        for sock in self._sockets:
            sock.setblocking(False)
            error = sock.connect_ex(address)
            assert error in (0, errno.EINPROGRESS), errno.errorcode[error]
            self._selector.register(sock, selectors.EVENT_WRITE)

    def wait(self, seconds: float, enough: int) -> Counter[str]:
        """Until so many have come to an end, or for so long."""
        deadline = time.monotonic() + seconds
        while len(self.ends) < enough and time.monotonic() < deadline:
            for key, _ in self._selector.select(1):
                assert isinstance(key.fileobj, socket.socket)
                self._turn(key.fileobj)
        return Counter(self.ends.values())

    def _turn(self, sock: socket.socket) -> None:
        try:
            if self._selector.get_key(sock).events == selectors.EVENT_WRITE:
                sock.send(b"x")
                self._selector.modify(sock, selectors.EVENT_READ)
                return
            end = "served" if sock.recv(1) else "refused"
        except BlockingIOError:
            return
        except (ConnectionResetError, BrokenPipeError):
            end = "refused"
        self.ends[sock.fileno()] = end
        self._selector.unregister(sock)

    def close(self) -> None:
        """Every other one with a reset."""
        self._selector.close()
        for number, sock in enumerate(self._sockets):
            if number % 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()


@contextmanager
def burst(network: Network, name: str, count: int) -> Iterator[Burst]:
    made = Burst(network, (network.address_of(name), 7000), count)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """For the test's own clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_of_five_thousand_at_once_each_is_served_or_refused_and_none_hangs(site: Site) -> None:
    echoing(site, "crowd", "other")
    daemon = site.start_daemon({"forward": {"connect_timeout": 60}}).ready()
    before = held(daemon)

    with burst(site.network, "crowd.ns", CROWD) as crowd:
        ends = crowd.wait(PATIENCE_S, CROWD)
        print(f"a burst of {CROWD}: {dict(ends)}")
        assert sum(ends.values()) == CROWD, "some hang"
        assert ends["served"] >= CROWD * 0.95, "the kernel's queue alone holds most of them"
        must_echo(site.network, "other.ns")
    until_none_is_open(daemon)

    must_echo(site.network, "crowd.ns")
    listed = daemon.endpoints()["tcp://crowd.ns:7000"]
    # Whom the kernel had no room for has not come this far.
    assert ends["served"] < listed["total_connections"] <= CROWD + 1
    assert listed["errors"] <= ends["refused"]
    daemon.eventually(lambda _: held(daemon) <= before + 2, "descriptors leak")


# No descriptor left


@pytest.mark.parametrize("limit", [0, 100_000], ids=["by-default", "more-than-there-is-room-for"])
def test_without_descriptors_the_daemon_waits_answers_and_recovers(site: Site, limit: int) -> None:
    echoing(site, "crowd", "other")
    daemon = site.start_daemon(
        {"forward": {"max_connections": limit, "connect_timeout": 10}},
        under=["prlimit", f"--nofile={DESCRIPTORS}"],
    ).ready()
    before = held(daemon)

    with ExitStack() as stack:
        crowds = [
            stack.enter_context(burst(site.network, "crowd.ns", DESCRIPTORS)) for _ in range(2)
        ]
        for crowd in crowds:
            print(f"a burst of {DESCRIPTORS}: {dict(crowd.wait(15.0, DESCRIPTORS))}")
        assert daemon.status()["connections"]["open"] > 0
        began, spent = time.monotonic(), cpu_seconds(daemon.pid)
        while time.monotonic() < began + LOOK_S:
            assert daemon.status()["connections"]["open"] > 0
            with suppress(OSError):  # turned away
                site.network.connect("other.ns", 7000, 1).close()
            threading.Event().wait(0.3)
        share = (cpu_seconds(daemon.pid) - spent) / (time.monotonic() - began)
        assert share < IDLE_SHARE
        assert descriptors(daemon.pid) <= DESCRIPTORS - SPARED
        daemon.refresh()  # polls, the hosts file and the control socket have what they need
        site.cloud.remove("tcp://other.ns:7000")
        assert daemon.refresh()["closed"] == ["other.ns:7000"]
        assert "other.ns" not in site.namespace.hosts.read_text()
        site.cloud.add("tcp://other.ns:7000", "127.0.0.1:7000")
        daemon.refresh()
        how: set[str] = set()
        for crowd in crowds:
            ends = crowd.wait(20.0, DESCRIPTORS)
            assert sum(ends.values()) == DESCRIPTORS, "some hang"
            how |= set(ends)
    assert how == {"served", "refused"}
    daemon.eventually(lambda now: now["connections"]["open"] == 0, "some stay open")

    for name in ("crowd.ns", "other.ns"):
        must_echo(site.network, name)
    daemon.eventually(lambda _: held(daemon) <= before + 2, "descriptors leak")
    assert daemon.matching("Traceback|CRITICAL") == []
    assert daemon.stop() == 0


def test_of_more_endpoints_than_descriptors_as_many_as_fit_are_open_and_stay_so(
    site: Site,
) -> None:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    cloud = site.start_cloud()
    listed = [
        {"url": f"tcp://e{n}.ns:7000", "upstream": "127.0.0.1:7000"} for n in range(3 * ROOM // 2)
    ]
    cloud.replace(*listed)
    daemon = site.start_daemon(under=["prlimit", f"--nofile={FEW_DESCRIPTORS}"]).ready()

    def by_state() -> dict[str, set[str]]:
        endpoints = daemon.endpoints()
        assert all(
            each["reason"].startswith(f"descriptor limit: {FEW_DESCRIPTORS} open files")
            and "ulimit -n" in each["reason"]
            for each in endpoints.values()
            if each["state"] == "failed"
        )
        return {
            state: {url for url, each in endpoints.items() if each["state"] == state}
            for state in ("open", "failed")
        }

    first = by_state()
    assert (len(first["open"]), len(first["failed"])) == (ROOM, ROOM // 2)
    for _ in range(3):
        assert daemon.refresh()["opened"] == []
        assert by_state() == first
    names = [url.partition("//")[2].partition(":")[0] for url in sorted(first["open"])]
    with ExitStack() as stack:  # beside all listeners, some connections at once
        for name in names[:AT_ONCE]:
            client = stack.enter_context(site.network.connect(name, 7000))
            client.sendall(b"hello")
            assert receive_exactly(client, 5) == b"hello"
        assert daemon.refresh()["endpoints"] == ROOM
    assert by_state() == first

    others = [each for each in listed if each["url"] in first["failed"]]
    cloud.replace(*others)  # all make room for those who waited, at one poll
    assert len(daemon.refresh()["opened"]) == ROOM // 2
    assert by_state() == {"open": first["failed"], "failed": set()}
    assert descriptors(daemon.pid) <= FEW_DESCRIPTORS
    assert daemon.matching("Traceback|CRITICAL") == []
    assert daemon.stop() == 0
    site.assert_nothing_is_left(daemon)
