"""The interface is ours or it is not touched, and what is on it is what was asked for."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Union

import pytest

from ngrokd.config import NetSettings
from ngrokd.errors import HostError, InterfaceTaken
from ngrokd.host import netif
from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif import iproute, leftovers, links, linuxreader
from ngrokd.host.netif.backend import Backend
from ngrokd.host.netif.ifconfigreader import IfconfigReader
from ngrokd.host.netif.ipreader import IpReader
from ngrokd.host.netif.linuxsystem import LinuxSystem
from ngrokd.host.netif.scene import Reader
from ngrokd.host.netif.system import Past
from ngrokd.model import InterfaceMode
from tests.fake_ifconfig import FakeIfconfig
from tests.fake_ip import FakeIp, Link

LINUX = LinuxSystem()

pytestmark = pytest.mark.usefixtures("own_ranges")

NET = NetSettings()
GATEWAY = "10.107.0.1/16"
ENDPOINTS = ["10.107.0.2", "10.107.0.3"]
FALLBACK = "127.107.0.0/16"
LOOK = ["ip -o link show", "ip -o addr show", "ip -o -4 route show table all"]


def prepare(ip: Runner, net: NetSettings = NET, known: Collection[str] = ()) -> Backend:
    return LINUX.prepare(net, ip, IpReader(ip), Past(known))


def note(backend: Backend) -> str:
    """The one note of a backend that fell back to the loopback range."""
    assert backend.status.mode is InterfaceMode.LOOPBACK
    (only,) = backend.status.notes
    assert f"addresses of {backend.status.subnet} instead" in only
    return only


def test_a_dummy_interface_is_made_with_exactly_these_commands() -> None:
    ip = FakeIp()
    backend = prepare(ip)
    assert backend.add(ENDPOINTS) == {}
    backend.close()
    assert ip.ran == [
        "ip -d -o link show dev ngrokd0",
        *LOOK,
        "ip link add ngrokd0 address 02:6e:67:72:6f:6b type dummy",
        "ip -d -o link show dev ngrokd0",
        "ip link set dev ngrokd0 addrgenmode none",
        "ip address replace 10.107.0.1/16 dev ngrokd0",
        "ip link set dev ngrokd0 up",
        "ip -d -o link show dev ngrokd0",
        "ip -force -batch -",
        "ip -d -o link show dev ngrokd0",
        *LOOK,
        "ip link delete dev ngrokd0",
    ]
    assert set(ip.links) == {"lo"}


def test_the_dummy_interface_carries_gateway_and_endpoints_and_is_up() -> None:
    ip = FakeIp()
    backend = prepare(ip)
    assert backend.add(ENDPOINTS) == {}
    link = Link("dummy", up=True, makes_ipv6=False, marked=True)
    link.held = [GATEWAY, "10.107.0.2/32", "10.107.0.3/32"]
    assert ip.links["ngrokd0"] == link
    assert backend.addresses() == frozenset(ENDPOINTS)
    assert backend.status.mode is InterfaceMode.DUMMY
    assert backend.status.name == "ngrokd0"
    assert backend.status.subnet == "10.107.0.0/16"
    assert backend.status.notes == ()


def test_without_dummy_in_the_kernel_it_is_a_tun_device(caplog: pytest.LogCaptureFixture) -> None:
    ip = FakeIp(kinds=["tun"])
    with caplog.at_level("INFO"):
        backend = prepare(ip)
    assert backend.add(ENDPOINTS) == {}
    assert backend.status.mode is InterfaceMode.TUN
    assert ip.links["ngrokd0"].kind == "tun"
    assert backend.addresses() == frozenset(ENDPOINTS)
    assert [record.getMessage() for record in caplog.records] == [
        "ngrokd0 cannot be made of type dummy: Error: Unknown device type.",
        "ngrokd0 is made, of type tun",
        "ngrokd0 is up with 10.107.0.1/16",
    ]


@pytest.mark.parametrize("busybox", [False, True])
def test_without_dummy_and_tun_it_is_a_bridge_of_our_own(busybox: bool) -> None:
    ip = FakeIp(kinds=["bridge"], busybox=busybox)
    backend = prepare(ip)
    assert backend.status.mode is InterfaceMode.BRIDGE
    (text,) = backend.status.notes
    assert "of type dummy" in text and "of type tun" in text
    assert backend.add(ENDPOINTS) == {}
    assert backend.addresses() == frozenset(ENDPOINTS)
    again = prepare(ip)
    assert again.status.mode is InterfaceMode.BRIDGE
    assert again.addresses() == frozenset(ENDPOINTS)
    again.close()
    assert set(ip.links) == {"lo"}


@pytest.mark.parametrize("busybox", [False, True])
def test_a_bridge_with_ports_is_somebodys_even_with_our_mark(busybox: bool) -> None:
    ip = FakeIp(busybox=busybox)
    ip.links["ngrokd0"] = Link("bridge", held=[GATEWAY], marked=True)
    ip.links["eth0"] = Link("ethernet", master="ngrokd0")
    text = note(prepare(ip))
    assert "bridge with the port eth0" in text
    assert "ip link delete dev ngrokd0" in text
    assert ip.links["ngrokd0"] == Link("bridge", held=[GATEWAY], marked=True)


def test_a_bridge_that_others_gave_a_port_stays_without_our_addresses() -> None:
    ip = FakeIp(kinds=["bridge"])
    backend = prepare(ip)
    backend.add(ENDPOINTS)
    ip.links["eth0"] = Link("ethernet", master="ngrokd0")
    assert backend.addresses() == frozenset(ENDPOINTS)
    with pytest.raises(HostError, match=r"port eth0.*ip link delete dev ngrokd0"):
        backend.close()
    assert ip.links["ngrokd0"].held == []
    assert ip.links["eth0"].master == "ngrokd0"


def test_a_bridge_that_others_gave_a_macvlan_stays_for_it() -> None:
    ip = FakeIp(kinds=["bridge"])
    backend = prepare(ip)
    ip.links["mv0@ngrokd0"] = Link("ethernet")
    ip.links["mv1@ngrokd01"] = Link("ethernet")
    with pytest.raises(HostError, match=r"port mv0"):
        backend.close()
    assert ip.links["ngrokd0"].held == []


@pytest.mark.parametrize("busybox", [False, True])
@pytest.mark.parametrize("kind", ["dummy", "tun", "bridge"])
@pytest.mark.parametrize(
    ("held", "known"),
    [
        ([], ()),
        ([], ("10.107.0.2",)),
        ([GATEWAY], ()),
        ([GATEWAY, "10.107.0.2/32"], ()),
        ([GATEWAY, "10.107.0.2/32", "10.107.0.9/32"], ("10.107.0.2",)),
        (["10.107.0.2/32"], ("10.107.0.2",)),
        (["10.107.0.1/24", "10.107.0.2/32"], ("10.107.0.2",)),
        ([GATEWAY, "10.107.0.2/24"], ("10.107.0.2",)),
    ],
)
def test_an_administrators_own_is_neither_adopted_nor_touched(
    kind: str, busybox: bool, held: list[str], known: tuple[str, ...]
) -> None:
    ip = FakeIp(busybox=busybox)
    ip.links["ngrokd0"] = Link(kind, up=True, held=list(held))
    backend = prepare(ip, known=known)
    text = note(backend)
    assert "nothing proves that ngrokd made it" in text
    assert "ip link delete dev ngrokd0" in text
    backend.close()
    assert ip.links["ngrokd0"] == Link(kind, up=True, held=held)


@pytest.mark.parametrize("kind", ["dummy", "tun"])
@pytest.mark.parametrize("held", [[GATEWAY], [GATEWAY, "10.107.0.2/32"]])
def test_what_a_version_without_marks_left_is_adopted_where_its_addresses_are_remembered(
    kind: str, held: list[str]
) -> None:
    ip = FakeIp()
    ip.links["ngrokd0"] = Link(kind, up=True, held=held)
    backend = prepare(ip, known=["10.107.0.2", "10.107.0.3"])
    assert backend.addresses() == {text[:-3] for text in held[1:]}
    backend.close()
    assert set(ip.links) == {"lo"}


def test_an_address_of_the_subnet_that_others_put_on_ours_is_never_removed() -> None:
    ip = FakeIp()
    backend = prepare(ip)
    backend.add(ENDPOINTS)
    theirs = ["10.107.7.7/32", "10.107.8.1/24"]
    ip.links["ngrokd0"].held += theirs
    assert backend.addresses() == frozenset(ENDPOINTS)
    assert [note.split()[4] for note in backend.status.notes] == [f"{text}," for text in theirs]
    assert backend.remove([*ENDPOINTS, "10.107.7.7", "10.107.8.1"]) == {}
    with pytest.raises(HostError, match=r"10\.107\.7\.7/32"):
        backend.close()
    assert ip.links["ngrokd0"].held == theirs


class Killed(BaseException):
    """The daemon ends here, at once."""


@pytest.mark.parametrize("cleans_up", [False, True])
@pytest.mark.parametrize(
    ("kind", "tool"),
    [
        ("dummy", "iproute2"),
        ("tun", "iproute2"),
        ("bridge", "iproute2"),
        ("dummy", "busybox"),
        ("bridge", "busybox"),
        ("tun", "ifconfig"),
    ],
)
def test_whenever_it_is_killed_the_next_run_or_a_cleanup_leaves_nothing(
    kind: str, tool: str, cleans_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the state folder has forgotten every address."""
    steps = 0
    for moment in itertools.count(1):
        ip = FakeIp(kinds=[kind], busybox=tool == "busybox")
        links = ip.links
        run = FakeIfconfig(ip) if tool == "ifconfig" else ip
        reader = reader_of(run)
        monkeypatch.setattr(linuxreader, "open_reader", lambda net, run, it=reader: it)
        monkeypatch.setattr(leftovers, "_is_there", links.__contains__)
        left = itertools.count(1)

        def run_until(argv: Sequence[str], text: str = "") -> str:
            answer = run(argv, text)  # noqa: B023
            if next(left) == moment:  # noqa: B023
                raise Killed
            return answer

        try:
            backend = LINUX.prepare(NET, run_until, reader, Past())
            backend.add(ENDPOINTS)
            backend.remove(ENDPOINTS[:1])
            backend.close()
        except Killed:
            steps += 1
        else:
            break
        if cleans_up:
            leftovers.remove(NET, (), run)
        else:
            LINUX.prepare(NET, run, reader, Past()).close()
        assert set(links) == {"lo"}, f"killed after command {moment}"
    assert steps > 5


def reader_of(run: Union[FakeIp, FakeIfconfig]) -> Reader:
    return IfconfigReader(run, run.index_of) if isinstance(run, FakeIfconfig) else IpReader(run)


def test_the_gateway_of_a_subnet_of_another_size_is_replaced() -> None:
    ip = FakeIp()
    prepare(ip).add(ENDPOINTS)
    backend = prepare(ip, replace(NET, subnet="10.107.0.0/24"))
    assert ip.links["ngrokd0"].held == ["10.107.0.2/32", "10.107.0.3/32", "10.107.0.1/24"]
    assert backend.addresses() == frozenset(ENDPOINTS)


def test_without_any_kind_it_is_the_loopback_range_and_the_note_tells_the_mend() -> None:
    ip = FakeIp(kinds=[])
    backend = prepare(ip)
    assert "Unknown device type" in note(backend)
    assert "modprobe dummy" in note(backend)
    assert backend.add(["127.107.0.2"]) == {}
    assert backend.addresses() == {"127.107.0.2"}
    assert backend.remove(["127.107.0.2"]) == {}
    assert backend.addresses() == frozenset()
    assert set(ip.links) == {"lo"}


def test_without_root_it_is_the_loopback_range_and_the_note_says_so() -> None:
    assert "run ngrokd as root" in note(prepare(FakeIp(root=False)))


def test_without_ip_it_is_the_loopback_range_and_the_note_names_the_package() -> None:
    def no_ip(argv: Sequence[str], text: str = "") -> str:
        raise CommandError("`ip`: there is no program ip on this machine; install iproute2")

    assert "install iproute2" in note(LINUX.prepare(NET, no_ip, IpReader(no_ip), Past()))


def test_busybox_without_dummy_is_the_loopback_range_and_the_note_says_why() -> None:
    text = note(prepare(FakeIp(kinds=["tun"], busybox=True)))
    assert "BusyBox's `ip` cannot do that" in text
    assert "install iproute2" in text


@pytest.mark.parametrize("subnet", ["127.107.0.0/16", "127.9.0.0/24", "127.0.0.0/8"])
def test_a_loopback_subnet_needs_no_command(subnet: str) -> None:
    ip = FakeIp(root=False)
    backend = prepare(ip, replace(NET, subnet=subnet))
    assert backend.add(["127.107.0.2"]) == {}
    backend.close()
    assert ip.ran == []
    assert backend.status.subnet == subnet
    assert backend.status.notes == ()
    assert backend.addresses() == frozenset()


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 16, "a/b", "a\nb"])
def test_a_name_no_interface_can_have_is_refused_without_a_command(name: str) -> None:
    ip = FakeIp()
    assert "net.interface_name" in note(prepare(ip, replace(NET, interface_name=name)))
    assert ip.ran == []


@pytest.mark.parametrize(
    ("kind", "busybox"),
    [
        ("bridge", False),
        ("ethernet", False),
        ("tap", False),
        ("vpn tun", False),  # BusyBox does not show whether a tun device is persistent
        ("bridge", True),
        ("ethernet", True),
        ("tap", True),
    ],
)
def test_an_interface_of_another_kind_is_refused_and_left_alone(kind: str, busybox: bool) -> None:
    ip = FakeIp(busybox=busybox)
    ip.links["ngrokd0"] = Link(kind, held=["10.107.0.2/32"])
    backend = prepare(ip)
    assert "ip link delete dev ngrokd0" in note(backend)
    backend.close()
    assert ip.links["ngrokd0"] == Link(kind, held=["10.107.0.2/32"])


@pytest.mark.parametrize("address", ["192.168.1.5/24", "2001:db8::1/64"])
def test_an_interface_with_an_address_outside_the_subnet_is_refused(address: str) -> None:
    ip = FakeIp()
    ip.links["ngrokd0"] = Link("dummy", held=[GATEWAY, address])
    assert address in note(prepare(ip))
    assert ip.links["ngrokd0"].held == [GATEWAY, address]


@pytest.mark.parametrize(
    ("kind", "busybox"),
    [("dummy", False), ("tun", False), ("bridge", False), ("dummy", True), ("bridge", True)],
)
def test_what_a_crashed_run_left_is_adopted_and_its_addresses_reported(
    kind: str, busybox: bool
) -> None:
    ip = FakeIp(busybox=busybox)
    held = [GATEWAY, "fe80::5/64", "10.107.0.2/32", "10.107.9.9/32"]
    ip.links["ngrokd0"] = Link(kind, up=True, makes_ipv6=False, held=held, marked=True)
    backend = prepare(ip)
    assert backend.status.mode.value == kind
    assert backend.addresses() == {"10.107.0.2", "10.107.9.9"}
    assert backend.add(["10.107.0.2"]) == {}
    assert backend.remove(["10.107.9.9"]) == {}
    assert backend.addresses() == {"10.107.0.2"}


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("10.107.5.1/24", "docker0 has the address 10.107.5.1/24"),
        ("10.107.0.1/32", "docker0 has the address 10.107.0.1/32"),
        ("10.0.0.7/8", "docker0 has the address 10.0.0.7/8"),
    ],
)
def test_an_address_of_another_interface_in_the_subnet_is_a_conflict(
    address: str, told: str
) -> None:
    ip = FakeIp()
    ip.links["docker0"] = Link("bridge", up=True, held=[address])
    text = note(prepare(ip))
    assert told in text
    assert "net.subnet" in text
    assert set(ip.links) == {"lo", "docker0"}


@pytest.mark.parametrize(
    "route",
    [
        "10.0.0.0/8 via 192.168.1.1 dev wg0 proto static",
        "10.107.3.4 dev wg0 scope link",
        "10.107.0.0/16 dev wg0 table 51820 scope link",
        "local 10.107.0.0/16 dev wg0 table local proto static scope host",
        "unicast 10.107.0.0/16 dev wg0 proto static scope global",
    ],
)
def test_a_route_of_another_interface_into_the_subnet_is_a_conflict(route: str) -> None:
    ip = FakeIp()
    ip.routes.append(route)
    assert "interface wg0 has a route to 10." in note(prepare(ip))


@pytest.mark.parametrize(
    "route",
    [
        "default via 10.107.0.1 dev eth0 onlink",
        "default proto static \\ nexthop via 192.168.1.1 dev eth1 nexthop via 10.107.0.1 dev eth0",
        "nexthop via 10.107.0.1 dev eth0 weight 1",
        "192.168.0.0/24 via 10.107.0.1 dev eth0",
    ],
)
def test_a_gateway_in_the_subnet_is_a_conflict(route: str) -> None:
    ip = FakeIp()
    ip.routes.append(route)
    text = note(prepare(ip))
    assert "10.107.0.1 is the gateway of a route by interface eth0" in text
    assert "net.subnet" in text


@pytest.mark.parametrize(
    "route",
    [
        "default via 192.168.1.1 dev eth0",
        "0.0.0.0/1 via 10.8.0.1 dev wg0",
        "128.0.0.0/1 dev wg0",
        "8.0.0.0/7 dev wg0",
        "10.108.0.0/16 dev eth0",
        "blackhole 10.0.0.0/8",
        "unreachable 10.107.0.0/16 dev lo metric 4278198272",
        "broadcast 10.255.255.255 dev eth0 table local",
        "nexthop via 10.108.0.1 dev eth0 weight 1",
        "default via inet6 fe80::1 dev eth0",
        "192.168.0.0/24 via 10.107.0.1 dev ngrokd0",
        "local ::1 dev lo table local",
        "",
    ],
)
def test_routes_that_lead_nobody_into_the_subnet_are_no_conflict(route: str) -> None:
    ip = FakeIp()
    ip.routes.append(route)
    assert prepare(ip).status.mode is InterfaceMode.DUMMY


def test_a_conflict_that_came_up_after_a_crash_removes_our_leftover() -> None:
    ip = FakeIp()
    ip.links["ngrokd0"] = Link("dummy", up=True, held=[GATEWAY], marked=True)
    ip.links["docker0"] = Link("bridge", up=True, held=["10.107.0.1/16"])
    assert "docker0" in note(prepare(ip))
    assert set(ip.links) == {"lo", "docker0"}


def test_an_interface_that_cannot_be_set_up_is_not_left_behind() -> None:
    ip = FakeIp()
    ip.refused.add("10.107.0.1")
    assert "No buffer space" in note(prepare(ip))
    assert set(ip.links) == {"lo"}


@pytest.mark.parametrize("busybox", [False, True])
def test_an_address_the_kernel_refuses_costs_only_itself(busybox: bool) -> None:
    ip = FakeIp(busybox=busybox)
    backend = prepare(ip)
    ip.refused.add("10.107.0.3")
    failed = backend.add(["10.107.0.2", "10.107.0.3", "10.107.0.4"])
    assert failed == {"10.107.0.3": "RTNETLINK answers: No buffer space available"}
    assert backend.addresses() == {"10.107.0.2", "10.107.0.4"}


def test_thousands_of_addresses_go_in_few_commands() -> None:
    ip = FakeIp()
    backend = prepare(ip)
    before = len(ip.ran)
    ips = [f"10.107.{high}.{low}" for high in range(1, 13) for low in range(1, 201)]
    ip.refused.add(ips[1500])
    assert list(backend.add(ips)) == [ips[1500]]
    assert len(ip.ran) - before <= 4
    assert backend.addresses() == frozenset(ips) - {ips[1500]}


def test_busybox_is_asked_for_a_batch_only_once() -> None:
    ip = FakeIp(busybox=True)
    backend = prepare(ip)
    backend.add(["10.107.0.2"])
    backend.add(["10.107.0.3"])
    assert ip.ran.count("ip -force -batch -") == 1
    assert backend.addresses() == frozenset(ENDPOINTS)


def test_nothing_to_do_runs_no_command() -> None:
    ip = FakeIp()
    backend = prepare(ip)
    before = len(ip.ran)
    assert backend.add([]) == {}
    assert len(ip.ran) == before


def test_removing_what_is_gone_already_is_no_fault() -> None:
    ip = FakeIp()
    backend = prepare(ip)
    backend.add(ENDPOINTS)
    ip.links["ngrokd0"].held.remove("10.107.0.2/32")
    assert backend.remove(ENDPOINTS) == {}
    assert backend.addresses() == frozenset()
    assert ip.links["ngrokd0"].held == [GATEWAY]


def test_an_interface_somebody_removed_is_made_again() -> None:
    ip = FakeIp()
    backend = prepare(ip)
    backend.add(ENDPOINTS)
    del ip.links["ngrokd0"]
    assert backend.addresses() == frozenset()
    assert backend.remove(ENDPOINTS) == {}
    assert backend.add(ENDPOINTS) == {}
    assert ip.links["ngrokd0"].held == [GATEWAY, "10.107.0.2/32", "10.107.0.3/32"]
    assert ip.links["ngrokd0"].up


def test_an_interface_that_cannot_be_made_again_fails_each_address_with_the_reason() -> None:
    ip = FakeIp()
    backend = prepare(ip)
    del ip.links["ngrokd0"]
    ip.kinds = []
    failed = backend.add(ENDPOINTS)
    assert list(failed) == ENDPOINTS
    assert "modprobe dummy" in failed["10.107.0.2"]


def test_closing_twice_is_harmless() -> None:
    ip = FakeIp()
    backend = prepare(ip)
    backend.close()
    backend.close()
    assert set(ip.links) == {"lo"}


def test_closing_leaves_an_interface_that_is_no_longer_ours() -> None:
    ip = FakeIp()
    backend = prepare(ip)
    ip.links["ngrokd0"] = Link("bridge")
    with pytest.raises(HostError, match="no longer ours"):
        backend.close()
    assert ip.links["ngrokd0"] == Link("bridge")


@pytest.mark.parametrize("busybox", [False, True])
@pytest.mark.parametrize("kind", ["dummy", "tun", "bridge"])
@pytest.mark.parametrize("held", [[], ["192.168.77.1/24"], [GATEWAY, "10.107.0.2/32"]])
def test_an_interface_that_another_program_put_in_the_place_of_ours_is_never_touched(
    held: list[str], kind: str, busybox: bool
) -> None:
    ip = FakeIp(busybox=busybox)
    ip.links["ngrokd0"] = Link("dummy", held=[GATEWAY], marked=True)
    backend = prepare(ip)
    backend.add(ENDPOINTS)
    theirs = Link(kind, held=list(held))
    ip.links["ngrokd0"] = theirs
    with pytest.raises(HostError, match="ip link delete dev ngrokd0"):
        backend.addresses()
    assert "no longer ours" in backend.add(["10.107.0.4"])["10.107.0.4"]
    assert backend.remove(ENDPOINTS) == {}
    with pytest.raises(HostError, match="no longer ours"):
        backend.close()
    assert ip.links["ngrokd0"] is theirs
    assert theirs == Link(kind, held=held)

    del ip.links["ngrokd0"]  # the mend
    assert backend.addresses() == frozenset()
    assert backend.add(ENDPOINTS) == {}
    assert backend.addresses() == frozenset(ENDPOINTS)
    backend.close()
    assert set(ip.links) == {"lo"}


def test_an_interface_made_in_the_moment_we_make_ours_is_not_taken_over() -> None:
    ip = FakeIp()

    def another_is_faster(argv: Sequence[str], text: str = "") -> str:
        if list(argv[1:3]) == ["link", "add"]:
            ip.links["ngrokd0"] = Link("tun")
        return ip(argv, text)

    reader = IpReader(another_is_faster)
    text = note(LINUX.prepare(NET, another_is_faster, reader, Past()))
    assert "File exists" in text
    assert "net.interface_name" in text
    assert not [line for line in ip.ran if "tuntap" in line]  # it would join theirs
    assert ip.links["ngrokd0"] == Link("tun")


@pytest.mark.parametrize("busybox", [False, True])
def test_a_gateway_address_that_was_removed_is_there_after_the_next_look(busybox: bool) -> None:
    ip = FakeIp(busybox=busybox)
    backend = prepare(ip)
    backend.add(ENDPOINTS)
    ip.links["ngrokd0"].held.remove(GATEWAY)
    ip.links["ngrokd0"].up = False
    assert backend.addresses() == frozenset(ENDPOINTS)
    assert GATEWAY in ip.links["ngrokd0"].held
    assert ip.links["ngrokd0"].up


@pytest.mark.parametrize("busybox", [False, True])
def test_an_interface_that_was_set_down_is_up_after_the_next_look(
    busybox: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ip = FakeIp(busybox=busybox)
    backend = prepare(ip)
    backend.add(ENDPOINTS)
    ip.links["ngrokd0"].up = False
    assert backend.addresses() == frozenset(ENDPOINTS)
    assert ip.links["ngrokd0"].up
    assert backend.addresses() == frozenset(ENDPOINTS)
    assert caplog.text.count("ngrokd0 was set down by another program: it is up again") == 1
    assert "lost its address" not in caplog.text


def test_addresses_that_another_program_removed_are_added_again_with_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ip = FakeIp()
    backend = prepare(ip)
    backend.add(ENDPOINTS)
    assert "by another program" not in caplog.text
    for each in ENDPOINTS:
        ip.links["ngrokd0"].held.remove(f"{each}/32")
    assert backend.addresses() == frozenset()
    assert backend.add(ENDPOINTS) == {}
    told = f"{len(ENDPOINTS)} addresses of ngrokd0 were removed by another program: added again"
    assert caplog.text.count(told) == 1
    backend.remove(ENDPOINTS)
    backend.add(ENDPOINTS)
    assert caplog.text.count("by another program") == 1
    del ip.links["ngrokd0"]
    backend.add(ENDPOINTS)
    assert caplog.text.count("by another program: added") == 1, "the whole interface was"


def test_an_interface_without_endpoints_is_made_again_at_the_next_look() -> None:
    ip = FakeIp()
    backend = prepare(ip)
    del ip.links["ngrokd0"]
    assert backend.addresses() == frozenset()
    assert ip.links["ngrokd0"].held == [GATEWAY]
    del ip.links["ngrokd0"]
    ip.kinds = []
    with pytest.raises(HostError, match="modprobe dummy"):
        backend.addresses()


@pytest.mark.parametrize("busybox", [False, True])
@pytest.mark.parametrize("lost", ["ip link add", "ip tuntap add", " link show dev"])
def test_one_that_was_made_again_is_ours_also_if_its_command_was_killed_too_late(
    busybox: bool, lost: str
) -> None:
    ip = FakeIp(["tun"] if "tun" in lost else ["dummy"], busybox=busybox and "tun" not in lost)
    losing: list[bool] = []

    def killed_too_late(argv: Sequence[str], text: str = "") -> str:
        answer = ip(argv, text)
        if losing and lost in " ".join(argv) and "ngrokd0" in ip.links:
            losing.clear()
            raise CommandError("did not end within 30 seconds")
        return answer

    backend = prepare(killed_too_late)
    del ip.links["ngrokd0"]
    losing.append(True)
    with contextlib.suppress(HostError):  # the next look takes it up
        backend.addresses()
    assert not losing and "ngrokd0" in ip.links
    assert backend.addresses() == frozenset()
    assert backend.add(ENDPOINTS) == {}
    assert backend.addresses() == frozenset(ENDPOINTS)
    backend.close()
    assert set(ip.links) == {"lo"}


def test_one_that_a_crash_left_with_another_subnet_is_made_anew() -> None:
    ip = FakeIp()
    prepare(ip).add(ENDPOINTS)
    net = NetSettings(subnet="10.200.0.0/16")
    planned = LINUX.rehearse(net, ip, IpReader(ip), Past(ENDPOINTS))
    assert planned.steps[0].argv == ["ip", "link", "delete", "dev", "ngrokd0"]
    backend = prepare(ip, net, ENDPOINTS)
    assert backend.status.subnet == "10.200.0.0/16"
    assert ip.links["ngrokd0"].held == ["10.200.0.1/16"]
    backend.close()
    assert set(ip.links) == {"lo"}


@pytest.mark.parametrize("busybox", [False, True])
def test_one_that_is_renamed_is_used_on_and_goes_at_the_stop(
    busybox: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ip = FakeIp(busybox=busybox)
    backend = prepare(ip)
    assert backend.add(ENDPOINTS[:1]) == {}
    ip.links["foo0"] = ip.links.pop("ngrokd0")
    theirs = Link("bridge", held=["10.107.0.2/32", "192.168.7.1/24"])
    ip.links["ngrokd0"] = theirs
    assert backend.add(ENDPOINTS[1:]) == {}
    assert backend.addresses() == frozenset(ENDPOINTS)
    assert caplog.text.count("ngrokd0 was renamed to foo0") == 1
    assert backend.status.name == "foo0"
    assert backend.remove(ENDPOINTS[:1]) == {}
    assert "10.107.0.2/32" not in ip.links["foo0"].held
    backend.close()
    assert set(ip.links) == {"lo", "ngrokd0"}
    assert theirs.held == ["10.107.0.2/32", "192.168.7.1/24"]


@pytest.mark.parametrize("kind", ["bridge", "dummy"])
def test_one_of_another_kind_or_without_the_mark_is_not_ours_by_its_index(kind: str) -> None:
    ip = FakeIp()
    backend = prepare(ip)
    backend.add(ENDPOINTS)
    index = ip.links.pop("ngrokd0").index
    theirs = Link(kind, held=["10.107.0.2/32"], index=index)
    ip.links["ngrokd0"] = theirs
    before = len(ip.ran)
    assert backend.remove(ENDPOINTS) == {}
    with pytest.raises(InterfaceTaken):
        backend.addresses()
    assert set(backend.add(ENDPOINTS)) == set(ENDPOINTS)
    with pytest.raises(HostError, match="no longer ours"):
        backend.close()
    assert ip.links["ngrokd0"] is theirs
    assert theirs.held == ["10.107.0.2/32"]
    assert all(" show" in line for line in ip.ran[before:])


@pytest.mark.parametrize("busybox", [False, True])
def test_an_address_whose_command_was_killed_too_late_is_ours(busybox: bool) -> None:
    ip = FakeIp(busybox=busybox)
    dying: list[bool] = []

    def killed(argv: Sequence[str], text: str = "") -> str:
        answer = ip(argv, text)
        if dying and "replace" in text + " ".join(argv):
            raise CommandError("did not end within 10 seconds")
        return answer

    backend = prepare(killed)
    backend.add([])
    dying.append(True)
    assert set(backend.add(ENDPOINTS)) == set(ENDPOINTS)
    dying.clear()
    assert backend.addresses() == frozenset(ENDPOINTS)
    assert backend.status.notes == ()
    assert backend.remove(ENDPOINTS[:1]) == {}
    backend.close()
    assert set(ip.links) == {"lo"}


@pytest.mark.parametrize("lost", ["ip tuntap add", "show"])
def test_at_a_start_one_whose_making_was_killed_too_late_does_not_stay(lost: str) -> None:
    """Also where what is there cannot be looked at before the stop."""
    ip = FakeIp(["tun"])
    dying = [True]

    def killed(argv: Sequence[str], text: str = "") -> str:
        answer = ip(argv, text)
        if dying and "ngrokd0" in ip.links and (lost in " ".join(argv) or "show" in lost):
            raise CommandError("did not end within 10 seconds")
        return answer

    backend = prepare(killed)
    assert (backend.status.mode is InterfaceMode.TUN) == ("show" not in lost)
    assert "ngrokd0" in ip.links
    dying.clear()
    backend.close()
    assert set(ip.links) == {"lo"}


def test_an_ordinary_look_changes_nothing() -> None:
    ip = FakeIp()
    backend = prepare(ip)
    backend.add(ENDPOINTS)
    before = len(ip.ran)
    backend.addresses()
    assert ip.ran[before:] == LOOK


def test_an_address_of_another_interface_that_comes_later_is_noted_while_it_is_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ip = FakeIp()
    backend = prepare(ip)
    backend.add(ENDPOINTS)
    ip.links["docker0"] = Link("bridge", up=True, held=["10.107.5.1/24", "2001:db8::1/64"])
    for _ in range(2):
        assert backend.addresses() == frozenset(ENDPOINTS)
    (text,) = backend.status.notes
    assert "docker0 has the address 10.107.5.1/24" in text
    assert "net.subnet" in text
    assert [record.getMessage() for record in caplog.records] == [text]
    assert backend.add(["10.107.0.4"]) == {}
    del ip.links["docker0"]
    backend.addresses()
    assert backend.status.notes == ()


def test_a_route_into_the_subnet_that_comes_later_is_noted_while_it_is_there() -> None:
    ip = FakeIp()
    backend = prepare(ip)
    backend.add(ENDPOINTS)
    ip.routes.append("10.96.0.0/12 via 192.168.1.1 dev wg0 proto static")
    assert backend.addresses() == frozenset(ENDPOINTS)
    (text,) = backend.status.notes
    assert "wg0 has a route to 10.96.0.0/12" in text and "net.subnet" in text
    ip.routes.clear()
    backend.addresses()
    assert backend.status.notes == ()


def test_an_address_others_put_on_our_interface_is_noted_and_keeps_it_alive_at_the_end() -> None:
    ip = FakeIp()
    backend = prepare(ip)
    backend.add(ENDPOINTS)
    ip.links["ngrokd0"].held.append("192.168.77.1/24")
    assert backend.addresses() == frozenset(ENDPOINTS)
    assert "192.168.77.1/24" in backend.status.notes[0]
    with pytest.raises(HostError, match=r"192\.168\.77\.1/24.*ip link delete dev ngrokd0"):
        backend.close()
    assert ip.links["ngrokd0"].held == ["192.168.77.1/24"]


def test_an_interface_that_cannot_be_removed_is_told_with_the_command() -> None:
    ip = FakeIp()
    backend = prepare(ip)
    ip.root = False
    with pytest.raises(HostError, match="ip link delete dev ngrokd0"):
        backend.close()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("busybox", [False, True])
def test_any_walk_with_failures_ends_with_what_was_asked_for(seed: int, busybox: bool) -> None:
    chance = random.Random(seed)
    ip = FakeIp(busybox=busybox)
    pool = [f"10.107.0.{number}" for number in range(2, 12)]
    backend = prepare(ip)
    for _ in range(40):
        ip.refused = set(chance.sample(pool, chance.choice([0, 0, 3])))
        event = chance.choice(["meddle", "lose", "crash", "none", "none"])
        if event == "lose":
            ip.links.pop("ngrokd0", None)
        elif event == "crash":
            backend = prepare(ip)
        elif event == "meddle" and "ngrokd0" in ip.links:
            held = ip.links["ngrokd0"].held
            held[:] = [text for text in held if chance.random() < 0.7]
        ip.kinds = chance.choice([["dummy"], ["bridge"], ["tun", "bridge"]])
        wanted = frozenset(chance.sample(pool, chance.randrange(len(pool))))
        actual = backend.addresses()
        failed = backend.add(wanted - actual)
        assert backend.remove(actual - wanted) == {}
        assert set(failed) == (wanted - actual) & ip.refused
        assert backend.addresses() == wanted - set(failed)
    backend.close()
    assert set(ip.links) == {"lo"}


def test_the_first_address_of_any_interface_is_found() -> None:
    ip = FakeIp()
    ip.links["eth0"] = Link("ethernet", held=["192.168.1.5/24", "10.0.0.1/8"])
    assert netif.interface_address("eth0", IpReader(ip)) == "192.168.1.5"


@pytest.mark.parametrize("busybox", [False, True])
def test_an_interface_that_is_not_there_is_told(busybox: bool) -> None:
    with pytest.raises(HostError, match="there is no interface eth7"):
        netif.interface_address("eth7", IpReader(FakeIp(busybox=busybox)))


def test_an_interface_without_an_ipv4_address_is_told() -> None:
    ip = FakeIp()
    ip.links["eth0"] = Link("ethernet")
    with pytest.raises(HostError, match="no IPv4 address"):
        netif.interface_address("eth0", IpReader(ip))


def test_the_kind_is_read_from_what_iproute2_really_shows() -> None:
    tun = (
        "2: ngrokd0: <NO-CARRIER,POINTOPOINT,MULTICAST,NOARP,UP> mtu 1500 qdisc pfifo_fast state "
        "DOWN mode DEFAULT group default qlen 500\\    link/none  promiscuity 0  allmulti 0 minmtu "
        "68 maxmtu 65535 \\    tun type tun pi off vnet_hdr off persist on addrgenmode none "
        "numtxqueues 1 numrxqueues 1 gso_max_size 65536\n"
    )
    assert links.of_iproute2(tun) == links.Link(2, "tun", is_marked=False)
    owned = tun.replace("persist on", "persist on user root group root")
    assert links.of_iproute2(owned) == links.Link(2, "tun", is_marked=True)
    others = owned.replace("user root", "user vpn")
    assert links.of_iproute2(others) == links.Link(2, "tun", is_marked=False)
    assert links.of_iproute2(tun.replace("persist on", "persist off")).kind != "tun"
    assert links.of_iproute2("garbage").kind == "unknown"


def test_addresses_are_read_with_peers_and_without_link_local_ones() -> None:
    answer = (
        "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever\n"
        "2: ppp0    inet 10.0.0.1 peer 10.107.0.9/32 scope global ppp0\\       valid_lft\n"
        "3: veth0@if4    inet6 fe80::1/64 scope link \\       valid_lft forever\n"
        "3: veth0@if4    inet6 2001:db8::1/64 scope global \\       valid_lft forever\n"
    )
    held = iproute.held_addresses(answer)
    assert [(one.interface, one.text) for one in held] == [
        ("lo", "127.0.0.1/8"),
        ("ppp0", "10.0.0.1"),
        ("veth0", "2001:db8::1/64"),
    ]


def test_failures_of_a_batch_are_found_by_their_line() -> None:
    stderr = (
        "Error: ipv4: Address already assigned.\nCommand failed -:2\n"
        'Cannot find device "nope"\nCommand failed -:3\nCommand failed -:9\n'
    )
    assert iproute.batch_failures(stderr) == {
        1: "Error: ipv4: Address already assigned.",
        2: 'Cannot find device "nope"',
        8: "refused",
    }
