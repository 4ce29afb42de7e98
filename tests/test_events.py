"""What is told of a change between two published states, in JSON and in words."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.control import eventpages, events
from ngrokd.control.protocol import encode_event, parse_event
from ngrokd.errors import ProtocolError
from ngrokd.model import Address, EndpointState, EndpointStatus, State, Status, Target

DOCS = Path(__file__).parent.parent / "docs" / "events.md"

OPEN = EndpointStatus(
    id="ep_1",
    url="tcp://db.ns:5432",
    state=EndpointState.OPEN,
    target=Target("db.ns", 5432),
    ip="10.107.0.2",
    listener=Address("10.107.0.2", 5432),
)
FAILED = OPEN._replace(
    state=EndpointState.FAILED, listener=None, reason="address already in use"
)
SKIPPED = EndpointStatus(
    id="ep_2", url="tls://*.ns", state=EndpointState.SKIPPED, reason="a wildcard is no name"
)
NAMED = {"id": "ep_1", "url": "tcp://db.ns:5432", "hostname": "db.ns", "port": 5432}


def _with(**changed: Any) -> Status:
    return dataclasses.replace(Status(), **changed)


# The schema: `ngrokctl events --json` and docs/events.md promise each of these members.
EXAMPLES: list[tuple[str, Status, Status, dict[str, object], str]] = [
    (
        "an endpoint that came",
        _with(),
        _with(endpoints=(OPEN,)),
        {"event": "endpoint_open", **NAMED, "listen_address": "10.107.0.2:5432"},
        "tcp://db.ns:5432 open at 10.107.0.2:5432",
    ),
    (
        "an endpoint that moved",
        _with(endpoints=(OPEN._replace(listener=Address("10.107.0.9", 5432)),)),
        _with(endpoints=(OPEN,)),
        {"event": "endpoint_open", **NAMED, "listen_address": "10.107.0.2:5432"},
        "tcp://db.ns:5432 open at 10.107.0.2:5432",
    ),
    (
        "an endpoint that failed",
        _with(endpoints=(OPEN,)),
        _with(endpoints=(FAILED,), problems=("endpoints failed: 1; `ngrokctl list` says why",)),
        {"event": "endpoint_failed", **NAMED, "reason": "address already in use"},
        "tcp://db.ns:5432 failed: address already in use",
    ),
    (
        "an endpoint that is skipped",
        _with(),
        _with(endpoints=(SKIPPED,)),
        {
            "event": "endpoint_skipped",
            "id": "ep_2",
            "url": "tls://*.ns",
            "hostname": "",
            "port": 0,
            "reason": "a wildcard is no name",
        },
        "tls://*.ns skipped: a wildcard is no name",
    ),
    (
        "an endpoint that went",
        _with(endpoints=(OPEN,)),
        _with(),
        {"event": "endpoint_closed", **NAMED, "was": "open"},
        "tcp://db.ns:5432 closed",
    ),
    (
        "a failed endpoint that went",
        _with(endpoints=(FAILED,)),
        _with(),
        {"event": "endpoint_closed", **NAMED, "was": "failed"},
        "tcp://db.ns:5432 is gone (it was failed)",
    ),
    (
        "another state",
        _with(),
        _with(state=State.DEGRADED),
        {"event": "state", "state": "degraded", "was": "registering"},
        "ngrokd is ready, with problems",
    ),
    (
        "a registration",
        _with(),
        _with(operator_id="k8sop_1", certificate_not_after=0.0),
        {"event": "registered", "operator_id": "k8sop_1"},
        "registered as operator k8sop_1",
    ),
    (
        "an operator that is gone",
        _with(operator_id="k8sop_1", certificate_not_after=0.0),
        _with(),
        {"event": "deregistered", "operator_id": "k8sop_1"},
        "operator k8sop_1 is gone",
    ),
    (
        "a new certificate",
        _with(certificate_not_after=0.0),
        _with(certificate_not_after=86400.0),
        {"event": "certificate_renewed", "not_after": "1970-01-02T00:00:00Z"},
        "a new certificate is in use, valid until 1970-01-02T00:00:00Z",
    ),
    (
        "a new certificate that ends in the same second",
        _with(certificate_not_after=86400.0),
        _with(certificate_not_after=86400.0, certificates_installed=1),
        {"event": "certificate_renewed", "not_after": "1970-01-02T00:00:00Z"},
        "a new certificate is in use, valid until 1970-01-02T00:00:00Z",
    ),
    (
        "a poll that failed",
        _with(),
        _with(poll_problem="poll failed: no route", problems=("poll failed: no route",)),
        {"event": "poll_failed", "text": "poll failed: no route"},
        "poll failed: no route",
    ),
    (
        "a poll that works again",
        _with(poll_problem="poll failed: no route", problems=("poll failed: no route",)),
        _with(),
        {"event": "poll_ok"},
        "poll works again",
    ),
    (
        "a problem that came",
        _with(),
        _with(problems=("hosts file /etc/hosts: read-only",)),
        {"event": "problem", "text": "hosts file /etc/hosts: read-only"},
        "problem: hosts file /etc/hosts: read-only",
    ),
    (
        "a problem that went",
        _with(problems=("interface ngrokd0 is down",)),
        _with(),
        {"event": "problem_gone", "text": "interface ngrokd0 is down"},
        "no problem any more: interface ngrokd0 is down",
    ),
]
IDS = [name for name, *_ in EXAMPLES]
CASES = [example[1:] for example in EXAMPLES]

BEGAN = events.began(
    _with(state=State.READY, endpoints=(OPEN, SKIPPED), problems=("interface ngrokd0 is down",)),
    "1.2.3",
    42,
)


@pytest.mark.parametrize(("before", "now", "event", "words"), CASES, ids=IDS)
def test_a_change_is_one_event_with_these_members(
    before: Status, now: Status, event: dict[str, object], words: str
) -> None:
    assert events.changes(before, now) == [event]
    assert eventpages.lines(event) == [words]


def test_nothing_new_is_no_event() -> None:
    status = _with(endpoints=(OPEN, SKIPPED), problems=("p",), poll_problem="x")
    assert events.changes(status, dataclasses.replace(status, endpoints=(OPEN, SKIPPED))) == []


def test_what_a_client_is_told_first() -> None:
    assert BEGAN == {
        "event": "began",
        "version": "1.2.3",
        "pid": 42,
        "state": "ready",
        "endpoints": {"open": 1, "failed": 0, "skipped": 1},
        "problems": ["interface ngrokd0 is down"],
    }
    assert eventpages.lines(BEGAN) == [
        "ngrokd 1.2.3 is ready; endpoints: 1 open, 1 skipped",
        "problem: interface ngrokd0 is down",
    ]
    assert eventpages.lines(events.began(Status(), "1.2.3", 42)) == [
        "ngrokd 1.2.3 is registering with ngrok; no endpoints"
    ]


def test_a_loss_and_the_end_are_told_in_words() -> None:
    assert eventpages.lines(events.lost(1)) == ["1 event lost: not read fast enough"]
    assert eventpages.lines({"event": events.STOPPED}) == ["ngrokd has stopped"]


def test_a_changed_problem_is_the_end_of_one_and_another() -> None:
    before, now = _with(problems=("a", "b")), _with(problems=("b", "c"))
    assert events.changes(before, now) == [
        {"event": "problem_gone", "text": "a"},
        {"event": "problem", "text": "c"},
    ]


def test_a_poll_that_fails_for_another_reason_is_told_again_and_for_the_same_is_not() -> None:
    first, second = _with(poll_problem="poll failed: a"), _with(poll_problem="poll failed: b")
    assert [event["event"] for event in events.changes(first, second)] == ["poll_failed"]
    assert events.changes(first, dataclasses.replace(first, api_last_error="x")) == []


def test_causes_come_before_what_follows_from_them() -> None:
    now = _with(
        state=State.DEGRADED,
        operator_id="k8sop_1",
        certificate_not_after=0.0,
        endpoints=(OPEN,),
        problems=("p",),
    )
    told = [event["event"] for event in events.changes(_with(), now)]
    assert told == ["registered", "endpoint_open", "problem", "state"]


_listed = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(EndpointState)), unique_by=lambda listed: listed[0]
)


@given(_listed, _listed)
def test_whoever_follows_knows_every_endpoint_that_there_is(
    before: list[tuple[int, EndpointState]], now: list[tuple[int, EndpointState]]
) -> None:
    old, new = (
        tuple(
            OPEN._replace(url=str(number), state=state, listener=None)
            for number, state in listed
        )
        for listed in (before, now)
    )
    known = {endpoint.url: endpoint.state.value for endpoint in old}
    for event in events.changes(_with(endpoints=old), _with(endpoints=new)):
        word = str(event["event"])
        assert word.startswith("endpoint_")
        if word == "endpoint_closed":
            assert known.pop(str(event["url"])) == event["was"]
        else:
            known[str(event["url"])] = word[len("endpoint_") :]
    assert known == {endpoint.url: endpoint.state.value for endpoint in new}


def test_a_newer_daemons_event_is_shown_too_and_reaches_no_terminal_raw() -> None:
    event = {"event": "moon\x1b[31m", "seq": 1, "time": "", "phase": "full"}
    assert eventpages.lines(event) == ['moon\\x1b[31m {"phase": "full"}']
    assert eventpages.lines({"event": "moon", "seq": 1, "time": ""}) == ["moon"]
    for known in [*[case[2] for case in CASES], BEGAN, events.lost(1)]:
        hostile = dict.fromkeys(known, "\x1b\n")
        for line in eventpages.lines({**hostile, "event": known["event"]}):
            assert line.isprintable()


@given(st.dictionaries(st.text(), st.none() | st.text() | st.integers() | st.booleans()))
def test_an_event_is_one_line_and_reads_back(members: dict[str, object]) -> None:
    event = {**members, "event": "state"}
    line = encode_event(event)
    assert line.count(b"\n") == 1
    assert parse_event(line) == event


@given(st.binary())
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_event(b"x" + line)


@pytest.mark.parametrize("line", [b"{}", b"[]", b"null", b'{"event":1}', b"[" * 99_999, b"\xff"])
def test_json_that_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_event(line)


# docs/events.md


def _documented() -> dict[str, set[str]]:
    """Event by event, the members that the table names."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \|([^|]*)\|$", DOCS.read_text(), re.MULTILINE)
    return {event: set(re.findall(r"`(\w+)`", members)) for event, members in rows}


def test_the_page_names_every_event_with_all_of_its_members() -> None:
    samples: list[dict[str, object]] = [case[2] for case in CASES]
    samples += [BEGAN, events.lost(1), {"event": events.STOPPED}]
    told = {str(event["event"]): set(event) - {"event"} for event in samples}
    assert _documented() == told


def test_every_event_that_the_page_shows_is_one() -> None:
    shown = re.findall(r"^\{.*\}$", DOCS.read_text(), re.MULTILINE)
    assert len(shown) > 2
    documented = _documented()
    for line in shown:
        event = json.loads(line)
        assert set(event) == {"event", "seq", "time", *documented[event["event"]]}
