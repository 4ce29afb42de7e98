"""A machine with only `ifconfig` gets an interface of its own, and single addresses on it."""

from __future__ import annotations

import ipaddress
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host import netif
from ngrokd.host.netif import ifconfig, linkprogram
from ngrokd.host.netif.backend import Backend
from ngrokd.host.netif.ifconfigreader import IfconfigReader
from ngrokd.host.netif.linuxsystem import LinuxSystem
from ngrokd.host.netif.scene import gateway
from ngrokd.host.netif.system import Past
from ngrokd.model import InterfaceMode
from tests.fake_ifconfig import FakeIfconfig
from tests.fake_ip import FakeIp, Link

LINUX = LinuxSystem()

pytestmark = pytest.mark.usefixtures("own_ranges")

NET = NetSettings()
GATEWAY = "10.107.0.1/16"
ENDPOINTS = ["10.107.0.2", "10.107.0.3"]
SUBNET = ipaddress.IPv4Network("10.107.0.0/16")


@pytest.fixture(params=["net-tools", "busybox"])
def only(request: pytest.FixtureRequest) -> FakeIfconfig:
    return FakeIfconfig(FakeIp(), busybox=request.param == "busybox")


def prepare(only: FakeIfconfig, net: NetSettings = NET, known: tuple[str, ...] = ()) -> Backend:
    reader = IfconfigReader(only, only.index_of)
    return LINUX.prepare(net, only, reader, Past(known))


def note(backend: Backend) -> str:
    assert backend.status.mode is InterfaceMode.LOOPBACK
    (text,) = backend.status.notes
    return text


def test_an_interface_is_made_with_exactly_these_commands(only: FakeIfconfig) -> None:
    backend = prepare(only)
    assert backend.status.mode is InterfaceMode.TUN
    assert backend.add(ENDPOINTS) == {}
    assert backend.addresses() == frozenset(ENDPOINTS)
    assert backend.remove(ENDPOINTS[:1]) == {}
    backend.close()
    changes = [line for line in only.ran if not line.endswith(("-a", "-n")) and "show" not in line]
    own = f"-I -S {linkprogram.__file__}"
    assert only.ran[0].startswith("ip "), "it is asked for first"
    assert [line[line.find(own) :] if own in line else line for line in changes] == [
        f"{own} make ngrokd0",
        "ifconfig ngrokd0 10.107.0.1 netmask 255.255.0.0 up",
        "ifconfig ngrokd0:2 10.107.0.2 netmask 255.255.255.255",
        "ifconfig ngrokd0:3 10.107.0.3 netmask 255.255.255.255",
        "ifconfig ngrokd0:2 down",
        f"{own} delete ngrokd0",
    ]
    assert set(only.kernel.links) == {"lo"}


def test_what_a_crashed_run_left_is_adopted(only: FakeIfconfig) -> None:
    prepare(only).add(ENDPOINTS)
    backend = prepare(only)
    assert backend.addresses() == frozenset(ENDPOINTS)
    assert backend.add(ENDPOINTS) == {}
    backend.close()
    assert set(only.kernel.links) == {"lo"}


def test_others_aliases_are_neither_adopted_nor_touched(only: FakeIfconfig) -> None:
    lo = only.kernel.links["lo"]
    lo.held.append("10.55.0.2/32")
    lo.labels["10.55.0.2/32"] = "lo:ngrokd0"
    backend = prepare(only)
    backend.add(ENDPOINTS)
    ours = only.kernel.links["ngrokd0"]
    ours.held.append("192.168.7.7/32")
    ours.labels["192.168.7.7/32"] = "ngrokd0:x"
    assert backend.addresses() == frozenset(ENDPOINTS)
    with pytest.raises(HostError, match=r"192\.168\.7\.7/32.*delete ngrokd0"):
        backend.close()
    assert ours.held == ["192.168.7.7/32"]
    assert lo.held == ["127.0.0.1/8", "10.55.0.2/32"]


@pytest.mark.parametrize("kind", ["bridge", "dummy", "ethernet", "tun"])
def test_an_interface_that_nothing_proves_ours_is_refused(only: FakeIfconfig, kind: str) -> None:
    only.kernel.links["ngrokd0"] = theirs = Link(kind, held=[GATEWAY])
    text = note(prepare(only, known=("10.107.0.2",) if kind != "tun" else ()))
    assert "nothing proves" in text and "delete ngrokd0" in text
    assert theirs == Link(kind, held=[GATEWAY])


def test_who_else_uses_the_subnet_is_seen_by_address_and_by_route(only: FakeIfconfig) -> None:
    only.kernel.routes.append("10.107.8.0/24 dev wg0")
    assert "wg0 has a route to 10.107.8.0/24" in note(prepare(only))
    only.has_route = False
    backend = prepare(only)
    assert backend.status.mode is InterfaceMode.TUN
    backend.close()
    only.kernel.links["docker0"] = Link("bridge", held=["10.107.5.1/24"])
    assert "docker0 has the address 10.107.5.1/24" in note(prepare(only))


def test_a_name_without_room_for_labels_is_refused_with_the_mend(only: FakeIfconfig) -> None:
    text = note(prepare(only, replace(NET, interface_name="ngrokd-of-a-test"[:15])))
    assert "up to 10 characters" in text and "net.interface_name" in text
    backend = prepare(only, replace(NET, interface_name="ngrokd-of-"))
    assert backend.add(["10.107.255.254"]) == {}  # the fake refuses a label that is too long


def test_without_root_or_tun_it_is_the_loopback_range_and_the_note_says_why(
    only: FakeIfconfig,
) -> None:
    only.kernel.root = False
    assert "run ngrokd as root" in note(prepare(only))
    only.kernel.root, only.kernel.kinds = True, ()
    assert "modprobe tun" in note(prepare(only))


@pytest.mark.parametrize("seed", range(10))
def test_any_walk_with_failures_ends_with_what_was_asked_for(
    only: FakeIfconfig, seed: int
) -> None:
    chance = random.Random(seed)
    kernel = only.kernel
    pool = [f"10.107.0.{number}" for number in range(2, 12)]
    backend = prepare(only)
    for _ in range(40):
        kernel.refused = set(chance.sample(pool, chance.choice([0, 0, 3])))
        event = chance.choice(["lose", "crash", "none", "none"])
        if event == "lose":
            kernel.links.pop("ngrokd0", None)
        elif event == "crash":
            backend = prepare(only)
        wanted = frozenset(chance.sample(pool, chance.randrange(len(pool))))
        actual = backend.addresses()
        failed = backend.add(wanted - actual)
        assert backend.remove(actual - wanted) == {}
        assert set(failed) == (wanted - actual) & kernel.refused
        assert backend.addresses() == wanted - set(failed)
    backend.close()
    assert set(kernel.links) == {"lo"}


def test_the_first_address_of_any_interface_is_found(only: FakeIfconfig) -> None:
    only.kernel.links["eth0"] = Link("ethernet", held=["192.168.1.5/24"])
    reader = IfconfigReader(only, only.index_of)
    assert netif.interface_address("eth0", reader) == "192.168.1.5"
    with pytest.raises(HostError, match="no interface eth7"):
        netif.interface_address("eth7", reader)


NET_TOOLS = """\
t0: flags=4241<UP,POINTOPOINT,NOARP,MULTICAST>  mtu 1500
        inet 10.107.0.1  netmask 255.255.0.0  destination 10.107.0.1
        inet6 fe80::1  prefixlen 64  scopeid 0x20<link>
        unspec 00-00-00-00-00-00-00-00-00-00-00-00-00-00-00-00  txqueuelen 500  (UNSPEC)
        RX packets 0  bytes 0 (0.0 B)

t0:2: flags=4241<UP,POINTOPOINT,NOARP,MULTICAST>  mtu 1500
        inet 10.107.0.2  netmask 255.255.255.255  destination 10.107.0.2

eth0: flags=4163<UP,BROADCAST,RUNNING,MULTICAST>  mtu 1500
        inet 192.168.1.5  netmask 255.255.255.0  broadcast 192.168.1.255
        inet6 2001:db8::5  prefixlen 64  scopeid 0x0<global>
"""
BUSYBOX = """\
t0        Link encap:UNSPEC  HWaddr 00-00-00-00-00-00-00-00-00-00-00-00-00-00-00-00  
          inet addr:10.107.0.1  P-t-P:10.107.0.1  Mask:255.255.0.0
          inet6 addr: fe80::1/64 Scope:Link
          UP POINTOPOINT NOARP MULTICAST  MTU:1500  Metric:1

t0:2      Link encap:UNSPEC  HWaddr 00-00-00-00-00-00-00-00-00-00-00-00-00-00-00-00  
          inet addr:10.107.0.2  P-t-P:10.107.0.2  Mask:255.255.255.255

eth0      Link encap:Ethernet  HWaddr 5E:7C:00:00:00:01  
          inet addr:192.168.1.5  Bcast:192.168.1.255  Mask:255.255.255.0
          inet6 addr: 2001:db8::5/64 Scope:Global
"""  # noqa: W291


@pytest.mark.parametrize("answer", [NET_TOOLS, BUSYBOX])
def test_both_forms_are_read_alike(answer: str) -> None:
    assert ifconfig.held_addresses(answer) == {
        "t0": ["10.107.0.1/16", "10.107.0.2/32"],
        "eth0": ["192.168.1.5/24", "2001:db8::5/64"],
    }


def test_gateways_are_read_and_routes_without_one_are_not() -> None:
    answer = """\
Kernel IP routing table
Destination     Gateway         Genmask         Flags Metric Ref    Use Iface
0.0.0.0         10.107.0.2      0.0.0.0         UG    0      0        0 eth0
192.168.1.0     0.0.0.0         255.255.255.0   U     0      0        0 eth0
10.1.0.0        -               255.255.0.0     !     0      -        0 -
"""
    assert list(ifconfig.gateways(answer)) == [gateway("10.107.0.2", "eth0")]


@given(st.text())
def test_whatever_a_tool_prints_is_read_without_a_fault(answer: str) -> None:
    ifconfig.held_addresses(answer)
    list(ifconfig.ways(answer))
    list(ifconfig.gateways(answer))


@given(st.integers(1, 2**24 - 2), st.integers(1, 2**24 - 2))
def test_every_address_has_a_label_of_its_own_that_fits(one: int, other: int) -> None:
    network = ipaddress.IPv4Network("10.0.0.0/8")
    labels = [ifconfig.label_of("ngrokd0", str(network[n]), network) for n in (one, other)]
    assert (labels[0] == labels[1]) == (one == other)
    assert max(map(len, labels)) <= len(ifconfig.longest_label("ngrokd0", network)) <= 15


def test_a_mask_with_holes_hides_no_address() -> None:
    answer = NET_TOOLS.replace("255.255.0.0", "255.0.255.0")
    assert ifconfig.held_addresses(answer)["t0"][0] == "10.107.0.1/32"
