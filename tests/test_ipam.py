"""Addresses stay with their hostnames, and never are one that the machine needs itself."""

from __future__ import annotations

import ipaddress
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngrokd.host import ipam
from ngrokd.host.ipam import assign, gateway
from ngrokd.memory import Memory
from ngrokd.reconcile.desired import Remembered

LOOPBACK_IN_USE = ("127.0.0.1", "127.0.0.53", "127.0.0.54", "127.0.1.1")
SUBNET = "10.107.0.0/16"
NAMES = [f"svc{number}.ns" for number in range(12)]


def test_addresses_start_at_two_and_follow_the_names_in_order() -> None:
    assignment = assign(["b.ns", "a.ns"], {}, SUBNET)
    assert assignment.addresses == {"a.ns": "10.107.0.2", "b.ns": "10.107.0.3"}
    assert assignment.remembered == assignment.addresses
    assert assignment.failed == {}


def test_the_gateway_is_the_first_address() -> None:
    assert gateway(SUBNET) == "10.107.0.1"
    assert gateway("10.1.2.77/24") == "10.1.2.1"


def test_a_hostname_that_was_away_gets_its_address_back() -> None:
    first = assign(["a.ns", "b.ns"], {}, SUBNET)
    without_a = assign(["b.ns", "c.ns"], first.remembered, SUBNET)
    assert without_a.addresses == {"b.ns": "10.107.0.3", "c.ns": "10.107.0.4"}
    back = assign(["a.ns", "b.ns", "c.ns"], without_a.remembered, SUBNET)
    assert back.addresses["a.ns"] == "10.107.0.2"


def test_a_full_range_takes_the_address_of_the_name_gone_longest() -> None:
    subnet = "10.0.0.0/29"  # .2 to .6
    remembered = assign(["a", "b", "c", "d", "e"], {}, subnet).remembered
    remembered = assign(["a", "b", "d", "e"], remembered, subnet).remembered  # c went first
    remembered = assign(["b", "d", "e"], remembered, subnet).remembered  # then a
    after = assign(["b", "d", "e", "new"], remembered, subnet)
    assert after.addresses["new"] == "10.0.0.4"
    assert "c" not in after.remembered
    again = assign(["b", "d", "e", "new", "newer"], after.remembered, subnet)
    assert again.addresses["newer"] == "10.0.0.2"


def test_an_exhausted_range_fails_only_the_names_without_an_address() -> None:
    assignment = assign(["a", "b", "c"], {"b": "10.0.0.2"}, "10.0.0.0/30")
    assert assignment.addresses == {"b": "10.0.0.2"}
    assert set(assignment.failed) == {"a", "c"}
    assert "net.subnet" in assignment.failed["a"]


@pytest.mark.parametrize("subnet", ["10.0.0.0/31", "10.0.0.0/32"])
def test_a_subnet_without_room_fails_every_name(subnet: str) -> None:
    assert set(assign(["a"], {}, subnet).failed) == {"a"}


def test_addresses_others_use_on_loopback_are_never_given() -> None:
    names = [f"n{number}" for number in range(300)]
    given = set(assign(names, {}, "127.0.0.0/8").addresses.values())
    assert len(given) == 300
    assert given.isdisjoint(["127.0.0.1", "127.0.0.53", "127.0.0.54", "127.0.1.1", "127.0.0.0"])


def test_a_start_on_another_range_keeps_the_host_part_and_so_does_the_way_back() -> None:
    remembered = assign(["a", "b", "c"], {}, SUBNET).remembered
    remembered = assign(["b", "c"], remembered, SUBNET).remembered
    fallen_back = assign(["b", "c"], remembered, "127.107.0.0/16")
    assert fallen_back.addresses == {"b": "127.107.0.3", "c": "127.107.0.4"}
    back = assign(["a", "b", "c"], fallen_back.remembered, SUBNET)
    assert back.addresses == {"a": "10.107.0.2", "b": "10.107.0.3", "c": "10.107.0.4"}


def test_a_smaller_subnet_moves_only_what_no_longer_fits() -> None:
    assignment = assign(["a", "b"], {"a": "10.107.0.2", "b": "10.107.9.2"}, "10.107.0.0/24")
    assert assignment.addresses == {"a": "10.107.0.2", "b": "10.107.0.3"}


@pytest.mark.parametrize(
    "nonsense", ["", "10.107.0", "10.107.0.300", "::1", "x", "10.107.0.02", "1e3.0.0.1", "-1.0.0.2"]
)
def test_nonsense_in_the_saved_file_counts_as_unknown(nonsense: str) -> None:
    assert assign(["a"], {"a": nonsense}, SUBNET).addresses == {"a": "10.107.0.2"}


def test_one_address_saved_for_two_names_stays_with_one_of_them() -> None:
    assignment = assign(["a", "b"], {"b": "10.107.0.5", "a": "10.107.0.5"}, SUBNET)
    assert assignment.addresses == {"b": "10.107.0.5", "a": "10.107.0.2"}


def test_asking_again_changes_nothing_not_even_the_order_to_save() -> None:
    once = assign(NAMES, {"gone": "10.107.0.9"}, SUBNET)
    twice = assign(reversed(NAMES), once.remembered, SUBNET)
    assert twice.addresses == once.addresses
    assert list(twice.remembered.items()) == list(once.remembered.items())


def test_a_poll_of_thousands_takes_no_time_in_the_largest_subnet() -> None:
    names = [f"e{number}.ns" for number in range(8000)]
    began = time.process_time()
    first = assign(names, {}, "10.0.0.0/8")
    again = assign(names, first.remembered, "10.0.0.0/8")
    more = assign([*names, "new.ns"], first.remembered, "10.0.0.0/8")
    assert time.process_time() - began < 3  # a tenth of it on a machine that does nothing else
    assert again.addresses == first.addresses
    assert more.addresses["new.ns"] == "10.0.31.66"  # 8,000 after .0.2


def test_the_longest_gone_are_forgotten_before_they_fill_the_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ipam, "MOST_REMEMBERED", 4)
    remembered: Mapping[str, str] = {}
    for number in range(9):
        remembered = assign([f"n{number}", "stays"], remembered, "10.0.0.0/8").remembered
    assert list(remembered) == ["n6", "n7", "stays", "n8"]
    many = [f"m{number}" for number in range(9)]
    assert set(assign(many, remembered, "10.0.0.0/8").remembered) == set(many)


class Model:
    """What the manual says of addresses, in the plainest words. Owner: the test."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.gone: list[set[str]] = []  # those that went at one poll; the longest gone first

    def follow(self, wanted: set[str], given: Mapping[str, int], usable: list[int]) -> None:
        """One poll, in one subnet that does not change: `given` must be as the words say."""
        known = set().union(*self.gone)
        self.gone = [went - wanted for went in self.gone] + [set(self.held) - wanted - known]
        for name in sorted(wanted - set(self.held)):
            free = [number for number in usable if number not in self.held.values()]
            longest = next(filter(None, self.gone), None)
            if free:
                assert given[name] == free[0]
            elif longest:
                (loser,) = (each for each in longest if self.held[each] == given[name])
                longest.remove(loser)
                del self.held[loser]
            else:
                continue
            self.held[name] = given[name]
        assert given == {name: self.held[name] for name in wanted if name in self.held}


def usable_numbers(subnet: str) -> list[int]:
    """Of a small one: not network, gateway, broadcast, or what loopback needs."""
    inside = list(ipaddress.IPv4Network(subnet))[2:-1]
    return [int(ip) for ip in inside if str(ip) not in LOOPBACK_IN_USE]


def after_a_restart(remembered: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Through the file, as the next run reads it."""
    memory = Memory(folder)
    memory.save_assignments(Remembered(remembered))
    return dict(Memory(folder).assignments().addresses)


SMALL = ["10.0.0.0/28", "10.0.0.0/29", "10.0.0.8/30", "127.0.0.48/28", "127.0.1.0/29"]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sets(st.sampled_from(NAMES)), st.booleans()), max_size=12),
    st.sampled_from(SMALL),
)
def test_a_walk_with_restarts_does_what_the_plain_words_say(
    walk: list[tuple[set[str], bool]], subnet: str
) -> None:
    model, usable = Model(), usable_numbers(subnet)
    remembered: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for wanted, restart in walk:
            if restart:
                remembered = after_a_restart(remembered, Path(folder))
            result = assign(wanted, remembered, subnet)
            given = {name: int(ipaddress.IPv4Address(ip)) for name, ip in result.addresses.items()}
            model.follow(wanted, given, usable)
            assert set(result.failed) == wanted - set(given)
            remembered = dict(result.remembered)


def networks() -> st.SearchStrategy[str]:
    """Every prefix that the configuration takes, anywhere where it takes it."""
    return st.builds(
        lambda prefix, base: str(ipaddress.IPv4Network((base, prefix), strict=False)),
        st.integers(8, 30),
        st.sampled_from([0x0A6B0000, 0x7F000000, 0x7F6B0000, 0xAC140000, 0xC0A80100, 0x0A000000]),
    )


@given(st.lists(st.tuples(st.sets(st.sampled_from(NAMES)), networks()), min_size=2, max_size=8))
def test_another_subnet_moves_what_no_longer_fits_and_only_that(
    walk: list[tuple[set[str], str]],
) -> None:
    remembered: dict[str, str] = {}
    for wanted, subnet in walk:
        network = ipaddress.IPv4Network(subnet)
        forbidden = {str(network[0]), str(network[1]), str(network[-1]), *LOOPBACK_IN_USE}
        result = assign(wanted, remembered, subnet)
        for ip in result.remembered.values():
            assert ipaddress.IPv4Address(ip) in network and ip not in forbidden
        assert len(set(result.remembered.values())) == len(result.remembered)
        room = len(range(2, min(network.num_addresses - 1, 400)))
        assert not result.failed or len(result.addresses) + len(LOOPBACK_IN_USE) >= room
        for name in wanted & set(remembered):
            fits = ipaddress.IPv4Address(remembered[name]) in network
            if fits and remembered[name] not in forbidden:
                assert result.addresses[name] == remembered[name]
        remembered = dict(result.remembered)


@given(
    st.lists(st.sets(st.sampled_from(NAMES)), min_size=1, max_size=12),
    st.sampled_from(["10.0.0.0/28", "10.0.0.0/29", "10.0.0.0/30", "127.0.0.48/28", "10.9.0.0/24"]),
)
def test_any_walk_gives_each_name_an_address_of_its_own_for_good(
    walk: list[set[str]], subnet: str
) -> None:
    network = ipaddress.IPv4Network(subnet)
    forbidden = {
        str(network.network_address),
        str(network.broadcast_address),
        gateway(subnet),
        "127.0.0.53",
        "127.0.0.54",
    }
    usable = {str(ip) for ip in network} - forbidden
    remembered: dict[str, str] = {}
    previous: set[str] = set()
    for wanted in walk:
        result = assign(wanted, remembered, subnet)
        addresses = list(result.addresses.values())
        assert set(result.addresses) | set(result.failed) == wanted
        assert not set(result.addresses) & set(result.failed)
        assert len(set(addresses)) == len(addresses)
        assert usable.issuperset(addresses)
        assert len(set(result.remembered.values())) == len(result.remembered)
        assert not result.failed or len(addresses) == len(usable)
        stayed = wanted & previous & set(remembered)
        assert all(result.addresses[name] == remembered[name] for name in stayed)
        remembered, previous = dict(result.remembered), wanted


NAMED = st.dictionaries(
    st.integers(1, 8).map("10.107.0.{}".format),
    st.frozensets(st.sampled_from(NAMES[:4]), min_size=1, max_size=2),
    max_size=4,
)


@given(
    st.sets(st.sampled_from(NAMES)),
    st.dictionaries(st.sampled_from(NAMES), st.integers(2, 6).map("10.107.0.{}".format)),
    NAMED,
)
def test_an_address_under_which_a_name_stands_is_given_to_no_other(
    names: set[str], remembered: dict[str, str], held: dict[str, frozenset[str]]
) -> None:
    assignment = assign(names, remembered, "10.107.0.0/29", held)
    for name, ip in assignment.remembered.items():
        assert held.get(ip, {name}) == {name}
    own = {name for ip, of in held.items() if len(of) == 1 for name in of if ip in USABLE}
    assert own <= assignment.remembered.keys()
    assert len(set(assignment.remembered.values())) == len(assignment.remembered)


USABLE = frozenset(f"10.107.0.{number}" for number in range(2, 7))
