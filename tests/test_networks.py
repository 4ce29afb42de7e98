"""Which of the kernel's events count as a network that came."""

from __future__ import annotations

import dataclasses

import pytest

from ngrokd.host.netif.networks import (
    MOST_ADDRESSES,
    MOST_ROUTES,
    NO_LINK,
    Event,
    Networks,
    Told,
)
from ngrokd.model import NetworkCame


def link_is(index: int, name: str, runs: bool) -> Event:
    return Event(Told.LINK, index, name, runs)


def link_gone(index: int) -> Event:
    return Event(Told.LINK_GONE, index)


def address_is(index: int, ip: str) -> Event:
    return Event(Told.ADDRESS, index, ip)


def address_gone(index: int, ip: str) -> Event:
    return Event(Told.ADDRESS_GONE, index, ip)


def default_route(index: int, *key: object) -> Event:
    return Event(Told.DEFAULT_ROUTE, index, key=key)


def default_route_gone(route: Event) -> Event:
    return dataclasses.replace(route, told=Told.DEFAULT_ROUTE_GONE)


OWN = link_is(9, "ngrokd0", True)
ETH_DOWN, ETH_UP = link_is(2, "eth0", False), link_is(2, "eth0", True)
HAS_IP = address_is(2, "192.0.2.7")
BY_ETH = default_route(2, 2, 0, 254, 100, b"\xc0\x00\x02\x01")


def networks(*known: Event) -> Networks:
    made = Networks("ngrokd0", ("10.107.0.0/16", "127.107.0.0/16"))
    for event in known:
        made.take(event)
    return made


def told(made: Networks, *happened: Event) -> list[str]:
    came = [made.take(event) for event in happened]
    return [each.what for each in came if each is not None]


def test_a_link_with_an_address_that_gets_its_carrier_back_is_one_that_came() -> None:
    made = networks(ETH_UP, HAS_IP)
    assert told(made, ETH_DOWN) == []
    assert made.take(ETH_UP) == NetworkCame("eth0 is up", frozenset({"192.0.2.7"}))
    assert told(made, ETH_UP) == []


def test_a_link_without_an_address_leads_nowhere() -> None:
    """The ends of container links, members of bonds."""
    made = networks()
    assert told(made, link_is(5, "veth1", False), link_is(5, "veth1", True), link_gone(5)) == []
    assert told(made, link_is(5, "veth1", True), address_is(5, "fe80::1")) == []


def test_an_address_that_appears_counts_once_however_often_it_is_told() -> None:
    made = networks(ETH_UP)
    came = made.take(HAS_IP)
    assert came == NetworkCame("eth0 has 192.0.2.7", frozenset({"192.0.2.7"}))
    assert told(made, HAS_IP, HAS_IP) == []
    assert told(made, address_gone(2, "192.0.2.7"), HAS_IP) == ["eth0 has 192.0.2.7"]


def test_an_address_on_a_link_that_is_down_counts_when_the_link_comes() -> None:
    made = networks(ETH_DOWN)
    assert told(made, HAS_IP) == []
    assert told(made, ETH_UP) == ["eth0 is up"]


@pytest.mark.parametrize("ip", ["169.254.3.4", "fe80::7", "224.0.0.1", "0.0.0.0", "::"])
def test_what_comes_with_every_link_does_not_count(ip: str) -> None:
    assert told(networks(ETH_UP), address_is(2, ip)) == []


@pytest.mark.parametrize(
    "happened",
    [
        (link_is(9, "ngrokd0", False), OWN),
        (address_is(9, "198.51.100.9"),),  # whatever it is
        (address_is(1, "10.107.0.4"),),  # an alias of lo0, on macOS
        (address_is(1, "127.107.0.4"),),
        (default_route(9, 2, 0, 254, 0),),
    ],
)
def test_our_own_never_counts(happened: tuple[Event, ...]) -> None:
    made = networks(OWN, link_is(1, "lo", True), address_is(9, "10.107.0.1"))
    assert told(made, *happened) == []


def test_a_default_route_counts_once_and_again_when_it_was_gone() -> None:
    made = networks(ETH_UP)
    assert made.take(BY_ETH) == NetworkCame("a default route by eth0", everywhere=True)
    assert told(made, BY_ETH) == []
    assert told(made, default_route_gone(BY_ETH), BY_ETH) == ["a default route by eth0"]
    other = default_route(2, 2, 0, 254, 100, b"\xc0\x00\x02\x02")  # by another gateway
    assert told(made, other) == ["a default route by eth0"]


@pytest.mark.parametrize("end", [ETH_DOWN, link_gone(2)])
@pytest.mark.parametrize("route", [BY_ETH, default_route(NO_LINK, 2, 0, 254, 100)])
def test_a_route_that_the_kernel_dropped_in_silence_with_its_link_is_news_when_it_is_back(
    end: Event, route: Event
) -> None:
    made = networks(ETH_UP, route)
    assert told(made, end, ETH_UP) == []
    assert len(told(made, route)) == 1


def test_a_link_that_is_gone_takes_its_addresses_with_it() -> None:
    made = networks(ETH_UP, HAS_IP)
    made.take(link_gone(2))
    assert told(made, ETH_UP) == []
    assert told(made, HAS_IP) == ["eth0 has 192.0.2.7"]


def test_without_a_list_of_what_there_is_the_first_that_is_told_counts() -> None:
    made = networks()
    assert told(made, HAS_IP, BY_ETH) == [
        "another link has 192.0.2.7",
        "a default route by another link",
    ]


def test_a_link_whose_name_is_told_once_keeps_it() -> None:
    made = networks(ETH_UP, HAS_IP, link_is(2, "", False))
    assert told(made, link_is(2, "", True)) == ["eth0 is up"]


def test_after_it_has_forgotten_everything_is_told_anew() -> None:
    made = networks(ETH_UP, HAS_IP, BY_ETH)
    made.forget()
    assert told(made, ETH_UP, HAS_IP, BY_ETH) == ["eth0 has 192.0.2.7", "a default route by eth0"]


def test_more_than_there_is_room_for_is_neither_kept_nor_told_each_time() -> None:
    made = networks(ETH_UP)
    everything = [address_is(2, f"192.0.{n // 256}.{n % 256}") for n in range(6000)]
    assert len(told(made, *everything)) == MOST_ADDRESSES
    assert told(made, *everything) == []
    for event in everything:
        made.take(address_gone(event.index, event.name))
    assert len(told(made, *everything[:10])) == 10

    routes = [default_route(2, 2, 0, 254, n) for n in range(MOST_ROUTES * 3)]
    assert len(told(made, *routes)) == len(routes)
    assert len(told(made, *routes[-10:])) == 0
