"""Endpoint addresses as aliases of lo0, on a Mac that is interpreted."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ngrokd.errors import HostError, NoAddress, StateError
from ngrokd.host import leftovers, netif
from ngrokd.host.netif import bsd
from ngrokd.host.netif.aliases import Aliases
from ngrokd.host.netif.aliasrecord import NAME, AliasRecord
from ngrokd.host.netif.darwin import DarwinSystem
from ngrokd.model import InterfaceMode
from tests.macos.kernel import Refused
from tests.macos.mac import Mac
from tests.macos.room import DEFAULTS, leftovers_of, net, prepare, recorded, taken


@pytest.fixture
def mac() -> Mac:
    return Mac()

def test_by_default_endpoints_have_aliases_of_lo0_and_this_is_told_once_and_no_trouble(
    mac: Mac, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    backend = prepare(mac, DEFAULTS, tmp_path)
    assert backend.status.name == "lo0"
    assert backend.status.subnet == "127.0.0.0/8"
    assert backend.status.mode is InterfaceMode.LOOPBACK
    assert backend.status.notes == ()
    told = [r.getMessage() for r in caplog.records if "10.107.0.0/16" in r.getMessage()]
    assert len(told) == 1 and "due to routing limitations with utun interfaces" in told[0]


def test_an_alias_is_added_and_removed_by_the_commands_of_the_guide(
    mac: Mac, tmp_path: Path
) -> None:
    backend = prepare(mac, DEFAULTS, tmp_path)
    mac.ran.clear()
    assert backend.add(["127.0.0.2"]) == {}
    assert backend.addresses() == {"127.0.0.2"}
    assert backend.remove(["127.0.0.2"]) == {}
    changing = [line for line in mac.ran if "alias" in line]
    assert changing == [
        "ifconfig lo0 alias 127.0.0.2 255.255.255.255",
        "ifconfig lo0 -alias 127.0.0.2",
    ]
    assert mac.lo0() == []


def test_a_stop_takes_all_aliases_and_leaves_those_of_others(mac: Mac, tmp_path: Path) -> None:
    taken(mac, "127.0.0.9")
    backend = prepare(mac, DEFAULTS, tmp_path)
    backend.add([f"127.0.1.{n}" for n in range(2, 200)])
    assert len(mac.lo0()) == 199
    backend.close()
    backend.close()
    assert mac.lo0() == ["127.0.0.9"]
    assert os.listdir(tmp_path) == []


def test_what_is_about_to_be_added_stands_in_the_record_before(mac: Mac, tmp_path: Path) -> None:
    backend = prepare(mac, DEFAULTS, tmp_path)
    seen: list[list[str]] = []
    run = mac.programs["ifconfig"]

    def look(words: list[str]) -> str:
        if "alias" in words:
            seen.append(recorded(tmp_path))
        return run(words)

    mac.programs["ifconfig"] = look
    backend.add(["127.0.0.2", "127.0.0.3"])
    assert seen == [["127.0.0.2", "127.0.0.3"]] * 2


def test_the_next_start_takes_over_what_a_killed_run_left(
    mac: Mac, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    prepare(mac, DEFAULTS, tmp_path).add(["127.0.0.2", "127.0.0.3"])
    taken(mac, "127.0.0.4")
    backend = prepare(mac, DEFAULTS, tmp_path)
    assert "2 aliases of lo0 are left by an earlier run: taken over" in caplog.text
    assert backend.addresses() == {"127.0.0.2", "127.0.0.3"}
    backend.close()
    assert mac.lo0() == ["127.0.0.4"]


def test_what_a_killed_runs_script_still_adds_is_ours_too(
    mac: Mac, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(mac, DEFAULTS, tmp_path).add(["127.0.0.2", "127.0.0.3"])
    for ip in ("127.0.0.2", "127.0.0.3"):
        mac(bsd.remove_alias(ip))
    backend = prepare(mac, DEFAULTS, tmp_path)
    assert backend.addresses() == set()
    mac(bsd.add_alias("127.0.0.2"))
    assert backend.add(["127.0.0.3"]) == {}
    assert caplog.text == "", "nobody took it away"
    assert backend.addresses() == {"127.0.0.2", "127.0.0.3"}
    backend.close()
    assert mac.lo0() == [] and os.listdir(tmp_path) == []


def test_after_a_boot_the_record_proves_nothing(mac: Mac, tmp_path: Path) -> None:
    prepare(mac, DEFAULTS, tmp_path).add(["127.0.0.2"])
    mac.kernel.boot()
    taken(mac, "127.0.0.2")
    backend = prepare(mac, DEFAULTS, tmp_path)
    assert backend.addresses() == set()
    assert backend.status.occupied == {"127.0.0.1", "127.0.0.2"}
    backend.close()
    assert mac.lo0() == ["127.0.0.2"]


def test_an_alias_of_somebody_else_is_given_to_no_endpoint(mac: Mac, tmp_path: Path) -> None:
    taken(mac, "127.0.0.2")
    backend = prepare(mac, DEFAULTS, tmp_path)
    assert "127.0.0.2" in backend.status.occupied
    refused = backend.add(["127.0.0.2", "127.0.0.3"])
    assert refused == {"127.0.0.2": "127.0.0.2 is an address of lo0 that ngrokd did not add"}
    assert backend.addresses() == {"127.0.0.3"}


def test_without_root_an_alias_is_refused_in_the_words_of_macos(mac: Mac, tmp_path: Path) -> None:
    backend = prepare(mac, DEFAULTS, tmp_path)
    mac.kernel.root = False
    for ips in (["127.0.0.2"], ["127.0.0.2", "127.0.0.3"]):
        refused = backend.add(ips)
        assert sorted(refused) == ips
        assert "ioctl (SIOCAIFADDR): permission denied" in refused["127.0.0.2"]
        assert refused["127.0.0.2"].endswith("Mend: run ngrokd as root")
    assert backend.addresses() == set()
    assert recorded(tmp_path) == []


def test_one_that_is_refused_costs_the_others_nothing(mac: Mac, tmp_path: Path) -> None:
    backend = prepare(mac, DEFAULTS, tmp_path)
    run = mac.programs["ifconfig"]

    def refuse(words: list[str]) -> str:
        if "127.0.0.3" in words:
            raise Refused("ioctl (SIOCAIFADDR): No buffer space available")
        return run(words)

    mac.programs["ifconfig"] = refuse
    assert list(backend.add(["127.0.0.2", "127.0.0.3", "127.0.0.4"])) == ["127.0.0.3"]
    assert recorded(tmp_path) == ["127.0.0.2", "127.0.0.4"]


def test_a_command_killed_for_its_time_may_have_done_its_work(mac: Mac, tmp_path: Path) -> None:
    backend = prepare(mac, DEFAULTS, tmp_path)
    mac.killed.add("ifconfig lo0 alias 127.0.0.2 255.255.255.255")
    assert list(backend.add(["127.0.0.2"])) == ["127.0.0.2"]
    assert backend.addresses() == {"127.0.0.2"}, "it is there, and it is ours"
    backend.close()
    assert mac.lo0() == []


def test_what_another_program_removed_is_seen_and_added_again(
    mac: Mac, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = prepare(mac, DEFAULTS, tmp_path)
    backend.add(["127.0.0.2", "127.0.0.3"])
    mac(["ifconfig", "lo0", "-alias", "127.0.0.2"])
    assert backend.addresses() == {"127.0.0.3"}
    assert backend.add(["127.0.0.2"]) == {}
    assert "1 addresses of lo0 were removed by another program: added again" in caplog.text
    assert backend.addresses() == {"127.0.0.2", "127.0.0.3"}
    mac(["ifconfig", "lo0", "-alias", "127.0.0.3"])
    assert backend.remove(["127.0.0.3"]) == {}
    backend.close()
    assert mac.lo0() == []


def test_what_cannot_be_removed_at_a_stop_is_told_and_stays_on_record(
    mac: Mac, tmp_path: Path
) -> None:
    backend = prepare(mac, DEFAULTS, tmp_path)
    backend.add(["127.0.0.2"])
    mac.kernel.root = False
    with pytest.raises(HostError, match=r"1 aliases of lo0 are left behind, among them 127"):
        backend.close()
    mac.kernel.root = True
    assert leftovers_of(mac, tmp_path) == ["lo0: the address 127.0.0.2 is removed"]
    assert mac.lo0() == []


def test_a_state_folder_that_cannot_be_written_is_told_and_endpoints_are_served(
    mac: Mac, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = prepare(mac, DEFAULTS, tmp_path / "none")
    assert backend.add(["127.0.0.2"]) == {}
    (note,) = backend.status.notes
    assert note.startswith("if ngrokd is killed, its aliases stay until the next boot: ")
    backend.add(["127.0.0.3"])
    assert caplog.text.count("stay until the next boot") == 1
    (tmp_path / "none").mkdir()
    backend.add(["127.0.0.4"])
    assert backend.status.notes == ()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"boot": 7}', b'{"boot": "BOOT", "addresses": 7}', b"\xff", b"[" * 9999],
)
def test_a_damaged_record_tells_nothing_and_is_told(
    mac: Mac, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    taken(mac, "127.0.0.2")
    (tmp_path / NAME).write_bytes(content)
    prepare(mac, DEFAULTS, tmp_path).close()
    assert mac.lo0() == ["127.0.0.2"]
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize("ip", ["127.0.0.1", "192.168.1.51", "-a", "127.0.0.2 up", 7, None])
def test_a_record_cannot_have_more_removed_than_aliases_of_the_range(
    mac: Mac, tmp_path: Path, ip: object
) -> None:
    document = {"boot": mac.kernel.session, "addresses": [ip]}
    (tmp_path / NAME).write_text(json.dumps(document))
    before = list(mac.kernel.interfaces["lo0"].inets)
    assert leftovers_of(mac, tmp_path) == []
    prepare(mac, DEFAULTS, tmp_path).close()
    assert mac.kernel.interfaces["lo0"].inets == before


def test_where_the_boot_is_not_told_the_record_alone_proves(mac: Mac, tmp_path: Path) -> None:
    def fail(words: list[str]) -> str:
        raise Refused("sysctl: unknown oid 'kern.bootsessionuuid'")

    mac.programs["sysctl"] = fail
    prepare(mac, DEFAULTS, tmp_path).add(["127.0.0.2"])
    prepare(mac, DEFAULTS, tmp_path).close()
    assert mac.lo0() == []


@pytest.mark.parametrize(
    ("name", "subnet", "used"),
    [
        ("ngrokd0", "10.107.0.0/16", "127.0.0.0/8"),
        ("ngrokd0", "127.5.0.0/16", "127.5.0.0/16"),
        ("utun", "127.5.0.0/16", "127.5.0.0/16"),
        ("second", "127.5.0.0/16", "127.5.0.0/16"),
    ],
)
def test_which_part_of_the_loopback_range_serves(
    mac: Mac, tmp_path: Path, name: str, subnet: str, used: str
) -> None:
    backend = prepare(mac, net(interface_name=name, subnet=subnet), tmp_path)
    assert backend.status.subnet == used and backend.status.name == "lo0"


def test_another_instance_has_a_part_of_its_own(mac: Mac, tmp_path: Path) -> None:
    one, two = (prepare(mac, net(interface_name=n), tmp_path).status.subnet for n in ("b", "c"))
    assert len({one, two, "127.0.0.0/8"}) == 3 and one.endswith(".0.0/16")


def test_a_subnet_of_ones_own_choice_that_cannot_be_is_a_note(mac: Mac, tmp_path: Path) -> None:
    (note,) = prepare(mac, net(subnet="10.200.0.0/16"), tmp_path).status.notes
    assert "10.200.0.0/16" in note and "net.subnet" in note and "net.interface_name" in note


def test_macos_finds_the_first_address_of_an_interface(mac: Mac) -> None:
    reader = netif.open_reader(DEFAULTS, mac, DarwinSystem())
    assert netif.interface_address("lo0", reader) == "127.0.0.1"
    assert netif.interface_address("en0", reader) == "192.168.1.51"
    with pytest.raises(NoAddress, match="there is no interface en7"):
        netif.interface_address("en7", reader)
    with pytest.raises(NoAddress, match="utun0 has no IPv4 address"):
        netif.interface_address("utun0", reader)


def test_this_machines_system_is_chosen_by_its_name() -> None:
    assert isinstance(netif.here("darwin"), DarwinSystem)
    assert not isinstance(netif.here("linux"), DarwinSystem)


# What a dead daemon left


def test_cleaning_up_removes_exactly_what_the_dry_run_says(mac: Mac, tmp_path: Path) -> None:
    prepare(mac, DEFAULTS, tmp_path).add(["127.0.0.2", "127.0.0.3"])
    taken(mac, "127.0.0.4")
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    settings = net(hosts_file=str(hosts))
    would, stays = leftovers.look(settings, frozenset(), mac, tmp_path, (), DarwinSystem())
    assert would == ["ifconfig lo0 -alias 127.0.0.2", "ifconfig lo0 -alias 127.0.0.3"]
    removed, left = leftovers.remove(settings, frozenset(), mac, tmp_path, (), DarwinSystem())
    assert removed == [f"lo0: the address 127.0.0.{n} is removed" for n in (2, 3)]
    assert (stays, left) == ([], [])
    assert mac.lo0() == ["127.0.0.4"]
    assert leftovers.remove(settings, frozenset(), mac, tmp_path, (), DarwinSystem()) == ([], [])


def test_cleaning_up_without_root_says_what_stays_and_keeps_it_on_record(
    mac: Mac, tmp_path: Path
) -> None:
    prepare(mac, DEFAULTS, tmp_path).add(["127.0.0.2"])
    mac.kernel.root = False
    with pytest.raises(HostError, match="left behind"):
        leftovers_of(mac, tmp_path)
    assert recorded(tmp_path) == ["127.0.0.2"]


def test_without_a_record_cleaning_up_asks_no_program(mac: Mac, tmp_path: Path) -> None:
    assert leftovers_of(mac, tmp_path) == []
    assert mac.ran == []


def test_a_remembered_file_that_is_a_folder_cannot_be_kept(mac: Mac, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    record = AliasRecord(tmp_path, mac)
    with pytest.raises(StateError, match=NAME):
        record.keep(["127.0.0.2"])
    with pytest.raises(StateError, match=NAME):
        record.keep([])


def test_where_nothing_is_to_be_remembered_nothing_is(mac: Mac) -> None:
    record = AliasRecord(None, mac)
    record.keep(["127.0.0.2"])
    assert record.recall() == frozenset() and mac.ran == []


def test_what_was_half_written_beside_the_record_goes(mac: Mac, tmp_path: Path) -> None:
    for act in (lambda: prepare(mac, DEFAULTS, tmp_path), lambda: leftovers_of(mac, tmp_path)):
        (tmp_path / f".{NAME}.ngrokd-12-0123456789abcdef").touch()
        act()
        assert os.listdir(tmp_path) == []


# Bookkeeping, whatever happens


IPS = [f"127.0.0.{n}" for n in range(2, 8)]
SOME = st.lists(st.sampled_from(IPS), unique=True)


class Bookkeeping(RuleBasedStateMachine):
    """Runs, kills, boots and others' aliases in any order: theirs stay, and ours can be found."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.mac = Mac()
        self.others: set[str] = set()
        self.start()

    def start(self) -> None:
        self.aliases = Aliases("127.0.0.0/8", self.mac, AliasRecord(self.folder, self.mac))
        self.aliases.take_over()

    @rule(ips=SOME)
    def add(self, ips: list[str]) -> None:
        failed = self.aliases.add(ips)
        assert set(failed) == set(ips) & self.others

    @rule(ips=SOME)
    def remove(self, ips: list[str]) -> None:
        assert self.aliases.remove(ips) == {}
        assert not self.aliases.addresses() & set(ips)

    @rule(ip=st.sampled_from(IPS))
    def somebody_adds(self, ip: str) -> None:
        if ip not in self.mac.lo0():
            if ip in self.aliases._ours:
                return  # ours, and lost: whoever makes it now, it is not to be told
            taken(self.mac, ip)
            self.others.add(ip)

    @rule(ip=st.sampled_from(IPS))
    def somebody_removes(self, ip: str) -> None:
        if ip in self.mac.lo0():
            self.mac(bsd.remove_alias(ip))
            self.others.discard(ip)

    @rule()
    def killed_and_started(self) -> None:
        left = self.aliases.addresses()
        self.start()
        assert self.aliases.addresses() == left

    @rule()
    def killed_and_cleaned(self) -> None:
        leftovers_of(self.mac, self.folder)
        assert set(self.mac.lo0()) == self.others
        self.start()

    @rule()
    def stopped_and_started(self) -> None:
        self.aliases.close()
        assert set(self.mac.lo0()) == self.others
        assert os.listdir(self.folder) == []
        self.start()

    @rule()
    def booted(self) -> None:
        self.mac.kernel.boot()
        self.others = set()
        self.start()
        assert self.aliases.addresses() == set()

    @invariant()
    def everybodys_are_told_apart(self) -> None:
        assert self.others <= set(self.mac.lo0())
        assert self.aliases.addresses() | self.others == set(self.mac.lo0())
        assert self.aliases.addresses() <= set(recorded(self.folder))

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestBookkeeping = Bookkeeping.TestCase
TestBookkeeping.settings = settings(max_examples=25, stateful_step_count=25)
