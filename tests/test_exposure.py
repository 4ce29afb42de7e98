"""What other hosts can reach is told, and what they cannot is not."""

from __future__ import annotations

from ngrokd.model import Address, Route, Target
from ngrokd.reconcile.exposure import exposed, note, warning

WEB, DB = Target("web.ns", 80), Target("db.ns", 5432)
ON_ALL, ON_ONE = Address("0.0.0.0", 9080), Address("192.168.7.1", 9081)


def test_only_what_listens_beyond_loopback_and_our_own_addresses_is_exposed() -> None:
    listeners = {
        Address("10.107.0.2", 80): Route(WEB),
        Address("127.0.0.1", 9082): Route(WEB),
        ON_ONE: Route(DB),
    }
    assert exposed(listeners, {"10.107.0.2"}) == {DB: ON_ONE}


def test_the_warning_names_what_is_new_or_elsewhere_and_nothing_else() -> None:
    assert warning({}, {}) == warning({DB: ON_ONE}, {DB: ON_ONE}) == warning({DB: ON_ONE}, {}) == ""
    came = warning({DB: ON_ONE}, {DB: ON_ONE, WEB: ON_ALL})
    assert "can reach web.ns:80 on 0.0.0.0:9080:" in came
    assert "can reach db.ns:5432 on 0.0.0.0:9080:" in warning({DB: ON_ONE}, {DB: ON_ALL})


def test_many_names_are_cut_short() -> None:
    many = {Target(f"e{n}.ns", 80): Address("0.0.0.0", 9080 + n) for n in range(9)}
    assert note(many).endswith("e4.ns:80 on 0.0.0.0:9084 and 4 more")
    assert note({}) == ""
