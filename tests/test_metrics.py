"""The Prometheus page, read back the way a scraper reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.control import metrics
from ngrokd.control.report import Verdict
from ngrokd.model import Cause, Counters, EndpointState, EndpointStatus, Status, Target, WarmStatus

WEB = Target("web.ns", 80)
GOOD = Verdict(healthy=True, ready=True)
WARM = WarmStatus("auto", ready=4, wanted=5, used=30, missed=2)


@dataclass(frozen=True)
class Histogram:
    bounds: Sequence[float] = (0.1, 0.5, 1.0)
    counts: Sequence[int] = (2, 3, 3)
    sum: float = 7.25
    count: int = 4


STATUS = Status(
    endpoints=(
        EndpointStatus("ep_1", "http://web.ns", EndpointState.OPEN, target=WEB, published=True),
        EndpointStatus("ep_2", "tcp://idle:1", EndpointState.OPEN, target=Target("idle", 1)),
        EndpointStatus("ep_3", "tls://*", EndpointState.SKIPPED),
    ),
    api_requests=(("error", 2), ("200", 9)),
    api_last_success=1_700_000_000.5,
    certificate_not_after=1_800_000_000.0,
    hosts_writes=3,
    started_at=1_600_000_000.0,
    problems=("one", "another"),
)
FAILURES = ((Cause.CERTIFICATE_REFUSED, 2), (Cause.UPGRADE_TIMEOUT, 3))
COUNTERS = {
    WEB: Counters(open=2, total=17, failed=5, bytes_up=10, bytes_down=20, failures=FAILURES)
}

@dataclass(frozen=True)
class Seen:
    counters: Mapping[Target, Counters]
    connect_seconds: Histogram
    warm: WarmStatus = WARM


def page(
    status: Status = STATUS,
    counters: Mapping[Target, Counters] = COUNTERS,
    histogram: Histogram = Histogram(),
    verdict: Verdict = GOOD,
) -> str:
    return metrics.render(status, verdict, Seen(counters, histogram), "0.1.0")


_SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)')
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def parse(text: str) -> dict[str, float]:
    """`name{sorted labels}` -> value. Fails on any line the format does not have."""
    assert text.endswith("\n")
    found: dict[str, float] = {}
    typed: dict[str, str] = {}
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in typed
            typed[name] = kind
            continue
        match = _SAMPLE.fullmatch(line)
        assert match, f"not a sample: {line!r}"
        name, labels, value = match.groups()
        assert re.sub("_(bucket|sum|count)$", "", name) in typed or name in typed
        pairs = sorted(_LABEL.findall(labels or ""))
        key = name + "".join(f"[{k}={_unescape(v)}]" for k, v in pairs)
        assert key not in found
        found[key] = float(value)
    return found


def _unescape(value: str) -> str:
    return re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), value)


def test_every_metric_of_the_interface_reads_back() -> None:
    assert parse(page()) == {
        "ngrokd_build_info[version=0.1.0]": 1,
        "ngrokd_endpoints[state=open]": 2,
        "ngrokd_endpoints[state=failed]": 0,
        "ngrokd_endpoints[state=skipped]": 1,
        "ngrokd_endpoints_unpublished": 1,
        "ngrokd_connections_open[hostname=idle][port=1]": 0,
        "ngrokd_connections_open[hostname=web.ns][port=80]": 2,
        "ngrokd_connections_total[hostname=idle][port=1][result=ok]": 0,
        "ngrokd_connections_total[hostname=idle][port=1][result=failed]": 0,
        "ngrokd_connections_total[hostname=web.ns][port=80][result=ok]": 10,
        "ngrokd_connections_total[hostname=web.ns][port=80][result=failed]": 5,
        "ngrokd_connection_failures_total[cause=certificate_refused][hostname=web.ns][port=80]": 2,
        "ngrokd_connection_failures_total[cause=upgrade_timeout][hostname=web.ns][port=80]": 3,
        "ngrokd_bytes_total[direction=up][hostname=idle][port=1]": 0,
        "ngrokd_bytes_total[direction=down][hostname=idle][port=1]": 0,
        "ngrokd_bytes_total[direction=up][hostname=web.ns][port=80]": 10,
        "ngrokd_bytes_total[direction=down][hostname=web.ns][port=80]": 20,
        "ngrokd_connect_seconds_bucket[le=0.1]": 2,
        "ngrokd_connect_seconds_bucket[le=0.5]": 3,
        "ngrokd_connect_seconds_bucket[le=1]": 3,
        "ngrokd_connect_seconds_bucket[le=+Inf]": 4,
        "ngrokd_connect_seconds_sum": 7.25,
        "ngrokd_connect_seconds_count": 4,
        "ngrokd_start_time_seconds": 1_600_000_000,
        "ngrokd_healthy": 1,
        "ngrokd_ready": 1,
        "ngrokd_problems": 2,
        "ngrokd_api_requests_total[code=200]": 9,
        "ngrokd_api_requests_total[code=error]": 2,
        "ngrokd_poll_last_success_timestamp_seconds": 1_700_000_000.5,
        "ngrokd_certificate_expiry_timestamp_seconds": 1_800_000_000,
        "ngrokd_hosts_writes_total": 3,
        "ngrokd_warm_connections": 4,
        "ngrokd_warm_connection_requests_total[result=hit]": 30,
        "ngrokd_warm_connection_requests_total[result=miss]": 2,
    }


def test_what_is_not_known_yet_has_no_sample() -> None:
    found = parse(page(Status(), {}))
    assert "ngrokd_poll_last_success_timestamp_seconds" not in found
    assert "ngrokd_certificate_expiry_timestamp_seconds" not in found


def test_a_counter_does_not_fall_when_an_open_connection_fails() -> None:
    key = "ngrokd_connections_total[hostname=web.ns][port=80][result=ok]"
    before = parse(page(STATUS, {WEB: Counters(open=1, total=5)}))
    after = parse(page(STATUS, {WEB: Counters(total=5, failed=1)}))
    assert before[key] == after[key] == 4


def test_every_metric_has_help_and_type() -> None:
    lines = page().splitlines()
    named = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert [line.split()[2] for line in lines if line.startswith("# HELP")] == named


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_label_value_reads_back(name: str) -> None:
    found = parse(page(Status(), {Target(name, 1): Counters(open=1)}))
    assert found[f"ngrokd_connections_open[hostname={name}][port=1]"] == 1


@pytest.mark.parametrize(("total", "shown"), [(float("inf"), "+Inf"), (0.1, "0.1"), (3.0, "3")])
def test_numbers_are_written_as_prometheus_reads_them(total: float, shown: str) -> None:
    text = page(Status(), {}, Histogram(sum=total))
    assert f"ngrokd_connect_seconds_sum {shown}\n" in text
