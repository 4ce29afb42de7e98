"""From what ngrok lists to what this machine should have."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.config import NetSettings
from ngrokd.model import Address, Discovered, Endpoint, Route, Target
from ngrokd.reconcile.desired import Desired, Facts, Remembered, desire

SUBNET = "10.107.0.0/16"


def endpoint(hostname: str, port: int, scheme: str = "tcp") -> Endpoint:
    return Endpoint(Target(hostname, port), scheme, f"{scheme}://{hostname}:{port}", ("ep_1",))


VIRTUAL = NetSettings()
FACTS = Facts(SUBNET)
NOTHING = Remembered()


def desired(
    *endpoints: Endpoint,
    net: NetSettings = VIRTUAL,
    facts: Facts = FACTS,
    remembered: Remembered = NOTHING,
) -> Desired:
    return desire(Discovered(endpoints), net, facts, remembered)


def test_one_address_per_hostname_and_the_original_ports() -> None:
    result = desired(endpoint("a.ns", 80), endpoint("a.ns", 443), endpoint("b.ns", 80))
    assert result.listeners == {
        Address("10.107.0.2", 80): Route(Target("a.ns", 80)),
        Address("10.107.0.2", 443): Route(Target("a.ns", 443)),
        Address("10.107.0.3", 80): Route(Target("b.ns", 80)),
    }
    assert result.addresses == {"10.107.0.2", "10.107.0.3"}


def test_a_full_subnet_fails_what_no_longer_fits_and_only_that() -> None:
    result = desired(endpoint("a.ns", 80), endpoint("b.ns", 80), facts=Facts("10.107.0.0/30"))
    assert list(result.listeners.values()) == [Route(Target("a.ns", 80))]
    assert "no address is left" in result.failed[Target("b.ns", 80)]


def test_network_mode_needs_no_address_of_ours() -> None:
    net = NetSettings(listen_interface="0.0.0.0")
    facts = Facts(SUBNET, interface_ips={"0.0.0.0": "0.0.0.0"})
    result = desired(endpoint("a.ns", 80), endpoint("b.ns", 80), net=net, facts=facts)
    assert result.listeners == {
        Address("0.0.0.0", 9080): Route(Target("a.ns", 80), exposed=True),
        Address("0.0.0.0", 9081): Route(Target("b.ns", 80), exposed=True),
    }
    assert not result.addresses


def test_a_remembered_network_port_is_kept_and_a_taken_one_passed_over() -> None:
    net = NetSettings(listen_interface="0.0.0.0")
    facts = Facts(SUBNET, interface_ips={"0.0.0.0": "0.0.0.0"}, taken_ports={9080})
    remembered = Remembered({}, {"b.ns:80": 9090})
    result = desired(
        endpoint("a.ns", 80), endpoint("b.ns", 80), net=net, facts=facts, remembered=remembered
    )
    assert {at.port for at in result.listeners} == {9081, 9090}


def test_low_ports_move_only_where_they_are_forbidden() -> None:
    facts = Facts(SUBNET, forbidden_below=1024)
    result = desired(endpoint("a.ns", 80), endpoint("b.ns", 5432), facts=facts)
    assert {at.port for at in result.listeners} == {9080, 5432}


@pytest.mark.parametrize("scheme", ["http", "https", "tls", "tcp"])
def test_where_clients_use_another_address_http_requests_get_the_host_of_the_url(
    scheme: str,
) -> None:
    net = NetSettings(listen_interface="0.0.0.0", overrides={"own.ns": "virtual"})
    facts = Facts(SUBNET, interface_ips={"0.0.0.0": "0.0.0.0"})
    result = desired(
        *(endpoint("a.ns", port, scheme) for port in (80, 8000, 9082)),
        endpoint("own.ns", 8000, scheme),
        net=net,
        facts=facts,
    )
    assert {at: route.host for at, route in result.listeners.items()} == {
        Address("0.0.0.0", 9080): "a.ns" if scheme == "http" else "",
        Address("0.0.0.0", 9081): "a.ns:8000" if scheme == "http" else "",
        # Its own port, but on an address that has other names, or none.
        Address("0.0.0.0", 9082): "a.ns:9082" if scheme == "http" else "",
        Address("10.107.0.2", 8000): "",
    }


def test_on_its_own_address_with_another_port_http_requests_get_the_host_of_the_url() -> None:
    facts = Facts(SUBNET, forbidden_below=1024)
    result = desired(
        endpoint("a.ns", 80, "http"), endpoint("a.ns", 8000, "http"), facts=facts
    )
    assert {at.port: route.host for at, route in result.listeners.items()} == {
        9080: "a.ns",
        8000: "",
    }


def test_the_names_of_ngrok_itself_are_never_taken() -> None:
    facts = Facts(SUBNET, loop_names={"api.ngrok.com"})
    result = desired(endpoint("api.ngrok.com", 443), facts=facts)
    assert not result.listeners
    assert [skipped.url for skipped in result.skipped] == ["tcp://api.ngrok.com:443"]


def test_no_endpoint_is_lost_where_two_would_have_one_address_and_port() -> None:
    facts = Facts(SUBNET, forbidden_below=1024)
    both = desired(endpoint("a.ns", 80), endpoint("a.ns", 9080), facts=facts)
    assert {at.port: route.target.port for at, route in both.listeners.items()} == {
        9080: 9080,
        9081: 80,
    }
    # Clients know the port that was given before; the other endpoint is told which one has it.
    later = desired(
        endpoint("a.ns", 80),
        endpoint("a.ns", 9080),
        facts=facts,
        remembered=Remembered({}, {"a.ns:80": 9080}),
    )
    assert list(later.listeners.values()) == [Route(Target("a.ns", 80))]
    reason = later.failed[Target("a.ns", 9080)]
    assert "given to a.ns:80" in reason and "net.start_port higher than 9080" in reason


def test_a_network_port_on_every_address_is_not_one_that_an_endpoint_has_itself() -> None:
    net = NetSettings(overrides={"db.ns": "0.0.0.0"})
    facts = Facts(SUBNET, interface_ips={"0.0.0.0": "0.0.0.0"})
    found = (endpoint("db.ns", 5432), endpoint("metrics.ns", 9080))
    assert set(desired(*found, net=net, facts=facts).listeners) == {
        Address("0.0.0.0", 9081),
        Address("10.107.0.2", 9080),
    }
    remembered = Remembered({}, {"db.ns:5432": 9080})
    later = desired(*found, net=net, facts=facts, remembered=remembered)
    assert set(later.listeners) == {Address("0.0.0.0", 9080)}
    assert "given to db.ns:5432" in later.failed[Target("metrics.ns", 9080)]


def test_network_ports_begin_where_ports_are_free_for_us() -> None:
    net = NetSettings(listen_interface="0.0.0.0", start_port=80)
    facts = Facts(SUBNET, interface_ips={"0.0.0.0": "0.0.0.0"}, forbidden_below=1024)
    assert set(desired(endpoint("a.ns", 80), net=net, facts=facts).listeners) == {
        Address("0.0.0.0", 1024)
    }


def test_an_interface_without_an_address_fails_its_endpoints_with_the_reason() -> None:
    net = NetSettings(listen_interface="wg0")
    facts = Facts(SUBNET, interface_faults={"wg0": "there is no interface wg0"})
    result = desired(endpoint("a.ns", 80), net=net, facts=facts)
    assert result.failed == {
        Target("a.ns", 80): "net.listen_interface: wg0: there is no interface wg0"
    }


NAMES = ("a.ns", "b.ns", "c.ns", "d.ns", "e.ns", "f.ns", "g.ns")
IPS = [f"10.107.0.{number}" for number in range(9)]
PORTS = (80, 443, 9080, 9081, 9082)

questions = st.fixed_dictionaries(
    {
        "urls": st.lists(
            st.tuples(
                st.sampled_from(("http", "tcp")), st.sampled_from(NAMES), st.sampled_from(PORTS)
            ),
            max_size=9,
            unique_by=lambda each: each[1:],
        ),
        "net": st.builds(
            NetSettings,
            subnet=st.just("10.107.0.0/29"),
            overrides=st.dictionaries(
                st.sampled_from(NAMES), st.sampled_from(("0.0.0.0", "eth0", "virtual")), max_size=3
            ),
        ),
        "facts": st.builds(
            Facts,
            subnet=st.sampled_from(("10.107.0.0/29", "10.107.0.0/30", "127.107.0.0/29")),
            interface_ips=st.just({"0.0.0.0": "0.0.0.0"}),
            forbidden_below=st.sampled_from((0, 1024)),
            taken_ports=st.frozensets(st.sampled_from((9080, 9081))),
            held=st.dictionaries(
                st.sampled_from(IPS), st.sets(st.sampled_from(NAMES), min_size=1, max_size=2),
                max_size=2,
            ),
        ),
        "remembered": st.builds(
            Remembered,
            addresses=st.dictionaries(
                st.sampled_from((*NAMES, "gone.ns", "long.ns")),
                st.sampled_from((*IPS, "10.1.0.3", "nonsense")),
            ),
            ports=st.dictionaries(
                st.sampled_from([f"{name}:{port}" for name in NAMES for port in PORTS]),
                st.sampled_from((9080, 9081, 9082, 443, 70000)),
                max_size=4,
            ),
        ),
    }
)


@given(questions)
def test_with_what_was_given_out_the_same_is_given_out_again(asked: dict[str, Any]) -> None:
    endpoints = tuple(
        Endpoint(Target(name, port), scheme, f"{scheme}://{name}:{port}", (f"{name}{port}",))
        for scheme, name, port in asked["urls"]
    )
    question = Discovered(endpoints), asked["net"], asked["facts"]
    first = desire(*question, asked["remembered"])
    again = desire(*question, first.remembered)
    assert again == dataclasses.replace(first, moved=again.moved)
    assert set(again.moved) == set(first.moved)
    for before, after in (
        (first.remembered.addresses, again.remembered.addresses),
        (first.remembered.ports, again.remembered.ports),
    ):
        assert list(before.items()) == list(after.items())  # with the order
