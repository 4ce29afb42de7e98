"""What is done, in which order, to get from what is there to what should be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ngrokd.model import Address, Route, Target
from ngrokd.reconcile.plan import Plan, contested_ports, plan, published_names, usurped

API = Route(Target("api.ns", 80))
DB = Route(Target("db.ns", 5432))
AT_API = Address("10.107.0.2", 80)
AT_DB = Address("10.107.0.3", 5432)

addresses = st.builds(
    Address, st.sampled_from(["10.0.0.2", "10.0.0.3", "10.0.0.4"]), st.sampled_from([80, 443, 5432])
)
targets = st.builds(
    Target, st.sampled_from(["a.ns", "b.ns", "c.ns"]), st.sampled_from([80, 443, 5432])
)
routes = st.builds(Route, targets, st.sampled_from(["", "a.ns", "a.ns:81"]))
listeners = st.dictionaries(addresses, routes, max_size=6)


def ips(wanted: dict[Address, Route]) -> set[str]:
    return {at.ip for at in wanted}


def test_nothing_is_done_where_everything_is_as_wanted() -> None:
    wanted = {AT_API: API, AT_DB: DB}
    assert plan(wanted, ips(wanted), wanted, ips(wanted)) == Plan()


def test_from_nothing_addresses_come_before_listeners() -> None:
    wanted = {AT_API: API}
    assert plan(wanted, {AT_API.ip}, {}, ()) == Plan(add_addresses=(AT_API.ip,), open=wanted)


def test_to_nothing_everything_goes() -> None:
    actual = {AT_API: API}
    assert plan({}, (), actual, {AT_API.ip}) == Plan(
        close=(AT_API,), remove_addresses=(AT_API.ip,)
    )


def test_another_endpoint_behind_the_same_listener_is_a_retarget() -> None:
    assert plan({AT_API: DB}, {AT_API.ip}, {AT_API: API}, {AT_API.ip}) == Plan(
        retarget={AT_API: DB}
    )


def test_another_host_for_the_requests_to_the_same_endpoint_is_a_retarget() -> None:
    named = {AT_API: Route(API.target, "api.ns")}
    assert plan(named, {AT_API.ip}, {AT_API: API}, {AT_API.ip}) == Plan(retarget=named)


def test_an_address_whose_listener_failed_is_removed_all_the_same() -> None:
    assert plan({}, (), {}, {"10.107.0.9"}).remove_addresses == ("10.107.0.9",)


@given(listeners, listeners)
def test_carrying_a_plan_out_gets_there(
    wanted: dict[Address, Route], actual: dict[Address, Route]
) -> None:
    steps = plan(wanted, ips(wanted), actual, ips(actual))
    after = {at: to for at, to in actual.items() if at not in steps.close}
    after.update(steps.open)
    after.update(steps.retarget)
    present = (ips(actual) | set(steps.add_addresses)) - set(steps.remove_addresses)
    assert after == wanted
    assert present == ips(wanted)
    assert plan(wanted, ips(wanted), after, present) == Plan()


def test_a_name_is_published_where_it_answers_on_its_own_port() -> None:
    moved = {Address("10.107.0.3", 9080): Route(Target("web.ns", 80), "web.ns")}
    own = {AT_API.ip, "10.107.0.3"}
    assert published_names({AT_API: API, **moved}, own) == {"api.ns": AT_API.ip}


def test_two_ports_of_a_host_are_one_name() -> None:
    both = {AT_API: API, Address(AT_API.ip, 443): Route(Target("api.ns", 443))}
    assert published_names(both, {AT_API.ip}) == {"api.ns": AT_API.ip}


def test_a_listener_on_every_interface_is_reached_on_loopback() -> None:
    assert published_names({Address("0.0.0.0", 80): API}, ()) == {"api.ns": "127.0.0.1"}


def test_on_a_shared_address_a_name_is_published_only_if_all_its_ports_are_its_own() -> None:
    own = {Address("0.0.0.0", 9080): Route(Target("db.ns", 9080))}
    moved = {Address("0.0.0.0", 9081): Route(Target("db.ns", 5432))}
    assert published_names(own, ()) == {"db.ns": "127.0.0.1"}
    # There db.ns:5432 would be whatever database this machine has itself.
    assert published_names({**own, **moved}, ()) == {}
    on_its_own = {Address("10.107.0.2", 9081): Route(Target("db.ns", 5432))}
    assert published_names({AT_API: API, **on_its_own}, {AT_API.ip}) == {"api.ns": AT_API.ip}


def test_a_port_of_every_address_gives_way_to_the_same_port_of_one_and_back() -> None:
    everywhere, here = Address("0.0.0.0", 9080), Address("192.168.7.1", 9080)
    other = Address("0.0.0.0", 9081)
    assert plan({here: DB}, (), {everywhere: DB, other: API}, ()).give_way == (everywhere,)
    assert plan({everywhere: DB}, (), {here: DB, other: API}, ()).give_way == (here,)
    assert plan({here: DB}, (), {Address("192.168.7.2", 9080): DB}, ()).give_way == ()


STANDING = frozenset({("api.ns", AT_API.ip)})


def test_a_name_is_usurped_where_another_would_listen_on_its_address_whichever_the_port() -> None:
    for at in (AT_API, Address(AT_API.ip, 5432)):
        assert usurped({at: DB}, {}, STANDING, {AT_API.ip}) == STANDING
        assert usurped({at: API}, {}, STANDING, {AT_API.ip}) == frozenset()
    assert usurped({AT_DB: DB}, {AT_API: API}, STANDING, {AT_API.ip, AT_DB.ip}) == frozenset()


def test_on_a_shared_address_a_name_is_usurped_only_at_its_own_port() -> None:
    other = {Address(AT_API.ip, 5432): DB}
    assert usurped(other, {AT_API: API}, STANDING, ()) == frozenset()
    assert contested_ports(other, {AT_API: API}, STANDING) == frozenset()
    for at in (AT_API, Address("0.0.0.0", AT_API.port)):
        assert usurped({at: DB}, {AT_API: API}, STANDING, ()) == STANDING
        assert contested_ports({at: DB}, {AT_API: API}, STANDING) == {AT_API.port}
    assert usurped({AT_API: DB}, {AT_API: API}, (), ()) == frozenset()


def test_who_had_an_address_of_ours_gives_way_to_who_gets_it_with_all_its_ports() -> None:
    more = Address(AT_API.ip, 443)
    actual = {AT_API: API, more: Route(Target("api.ns", 443))}
    steps = plan({AT_API: DB}, {AT_API.ip}, actual, {AT_API.ip})
    assert (steps.give_way, steps.retarget) == ((more,), {AT_API: DB})
    assert plan({AT_API: API}, {AT_API.ip}, actual, {AT_API.ip}).give_way == ()
    assert plan({AT_API: DB}, (), actual, ()).give_way == ()  # of a network: shared
