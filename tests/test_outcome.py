"""What became of each endpoint, and which lines that is worth."""

from __future__ import annotations

from ngrokd.model import Address, EndpointState, EndpointStatus, Target
from ngrokd.reconcile.outcome import Change, changes, lines

OPEN = EndpointStatus(
    id="ep_1",
    url="http://api.ns",
    state=EndpointState.OPEN,
    target=Target("api.ns", 80),
    ip="10.107.0.2",
    listener=Address("10.107.0.2", 80),
    published=True,
)
FAILED = OPEN._replace(state=EndpointState.FAILED, reason="in use", listener=None)
SKIPPED = EndpointStatus("ep_2", "http://*.ns", EndpointState.SKIPPED, "a wildcard")


def test_an_endpoint_that_opens_is_one_line() -> None:
    assert lines((), (OPEN,)) == [(False, "endpoint api.ns:80 open at 10.107.0.2")]
    assert changes((), (OPEN,)) == Change(opened=("api.ns:80",))


def test_an_unchanged_endpoint_is_silent() -> None:
    assert lines((OPEN, FAILED, SKIPPED), (OPEN, FAILED, SKIPPED)) == []
    assert changes((OPEN,), (OPEN,)) == Change()


def test_another_port_is_named_with_the_address() -> None:
    moved = OPEN._replace(listener=Address("10.107.0.2", 9080))
    assert lines((), (moved,)) == [(False, "endpoint api.ns:80 open at 10.107.0.2:9080")]


def test_a_failure_needs_attention_and_says_why() -> None:
    assert lines((), (FAILED,)) == [(True, "endpoint api.ns:80 failed: in use")]
    assert changes((OPEN,), (FAILED,)) == Change(closed=("api.ns:80",), failed=("api.ns:80",))


def test_a_skipped_endpoint_is_named_by_its_url() -> None:
    assert lines((), (SKIPPED,)) == [(True, "endpoint http://*.ns skipped: a wildcard")]


def test_what_has_neither_url_nor_id_is_still_called_something() -> None:
    unnamed = EndpointStatus("", "", EndpointState.SKIPPED, "the API listed a number in its place")
    assert lines((), (unnamed,)) == [
        (True, "endpoint without a URL skipped: the API listed a number in its place")
    ]


def test_an_endpoint_that_is_gone_is_closed() -> None:
    assert lines((OPEN,), ()) == [(False, "endpoint api.ns:80 closed")]
    assert changes((OPEN,), ()) == Change(closed=("api.ns:80",))
    assert lines((FAILED,), ()) == []


def test_a_pool_member_that_changes_is_no_news() -> None:
    assert lines((OPEN,), (OPEN._replace(id="ep_9"),)) == []


def endpoints(status: EndpointStatus, count: int) -> tuple[EndpointStatus, ...]:
    return tuple(
        status._replace(id=f"ep_{n}", url=f"tcp://{n}.ns:80", target=Target(f"{n}.ns", 80))
        for n in range(count)
    )


def test_many_that_are_alike_share_one_line() -> None:
    (line,) = lines((), endpoints(FAILED, 1830))
    assert line == (
        True,
        "1830 endpoints failed: in use (0.ns:80, 1.ns:80, 2.ns:80, 3.ns:80, 4.ns:80 and 1825 more; "
        "`ngrokctl list` shows all that are there)",
    )
    ((attention, text),) = lines((), endpoints(OPEN, 21))
    assert not attention and text.startswith("21 endpoints open: 0.ns:80, 1.ns:80, ")
    ((attention, text),) = lines(endpoints(OPEN, 21), ())
    assert not attention and text.startswith("21 endpoints closed: 0.ns:80, 1.ns:80, ")


def test_a_few_and_those_with_another_reason_have_a_line_each() -> None:
    assert len(lines((), endpoints(OPEN, 20))) == 20
    many, one = endpoints(FAILED, 30), FAILED._replace(reason="no address")
    told = [text for _, text in lines((), (one, *many))]
    assert told[0] == "endpoint api.ns:80 failed: no address"
    assert len(told) == 2 and told[1].startswith("30 endpoints failed: in use (0.ns:80, ")
