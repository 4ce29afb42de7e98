"""Links, addresses and routes: the kernel is read right, and only when something has changed."""

from __future__ import annotations

import ipaddress
import json
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.host.netif import inventory, rtnetlink
from ngrokd.host.netif.needsreader import NeedsReader
from ngrokd.host.netif.scene import Need, Scene, Way, conflict, first_ipv4, gateway
from tests.namespace import Namespace
from tests.test_netwatch import INET, INET6, attribute, message

SUBNET = ipaddress.IPv4Network("10.107.0.0/16")


def link(index: int, name: bytes, family: int = 0) -> bytes:
    body = struct.pack("=BxHiII", family, 1, index, 0x1043, 0)
    return message(rtnetlink.NEW_LINK, body + attribute(3, name + b"\0"))


def address(index: int, local: str, prefix: int, far: str = "") -> bytes:
    raw = ipaddress.ip_address(local).packed
    other = ipaddress.ip_address(far or local).packed
    family = INET if len(raw) == 4 else INET6
    body = struct.pack("=BBBBI", family, prefix, 0x80, 0, index)
    return message(rtnetlink.NEW_ADDRESS, body + attribute(1, other) + attribute(2, raw))


def route(to: str, index: int, sort: int = 1, table: int = 254, flags: int = 0) -> bytes:
    network = ipaddress.IPv4Network(to)
    body = struct.pack("=BBBBBBBBI", INET, network.prefixlen, 0, 0, table, 4, 0, sort, flags)
    parts = attribute(15, struct.pack("=I", table)) + attribute(1, network.network_address.packed)
    if index:
        parts += attribute(4, struct.pack("=I", index))
    return message(rtnetlink.NEW_ROUTE, body + parts)


def test_links_are_read_without_what_a_bridge_says_of_its_ports() -> None:
    data = link(1, b"lo") + link(2, b"eth0", family=7) + link(3, "é".encode("latin-1"))
    assert list(inventory.links(data)) == [(1, "lo"), (3, "\ufffd")]


def test_addresses_are_read_as_ip_shows_them() -> None:
    data = (
        address(1, "127.0.0.1", 8)
        + address(2, "10.0.0.1", 32, far="10.107.0.9")
        + address(3, "fe80::1", 64)
        + address(3, "2001:db8::1", 64)
    )
    assert list(inventory.addresses(data)) == [
        (1, "127.0.0.1/8"),
        (2, "10.0.0.1"),
        (3, "2001:db8::1/64"),
    ]


@given(st.permutations(range(4)), st.integers(0, 2))
def test_an_address_is_the_same_in_whichever_order_its_attributes_come(
    order: list[int], count: int
) -> None:
    own, far = ipaddress.IPv4Address("10.0.0.1").packed, ipaddress.IPv4Address("10.0.0.9").packed
    others = [attribute(3, b"ngrokd0\0"), attribute(6, bytes(16))]
    parts = [attribute(1, far), attribute(2, own), *others]
    body = struct.pack("=BBBBI", INET, 32, 0, 0, 5) + b"".join(parts[at] for at in order)
    assert list(inventory.addresses(message(rtnetlink.NEW_ADDRESS, body))) == [(5, "10.0.0.1")]
    alone = struct.pack("=BBBBI", INET, 32, 0, 0, 5) + parts[1] + b"".join(others[:count])
    assert list(inventory.addresses(message(rtnetlink.NEW_ADDRESS, alone))) == [(5, "10.0.0.1/32")]


@pytest.mark.parametrize(
    "to",
    ["10.107.0.0/16", "10.0.0.0/8", "10.107.5.0/24", "10.107.3.7/32"],
)
def test_a_route_that_meets_the_subnet_is_read(to: str) -> None:
    assert list(inventory.routes(route(to, 7), SUBNET)) == [(ipaddress.IPv4Network(to), 7)]
    assert list(inventory.routes(route(to, 0), SUBNET)) == [(ipaddress.IPv4Network(to), None)]


@pytest.mark.parametrize(
    "data",
    [
        route("0.0.0.0/0", 7),
        route("0.0.0.0/1", 7),
        route("10.108.0.0/16", 7),
        route("192.168.0.0/24", 7),
        route("10.107.0.2/32", 7, sort=2, table=255),
        route("10.107.0.0/16", 7, sort=3),
        route("10.107.0.0/16", 7, sort=6),
        route("10.107.9.9/32", 7, flags=0x200),
        message(rtnetlink.NEW_ROUTE, struct.pack("=BBBBBBBBI", INET6, 64, 0, 0, 254, 4, 0, 1, 0)),
    ],
)
def test_a_route_that_leads_nobody_into_the_subnet_is_passed_over(data: bytes) -> None:
    assert list(inventory.routes(data, SUBNET)) == []


@given(st.binary(max_size=200), st.sampled_from([16, 20, 24, 25]))
def test_whatever_the_bytes_are_reading_them_ends(junk: bytes, kind: int) -> None:
    for data in (junk, message(kind, junk), address(1, "10.0.0.1", 8) + junk):
        for index, text in inventory.addresses(data):
            assert isinstance(index, int) and text
        assert all(isinstance(name, str) for _, name in inventory.links(data))
        gateways = inventory.gateways(data, SUBNET)
        assert all(ipaddress.IPv4Address(ip) in SUBNET for ip, _ in gateways)
        assert all(network.prefixlen > 7 for network, _ in inventory.routes(data, SUBNET))


def over(gateway: str, index: int, to: str = "0.0.0.0/0", flags: int = 0) -> bytes:
    """A route over a gateway; without an index it is one of several."""
    network = ipaddress.IPv4Network(to)
    body = struct.pack("=BBBBBBBBI", INET, network.prefixlen, 0, 0, 254, 4, 0, 1, flags)
    part = attribute(5, ipaddress.IPv4Address(gateway).packed)
    if index:
        part += attribute(4, struct.pack("=I", index))
    else:
        hop = struct.pack("=HBBi", 16, 0, 0, 3) + part
        part = attribute(9, hop)
    return message(rtnetlink.NEW_ROUTE, body + part)


@pytest.mark.parametrize("index", [7, 0])
@pytest.mark.parametrize("to", ["0.0.0.0/0", "192.168.0.0/24"])
def test_a_gateway_in_the_subnet_is_found_wherever_its_route_leads(to: str, index: int) -> None:
    data = over("192.0.2.1", 7) + over("10.107.0.2", index, to)
    assert list(inventory.gateways(data, SUBNET)) == [("10.107.0.2", index or None)]


def test_other_gateways_are_passed_over() -> None:
    odd = ipaddress.IPv4Network("10.107.8.0/21")
    assert list(inventory.gateways(over("10.107.16.1", 7), odd)) == []
    assert list(inventory.gateways(over("10.107.8.1", 7), odd)) == [("10.107.8.1", 7)]
    cut = over("10.107.0.2", 0)[:-2]
    for data in (over("10.108.0.2", 7), over("10.107.0.2", 7, flags=0x200), cut):
        assert list(inventory.gateways(data, SUBNET)) == []


def test_whom_this_machine_must_reach_is_in_the_way_but_not_by_our_own_interface() -> None:
    ours = Scene(needs=(gateway("10.107.0.2", "ngrokd0"), Need("fd00::1", "a name server")))
    assert conflict(ours, "ngrokd0", SUBNET) == ""
    by_eth0 = Scene(needs=(gateway("10.107.0.2", "eth0"),))
    told = "10.107.0.2 is the gateway of a route by interface eth0"
    assert conflict(by_eth0, "ngrokd0", SUBNET) == told


def test_name_servers_are_seen_anew_at_each_look_and_unchanged_ones_are_no_change(
    tmp_path: Path,
) -> None:
    class Still:
        scene = Scene(needs=(gateway("192.0.2.1", "eth0"),))

        def look(self) -> Scene:
            return self.scene

        def close(self) -> None: ...

    file = tmp_path / "resolv.conf"
    reader = NeedsReader(Still(), (file, tmp_path / "absent"))
    before = reader.look()
    assert before == Still.scene and reader.look() is before
    file.write_text("nameserver 10.107.0.2\nnameserver fd00::53\n")
    after = reader.look()
    assert conflict(after, "ngrokd0", SUBNET) == f"10.107.0.2 is a name server of {file}"
    assert reader.look() is after


def test_nobody_is_in_the_way_on_an_unrelated_machine() -> None:
    assert conflict(Scene(), "ngrokd0", SUBNET) == ""
    wide = Way(ipaddress.IPv4Network("0.0.0.0/1"), "wg0")
    scene = Scene({1: "lo", 2: "ngrokd0"}, {1: ("127.0.0.1/8",), 2: ("10.107.0.1/16",)}, (wide,))
    assert conflict(scene, "ngrokd0", SUBNET) == ""
    assert conflict(scene, "x0", SUBNET) == "interface ngrokd0 has the address 10.107.0.1/16"


def test_the_first_ipv4_address_is_found_behind_others() -> None:
    assert first_ipv4(["2001:db8::1/64", "10.0.0.1/24", "10.0.0.2/24"]) == "10.0.0.1"
    assert first_ipv4(["2001:db8::1/64"]) == ""


# A KernelReader inside the namespace: the scene before and after each command of argv, and whether
# the very same object was given although nothing happened.
_INSIDE = """
import json, os, subprocess, sys
from ngrokd.host.netif.kernelreader import KernelReader

descriptors = len(os.listdir("/proc/self/fd"))
reader = KernelReader("10.107.0.0/16")
def shown(scene):
    held = {scene.links[index]: list(texts) for index, texts in scene.held.items()}
    return held, sorted(f"{way.network} by {way.interface}" for way in scene.ways)
seen = [shown(reader.look())]
calm = []
for command in sys.argv[1:]:
    subprocess.run(command, shell=True, check=True)
    seen.append(shown(reader.look()))
    calm.append(reader.look() is reader.look())
reader.close()
reader.close()
print(json.dumps([seen, calm, len(os.listdir("/proc/self/fd")) - descriptors]))
"""


def look_around(namespace: Namespace, *commands: str) -> tuple[list[Any], list[bool], int]:
    done = namespace.run(sys.executable, "-c", _INSIDE, *commands)
    seen, calm, left = json.loads(done.stdout)
    return seen, calm, left


@pytest.fixture
def roomy(namespace: Namespace) -> Namespace:
    made = "ip link set lo up; ip tuntap add dev vpn mode tun; ip link set vpn up"
    namespace.run("sh", "-c", made)
    return namespace


@pytest.mark.root
def test_what_changes_is_seen_and_what_does_not_is_not_read_again(roomy: Namespace) -> None:
    seen, calm, left = look_around(
        roomy,
        "ip address add 192.0.2.1/24 dev vpn",
        "ip address add 10.8.0.1 peer 10.8.0.2 dev vpn; ip address add 2001:db8::1/64 dev vpn",
        "ip route add 10.96.0.0/12 dev vpn",
        "ip route add 172.16.0.0/12 dev vpn; ip route add blackhole 10.107.7.0/24",
        "ip route add 10.107.8.0/24 dev vpn table 100",
        "ip address del 192.0.2.1/24 dev vpn",
        "ip link set vpn down",
        "ip link delete vpn",
    )
    held = [each[0].get("vpn", []) for each in seen]
    assert held[0] == []
    assert held[1] == ["192.0.2.1/24"]
    assert held[2] == ["192.0.2.1/24", "10.8.0.1", "2001:db8::1/64"]
    assert held[6] == ["10.8.0.1", "2001:db8::1/64"]
    assert held[8] == []
    ways = [each[1] for each in seen]
    assert ways[:3] == [[], [], []]
    assert ways[3] == ways[4] == ["10.96.0.0/12 by vpn"]
    assert ways[5] == ways[6] == ["10.107.8.0/24 by vpn", "10.96.0.0/12 by vpn"]
    # The kernel drops the routes of a link that goes down, and tells nobody.
    assert ways[7] == ways[8] == []
    assert calm == [True] * 8
    assert left == 0


@pytest.mark.root
def test_more_than_the_kernel_keeps_for_us_is_read_from_the_start(roomy: Namespace) -> None:
    many = [f"address add 10.107.{n // 250}.{n % 250}/32 dev vpn" for n in range(1, 3000)]
    batch = roomy.hosts.parent / "batch"
    batch.write_text("\n".join(many))
    one = "ip address del 10.107.0.7/32 dev vpn"
    seen, calm, _ = look_around(roomy, f"ip -batch {batch}", one)
    assert [len(each[0].get("vpn", [])) for each in seen] == [0, 2999, 2998]
    assert calm == [True, True]


@pytest.mark.root
def test_what_is_told_of_other_peoples_routes_is_no_reason_to_read(roomy: Namespace) -> None:
    code = _INSIDE.replace("calm.append(reader.look() is reader.look())", "calm.append(kept)")
    code = code.replace("    subprocess", "    before = reader.look()\n    subprocess")
    code = code.replace("    calm", "    kept = reader.look() is before\n    calm")
    commands = ("ip route add 172.20.0.0/16 dev vpn", "ip route add 10.107.9.0/24 dev vpn")
    done = roomy.run(sys.executable, "-c", code, *commands)
    assert json.loads(done.stdout)[1] == [True, False]
