"""Which of the kernel's events count as a network that came."""

from __future__ import annotations

import pytest

from ngrokd.host.netif.networks import (
    MOST_ADDRESSES,
    MOST_ROUTES,
    AddressGone,
    AddressIs,
    AllTold,
    DefaultRoute,
    DefaultRouteGone,
    Event,
    LinkGone,
    LinkIs,
    Networks,
)
from ngrokd.model import NetworkCame

OWN = LinkIs(9, "ngrokd0", True)
ETH_DOWN, ETH_UP = LinkIs(2, "eth0", False), LinkIs(2, "eth0", True)
HAS_IP = AddressIs(2, "192.0.2.7")
BY_ETH = DefaultRoute(2, (2, 0, 254, 100), b"\xc0\x00\x02\x01")


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
    assert told(made, LinkIs(5, "veth1", False), LinkIs(5, "veth1", True), LinkGone(5)) == []
    assert told(made, LinkIs(5, "veth1", True), AddressIs(5, "fe80::1")) == []


def test_an_address_that_appears_counts_once_however_often_it_is_told() -> None:
    made = networks(ETH_UP)
    came = made.take(HAS_IP)
    assert came == NetworkCame("eth0 has 192.0.2.7", frozenset({"192.0.2.7"}))
    assert told(made, HAS_IP, HAS_IP) == []
    assert told(made, AddressGone(2, "192.0.2.7"), HAS_IP) == ["eth0 has 192.0.2.7"]


def test_an_address_on_a_link_that_is_down_counts_when_the_link_comes() -> None:
    made = networks(ETH_DOWN)
    assert told(made, HAS_IP) == []
    assert told(made, ETH_UP) == ["eth0 is up"]


@pytest.mark.parametrize("ip", ["169.254.3.4", "fe80::7", "224.0.0.1", "0.0.0.0", "::"])
def test_what_comes_with_every_link_does_not_count(ip: str) -> None:
    assert told(networks(ETH_UP), AddressIs(2, ip)) == []


@pytest.mark.parametrize(
    "happened",
    [
        (LinkIs(9, "ngrokd0", False), OWN),
        (AddressIs(9, "198.51.100.9"),),  # whatever it is
        (AddressIs(1, "10.107.0.4"),),  # an alias of lo0, on macOS
        (AddressIs(1, "127.107.0.4"),),
        (DefaultRoute(9, (2, 0, 254, 0)),),
    ],
)
def test_our_own_never_counts(happened: tuple[Event, ...]) -> None:
    made = networks(OWN, LinkIs(1, "lo", True), AddressIs(9, "10.107.0.1"))
    assert told(made, *happened) == []


def test_a_default_route_counts_once_and_again_when_it_was_gone() -> None:
    made = networks(ETH_UP)
    assert made.take(BY_ETH) == NetworkCame("a default route by eth0", everywhere=True)
    assert told(made, BY_ETH) == []
    assert told(made, DefaultRouteGone(BY_ETH), BY_ETH) == ["a default route by eth0"]
    other = DefaultRoute(2, (2, 0, 254, 100), b"\xc0\x00\x02\x02")  # by another gateway
    assert told(made, other) == ["a default route by eth0"]


@pytest.mark.parametrize("end", [ETH_DOWN, LinkGone(2)])
@pytest.mark.parametrize("route", [BY_ETH, DefaultRoute(None, (2, 0, 254, 100))])
def test_a_route_that_the_kernel_dropped_in_silence_with_its_link_is_news_when_it_is_back(
    end: Event, route: DefaultRoute
) -> None:
    made = networks(ETH_UP, route)
    assert told(made, end, ETH_UP) == []
    assert len(told(made, route)) == 1


def test_a_link_that_is_gone_takes_its_addresses_with_it() -> None:
    made = networks(ETH_UP, HAS_IP)
    made.take(LinkGone(2))
    assert told(made, ETH_UP) == []
    assert told(made, HAS_IP) == ["eth0 has 192.0.2.7"]


def test_without_a_list_of_what_there_is_the_first_that_is_told_counts() -> None:
    made = networks()
    assert told(made, HAS_IP, BY_ETH) == [
        "another link has 192.0.2.7",
        "a default route by another link",
    ]


def test_a_link_whose_name_is_told_once_keeps_it() -> None:
    made = networks(ETH_UP, HAS_IP, LinkIs(2, "", False))
    assert told(made, LinkIs(2, "", True)) == ["eth0 is up"]


def test_after_it_has_forgotten_everything_is_told_anew() -> None:
    made = networks(ETH_UP, HAS_IP, BY_ETH, AllTold())
    made.forget()
    assert told(made, ETH_UP, HAS_IP, BY_ETH) == ["eth0 has 192.0.2.7", "a default route by eth0"]


def test_more_than_there_is_room_for_is_neither_kept_nor_told_each_time() -> None:
    made = networks(ETH_UP)
    everything = [AddressIs(2, f"192.{n // 65536}.{n // 256 % 256}.{n % 256}") for n in range(6000)]
    assert len(told(made, *everything)) == MOST_ADDRESSES
    assert told(made, *everything) == []
    for event in everything:
        made.take(AddressGone(event.index, event.ip))
    assert len(told(made, *everything[:10])) == 10

    routes = [DefaultRoute(2, (2, 0, 254, n)) for n in range(MOST_ROUTES * 3)]
    assert len(told(made, *routes)) == len(routes)
    assert len(told(made, *routes[-10:])) == 0
