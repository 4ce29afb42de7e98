"""An API that answers wrongly changes nothing on this machine, is named, and is recovered from."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration import programs
from tests.integration.netns import receive_exactly
from tests.integration.site import API_PORT, Daemon, Site

pytestmark = pytest.mark.root

KEPT = ("tcp://one.ns:7000", "tcp://two.ns:7000")
WHERE = rf"http://127\.0\.0\.1:{API_PORT}"
UNUSABLE = f"the ngrok API at {WHERE} gave no usable answer to GET /kubernetes_operators/"
UNABLE = f"the ngrok API at {WHERE} cannot answer GET /kubernetes_operators/"
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "429": (
        {"kind": "status", "status": 429, "error_code": "ERR_NGROK_226"},
        f"{UNABLE}.*HTTP 429, ERR_NGROK_226.*tried again",
    ),
    "500": ({"kind": "status", "status": 500}, f"{UNABLE}.*HTTP 500.*tried again"),
    "503_of_a_proxy": (
        {"kind": "html", "status": 503},
        f"{UNABLE}.*HTTP 503, an HTML page.*tried again",
    ),
    "html": ({"kind": "html"}, f"{UNUSABLE}.*an HTML page.*api.url or a proxy"),
    "half_a_json": ({"kind": "truncated"}, f"the ngrok API at {WHERE}.*cut short"),
    "garbage": ({"kind": "garbage"}, f"{UNUSABLE}.*not JSON.*api.url or a proxy"),
    "an_empty_object": ({"kind": "empty"}, f"{UNUSABLE}.*endpoints"),
    "no_list": ({"kind": "body", "body": '{"endpoints": null}'}, f"{UNUSABLE}.*endpoints"),
    "no_answer": ({"kind": "drop"}, f"the ngrok API at {WHERE}.*GET /kubernetes_operators/"),
    "redirect": (
        {"kind": "redirect", "location": "http://127.0.0.1:9/elsewhere"},
        f"{UNUSABLE}.*302.*http://127.0.0.1:9/elsewhere.*never redirects",
    ),
    "permanent_redirect": (
        {"kind": "redirect", "status": 308, "location": "/elsewhere"},
        f"{UNUSABLE}.*308.*never redirects",
    ),
    "no_end": ({"kind": "endless"}, f"the ngrok API at {WHERE}.*larger than 16 MiB"),
    "another_kind_of_list": (
        {"kind": "replace", "fields": {"endpoints": {"0": "tcp://one.ns:7000"}}},
        f"{UNUSABLE}.*endpoints",
    ),
    "a_list_for_the_whole": ({"kind": "replace", "fields": {"": []}}, f"{UNUSABLE}.*"),
    "null_for_the_whole": ({"kind": "replace", "fields": {"": None}}, f"{UNUSABLE}.*"),
    "a_list_left_out": ({"kind": "replace", "omit": ["endpoints"]}, f"{UNUSABLE}.*endpoints"),
    "null_for_each": (
        {"kind": "replace", "fields": {"endpoints.*": None}},
        f"the ngrok API listed {len(KEPT)} endpoints, and none of them names a URL",
    ),
    "null_for_each_field": (
        {"kind": "replace", "fields": {"endpoints.*.*": None}},
        f"the ngrok API listed {len(KEPT)} endpoints, and none of them names a URL",
    ),
    "numbers_for_urls": (
        {"kind": "replace", "fields": {"endpoints.*.url": 7, "endpoints.*.public_url": [7]}},
        f"the ngrok API listed {len(KEPT)} endpoints, and none of them names a URL",
    ),
    "a_next_page_that_is_no_text": (
        {"kind": "replace", "fields": {"next_page_uri": 7}},
        f"{UNUSABLE}.*next_page_uri",
    ),
    "a_next_page_elsewhere": (
        {"kind": "replace", "fields": {"next_page_uri": "http://127.0.0.1:9/more"}},
        f"{UNUSABLE}.*",
    ),
    "json_without_bottom": ({"kind": "body", "body": "[" * 100_000}, f"{UNUSABLE}.*not an object"),
    "401": (
        {"kind": "status", "status": 401, "error_code": "ERR_NGROK_203"},
        "ngrok refuses GET /kubernetes_operators/.*HTTP 401, ERR_NGROK_203.*ngrokctl set-api-key",
    ),
}


# Each costs the 30 s that an answer may take, twice.
SLOW_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "a_body_that_drips": ({"kind": "drip", "delay_s": 0.2}, f"the ngrok API at {WHERE}.*30 s"),
    "a_head_that_drips": ({"kind": "drip_head", "delay_s": 1}, f"the ngrok API at {WHERE}.*30 s"),
    "an_answer_too_late": ({"kind": "delay", "delay_s": 600}, f"the ngrok API at {WHERE}.*30 s"),
}


@pytest.fixture(scope="module")
def daemon(shared_site: Site) -> Daemon:
    """Ready, with two endpoints."""
    site = shared_site
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    site.start_cloud(*(f"{url}=127.0.0.1:7000" for url in KEPT))
    return site.start_daemon().ready()


@pytest.fixture
def client(shared_site: Site, daemon: Daemon) -> Iterator[socket.socket]:
    """A connection that must not notice anything."""
    with shared_site.network.connect("one.ns", 7000) as connection:
        _must_echo(connection)
        yield connection
        _must_echo(connection)
    shared_site.cloud.heal()
    daemon.ctl("refresh", check=False)  # not only when it is due, for the next test


def _must_echo(client: socket.socket) -> None:
    client.sendall(b"hello")
    assert receive_exactly(client, 5) == b"hello"


def _machine(site: Site) -> tuple[bytes, list[str]]:
    return site.namespace.hosts.read_bytes(), site.interface_words()


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        *(pytest.param(*values, id=name) for name, values in FAULTS.items()),
        *(
            pytest.param(*values, id=name, marks=pytest.mark.long)
            for name, values in SLOW_FAULTS.items()
        ),
    ],
)
def test_a_wrong_answer_to_a_poll_changes_nothing_and_the_next_good_one_recovers(
    shared_site: Site, daemon: Daemon, client: socket.socket, fault: dict[str, Any], line: str
) -> None:
    cloud, before = shared_site.cloud, _machine(shared_site)
    since = len(daemon.lines)

    cloud.api_fault(path="/bound_endpoints", **fault)
    daemon.ctl("refresh", check=False)
    asked = daemon.ctl("refresh", check=False)
    daemon.expect(f"WARNING.*{line}", since)

    assert asked.returncode == 1
    status = daemon.eventually(lambda now: now["state"] == "degraded", "not degraded")
    assert any("poll" in problem for problem in status["problems"])
    assert status["api"]["last_error"] in asked.stderr
    assert status["endpoints"]["open"] == len(KEPT)
    assert daemon.ready_page() == 200
    assert _machine(shared_site) == before
    _must_echo(client)
    with shared_site.network.connect("two.ns", 7000) as another:
        _must_echo(another)
    assert len(daemon.matching(" (WARNING|ERROR|CRITICAL) |Traceback", since)) == 1

    cloud.heal()
    daemon.refresh()
    assert daemon.status()["problems"] == []
    assert daemon.status()["state"] == "ready"
    assert _machine(shared_site) == before


def test_odd_fields_of_an_endpoint_cost_nothing_but_what_they_say(
    shared_site: Site, daemon: Daemon, client: socket.socket
) -> None:
    cloud, before = shared_site.cloud, _machine(shared_site)
    since = len(daemon.lines)
    odd: tuple[object, ...] = (None, True, -1, 1e300, "\n", [], {}, [[]], {"a": None})
    for value in odd:
        for name in ("id", "proto", "bindings", "port", "host", "region", "metadata", "name"):
            fields = {f"endpoints.*.{name}": value}
            cloud.api_fault("replace", fields=fields, path="/bound_endpoints", count=1)
            assert daemon.refresh()["endpoints"] == len(KEPT)
    assert _machine(shared_site) == before
    assert daemon.matching(" (WARNING|ERROR|CRITICAL) |Traceback", since) == []


WORSE_CERTIFICATES = {
    **{
        identity: {"kind": "certificate", "identity": identity}
        for identity in ("other_key", "not_yet_valid", "expired", "cut", "garbled")
    },
    "empty": {"kind": "replace", "fields": {"binding.cert.cert": ""}},
    "a_number": {"kind": "replace", "fields": {"binding.cert.cert": 7}},
    "no_binding": {"kind": "replace", "fields": {"binding": None}},
    "nothing": {"kind": "replace", "fields": {"": {}}},
}


@pytest.mark.parametrize("fault", WORSE_CERTIFICATES.values(), ids=WORSE_CERTIFICATES)
def test_a_worse_certificate_does_not_replace_the_one_in_use(
    shared_site: Site, daemon: Daemon, client: socket.socket, fault: dict[str, Any]
) -> None:
    cloud, files = shared_site.cloud, ("tls.crt", "tls.key", "operator_id")
    kept = [(shared_site.state / name).read_bytes() for name in files]
    operators = len(cloud.operators())
    cloud.api_fault(method="PATCH", **fault)

    daemon.ctl("rotate-cert", check=False)

    status = daemon.eventually(lambda now: now["problems"] != [], "it is not told")
    assert any(re.search("certificate|operator", problem) for problem in status["problems"])
    assert [(shared_site.state / name).read_bytes() for name in files] == kept
    with shared_site.network.connect("two.ns", 7000) as another:
        _must_echo(another)
    cloud.heal()
    daemon.ctl("rotate-cert")
    daemon.eventually(lambda now: now["state"] == "ready", "not ready again")
    assert (shared_site.state / "tls.crt").read_bytes() != kept[0]
    assert len(cloud.operators()) == operators
    with shared_site.network.connect("two.ns", 7000) as another:
        _must_echo(another)


DATES: tuple[object, ...] = (
    "soon",
    "",
    None,
    7,
    [],
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:60Z",
)


@pytest.mark.parametrize("date", DATES, ids=str)
def test_dates_that_do_not_parse_cost_nothing(
    shared_site: Site, daemon: Daemon, client: socket.socket, date: object
) -> None:
    fields = {f"binding.cert.{name}": date for name in ("not_before", "not_after")}
    shared_site.cloud.api_fault("replace", fields=fields, method="PATCH", count=1)

    daemon.ctl("rotate-cert")

    daemon.eventually(lambda now: now["state"] == "ready", "not ready")
    assert daemon.status()["certificate"]["days_left"] > 0


def test_recovery_needs_nobody(shared_site: Site, daemon: Daemon, client: socket.socket) -> None:
    since = len(daemon.lines)

    shared_site.cloud.api_fault("status", status=502, count=2, path="/bound_endpoints")

    daemon.expect("WARNING.*HTTP 502", since)
    daemon.expect("INFO.*works again after 2 failures", since)
    daemon.eventually(lambda now: now["state"] == "ready", "not ready again")


@pytest.mark.long
def test_retry_after_is_honoured(shared_site: Site, daemon: Daemon, client: socket.socket) -> None:
    since = len(daemon.lines)

    shared_site.cloud.api_fault(
        "status", status=429, retry_after="3", count=1, path="/bound_endpoints"
    )

    daemon.expect(r"WARNING.*HTTP 429.*tried again in ([3-9]|1\d) s", since)
    daemon.expect("INFO.*works again", since)


def test_an_operator_that_ngrok_lost_is_registered_again_and_nothing_else_changes(
    shared_site: Site, daemon: Daemon, client: socket.socket
) -> None:
    cloud, before = shared_site.cloud, _machine(shared_site)
    since = len(daemon.lines)
    old = daemon.status()["operator_id"]

    cloud.ask("DELETE", f"/operators/{old}")

    daemon.expect("WARNING.*ngrok no longer knows this operator.*registered again", since)
    daemon.expect("INFO.*registered as", since)
    daemon.refresh()
    operators = [each["id"] for each in cloud.operators()]
    assert operators == [daemon.status()["operator_id"]] and operators != [old]
    assert _machine(shared_site) == before
    with shared_site.network.connect("two.ns", 7000) as another:
        _must_echo(another)
    daemon.eventually(lambda now: now["state"] == "ready", "not ready again")


@pytest.mark.long
def test_a_404_that_stays_does_not_register_an_operator_a_second(
    shared_site: Site, daemon: Daemon, client: socket.socket
) -> None:
    cloud, before = shared_site.cloud, _machine(shared_site)
    since = len(daemon.lines)
    created = _registrations(shared_site)

    cloud.api_fault("status", status=404, path="/bound_endpoints")
    daemon.expect("WARNING.*ngrok no longer knows this operator", since)
    for _ in range(5):
        daemon.ctl("refresh", check=False)

    assert _machine(shared_site) == before
    assert _registrations(shared_site) - created <= 2
    cloud.heal()
    daemon.eventually(lambda now: now["state"] == "ready", "not ready again")
    with shared_site.network.connect("two.ns", 7000) as another:
        _must_echo(another)


def test_a_key_that_is_revoked_is_named_and_a_new_one_recovers_without_a_restart(
    shared_site: Site, daemon: Daemon, client: socket.socket
) -> None:
    since = len(daemon.lines)
    fault = shared_site.cloud.api_fault(
        "status", status=401, error_code="ERR_NGROK_203", message="The API key is invalid."
    )
    daemon.expect("WARNING.*ERR_NGROK_203.*ngrokctl set-api-key", since)
    shared_site.cloud.ask("DELETE", f"/faults/{fault}")

    daemon.ctl("set-api-key", "sandbox-key")

    daemon.eventually(lambda now: now["state"] == "ready", "not ready again")
    assert daemon.matching("sandbox-key") == []


def _registrations(site: Site) -> int:
    return sum(
        each["method"] == "POST" and each["path"] == "/kubernetes_operators"
        for each in site.cloud.requests()
    )
