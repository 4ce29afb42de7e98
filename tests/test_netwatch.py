"""What the kernel says about networks: its bytes, its filter, and the real thing in a namespace."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host import netif
from ngrokd.host.netif import kernelfilter, linuxwatch, routemessages, rtnetlink
from ngrokd.host.netif.networks import Event, Networks
from ngrokd.host.netif.watch import NetworkWatch
from ngrokd.model import NetworkCame
from tests.integration.netns import Network
from tests.namespace import Namespace
from tests.test_networks import (
    address_gone,
    address_is,
    default_route,
    default_route_gone,
    link_gone,
    link_is,
)

INET, INET6, BRIDGE = 2, 10, 7


# Linux's bytes


def attribute(kind: int, value: bytes) -> bytes:
    padding = b"\0" * (-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + value + padding


def message(kind: int, body: bytes) -> bytes:
    padding = b"\0" * (-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + padding


def link(kind: int = 16, index: int = 2, flags: int = 0x41, family: int = 0) -> bytes:
    body = struct.pack("=BxHiII", family, 1, index, flags, 0)
    return message(kind, body + attribute(3, b"eth0\0") + attribute(1, b"\1\2\3\4\5\6"))


def address(
    ip: bytes, kind: int = 20, flags: int = 0x80, far: bytes = b"", more: bytes = b""
) -> bytes:
    family = INET if len(ip) == 4 else INET6
    body = struct.pack("=BBBBI", family, 24, flags, 0, 2)
    local = attribute(2, ip) if far else b""
    return message(kind, body + attribute(1, far or ip) + local + more)


def route(kind: int = 24, length: int = 0, sort: int = 1, family: int = INET) -> bytes:
    body = struct.pack("=BBBBBBBBI", family, length, 0, 0, 254, 4, 0, sort, 0)
    return message(
        kind,
        body
        + attribute(15, struct.pack("=I", 254))
        + attribute(5, b"\xc0\0\2\1")
        + attribute(4, struct.pack("=I", 2))
        + attribute(6, struct.pack("=I", 100)),
    )


IP = b"\xc0\0\2\7"
IP6 = bytes.fromhex("20010db8") + b"\0" * 11 + b"\7"
BY_ETH = default_route(2, INET, 0, 254, 100, b"\xc0\0\2\1")
LINUX: list[tuple[bytes, list[Event]]] = [
    (link(), [link_is(2, "eth0", True)]),
    (link(flags=0x1), [link_is(2, "eth0", False)]),  # up, but without a carrier
    (link(flags=0x40), [link_is(2, "eth0", False)]),
    (link(kind=17), [link_gone(2)]),
    (link(kind=17, family=BRIDGE), []),  # a bridge lets its port go, which stays
    (link(family=BRIDGE), []),
    (address(IP), [address_is(2, "192.0.2.7")]),
    (address(IP6), [address_is(2, "2001:db8::7")]),
    (address(IP, far=b"\xc0\0\2\1"), [address_is(2, "192.0.2.7")]),
    (address(IP, kind=21), [address_gone(2, "192.0.2.7")]),
    (address(IP6, flags=0x40), []),  # may turn out to be another's
    (address(IP6, flags=0, more=attribute(8, struct.pack("=I", 0x48))), []),
    (address(IP6, kind=21, flags=0x40), [address_gone(2, "2001:db8::7")]),
    (address(b"\1\2\3"), []),
    (route(), [BY_ETH]),
    (route(kind=25), [default_route_gone(BY_ETH)]),
    (route(length=1), [default_route(2, INET, 1, 254, 100, b"\xc0\0\2\1")]),
    (route(length=24), []),
    (route(sort=7), []),  # unreachable
    (message(3, b"\0\0\0\0"), []),
    (message(2, b"\0" * 20), []),
    (message(28, b"\0" * 20), []),  # neighbours
    (b"", []),
]


@pytest.mark.parametrize(("data", "expected"), LINUX)
def test_messages_of_linux_are_read(data: bytes, expected: list[Event]) -> None:
    assert list(rtnetlink.events(data)) == expected


def test_a_datagram_holds_many_messages() -> None:
    whole = b"".join(data for data, _ in LINUX)
    assert list(rtnetlink.events(whole)) == [one for _, events in LINUX for one in events]


@pytest.mark.parametrize(("data", "expected"), LINUX)
def test_a_message_that_is_cut_tells_nothing_wrong(data: bytes, expected: list[Event]) -> None:
    for end in range(len(data)):
        found = list(rtnetlink.events(data[:end]))
        assert found in ([], expected), end  # the filling of the last attribute may miss


@given(st.binary(max_size=300))
@example(b"\0" * 64)
@example(struct.pack("=IHHII", 0xFFFFFFFF, 16, 0, 0, 0))
@example(struct.pack("=IHHII", 3, 16, 0, 0, 0) * 3)
def test_whatever_bytes_come_of_linux_nothing_is_raised(data: bytes) -> None:
    list(rtnetlink.events(data))


@given(st.sampled_from([data for data, _ in LINUX if data]), st.data())
def test_a_message_of_linux_with_other_bytes_in_it_is_read_or_passed_over(
    data: bytes, choose: st.DataObject
) -> None:
    changed = bytearray(data)
    for _ in range(choose.draw(st.integers(1, 4))):
        changed[choose.draw(st.integers(0, len(data) - 1))] = choose.draw(st.integers(0, 255))
    networks = Networks("ngrokd0", ("10.107.0.0/16",))
    for event in rtnetlink.events(bytes(changed)):
        networks.take(event)


# macOS's bytes


def sockaddr(family: int, rest: bytes) -> bytes:
    raw = bytes([2 + len(rest), family]) + rest
    return raw + b"\0" * (-len(raw) % 4)


def inet(ip: bytes) -> bytes:
    return sockaddr(2, b"\0\0" + ip + b"\0" * 8)


def inet6(ip: bytes) -> bytes:
    return sockaddr(30, b"\0" * 6 + ip + b"\0" * 4)


def darwin(kind: int, fixed: bytes, addresses: bytes = b"", version: int = 5) -> bytes:
    return struct.pack("=HBB", 4 + len(fixed) + len(addresses), version, kind) + fixed + addresses


def darwin_address(kind: int, own: bytes) -> bytes:
    fixed = struct.pack("=iiHxxi", 0x4 | 0x20 | 0x80, 0, 4, 0)  # mask, own, broadcast
    return darwin(kind, fixed, sockaddr(0, b"\0\0\0\0\xff\xff\xff") + own + inet(b"\0" * 4))


def darwin_route(kind: int, to: bytes, mask: bytes = b"\0\0\0\0", flags: int = 0x803) -> bytes:
    fixed = struct.pack("=Hxxii", 4, flags, 0x7) + b"\0" * 76
    return darwin(kind, fixed, to + inet(b"\xc0\0\2\1") + mask)


BY_EN = default_route(4, 4, inet(b"\xc0\0\2\1"))
DARWIN: list[tuple[bytes, list[Event]]] = [
    (darwin(0xE, struct.pack("=iiH", 0, 0x8863, 4) + b"\0" * 98), [link_is(4, "", True)]),
    (darwin(0xE, struct.pack("=iiH", 0, 0x8823, 4) + b"\0" * 98), [link_is(4, "", False)]),
    (darwin_address(0xC, inet(IP)), [address_is(4, "192.0.2.7")]),
    (darwin_address(0xD, inet(IP)), [address_gone(4, "192.0.2.7")]),
    (darwin_address(0xC, inet6(IP6)), [address_is(4, "2001:db8::7")]),
    (darwin_address(0xC, sockaddr(18, b"\0" * 18)), []),  # a link's own
    (darwin_route(0x1, inet(b"\0" * 4)), [BY_EN]),
    (darwin_route(0x2, inet(b"\0" * 4)), [default_route_gone(BY_EN)]),
    (darwin_route(0x1, inet(b"\0" * 4), mask=sockaddr(0, b"\0\0\xff")), []),  # 0.0.0.0/8
    (darwin_route(0x1, inet(IP), flags=0x805), []),  # to one host
    (darwin_route(0x1, inet(b"\0" * 4), flags=0x80B), []),  # it rejects
    (darwin(0xC, b"\0" * 16, version=4), []),
    (darwin(0x2A, b"\0" * 100), []),
]


@pytest.mark.parametrize(("data", "expected"), DARWIN)
def test_messages_of_macos_are_read(data: bytes, expected: list[Event]) -> None:
    assert list(routemessages.events(data)) == expected


@pytest.mark.parametrize(("data", "expected"), DARWIN)
def test_a_message_of_macos_that_is_cut_tells_nothing(data: bytes, expected: list[Event]) -> None:
    for end in range(len(data)):
        assert list(routemessages.events(data[:end])) == []


@given(st.binary(max_size=200), st.sampled_from([0x1, 0x2, 0xC, 0xD, 0xE]))
def test_whatever_bytes_come_of_macos_nothing_is_raised(data: bytes, kind: int) -> None:
    networks = Networks("ngrokd0", ("10.107.0.0/16",))
    for event in (*routemessages.events(data), *routemessages.events(darwin(kind, data))):
        networks.take(event)


# The filter, as a kernel runs it


def passes(program: bytes, data: bytes) -> bool:
    """Classic BPF: a load beyond the end drops."""
    steps = list(struct.iter_unpack("=HBBI", program))
    at, held = 0, 0
    while True:
        code, if_true, if_false, number = steps[at]
        at += 1
        size = {0x30: 1, 0x28: 2, 0x20: 4}.get(code)
        if size is not None:
            if number + size > len(data):
                return False
            held = int.from_bytes(data[number : number + size], "big")
        elif code == 0x54:
            held &= number
        elif code == 0x15:
            at += if_true if held == number else if_false
        elif code == 0x25:
            at += if_true if held > number else if_false
        else:
            assert code == 0x06
            return bool(number)


FILTER = kernelfilter.program("10.107.3.0/16")  # bits of a host do not matter


@pytest.mark.parametrize(("data", "expected"), LINUX)
def test_the_filter_lets_through_all_that_tells_something(
    data: bytes, expected: list[Event]
) -> None:
    assert not expected or passes(FILTER, data)


@pytest.mark.parametrize(
    "data",
    [
        route(length=32),
        route(length=24, kind=25),
        route(length=64, family=INET6),
        address(b"\x0a\x6b\0\1"),
        address(b"\x0a\x6b\xff\xff", kind=21),
    ],
)
def test_the_filter_drops_other_routes_and_our_own_addresses(data: bytes) -> None:
    assert not passes(FILTER, data)


@pytest.mark.parametrize("data", [address(b"\x0a\x6a\0\1"), address(b"\x0a\x6c\0\1")])
def test_the_filter_knows_where_our_subnet_ends(data: bytes) -> None:
    assert passes(FILTER, data)


# The watch


class Feed:
    """What a socket gives, one after the other."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked = 0

    def receive(self, _sock: socket.socket) -> bytes:
        answer = self.answers.pop(0) if self.answers else BlockingIOError()
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, bytes)
        return answer

    def tell_all(self) -> Iterator[Event]:
        self.asked += 1
        yield link_is(2, "eth0", True)
        yield address_is(2, "192.0.2.7")


@contextlib.contextmanager
def fed(feed: Feed) -> Iterator[NetworkWatch]:
    networks = Networks("ngrokd0", ("10.107.0.0/16",))
    with socket.socket() as sock:
        yield NetworkWatch(sock, feed.receive, rtnetlink.events, networks, feed.tell_all)


def test_what_was_there_at_the_start_is_no_news_and_a_burst_is_one_message() -> None:
    feed = Feed(link(), address(IP), address(IP6), route() + link(), b"")
    with fed(feed) as watch:
        assert watch.read() == NetworkCame(
            "eth0 has 2001:db8::7", frozenset({"2001:db8::7"}), everywhere=True
        )
        assert watch.read() is None


def test_lost_messages_count_as_a_network_and_what_there_is_is_asked_anew() -> None:
    feed = Feed(OSError(105, "No buffer space available"), address(IP))
    with fed(feed) as watch:
        came = watch.read()
        assert came is not None and came.everywhere
        assert feed.asked == 2
        assert watch.read() is None


def test_a_read_has_a_bound() -> None:
    feed = Feed(*[link()] * 1000)
    with fed(feed) as watch:
        watch.read()
        assert len(feed.answers) > 900


def test_a_socket_that_broke_says_so() -> None:
    with fed(Feed(OSError(9, "Bad file descriptor"))) as watch, pytest.raises(HostError):
        watch.read()


def test_where_netlink_is_refused_one_debug_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(socket, "socket", refuse)
    assert netif.watch(NetSettings()) is None
    (record,) = caplog.records
    assert (record.levelno, "not permitted" in record.getMessage()) == (logging.DEBUG, True)


# The real thing

SOON_S = 5.0


class Place:
    """A machine of its own, and a watch on it."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        with Network(namespace).entered():
            self.watch = linuxwatch.open_watch(NetSettings())

    def ip(self, words: str) -> None:
        self.namespace.run("ip", *words.split())

    def came(self) -> NetworkCame:
        """The next one; fails if none comes."""
        deadline = time.monotonic() + SOON_S
        while time.monotonic() < deadline:
            select.select([self.watch], [], [], SOON_S)
            came = self.watch.read()
            if came is not None:
                return came
        raise AssertionError("no network came")

    def is_silent(self) -> bool:
        """The kernel has queued nothing: it does so before the command that caused it returns."""
        return select.select([self.watch], [], [], 0)[0] == []

    def told_nothing(self) -> bool:
        """Whatever was queued was no network."""
        came = self.watch.read()
        return came is None


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    with Namespace(tmp_path_factory.mktemp("netwatch")) as made:
        yield made


@pytest.fixture
def place(namespace: Namespace) -> Iterator[Place]:
    namespace.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far0")
    made = Place(namespace)
    yield made
    made.watch.close()
    namespace.run("sh", "-c", "ip link del eth0; ip link del ngrokd0; ip link del br0; true")


@pytest.mark.root
def test_a_veth_whose_far_end_goes_down_and_up_is_a_network_that_comes_back(place: Place) -> None:
    place.ip("link set far0 up")
    place.ip("addr add 192.0.2.7/24 dev eth0")
    place.ip("link set eth0 up")
    came = place.came()
    assert "192.0.2.7" in came.addresses and not came.everywhere
    place.ip("link set far0 down")
    assert place.told_nothing()
    place.ip("link set far0 up")
    again = place.came()
    assert again.what == "eth0 is up" and "192.0.2.7" in again.addresses


@pytest.mark.root
def test_an_address_and_a_default_route_come(place: Place) -> None:
    place.ip("link set far0 up")
    place.ip("link set eth0 up")
    assert place.told_nothing(), "a link without an address is no network"
    place.ip("addr add 192.0.2.7/24 dev eth0")
    assert place.came().what == "eth0 has 192.0.2.7"
    place.ip("route add default via 192.0.2.1")
    route = place.came()
    assert (route.what, route.everywhere) == ("a default route by eth0", True)
    place.ip("addr change 192.0.2.7/24 dev eth0 valid_lft 600 preferred_lft 600")
    assert place.told_nothing(), "the same address told anew is no news"


@pytest.mark.root
def test_the_ports_of_a_bridge_come_and_go_unnoticed(place: Place) -> None:
    place.ip("link add br0 type bridge")
    for _ in range(20):
        place.ip("link set eth0 master br0")
        place.ip("link set eth0 up")
        place.ip("link set far0 up")
        place.ip("link set far0 down")
        place.ip("link set eth0 nomaster")
        assert place.told_nothing()


@pytest.mark.root
def test_our_own_interface_with_thousands_of_addresses_is_never_noticed(place: Place) -> None:
    place.ip("link add ngrokd0 type veth peer name far1")  # some kernels have no dummy
    place.ip("link set ngrokd0 up")
    place.ip("addr add 10.107.0.1/16 dev ngrokd0")
    place.watch.read()
    lines = "".join(
        f"addr add 10.107.{n // 250}.{n % 250 + 2}/32 dev ngrokd0\n" for n in range(2000)
    )
    place.namespace.run("ip", "-batch", "-", input=lines)
    assert place.is_silent(), "the kernel's filter lets them through"
    place.ip("addr flush dev ngrokd0")
    assert place.is_silent()


@pytest.mark.root
def test_routes_of_a_router_do_not_even_wake_us(place: Place) -> None:
    place.ip("link set far0 up")
    place.ip("link set eth0 up")
    place.ip("addr add 192.0.2.7/24 dev eth0")
    place.came()
    select.select([place.watch], [], [], 0.5)  # an IPv6 address of the link may still come
    place.watch.read()
    lines = "".join(f"route add 198.18.{n}.0/24 via 192.0.2.1\n" for n in range(200))
    place.namespace.run("ip", "-batch", "-", input=lines)
    place.namespace.run("ip", "-batch", "-", input=lines.replace("add", "del"))
    assert place.told_nothing()


@pytest.mark.root
def test_more_messages_than_the_kernel_keeps_are_a_change(place: Place) -> None:
    place.ip("link set eth0 up")
    lines = "".join(f"link set eth0 alias n{n}\n" for n in range(3000))
    place.namespace.run("ip", "-batch", "-", input=lines)
    came = place.came()
    assert came.everywhere
    while not place.is_silent():
        place.watch.read()
    place.ip("addr add 192.0.2.7/24 dev lo")
    assert place.came().what == "lo has 192.0.2.7"


@pytest.mark.root
def test_it_needs_no_rights(namespace: Namespace) -> None:
    """Root without a capability: another user may not be able to read this checkout."""
    code = (
        "import ngrokd.host.netif as netif, ngrokd.config as config\n"
        "assert 'CapEff:\\t0000000000000000' in open('/proc/self/status').read()\n"
        "watch = netif.watch(config.NetSettings())\n"
        "assert watch is not None and watch.read() is None\n"
        "print('watches')"
    )
    argv = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-c", code]
    assert namespace.run(*argv).stdout == "watches\n"
