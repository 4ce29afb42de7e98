"""Addresses stay with their hostnames, and never are one that the machine needs itself."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngrokd.host.ipam import assign, gateway

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


@settings(deadline=None)  # a busy machine is no failure
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
