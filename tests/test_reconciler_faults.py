"""Whatever this machine refuses, at whichever moment: the rest is served, and it ends well."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngrokd.config import ForwardSettings, NetSettings
from ngrokd.errors import HostError
from ngrokd.forward.forwarder import Forwarder
from ngrokd.model import Address, Counters, EndpointState, Target
from ngrokd.reconcile.outcome import Change
from ngrokd.reconcile.reconciler import Reconciler
from tests.fakes import FakeMachine, FakeMemory
from tests.test_reconciler import API, DB, NET, House, discovered

OPEN, FAILED = EndpointState.OPEN, EndpointState.FAILED
RAISING = (
    "addresses",
    "add_addresses",
    "remove_addresses",
    "publish",
    "reserved_names",
    "bind",
    "interface_address",
)
LAN = NetSettings(overrides={"lan.ns": "eth0"})
ON_LAN = "tcp://lan.ns:5432"
STEPS: tuple[list[str], ...] = ([API, DB], [DB, ON_LAN], [API, ON_LAN], [])


class Fault:
    """Lets one call of the machine raise: the one with that number among those of its kind."""

    def __init__(self, call: str, number: int) -> None:
        self._call = call
        self._left = number
        self.met = False

    def __call__(self, call: str) -> None:
        if call == self._call:
            self._left -= 1
            if self._left == 0:
                self.met = True
                raise HostError(f"{call} is refused")


def moments() -> Iterator[tuple[str, int]]:
    """Each call of a life, by kind and number."""
    counted: dict[str, int] = {}

    def count(call: str) -> None:
        counted[call] = counted.get(call, 0) + 1

    house = House()
    house.machine.meet = count
    for urls in STEPS:
        house.apply(*urls, net=LAN)
    house.reconciler.stop_accepting()
    for call in RAISING:
        yield from ((call, number) for number in range(1, counted[call] + 1))


@pytest.mark.parametrize(("call", "number"), list(moments()))
def test_a_call_that_raises_at_any_moment_costs_at_most_its_own_endpoint_until_the_next_poll(
    call: str, number: int
) -> None:
    house = House()
    fault = Fault(call, number)
    house.machine.meet = fault
    for urls in STEPS:
        before = fault.met
        house.apply(*urls, net=LAN)
        states = house.states()
        assert len(states) == len(urls)
        if fault.met and not before:  # in this application
            spared = [state for state in states.values() if state is OPEN]
            assert len(spared) >= len(urls) - 1 or call == "add_addresses"
            assert house.reconciler.problems or FAILED in states.values()
            house.apply(*urls, net=LAN)
        assert all(state is OPEN for state in house.states().values())
        assert set(house.machine.names) == {e.target.hostname for e in _virtual(house)}
        assert house.machine.present == {e.ip for e in _virtual(house)}
    house.reconciler.stop_accepting()
    assert not house.machine.bound and not house.forwarder.listeners
    assert fault.met


def _virtual(house: House) -> list:  # type: ignore[type-arg]
    return [e for e in house.reconciler.endpoints if e.listen_interface == "virtual"]


@settings(max_examples=60)
@given(st.data())
def test_a_stop_in_the_middle_of_anything_leaves_neither_listener_nor_name(
    data: st.DataObject,
) -> None:
    house = House()
    for _ in range(data.draw(st.integers(0, 4))):
        call = data.draw(st.sampled_from(RAISING))
        house.machine.meet = Fault(call, data.draw(st.integers(1, 3)))
        house.apply(*data.draw(st.sampled_from(STEPS)), net=LAN)
    house.machine.meet = lambda call: None
    house.reconciler.stop_accepting()
    assert not house.machine.bound and not house.machine.names
    assert house.reconciler.endpoints == () and house.reconciler.problems == ()
    house.reconciler.close()
    assert house.machine.closed


def test_after_the_stop_nothing_is_opened_any_more() -> None:
    house = House()
    house.apply(API)
    house.forwarder.counted = {Target("api.ns", 80): Counters(open=1)}
    house.reconciler.stop_accepting()
    present = set(house.machine.present)
    assert house.reconciler.apply(discovered(API, DB), NET, ()) == Change()
    assert not house.machine.bound and not house.machine.names
    assert house.machine.present == present, "what drains keeps its address"


def test_a_hosts_file_that_refuses_at_the_stop_is_told_and_the_listeners_go() -> None:
    house = House()
    house.apply(API)
    house.machine.refuse_hosts = True
    house.reconciler.stop_accepting()
    assert house.reconciler.problems == ("/etc/hosts is read-only",)
    assert not house.forwarder.listeners


def test_a_problem_that_ends_with_the_stop_is_not_called_mended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    house = House()
    house.machine.unreadable = True
    house.apply()
    caplog.clear()
    house.reconciler.stop_accepting()
    assert caplog.records == [] and house.reconciler.problems == ()


def test_an_address_whose_listener_fails_goes_with_its_endpoint() -> None:
    house = House()
    house.machine.refuse_binds = {Address("10.107.0.2", 80)}
    house.apply(API, DB)
    assert house.machine.present == {"10.107.0.2", "10.107.0.3"}
    house.apply(DB)
    assert house.machine.present == {"10.107.0.3"}


def test_what_the_forwarder_did_not_take_is_failed_and_not_published() -> None:
    house = House()
    house.apply(API)
    house.forwarder.end()
    house.apply(API, DB)
    assert house.states() == {API: FAILED, DB: FAILED}
    assert not house.machine.names and not house.machine.bound
    assert all("forwarding thread" in status.reason for status in house.reconciler.endpoints)
    house.reconciler.stop_accepting()


def test_a_forwarder_that_has_stopped_takes_no_listener_and_none_is_left_open() -> None:
    class OnLoopback(FakeMachine):
        """Its sockets are real."""

        def bind(self, address: Address):  # type: ignore[no-untyped-def]
            import socket

            opened.append(socket.create_server(("127.0.0.1", 0)))
            return opened[-1]

    opened: list = []  # type: ignore[type-arg]
    crashes: list[BaseException] = []
    forwarder = Forwarder(ForwardSettings(warm_connections="off"), crashes.append)
    forwarder.start()
    forwarder.stop()
    reconciler = Reconciler(OnLoopback(), forwarder, FakeMemory())
    reconciler.prepare()
    reconciler.apply(discovered(API), NET, ())
    assert [status.state for status in reconciler.endpoints] == [FAILED]
    assert [each.fileno() for each in opened] == [-1]
    assert crashes == []


def test_a_failure_is_one_line_for_as_long_as_its_reason_lasts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House()
    house.machine.refuse_binds = {Address("10.107.0.2", 80)}
    caplog.set_level(logging.INFO)
    for _ in range(5):
        house.apply(API)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["endpoint api.ns:80 failed: 10.107.0.2:80: in use by pid 1"]


def test_what_is_refused_is_tried_once_a_poll_however_often_it_is_decided() -> None:
    house = House()
    house.machine.refuse_binds = {
        Address("10.107.0.2", 80),
        *(Address("192.168.7.1", 9080 + n) for n in range(3)),
    }
    house.machine.hidden_ports = frozenset(range(9080, 9090))
    house.apply(API, ON_LAN, net=LAN)
    assert house.states()[ON_LAN] is OPEN
    assert house.machine.binds == 1 + 4


def test_an_address_that_is_refused_is_asked_for_once_a_poll() -> None:
    house = House()
    house.machine.refuse_addresses = {"10.107.0.2"}
    house.machine.refuse_binds = {Address("192.168.7.1", 9080)}
    asked: list[str] = []
    house.machine.meet = asked.append
    for polls in (1, 2):
        house.apply(API, ON_LAN, net=LAN)
        assert house.states() == {API: FAILED, ON_LAN: OPEN}
        assert asked.count("add_addresses") == polls


@pytest.mark.parametrize("hidden", [frozenset(), frozenset(range(9080, 9100))])
def test_a_long_row_of_taken_network_ports_is_passed_over_at_once(hidden: frozenset[int]) -> None:
    house = House()
    house.machine.hidden_ports = hidden
    row = range(9080, 9090) if hidden else range(9080, 9380)
    house.machine.refuse_binds = {Address("192.168.7.1", port) for port in row}
    house.apply(ON_LAN, net=LAN)
    assert set(house.forwarder.listeners) == {Address("192.168.7.1", row[-1] + 1)}
    assert house.memory.remembered.ports == {"lan.ns:5432": row[-1] + 1}


def test_a_network_port_that_happens_to_be_the_endpoints_own_is_passed_over_too() -> None:
    house = House()
    house.machine.refuse_binds = {Address("192.168.7.1", 9080)}
    house.apply("tcp://lan.ns:9080", net=LAN)
    assert set(house.forwarder.listeners) == {Address("192.168.7.1", 9081)}


@pytest.mark.parametrize(("first", "then"), [("0.0.0.0", "eth0"), ("eth0", "0.0.0.0")])
def test_from_every_address_to_one_and_back_an_endpoint_keeps_its_port(
    first: str, then: str
) -> None:
    ips = {"0.0.0.0": "0.0.0.0", "eth0": "192.168.7.1"}
    names = {"0.0.0.0": "127.0.0.1", "eth0": "192.168.7.1"}
    house = House()
    house.apply("tcp://lan.ns:9080", net=NetSettings(listen_interface=first))
    assert house.machine.names == {"lan.ns": names[first]}
    house.apply("tcp://lan.ns:9080", net=NetSettings(listen_interface=then))
    assert set(house.forwarder.listeners) == {Address(ips[then], 9080)}
    assert house.machine.names == {"lan.ns": names[then]}
    assert house.states() == {"tcp://lan.ns:9080": OPEN}


def test_an_interface_is_followed_when_its_address_changes_goes_and_comes() -> None:
    house = House()
    ips: tuple[Optional[str], ...] = ("192.168.7.1", "192.168.7.9", None, "192.168.7.9")
    for ip in ips:
        house.machine.interfaces = {"eth0": ip} if ip else {}
        house.apply(ON_LAN, API, net=LAN)
        assert house.states()[API] is OPEN
        state = next(e for e in house.reconciler.endpoints if e.url == ON_LAN)
        if ip:
            assert state.listener == Address(ip, 9080)
        else:
            assert (state.state, state.ip) == (FAILED, "")
            assert state.reason == "net.overrides.lan.ns: eth0: there is no interface eth0"
            assert len(house.forwarder.listeners) == 1


def test_an_interface_that_cannot_be_read_now_is_where_it_was() -> None:
    house = House()
    house.apply(ON_LAN, net=LAN)
    house.machine.meet = Fault("interface_address", 1)
    house.apply(ON_LAN, net=LAN)
    assert set(house.forwarder.listeners) == {Address("192.168.7.1", 9080)}
    assert house.reconciler.problems == (
        "net.overrides: eth0: interface_address is refused",
    )


def test_low_ports_that_the_administrator_frees_are_used_at_the_next_poll() -> None:
    house = House()
    house.machine.root = False
    house.apply(API, "https://api.ns")
    assert {at.port for at in house.forwarder.listeners} == {9080, 9081}
    assert not house.machine.names
    (note,) = house.reconciler.notes
    assert "ports below 1024" in note and "(2)" in note
    house.machine.first_free = 443
    house.apply(API, "https://api.ns")
    assert {at.port for at in house.forwarder.listeners} == {9081, 443}
    house.machine.first_free = 80
    house.apply(API, "https://api.ns")
    assert {at.port for at in house.forwarder.listeners} == {80, 443}
    assert house.machine.names == {"api.ns": "10.107.0.2"} and not house.reconciler.notes


def test_the_lowest_forbidden_port_is_the_one_whose_mend_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House()
    house.machine.root = False
    house.apply("https://a.ns", "http://b.ns")
    told = [r.getMessage() for r in caplog.records if "Until then" in r.getMessage()]
    assert len(told) == 1 and told[0].startswith("10.107.0.3:80:")


def test_what_other_hosts_can_reach_is_warned_of_once_and_stands_in_the_notes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def warned() -> list[str]:
        lines = [r.getMessage() for r in caplog.records if "other hosts" in r.getMessage()]
        caplog.clear()
        return lines

    house = House()
    house.apply(API, net=NET)
    assert warned() == [] and not house.reconciler.notes
    house.apply(API, ON_LAN, net=LAN)
    (line,) = warned()
    assert "lan.ns:5432 on 192.168.7.1:9080" in line and "api.ns" not in line
    house.apply(API, ON_LAN, net=LAN)
    assert warned() == []
    assert house.reconciler.notes == (
        "other hosts can reach lan.ns:5432 on 192.168.7.1:9080",
    )
    house.apply(API, net=LAN)
    assert warned() == [] and not house.reconciler.notes


def test_without_a_network_port_left_the_rest_fails_with_the_mend() -> None:
    house = House()
    net = NetSettings(listen_interface="eth0", start_port=65534)
    house.machine.refuse_binds = {Address("192.168.7.1", 65534)}
    house.apply("tcp://a.ns:1", "tcp://b.ns:1", net=net)
    assert set(house.forwarder.listeners) == {Address("192.168.7.1", 65535)}
    (reason,) = (e.reason for e in house.reconciler.endpoints if e.state is FAILED)
    assert "no port is left" in reason and "set net.start_port lower" in reason


URLS = ["http://a.ns", "tcp://a.ns:9080", "tcp://a.ns:9081", "tcp://b.ns:9080", "tcp://b.ns:5432"]
PLACES = st.sampled_from(["virtual", "0.0.0.0", "eth0"])
NETS = st.builds(
    NetSettings, listen_interface=PLACES, overrides=st.dictionaries(st.just("b.ns"), PLACES)
)
LISTS = st.lists(st.sampled_from(URLS), unique=True)


@settings(max_examples=150)
@given(st.lists(st.tuples(LISTS, NETS, st.booleans(), st.sets(st.integers(9080, 9084)))))
def test_any_walk_between_the_modes_serves_every_endpoint_that_can_be_served(
    walk: list[tuple[list[str], NetSettings, bool, set[int]]],
) -> None:
    house = House()
    for urls, net, root, taken in walk:
        house.machine.root = root
        house.machine.refuse_binds = {
            Address(ip, port) for ip in ("0.0.0.0", "192.168.7.1") for port in taken
        }
        house.apply(*urls, net=net)
        for status in house.reconciler.endpoints:
            given_before = "was given to" in status.reason
            assert status.state is OPEN or given_before, status
        ports = list(house.memory.remembered.ports.values())
        assert len(set(ports)) == len(ports)
        writes, binds = house.machine.writes, house.machine.binds
        house.apply(*urls, net=net)
        assert (house.machine.writes, house.machine.binds) == (writes, binds)


def test_what_is_learned_between_two_equal_answers_counts() -> None:
    house = House()
    house.apply(API, DB)
    house.machine.reserved = frozenset({"api.ns"})
    house.apply(API, DB)
    assert house.states() == {API: EndpointState.SKIPPED, DB: OPEN}
    house.apply(API, DB, loops=["db.ns"])
    assert house.states() == {API: EndpointState.SKIPPED, DB: EndpointState.SKIPPED}
    house.machine.reserved = frozenset()
    house.apply(API, DB)
    assert house.states() == {API: OPEN, DB: OPEN}
    house.machine.refuse_hosts = True
    house.machine.names = {}
    house.apply(API, DB)
    assert not any(status.published for status in house.reconciler.endpoints)
