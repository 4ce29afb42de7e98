"""A name that stands in the hosts file leads to its own endpoint, or to nothing of ours.

`tests/fakes.py` checks that at each listener, retarget and removal.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ngrokd.config import NetSettings
from ngrokd.host import ipam
from ngrokd.model import EndpointState
from tests.fakes import FakeMachine
from tests.test_reconciler import House

OPEN, FAILED = EndpointState.OPEN, EndpointState.FAILED
E0, E1, E2 = "tcp://e0.ns:7000", "tcp://e1.ns:7000", "tcp://e2.ns:7000"
ONE = "10.107.0.0/30"  # has room for one name


def at_most(house: House) -> dict[str, str]:
    """What a client of each name that stands there reaches: hostnames."""
    there = {at.ip: to.target.hostname for at, to in house.forwarder.listeners.items()}
    return {name: there.get(ip, "") for name, ip in house.machine.names.items()}


def test_while_a_name_cannot_be_withdrawn_its_address_is_nobody_elses() -> None:
    house = House(FakeMachine(ONE))
    house.apply(E0)
    house.machine.refuse_hosts = True
    for _ in range(3):
        house.apply(E1)
        assert house.states() == {E1: FAILED}
        assert at_most(house) == {"e0.ns": ""} and house.machine.present == {"10.107.0.2"}
        (status,) = house.reconciler.endpoints
        assert "still stand in the hosts file" in status.reason
        assert house.memory.remembered.addresses == {"e0.ns": "10.107.0.2"}
    house.machine.refuse_hosts = False
    house.apply(E1)
    assert house.states() == {E1: OPEN} and at_most(house) == {"e1.ns": "e1.ns"}


def test_where_there_is_room_a_name_that_cannot_be_withdrawn_costs_nothing() -> None:
    house = House()
    house.apply(E0)
    house.machine.refuse_hosts = True
    house.apply(E1)
    assert house.states() == {E1: OPEN}
    assert house.machine.present == {"10.107.0.2", "10.107.0.3"}
    house.machine.present.discard("10.107.0.2")  # another program's doing
    house.apply(E1)
    assert house.machine.present == {"10.107.0.2", "10.107.0.3"}
    house.machine.refuse_hosts = False
    house.apply(E1)
    assert house.machine.present == {"10.107.0.3"}


def test_what_another_listens_for_from_now_on_is_withdrawn_before() -> None:
    house = House(FakeMachine(ONE))
    house.apply(E0)
    house.apply(E1)
    assert at_most(house) == {"e1.ns": "e1.ns"} and house.machine.writes == 3


def test_a_name_that_somebody_puts_back_takes_its_address_from_whoever_has_it() -> None:
    house = House(FakeMachine(ONE))
    house.apply(E0)
    house.apply(E1)
    house.machine.names = {"e0.ns": "10.107.0.2"}
    house.machine.refuse_hosts = True
    house.apply(E1)
    assert house.states() == {E1: FAILED} and at_most(house) == {"e0.ns": ""}
    house.machine.refuse_hosts = False
    house.apply(E1)
    assert at_most(house) == {"e1.ns": "e1.ns"}


def test_a_name_of_an_earlier_run_has_its_address_though_the_state_folder_is_lost() -> None:
    house = House()
    house.machine.names = {"e0.ns": "10.107.0.2", "gone.ns": "10.99.0.7"}
    house.machine.refuse_hosts = True
    house.apply(E1)
    assert house.machine.present == {"10.107.0.2", "10.107.0.3"}
    house.apply(E1, E0)
    assert at_most(house) == {"e0.ns": "e0.ns", "gone.ns": ""}
    assert all(each.published == (each.url == E0) for each in house.reconciler.endpoints)


def test_a_network_port_is_not_given_on_while_a_name_leads_there() -> None:
    house = House()
    mine, other = "tcp://a.ns:65535", "tcp://b.ns:65535"
    net = NetSettings(listen_interface="eth0", start_port=65535)
    house.apply(mine, net=net)
    assert house.machine.names == {"a.ns": "192.168.7.1"}
    house.machine.refuse_hosts = True
    house.apply(other, net=net)
    assert house.states() == {other: FAILED} and not house.forwarder.listeners
    house.machine.refuse_hosts = False
    house.apply(other, net=net)
    assert house.machine.names == {"b.ns": "192.168.7.1"}


def test_what_stands_there_is_published_whatever_became_of_the_last_write() -> None:
    house = House()
    house.apply(E0, E1)
    house.machine.refuse_hosts = True
    house.apply(E0, E2)
    told = {each.url: each.published for each in house.reconciler.endpoints}
    assert told == {E0: True, E2: False}


URLS = [*(f"tcp://e{number}.ns:7000" for number in range(6)), "http://e0.ns"]
STEP = st.tuples(
    st.lists(st.sampled_from(URLS), unique=True, max_size=5),
    st.sampled_from(["virtual", "virtual", "virtual", "eth0", "0.0.0.0"]),
    st.sampled_from(["", "", "refuse", "restore", "lose", "both", "forget"]),
)


@settings(max_examples=60)
@given(st.lists(STEP, max_size=12), st.sampled_from([ONE, "10.107.0.0/29"]))
def test_whatever_happens_to_the_file_a_name_leads_to_its_own_endpoint_or_to_nothing(
    steps: list[tuple[list[str], str, str]], subnet: str
) -> None:
    house = House(FakeMachine(subnet))
    snapshot: dict[str, str] = {}
    for urls, place, trouble in steps:
        house.machine.refuse_hosts = trouble in ("refuse", "both")
        if trouble in ("restore", "both"):
            house.machine.names, snapshot = snapshot, house.machine.names
        if trouble == "lose":
            house.machine.present -= {"10.107.0.2"} - {at.ip for at in house.machine.bound}
        if trouble == "forget":
            house.memory.remembered = type(house.memory.remembered)()
            house.reconciler.recall()
        house.apply(*urls, net=NetSettings(listen_interface=place, start_port=7000))
        house.forwarder.assert_no_name_leads_to_anothers()
        ours = ipam.usable(house.machine.names.values(), subnet)
        assert ours <= house.machine.present, "a name leads out of this machine"
    house.machine.refuse_hosts = False
    few = [E0, E1] if subnet != ONE else [E1]
    house.apply(*few)
    assert set(house.states().values()) == {OPEN}
    names = [url[len("tcp://") : -len(":7000")] for url in few]
    assert at_most(house) == dict(zip(names, names))
    assert house.machine.present == set(house.machine.names.values())
