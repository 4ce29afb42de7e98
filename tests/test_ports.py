"""Network ports stay with their endpoints."""

from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from ngrokd.host.ports import MAX_PORT, assign_ports
from ngrokd.model import Target

WEB = Target("web.ns", 80)
API = Target("api.ns", 80)
API_TLS = Target("api.ns", 443)


def test_ports_start_at_the_start_port_one_for_each_hostname_and_port() -> None:
    assignment = assign_ports([WEB, API, API_TLS], {}, 9080)
    assert assignment.ports == {API_TLS: 9080, API: 9081, WEB: 9082}
    assert assignment.remembered == {"api.ns:443": 9080, "api.ns:80": 9081, "web.ns:80": 9082}


def test_an_endpoint_that_was_away_gets_its_port_back() -> None:
    remembered = assign_ports([API, WEB], {}, 9080).remembered
    remembered = assign_ports([WEB, API_TLS], remembered, 9080).remembered
    assert assign_ports([API, WEB, API_TLS], remembered, 9080).ports == {
        API: 9080,
        WEB: 9081,
        API_TLS: 9082,
    }


def test_a_port_another_program_holds_is_passed_over_for_the_next_free_one() -> None:
    assert assign_ports([WEB], {}, 9080, taken=[9080, 9081]).ports == {WEB: 9082}
    assert assign_ports([WEB], {"web.ns:80": 9080}, 9080, taken=[9080]).ports == {WEB: 9081}


def test_a_port_to_be_avoided_is_given_to_nobody_new_and_taken_from_nobody() -> None:
    assert assign_ports([WEB], {}, 9080, avoided=[9080]).ports == {WEB: 9081}
    remembered = {"web.ns:80": 9080}
    assert assign_ports([WEB, API], remembered, 9080, avoided=[9080, 9081]).ports == {
        WEB: 9080,
        API: 9082,
    }


def test_a_higher_start_port_moves_the_endpoints_below_it() -> None:
    assert assign_ports([WEB], {"web.ns:80": 9080}, 10000).ports == {WEB: 10000}


def test_no_port_goes_past_the_last_and_the_rest_fails_with_the_mend() -> None:
    assignment = assign_ports([API, WEB], {}, MAX_PORT)
    assert assignment.ports == {API: MAX_PORT}
    assert "net.start_port" in assignment.failed[WEB]


def test_freed_ports_are_given_again_last_and_longest_gone_first() -> None:
    start = MAX_PORT - 2
    remembered = assign_ports([API, WEB], {}, start).remembered
    remembered = assign_ports([API], remembered, start).remembered
    remembered = assign_ports([], remembered, start).remembered
    new = [Target("n1", 1), Target("n2", 1)]
    assignment = assign_ports(new, remembered, start)
    assert assignment.ports == {new[0]: MAX_PORT, new[1]: start + 1}  # web.ns went first


def test_values_that_are_no_ports_count_as_unknown() -> None:
    damaged = cast("dict[str, int]", {"web.ns:80": True, "api.ns:80": "9080"})
    assert assign_ports([WEB, API], damaged, 9080).ports == {API: 9080, WEB: 9081}
    assert assign_ports([WEB], {"web.ns:80": 70000}, 9080).ports == {WEB: 9080}


@given(
    st.lists(st.tuples(st.sets(st.integers(1, 6)), st.sets(st.integers(MAX_PORT - 5, MAX_PORT))))
)
def test_any_walk_gives_each_endpoint_a_port_nobody_else_has(
    walk: list[tuple[set[int], set[int]]],
) -> None:
    remembered: dict[str, int] = {}
    for numbers, taken in walk:
        targets = [Target("svc.ns", number) for number in numbers]
        result = assign_ports(targets, remembered, MAX_PORT - 5, taken)
        ports = list(result.ports.values())
        assert set(result.ports) | set(result.failed) == set(targets)
        assert len(set(ports)) == len(ports)
        assert taken.isdisjoint(ports)
        assert all(MAX_PORT - 5 <= port <= MAX_PORT for port in ports)
        assert not result.failed or len(ports) == 6 - len(taken)
        kept = [t for t in result.ports if remembered.get(str(t)) not in (None, *taken)]
        assert all(result.ports[target] == remembered[str(target)] for target in kept)
        remembered = dict(result.remembered)
