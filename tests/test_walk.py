"""The whole way from ngrok's list to the machine, while everything on it fails or is meddled with.

The reconciler, `host.machine.Machine` and the interface behind it are the real ones, so are the
hosts file and the state folder. Only the kernel is one in small: it interprets argv, keeps
addresses, and refuses what a kernel refuses.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import random
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from ngrokd.config import NetSettings
from ngrokd.errors import BindError, HostError, NoAddress
from ngrokd.host import hosts
from ngrokd.host.command import CommandError
from ngrokd.host.hostsfile import HostsFile
from ngrokd.host.machine import Machine
from ngrokd.host.netif.ipreader import IpReader
from ngrokd.host.netif.linuxsystem import LinuxSystem
from ngrokd.memory import Memory
from ngrokd.model import (
    Address,
    Counters,
    Discovered,
    Endpoint,
    EndpointState,
    InterfaceMode,
    Target,
)
from ngrokd.reconcile.reconciler import Reconciler
from tests.fake_ip import FakeIp, Link
from tests.fakes import FakeForwarder, FakeListener

OURS = f"walk{os.getpid()}"  # a real claim is taken for it, and tests run side by side
MARKER = hosts.marker_of(OURS)
LAN_IP = "192.168.7.1"
SUBNETS = ("10.107.0.0/16", "10.99.0.0/29")  # one has room for these names, and for no more
KINDS = ("dummy", "tun")
ORIGINAL = b"127.0.0.1 localhost\r\n127.0.1.1 Box.home box\n# no final newline: caf\xe9"
URLS = [
    "http://a.ns",
    "https://a.ns",
    "http://b.ns",
    "tcp://b.ns:5432",
    "http://c.ns",
    "tcp://d.ns:7000",
    "tls://e.ns",
    "http://localhost",  # never published, whatever happens
]
STEPS = 30
LONG_S = 3600.0  # after which nobody is thought to be fighting for the hosts file any more


def endpoint(url: str) -> Endpoint:
    scheme, _, rest = url.partition("://")
    host, _, port = rest.partition(":")
    number = int(port) if port else {"http": 80, "https": 443, "tls": 443}[scheme]
    return Endpoint(Target(host, number), scheme, url, (f"ep_{host}_{number}",))


class Kernel(FakeIp):
    """Also fails now and then: `before` a command or a whole batch is done, or `after` it."""

    def __init__(self, chance: random.Random, busybox: bool) -> None:
        super().__init__(busybox=busybox)
        self._chance = chance
        self.links["eth0"] = Link("ethernet", up=True, held=[f"{LAN_IP}/24"])
        self.now = 0.0  # monotonic seconds
        self.failing = 0.0
        self.failed = False  # since this was last set
        self.taken: set[Address] = set()  # by other programs

    def __call__(self, argv: Sequence[str], text: str = "") -> str:
        lot = self._chance.random()
        if lot < self.failing / 2:
            self.failed = True
            raise CommandError(f"`{argv[0]}`: cannot be started (Cannot allocate memory)")
        answer = super().__call__(argv, text)
        if lot < self.failing:
            self.failed = True
            raise CommandError(f"`{argv[0]}`: did not end within 30 seconds")
        return answer

    def others(self) -> dict[str, Link]:
        """What is not ours to touch."""
        return {name: link for name, link in self.links.items() if name != OURS}

    def holds(self, ip: str) -> bool:
        """Whether one can bind to it, loopback apart."""
        return any(text.partition("/")[0] == ip for ln in self.links.values() for text in ln.held)


class WalkedMachine(Machine):
    """The real one, but that it listens in the kernel above; with what `FakeForwarder` checks."""

    def __init__(self, kernel: Kernel, net: NetSettings, state: Path) -> None:
        super().__init__(net, kernel, LinuxSystem(lambda net, run: IpReader(run)), state)
        self._kernel = kernel
        self._file = Path(net.hosts_file)
        self._hosts = HostsFile(self._file, MARKER, state, lambda: kernel.now, lambda pause_s: None)
        self.bound: set[Address] = set()
        self.is_read_only = False  # the hosts file
        self.hosts_refused = False  # the last time

    @property
    def names(self) -> dict[str, str]:
        """Of our section, as it stands in the file."""
        return section(self._file.read_bytes())

    def publish(self, names: Mapping[str, str]) -> bool:
        self.hosts_refused = True
        if self.is_read_only:
            raise HostError("the hosts file is read-only")
        written = super().publish(names)
        self.hosts_refused = False
        return written

    def remove_addresses(self, ips: Iterable[str]) -> dict[str, str]:
        gone = set(ips)
        assert not gone & set(self.names.values()), "a name leads out of this machine"
        return super().remove_addresses(gone)

    def ports_in_use(self) -> frozenset[int]:
        return frozenset(at.port for at in self._kernel.taken)

    def bind(self, address: Address) -> socket.socket:
        assert address not in self.bound, "bound twice"
        if not self._kernel.holds(address.ip):
            raise NoAddress(f"{address}: not an address of this machine")
        if address in self._kernel.taken:
            raise _bind_error(errno.EADDRINUSE, f"{address}: in use by pid 1")
        self.bound.add(address)
        return FakeListener(address)  # type: ignore[return-value]


class Walk:
    """One machine through several lives of a daemon, and all that others do to it."""

    def __init__(self, folder: Path, seed: int, busybox: bool) -> None:
        self.chance = random.Random(seed)
        self.kernel = Kernel(self.chance, busybox)
        self.file = folder / "hosts"
        self.file.write_bytes(ORIGINAL)
        self.outside = ORIGINAL  # all that is not our section
        self.state = folder / "state"
        self.state.mkdir()
        self.net = NetSettings(interface_name=OURS, subnet=SUBNETS[0], hosts_file=str(self.file))
        self.overrides: dict[str, str] = {}
        self.given: dict[str, str] = {}  # name: its address for as long as the subnet stays
        self.snapshot: dict[str, str] = {}  # of our section
        self.told: list[str] = []  # what was done, for a failed assertion
        self.begin()

    # Lives

    def begin(self) -> None:
        self.machine = WalkedMachine(self.kernel, self.net, self.state)
        self.forwarder = FakeForwarder(self.machine)  # type: ignore[arg-type]
        self.reconciler = Reconciler(self.machine, self.forwarder, Memory(self.state))
        self.reconciler.recall()
        status = self.reconciler.prepare()
        assert status.mode in (InterfaceMode.DUMMY, InterfaceMode.TUN), status.notes
        assert status.subnet == self.net.subnet

    def crash(self) -> None:
        """Nothing is closed; the kernel closes what listened."""
        self.heal()
        del self.machine, self.forwarder, self.reconciler
        self.begin()

    def restart(self) -> None:
        """As it should be, perhaps with another subnet in the configuration."""
        self.heal()
        self.end()
        if self.chance.random() < 0.5:
            self.net = self.with_net(subnet=self.chance.choice(SUBNETS))
            self.given = {}
        self.begin()

    def end(self) -> None:
        self.reconciler.stop_accepting()
        self.reconciler.close()
        self.assert_nothing_is_left()

    def with_net(self, **settings: object) -> NetSettings:
        return NetSettings(**{**vars(self.net), **settings})

    # What others do

    def take_addresses(self) -> None:
        if self.kernel.links.get(OURS, Link("bridge")).kind != "bridge":
            held = self.kernel.links[OURS].held
            held[:] = [text for text in held if self.chance.random() < 0.7]

    def take_interface(self) -> None:
        self.kernel.links.pop(OURS, None)

    def forbid_interfaces(self) -> None:
        """The kernel's modules are gone, say, and with them our interface."""
        self.kernel.kinds = ()
        self.take_interface()

    def replace_interface(self) -> None:
        self.kernel.links[OURS] = Link("bridge", up=True, held=["172.30.0.1/24"])

    def add_network(self) -> None:
        self.kernel.links["docker0"] = Link("bridge", up=True, held=["10.107.200.1/24"])

    def edit_hosts(self) -> None:
        """An administrator's editor, or a program that adds its lines."""
        content = self.file.read_bytes()
        line = f"10.0.0.{self.chance.randrange(256)} mine{self.chance.randrange(9)}.lan\n".encode()
        at_the_end = self.chance.random() < 0.5 and content.endswith(b"\n")
        self.file.write_bytes(content + line if at_the_end else line + content)
        self.outside = self.outside + line if at_the_end else line + self.outside

    def rewrite_hosts(self) -> None:
        """By a program that knows nothing of us: our section is gone.

        Or, every other time, by one that has kept a copy of it as it was.
        """
        before = section(self.file.read_bytes())
        self.file.write_bytes(hosts.render(self.outside, self.snapshot, MARKER))
        self.snapshot = {} if self.snapshot else before

    def break_markers(self) -> None:
        content = self.file.read_bytes()
        self.file.write_bytes(content.replace(f"# END {MARKER}\n".encode(), b""))

    def take_ports(self) -> None:
        self.kernel.taken = {
            Address(ip, port)
            for ip in self.chance.sample(list(self.given.values()), min(2, len(self.given)))
            for port in self.chance.sample((80, 443, 5432, 7000), 2)
        } | {Address(LAN_IP, 9080 + self.chance.randrange(3))}

    def refuse_addresses(self) -> None:
        every = [f"10.107.0.{n}" for n in range(2, 8)] + [f"10.99.0.{n}" for n in range(2, 8)]
        self.kernel.refused = set(self.chance.sample(every, 4))

    def fail_commands(self) -> None:
        self.kernel.failing = 0.3

    def refuse_hosts(self) -> None:
        self.machine.is_read_only = True

    def use_connections(self) -> None:
        open_now = [route.target for route in self.forwarder.listeners.values()]
        busy = self.chance.sample(open_now, min(2, len(open_now)))
        self.forwarder.counted = {target: Counters(open=1) for target in busy}

    def override(self) -> None:
        self.overrides = {"b.ns": "eth0"} if not self.overrides else {}

    def nothing(self) -> None:
        """As on most days."""

    def heal(self) -> None:
        """All of that has ended, as an administrator mends it."""
        self.kernel.failing, self.kernel.refused, self.kernel.taken = 0.0, set(), set()
        self.kernel.kinds = KINDS
        self.machine.is_read_only = False
        self.forwarder.counted = {}
        self.kernel.now += LONG_S
        self.kernel.links.pop("docker0", None)
        if self.kernel.links.get(OURS, Link("dummy")).kind == "bridge":
            del self.kernel.links[OURS]
        if is_broken(self.file.read_bytes()):
            self.file.write_bytes(self.outside)

    # What must be

    def apply(self, urls: Sequence[str]) -> None:
        """One poll, and what is true after any of them."""
        before = self.file.read_bytes()
        others = {name: list(link.held) for name, link in self.kernel.others().items()}
        foreign = self.kernel.links.get(OURS)
        self.kernel.failed = False
        self.kernel.now += 1
        net = self.with_net(overrides=self.overrides)
        self.reconciler.apply(Discovered(tuple(map(endpoint, urls))), net, ())
        assert len(self.reconciler.endpoints) == len(urls)
        self.assert_names_lead_to_their_own_or_to_nothing()
        seen = {name: list(link.held) for name, link in self.kernel.others().items()}
        assert seen == others, "another's interface was touched"
        if foreign and foreign.kind == "bridge":
            assert self.kernel.links[OURS] is foreign and foreign.held == ["172.30.0.1/24"]
        if is_broken(before):
            assert self.file.read_bytes() == before, "a file with broken markers was written"
            return
        assert hosts.outside(self.file.read_bytes(), MARKER) == self.outside
        self.assert_names_lead_somewhere()

    def assert_names_lead_to_their_own_or_to_nothing(self) -> None:
        """Also those that could not be withdrawn, and those that somebody put back."""
        self.forwarder.assert_no_name_leads_to_anothers()
        ours = self.kernel.links.get(OURS, Link("bridge"))
        if self.kernel.failed or self.kernel.refused or ours.kind == "bridge":
            return
        subnet = ipaddress.IPv4Network(self.net.subnet)
        for name, ip in self.machine.names.items():
            if ipaddress.IPv4Address(ip) in subnet:
                assert self.kernel.holds(ip), f"{name} leads out of this machine"

    def assert_names_lead_somewhere(self) -> None:
        if self.machine.hosts_refused:
            return
        listening = {at.ip for at in self.forwarder.listeners}
        for name, ip in self.machine.names.items():
            assert name != "localhost"
            assert ip in listening, f"{name} is published, and nothing of it listens"
            # Where the look itself failed, what was there at the last one has to do.
            assert self.kernel.failed or self.kernel.holds(ip), f"{name} is at nobody's address"
            if ip != LAN_IP:
                assert self.given.setdefault(name, ip) == ip, f"{name} has another address now"

    def assert_exactly(self, urls: Sequence[str]) -> None:
        """What is wanted is there, and nothing else of ours."""
        wanted = [endpoint(url).target for url in urls if url != "http://localhost"]
        states = {e.url: e.state for e in self.reconciler.endpoints}
        assert states == {
            url: EndpointState.SKIPPED if url == "http://localhost" else EndpointState.OPEN
            for url in urls
        }, [e.reason for e in self.reconciler.endpoints]
        virtual = {to.hostname for to in wanted} - set(self.overrides)
        ips = {name: self.given[name] for name in virtual}
        assert len(set(ips.values())) == len(ips), "two names share an address"
        network, _, prefix = self.net.subnet.partition("/")
        gateway = f"{network.rpartition('.')[0]}.1/{prefix}"
        link = self.kernel.links[OURS]
        held = [text for text in link.held if not text.startswith("fe80")]
        assert link.up and sorted(held) == sorted([gateway, *(f"{ip}/32" for ip in ips.values())])
        elsewhere = [at for at in self.forwarder.listeners if at.ip == LAN_IP]
        here = {at: route.target for at, route in self.forwarder.listeners.items()}
        expected = {Address(ips[to.hostname], to.port): to for to in wanted if to.hostname in ips}
        assert {at: to for at, to in here.items() if at not in elsewhere} == expected
        assert len(elsewhere) == sum(to.hostname in self.overrides for to in wanted)
        assert self.machine.bound == set(self.forwarder.listeners)
        assert {n: ip for n, ip in self.machine.names.items() if ip != LAN_IP} == ips
        assert self.reconciler.problems == ()

    def assert_nothing_is_left(self) -> None:
        assert OURS not in self.kernel.links
        assert self.file.read_bytes() == self.outside
        assert sorted(each.name for each in self.file.parent.iterdir()) == ["hosts", "state"]


def section(content: bytes) -> dict[str, str]:
    """The names of our section, however its end looks."""
    _, begins, rest = content.partition(f"# BEGIN {MARKER}\n".encode())
    lines = rest.partition(b"# END ")[0].decode("latin-1").splitlines() if begins else []
    pairs = [line.split("\t") for line in lines if "\t" in line]
    return {name: ip for ip, name in pairs}


def is_broken(content: bytes) -> bool:
    """Our section begins and does not end."""
    return f"# BEGIN {MARKER}".encode() in content and b"# END " not in content


def _bind_error(number: int, text: str) -> BindError:
    error = BindError(text)
    error.__cause__ = OSError(number, text)
    return error


STRIDE = int(os.environ.get("CRASH_STRIDE", "3"))
LONG = (pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 30, STRIDE))
SEEDS = [*range(3), *LONG]
EVENTS: tuple[Callable[[Walk], None], ...] = (
    Walk.take_addresses,
    Walk.take_interface,
    Walk.forbid_interfaces,
    Walk.replace_interface,
    Walk.add_network,
    Walk.edit_hosts,
    Walk.rewrite_hosts,
    Walk.break_markers,
    Walk.take_ports,
    Walk.refuse_addresses,
    Walk.fail_commands,
    Walk.refuse_hosts,
    Walk.use_connections,
    Walk.override,
    Walk.nothing,
    Walk.heal,
    Walk.heal,
    Walk.crash,
    Walk.restart,
)


@pytest.mark.parametrize("busybox", [False, True], ids=["iproute2", "busybox"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_machine_ends_as_it_should_whatever_happened_to_it(
    tmp_path: Path, seed: int, busybox: bool
) -> None:
    walk = Walk(tmp_path, seed, busybox)
    for step in range(STEPS):
        for event in walk.chance.sample(EVENTS, walk.chance.choice((1, 1, 2))):
            walk.told.append(f"{step} {event.__name__}")
            event(walk)
        urls = walk.chance.sample(URLS, walk.chance.randrange(len(URLS) + 1))
        walk.apply(urls)
        if walk.chance.random() < 0.3:
            walk.heal()
            walk.apply(urls)
            for _ in range(2):  # it is put back, and left alone: the fight has ended
                walk.kernel.now += LONG_S
                walk.apply(urls)
            walk.assert_exactly(urls)
            assert_settled(walk, urls)
    walk.heal()
    walk.end()


def assert_settled(walk: Walk, urls: Sequence[str]) -> None:
    """A poll that changes nothing changes nothing: no write, and no command but looks."""
    before, ran = walk.file.stat().st_mtime_ns, len(walk.kernel.ran)
    walk.apply(urls)
    assert walk.file.stat().st_mtime_ns == before
    assert all(" show" in line for line in walk.kernel.ran[ran:])


@pytest.mark.parametrize("seed", range(4))
def test_an_end_that_fails_says_so_and_the_next_one_leaves_nothing(
    tmp_path: Path, seed: int
) -> None:
    walk = Walk(tmp_path, seed, busybox=False)
    walk.apply(URLS)
    walk.reconciler.stop_accepting()
    walk.kernel.failing = 0.5
    failed = 0
    while OURS in walk.kernel.links:
        try:
            walk.reconciler.close()
        except HostError:
            failed += 1
        if failed > 3:
            walk.heal()
    walk.heal()
    walk.reconciler.close()
    walk.assert_nothing_is_left()
