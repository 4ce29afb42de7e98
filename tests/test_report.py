"""The JSON that scripts rely on."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from typing import Optional

import pytest

from ngrokd.control.report import (
    Traffic,
    Verdict,
    endpoints_json,
    health_json,
    hosts_lines_json,
    iso,
    status_json,
    verdict,
)
from ngrokd.model import (
    Address,
    Cause,
    Counters,
    EndpointState,
    EndpointStatus,
    HostsSection,
    HostsStatus,
    InterfaceMode,
    InterfaceStatus,
    State,
    Status,
    Target,
    WarmStatus,
)

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z
WEB = Target("web.ns", 80)
CACHE = Target("cache.ns", 6379)

OPEN = EndpointStatus(
    id="ep_1",
    url="http://web.ns",
    state=EndpointState.OPEN,
    target=WEB,
    ip="10.107.0.2",
    listener=Address("10.107.0.2", 80),
    published=True,
)
IN_NETWORK = EndpointStatus(
    id="ep_2",
    url="tcp://cache.ns:6379",
    state=EndpointState.OPEN,
    target=CACHE,
    ip="10.107.0.3",
    listener=Address("0.0.0.0", 9080),
    listen_interface="0.0.0.0",
)
FAILED = EndpointStatus(
    id="ep_3",
    url="https://busy.ns",
    state=EndpointState.FAILED,
    reason="10.107.0.4:443: address already in use",
    target=Target("busy.ns", 443),
    ip="10.107.0.4",
)
SKIPPED = EndpointStatus(
    id="ep_4", url="tls://*.ns", state=EndpointState.SKIPPED, reason="a wildcard"
)
STATUS = Status(
    config="/etc/ngrokd/config.yml",
    state=State.DEGRADED,
    operator_id="k8sop_1",
    registration="registered",
    ingress_endpoint="ingress.example:443",
    problems=("busy.ns:443 cannot be opened",),
    notes=("other hosts can reach web.ns:80 on 0.0.0.0:9080",),
    certificate_not_after=NOW + 36 * 3600,
    api_last_success=NOW - 12,
    api_last_error="503 from the API",
    next_poll=NOW + 18.04,
    interface=InterfaceStatus("ngrokd0", "10.107.0.0/16", InterfaceMode.DUMMY, ("a note",)),
    endpoints=(OPEN, IN_NETWORK, FAILED, SKIPPED),
    hosts=HostsStatus("/etc/hosts", HostsSection("m", {"a.ns": "10.0.0.1", "b.ns": "10.0.0.2"})),
    started_at=NOW - 93_784.5,
)
COUNTERS = {
    WEB: Counters(
        2,
        17,
        1,
        100,
        2000,
        NOW - 3,
        "refused",
        Cause.CONNECT_REFUSED,
        NOW - 5,
        ((Cause.CONNECT_REFUSED, 1),),
    ),
    Target("gone.ns", 1): Counters(
        1,
        3,
        3,
        10,
        20,
        last_error="reset",
        last_cause=Cause.RESET_WHILE_OPEN,
        last_error_at=NOW - 60,
        failures=((Cause.CONNECT_REFUSED, 1), (Cause.RESET_WHILE_OPEN, 2)),
    ),
    CACHE: Counters(1),
}
WARM = WarmStatus("auto", ready=3, wanted=4, used=120, missed=4, max_age_s=44.96, problem="refused")


def test_status_has_every_key_of_the_interface() -> None:
    assert status_json(STATUS, Traffic(COUNTERS, WARM), "0.1.0", 42, NOW) == {
        "registered": True,
        "registration": "registered",
        "operator_id": "k8sop_1",
        "endpoint_count": 2,
        "ingress_endpoint": "ingress.example:443",
        "version": "0.1.0",
        "pid": 42,
        "uptime_s": 93784,
        "config": "/etc/ngrokd/config.yml",
        "state": "degraded",
        "problems": ["busy.ns:443 cannot be opened"],
        "notes": ["other hosts can reach web.ns:80 on 0.0.0.0:9080"],
        "endpoints": {"open": 2, "failed": 1, "skipped": 1},
        "certificate": {"not_after": "2023-11-16T10:13:20Z", "days_left": 1.5},
        "api": {
            "last_success": "2023-11-14T22:13:08Z",
            "last_error": "503 from the API",
            "next_poll_s": 18.0,
        },
        "interface": {
            "name": "ngrokd0",
            "subnet": "10.107.0.0/16",
            "mode": "dummy",
            "notes": ["a note"],
        },
        "hosts": {
            "path": "/etc/hosts",
            "published": True,
            "names": 2,
            "missing": 2,
            "stale": 0,
            "replace": False,
            "problem": None,
            "lines": [],
            "more_lines": 0,
        },
        "connections": {
            "open": 4,
            "total": 20,
            "failed": 4,
            "failures": {"connect_refused": 2, "reset_while_open": 2},
            "last_error": {
                "at": "2023-11-14T22:13:15Z",
                "hostname": "web.ns",
                "port": 80,
                "cause": "connect_refused",
                "text": "refused",
            },
        },
        "bytes": {"up": 110, "down": 2020},
        "warm_connections": {
            "setting": "auto",
            "ready": 3,
            "wanted": 4,
            "used": 120,
            "missed": 4,
            "max_age_s": 45.0,
            "problem": "refused",
        },
    }


@pytest.mark.parametrize(("names", "shown", "more"), [(1, 3, 0), (18, 20, 0), (19, 20, 1)])
def test_lines_that_somebody_has_to_add_are_told_up_to_a_number(
    names: int, shown: int, more: int
) -> None:
    section = HostsSection("marker", {f"n{i}.ns": f"10.107.0.{i + 2}" for i in range(names)})
    status = replace(STATUS, hosts=HostsStatus("/etc/hosts", section, False, "read-only"))
    hosts = status_json(status, Traffic(), "1", 1, NOW)["hosts"]
    assert isinstance(hosts, dict)
    assert (hosts["published"], hosts["names"], hosts["problem"]) == (False, names, "read-only")
    assert hosts["lines"] == section.lines()[:shown] and len(hosts["lines"]) == shown
    assert hosts["more_lines"] == more
    assert hosts_lines_json(status)["lines"] == section.lines()


def test_what_is_not_known_yet_is_null_and_no_key_is_missing() -> None:
    full = status_json(STATUS, Traffic(COUNTERS, WARM), "0.1.0", 42, NOW)
    empty = status_json(Status(started_at=NOW), Traffic(), "0.1.0", 42, NOW)
    assert empty.keys() == full.keys()
    assert empty["registered"] is False
    assert empty["state"] == "registering"
    assert empty["certificate"] == {"not_after": None, "days_left": None}
    assert empty["api"] == {"last_success": None, "last_error": None, "next_poll_s": None}
    assert empty["interface"] == {"name": None, "subnet": None, "mode": None, "notes": []}
    assert empty["hosts"] == {
        "path": None,
        "published": False,
        "names": 0,
        "missing": 0,
        "stale": 0,
        "replace": False,
        "problem": None,
        "lines": [],
        "more_lines": 0,
    }
    assert empty["connections"] == {
        "open": 0,
        "total": 0,
        "failed": 0,
        "failures": {},
        "last_error": None,
    }
    assert empty["warm_connections"] == {
        "setting": "off",
        "ready": 0,
        "wanted": 0,
        "used": 0,
        "missed": 0,
        "max_age_s": 0.0,
        "problem": None,
    }
    assert json.loads(json.dumps(empty)) == empty


@pytest.mark.parametrize(
    ("wanted", "problem", "told"), [(1, "refused", "refused"), (1, "", None), (0, "refused", None)]
)
def test_what_keeps_connections_from_being_warm_is_told_while_some_are_wanted(
    wanted: int, problem: str, told: Optional[str]
) -> None:
    traffic = Traffic(warm=WarmStatus("auto", wanted=wanted, problem=problem))
    warm = status_json(STATUS, traffic, "0", 1, NOW)["warm_connections"]
    assert isinstance(warm, dict)
    assert warm["problem"] == told


def test_the_most_frequent_cause_comes_first() -> None:
    failures = ((Cause.CLIENT_LEFT, 1), (Cause.UPGRADE_TIMEOUT, 2), (Cause.CERTIFICATE_REFUSED, 1))
    counters = {WEB: Counters(failures=failures)}
    connections = status_json(STATUS, Traffic(counters), "0", 1, NOW)["connections"]
    assert isinstance(connections, dict)
    assert list(connections["failures"]) == [
        "upgrade_timeout",
        "certificate_refused",
        "client_left",
    ]


def test_a_poll_that_is_due_and_a_clock_that_went_back_give_no_negative_times() -> None:
    late = status_json(STATUS, Traffic(), "0", 1, NOW + 60)
    early = status_json(STATUS, Traffic(), "0", 1, NOW - 200_000)
    assert late["api"] == {**late["api"], "next_poll_s": 0.0}  # type: ignore[dict-item]
    assert early["uptime_s"] == 0


def test_an_ended_certificate_has_negative_days() -> None:
    status = Status(certificate_not_after=NOW - 86400)
    assert status_json(status, Traffic(), "0", 1, NOW)["certificate"] == {
        "not_after": "2023-11-13T22:13:20Z",
        "days_left": -1.0,
    }


def test_an_open_endpoint_has_every_key_of_the_interface() -> None:
    assert endpoints_json(STATUS, COUNTERS)[0] == {
        "id": "ep_1",
        "hostname": "web.ns",
        "ip": "10.107.0.2",
        "port": 80,
        "url": "http://web.ns",
        "local_listener": True,
        "network_port": 0,
        "listen_interface": "virtual",
        "listen_address": "10.107.0.2:80",
        "published": True,
        "resolves_elsewhere": [],
        "state": "open",
        "reason": "",
        "connections": 2,
        "total_connections": 17,
        "errors": 1,
        "failures": {"connect_refused": 1},
        "last_error": "refused",
        "last_error_cause": "connect_refused",
        "last_error_at": "2023-11-14T22:13:15Z",
        "bytes_up": 100,
        "bytes_down": 2000,
        "last_activity": "2023-11-14T22:13:17Z",
    }


def test_an_endpoint_without_failures_has_none_of_their_words() -> None:
    listed = endpoints_json(STATUS, COUNTERS)[1]
    assert (listed["failures"], listed["last_error"]) == ({}, "")
    assert (listed["last_error_cause"], listed["last_error_at"]) == (None, None)


def test_an_endpoint_whose_name_hides_another_says_which() -> None:
    status = dataclasses.replace(STATUS, shadowed={"web.ns": ("93.184.216.34", "2001:db8::1")})
    listed = endpoints_json(status, COUNTERS)
    assert listed[0]["resolves_elsewhere"] == ["93.184.216.34", "2001:db8::1"]
    assert [each["resolves_elsewhere"] for each in listed[1:]] == [[]] * (len(listed) - 1)


def test_in_network_mode_the_network_port_is_the_listeners() -> None:
    listed = endpoints_json(STATUS, COUNTERS)[1]
    assert (listed["port"], listed["network_port"]) == (6379, 9080)
    assert listed["listen_address"] == "0.0.0.0:9080"


def test_failed_and_skipped_endpoints_are_listed_with_their_reason() -> None:
    listed = endpoints_json(STATUS, COUNTERS)[2:]
    assert [(e["state"], e["local_listener"], e["reason"]) for e in listed] == [
        ("failed", False, "10.107.0.4:443: address already in use"),
        ("skipped", False, "a wildcard"),
    ]
    assert listed[1]["hostname"] == ""
    assert listed[1].keys() == endpoints_json(STATUS, COUNTERS)[0].keys()


def test_the_health_page_has_every_key_of_the_interface() -> None:
    page = health_json(STATUS, COUNTERS, Verdict(healthy=True, ready=True), NOW)
    endpoints = page["endpoints"]
    assert {**page, "endpoints": {}} == {
        "healthy": True,
        "ready": True,
        "uptime": "26h3m4s",
        "start_time": "2023-11-13T20:10:15Z",
        "endpoints": {},
    }
    assert isinstance(endpoints, dict)
    assert list(endpoints) == ["ep_1", "ep_2", "ep_3", "ep_4"]
    assert endpoints["ep_1"] == {
        "name": "web.ns",
        "local_address": "10.107.0.2:80",
        "target_uri": "http://web.ns",
        "active": True,
        "connections": 2,
        "total_connections": 17,
        "last_activity": "2023-11-14T22:13:17Z",
        "errors": 1,
    }
    assert endpoints["ep_4"]["active"] is False


@pytest.mark.parametrize(
    ("status", "forwarding", "reconciling", "healthy", "ready"),
    [
        (STATUS, True, True, True, True),
        (STATUS, True, False, False, True),  # what is open is still served
        (STATUS, False, True, False, False),
        (Status(), True, True, True, False),  # before the first poll
        (Status(state=State.DEGRADED), True, True, True, True),
        (Status(state=State.STOPPING), True, True, True, False),
        (Status(state=State.WAITING_FOR_API_KEY), True, True, True, False),
    ],
)
def test_healthy_is_about_the_threads_and_ready_about_serving(
    status: Status, forwarding: bool, reconciling: bool, healthy: bool, ready: bool
) -> None:
    assert verdict(status, forwarding, reconciling) == Verdict(healthy, ready)


def test_the_uptime_is_told_as_the_existing_daemon_does() -> None:
    assert health_json(Status(), {}, Verdict(True, False), 5.0)["uptime"] == "5s"
    assert health_json(Status(), {}, Verdict(True, False), 65.0)["uptime"] == "1m5s"


def test_times_are_in_utc_to_the_second() -> None:
    assert iso(0.9) == "1970-01-01T00:00:00Z"
    assert iso(None) is None
