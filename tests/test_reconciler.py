"""The machine becomes what the last good poll says, whatever fails on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngrokd.config import NetSettings
from ngrokd.model import (
    Address,
    Counters,
    Discovered,
    Endpoint,
    EndpointState,
    Route,
    SkippedEndpoint,
    Target,
)
from ngrokd.reconcile.desired import Remembered
from ngrokd.reconcile.reconciler import Reconciler
from ngrokd.reconcile.serving import Room
from tests.fakes import FakeForwarder, FakeMachine, FakeMemory

NET = NetSettings()
API = "http://api.ns"
DB = "tcp://db.ns:5432"


def endpoint(url: str) -> Endpoint:
    scheme, _, rest = url.partition("://")
    host, _, port = rest.partition(":")
    number = int(port) if port else {"http": 80, "https": 443, "tls": 443}[scheme]
    return Endpoint(Target(host, number), scheme, url, (f"ep_{host}_{number}",))


def discovered(*urls: str) -> Discovered:
    return Discovered(tuple(endpoint(url) for url in urls))


class House:
    """A reconciler on a machine in memory."""

    def __init__(self, machine: Optional[FakeMachine] = None) -> None:
        self.machine = machine or FakeMachine()
        self.forwarder = FakeForwarder(self.machine)
        self.memory = FakeMemory()
        self.reconciler = Reconciler(self.machine, self.forwarder, self.memory)
        self.reconciler.recall()
        self.reconciler.prepare()

    def apply(self, *urls: str, net: NetSettings = NET, loops: Iterable[str] = ()) -> None:
        self.reconciler.apply(discovered(*urls), net, loops)

    def states(self) -> dict[str, EndpointState]:
        return {e.url: e.state for e in self.reconciler.endpoints}


def test_each_hostname_gets_an_address_of_its_own_and_keeps_its_port() -> None:
    house = House()
    house.apply(API, DB, "http://web.ns")
    assert house.forwarder.listeners == {
        Address("10.107.0.2", 80): Route(Target("api.ns", 80)),
        Address("10.107.0.3", 5432): Route(Target("db.ns", 5432)),
        Address("10.107.0.4", 80): Route(Target("web.ns", 80)),
    }
    assert house.machine.names == {
        "api.ns": "10.107.0.2",
        "db.ns": "10.107.0.3",
        "web.ns": "10.107.0.4",
    }


def test_the_same_answer_again_changes_nothing() -> None:
    house = House()
    house.apply(API, DB)
    house.apply(API, DB)
    assert house.machine.writes == 1


def test_two_ports_of_one_host_share_its_address_until_the_last_one_goes() -> None:
    house = House()
    house.apply(API, "https://api.ns")
    assert set(house.forwarder.listeners) == {
        Address("10.107.0.2", 80),
        Address("10.107.0.2", 443),
    }
    house.apply("https://api.ns")
    assert house.machine.names == {"api.ns": "10.107.0.2"}
    house.apply()
    assert house.machine.names == {} and not house.machine.present


def test_an_endpoint_that_comes_back_gets_its_address_back() -> None:
    house = House()
    house.apply(API, DB)
    house.apply(DB)
    house.apply("http://new.ns", DB)
    house.apply("http://new.ns", DB, API)
    assert house.machine.names["api.ns"] == "10.107.0.2"


def test_an_assignment_is_saved_before_it_is_used() -> None:
    house = House()
    house.memory.full = True
    house.apply(API)
    assert house.states() == {API: EndpointState.OPEN}
    assert "addresses may differ after a restart" in house.reconciler.problems[0]


def test_a_restart_gives_the_same_addresses_in_any_order() -> None:
    first = House()
    first.apply(API, DB)
    second = House()
    second.memory.remembered = first.memory.remembered
    second.reconciler.recall()
    second.apply(DB, "http://another.ns", API)
    assert second.machine.names["api.ns"] == first.machine.names["api.ns"]
    assert second.machine.names["db.ns"] == first.machine.names["db.ns"]


def test_what_the_last_run_left_is_planned_away() -> None:
    machine = FakeMachine()
    machine.present = {"10.107.0.77"}
    house = House(machine)
    house.apply(API)
    assert machine.present == {"10.107.0.2"}


def test_a_port_in_use_costs_only_its_own_endpoint_and_is_tried_again() -> None:
    house = House()
    house.machine.refuse_binds = {Address("10.107.0.2", 80)}
    house.apply(API, DB)
    failed = next(e for e in house.reconciler.endpoints if e.url == API)
    assert (failed.state, failed.reason) == (
        EndpointState.FAILED,
        "10.107.0.2:80: in use by pid 1",
    )
    assert house.machine.names == {"db.ns": "10.107.0.3"}
    house.machine.refuse_binds = set()
    house.apply(API, DB)
    assert house.states()[API] is EndpointState.OPEN
    assert "api.ns" in house.machine.names


def test_an_address_that_is_refused_costs_only_its_own_endpoint() -> None:
    house = House()
    house.machine.refuse_addresses = {"10.107.0.2"}
    house.apply(API, DB)
    assert house.states() == {API: EndpointState.FAILED, DB: EndpointState.OPEN}


def test_an_address_taken_away_by_an_administrator_comes_back_at_the_next_poll() -> None:
    house = House()
    house.apply(API)
    house.machine.present.clear()
    house.apply(API)
    assert house.machine.present == {"10.107.0.2"}


def test_an_interface_that_cannot_be_read_is_told_and_what_serves_goes_on() -> None:
    house = House()
    house.apply(API)
    house.machine.unreadable = True
    house.apply(API)
    assert house.states() == {API: EndpointState.OPEN}
    assert house.reconciler.problems == ("`ip addr` cannot be run",)


def test_an_interface_of_somebody_else_in_our_place_costs_the_names_until_it_has_gone() -> None:
    house = House()
    house.apply(API)
    house.machine.taken = True
    house.machine.present.clear()
    house.apply(API)
    assert house.states() == {API: EndpointState.FAILED}
    assert not house.machine.names, "the address may lead anywhere now"
    assert "no longer ours" in house.reconciler.problems[0]
    house.machine.taken = False
    house.apply(API)
    assert house.states() == {API: EndpointState.OPEN}
    assert house.machine.names == {"api.ns": "10.107.0.2"}


def test_a_hosts_file_that_refuses_is_told_and_serving_goes_on() -> None:
    house = House()
    house.machine.refuse_hosts = True
    house.apply(API)
    (status,) = house.reconciler.endpoints
    assert status.state is EndpointState.OPEN and not status.published
    assert house.reconciler.problems == ("/etc/hosts is read-only",)


def test_an_ordinary_user_gets_ports_from_start_port_and_no_name_for_them() -> None:
    house = House()
    house.machine.root = False
    house.apply(API, DB)
    assert house.forwarder.listeners == {
        Address("10.107.0.2", 9080): Route(Target("api.ns", 80), "api.ns"),
        Address("10.107.0.3", 5432): Route(Target("db.ns", 5432)),
    }
    assert house.machine.names == {"db.ns": "10.107.0.3"}
    assert house.memory.remembered.ports == {"api.ns:80": 9080}


def test_a_taken_network_port_is_passed_over() -> None:
    house = House()
    house.machine.refuse_binds = {Address("192.168.7.1", 9080)}
    house.apply(API, net=NetSettings(listen_interface="eth0"))
    assert set(house.forwarder.listeners) == {Address("192.168.7.1", 9081)}


def test_an_endpoint_that_becomes_http_keeps_its_listener_and_gets_its_host() -> None:
    house = House()
    in_network = NetSettings(listen_interface="0.0.0.0")
    at = Address("0.0.0.0", 9080)
    house.apply("tcp://api.ns:80", net=in_network)
    assert house.forwarder.listeners == {at: Route(Target("api.ns", 80), exposed=True)}
    house.apply(API, net=in_network)
    assert house.forwarder.listeners == {at: Route(Target("api.ns", 80), "api.ns", exposed=True)}


def test_an_override_moves_one_hostname_only() -> None:
    house = House()
    house.apply(API, DB, net=NetSettings(overrides={"db.ns": "0.0.0.0"}))
    assert set(house.forwarder.listeners) == {Address("10.107.0.2", 80), Address("0.0.0.0", 9080)}


def test_an_interface_that_is_not_there_fails_what_should_listen_on_it() -> None:
    house = House()
    house.apply(API, DB, net=NetSettings(overrides={"db.ns": "wg0"}))
    failed = next(e for e in house.reconciler.endpoints if e.url == DB)
    assert failed.state is EndpointState.FAILED and "wg0" in failed.reason
    assert house.states()[API] is EndpointState.OPEN


def test_more_endpoints_than_descriptors_fail_with_the_mend_and_fit_later() -> None:
    house = House()
    room = Room(1, "descriptor limit")
    house.reconciler = Reconciler(house.machine, house.forwarder, house.memory, room)
    house.reconciler.prepare()
    house.apply(API, DB)
    assert house.states() == {API: EndpointState.OPEN, DB: EndpointState.FAILED}
    assert house.reconciler.endpoints[1].reason == "descriptor limit"
    house.apply(DB)
    assert house.states() == {DB: EndpointState.OPEN}


def test_of_too_many_those_that_are_open_stay_so_from_poll_to_poll() -> None:
    house = House()
    room = Room(2, "descriptor limit")
    house.reconciler = Reconciler(house.machine, house.forwarder, house.memory, room)
    house.reconciler.prepare()
    urls = [f"tcp://{name}.ns:7000" for name in "mnab"]
    house.apply(*urls[:2])
    for _ in range(3):
        house.apply(*urls)
        states = house.states()
        assert {states[url] for url in urls[:2]} == {EndpointState.OPEN}
        assert {states[url] for url in urls[2:]} == {EndpointState.FAILED}
    house.apply(*urls[1:])
    states = house.states()
    now_open = {url for url, state in states.items() if state is EndpointState.OPEN}
    assert now_open == {"tcp://a.ns:7000", "tcp://n.ns:7000"}


def test_where_there_is_room_for_one_another_takes_its_place_in_one_poll() -> None:
    house = House()
    house.reconciler = Reconciler(house.machine, house.forwarder, house.memory, Room(1))
    house.reconciler.prepare()
    house.apply(API)
    change = house.reconciler.apply(discovered(DB), NET, ())
    assert change.opened == ("db.ns:5432",) and change.failed == ()
    assert set(house.machine.names) == {"db.ns"}


def test_assignments_that_somebody_removed_are_written_again() -> None:
    house = House()
    house.apply(API)
    kept = house.memory.remembered
    house.memory.remembered, house.memory.gone = Remembered(), True
    house.apply(API)
    assert house.memory.remembered == kept


def test_a_name_that_must_not_be_taken_is_skipped_with_its_reason() -> None:
    house = House()
    house.machine.reserved = frozenset({"api.ns"})
    house.apply(API, DB, loops=["db.ns"])
    assert house.states() == {API: EndpointState.SKIPPED, DB: EndpointState.SKIPPED}
    assert all(e.reason for e in house.reconciler.endpoints)
    assert not house.machine.names


def test_what_discovery_skipped_is_listed() -> None:
    house = House()
    skipped = SkippedEndpoint("ep_1", "http://*.ns", "a wildcard")
    house.reconciler.apply(Discovered((), (skipped,)), NET, ())
    (status,) = house.reconciler.endpoints
    assert (status.state, status.reason) == (EndpointState.SKIPPED, "a wildcard")


def test_an_address_stays_while_connections_to_it_run() -> None:
    house = House()
    house.apply(API, DB)
    house.forwarder.counted = {Target("api.ns", 80): Counters(open=1, total=1)}
    house.apply(DB)
    assert house.machine.present == {"10.107.0.2", "10.107.0.3"}
    assert house.machine.names == {"db.ns": "10.107.0.3"}
    house.forwarder.counted = {Target("api.ns", 80): Counters(open=0, total=1)}
    house.apply(DB)
    assert house.machine.present == {"10.107.0.3"}


def test_another_subnet_moves_every_listener() -> None:
    house = House()
    house.apply(API)
    house.machine.subnet = "10.99.0.0/24"
    house.reconciler.prepare()
    house.apply(API)
    assert set(house.forwarder.listeners) == {Address("10.99.0.2", 80)}
    assert house.machine.names == {"api.ns": "10.99.0.2"}


def test_stopping_takes_names_and_listeners_and_leaves_addresses_to_what_drains() -> None:
    house = House()
    house.apply(API, DB)
    house.reconciler.stop_accepting()
    assert not house.forwarder.listeners and not house.machine.names
    assert house.machine.present


POOL = ["http://a.ns", "https://a.ns", "http://b.ns", "tcp://b.ns:5432", "http://c.ns"]


@settings(max_examples=60)
@given(st.data())
def test_a_walk_with_failures_ends_where_it_should(data: st.DataObject) -> None:
    house = House()
    for _ in range(data.draw(st.integers(1, 8))):
        urls = data.draw(st.lists(st.sampled_from(POOL), unique=True))
        ips = [f"10.107.0.{n}" for n in range(2, 6)]
        house.machine.refuse_addresses = set(data.draw(st.lists(st.sampled_from(ips))))
        house.machine.refuse_binds = {
            Address(ip, port)
            for ip in data.draw(st.lists(st.sampled_from(ips)))
            for port in data.draw(st.lists(st.sampled_from([80, 443, 5432])))
        }
        house.machine.refuse_hosts = data.draw(st.booleans())
        house.apply(*urls)
        assert len(house.reconciler.endpoints) == len(urls)
    house.machine.refuse_addresses, house.machine.refuse_binds = set(), set()
    house.machine.refuse_hosts = False
    urls = data.draw(st.lists(st.sampled_from(POOL), unique=True))
    house.apply(*urls)
    assert all(state is EndpointState.OPEN for state in house.states().values())
    assert len(house.forwarder.listeners) == len(urls)
    hosts = {endpoint(url).target.hostname for url in urls}
    assert set(house.machine.names) == hosts and len(house.machine.present) == len(hosts)
    writes = house.machine.writes
    house.apply(*urls)
    assert house.machine.writes == writes


def test_remembered_addresses_of_another_run_do_not_bind_anything() -> None:
    house = House()
    house.memory.remembered = Remembered({"old.ns": "10.107.0.9"}, {})
    house.reconciler.recall()
    house.apply(API)
    assert house.machine.present == {"10.107.0.2"}


def test_what_cannot_be_served_is_told_once_until_it_goes_or_its_reason_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    house = House()

    def told(*skipped: SkippedEndpoint) -> list[str]:
        caplog.clear()
        house.reconciler.apply(Discovered(skipped=skipped), NET, ())
        return [record.getMessage() for record in caplog.records]

    bad = SkippedEndpoint("ep_1", "tcp://a.ns", "no port")
    member = SkippedEndpoint("ep_2", "tcp://a.ns", "no port")
    line = "endpoint tcp://a.ns skipped: no port"
    assert told(bad) == [line]
    assert told(bad) == told(bad, member) == told(member) == []
    other = dataclasses.replace(bad, reason="no host")
    assert told(other) == ["endpoint tcp://a.ns skipped: no host"]
    assert told(bad) == [line]
    assert told() == []
    assert told(bad) == [line]
