"""The control API changes the sandbox, plays every fault, and shows what was seen."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngrokd.errors import ProtocolError
from ngrokd.forward import wire
from ngrokd.model import Target
from ngrokd.sandbox.cloud import Sandbox
from tests.fair import Stopwatch
from tests.sandbox_client import (
    JSON_HEADERS,
    KEY_HEADERS,
    TIMEOUT_S,
    Answer,
    Operator,
    Tunnel,
    call,
    control,
    running,
    send,
)

OPERATORS = "/kubernetes_operators"


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    yield from running(tmp_path / "cloud")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    yield from running(tmp_path_factory.mktemp("control"), samples=False)


def refuse(sandbox: Sandbox, method: str, path: str, body: Optional[object] = None) -> Answer:
    content = json.dumps(body).encode() if body is not None else None
    answer = send(sandbox, method, f"/sandbox/{path}", content, JSON_HEADERS if content else {})
    assert answer.status >= 400
    assert answer.json["error"]
    return answer


def listed(sandbox: Sandbox, operator: Operator) -> list[Any]:
    answer = call(sandbox, "GET", f"{OPERATORS}/{operator.id}/bound_endpoints")
    return list(answer.json["endpoints"])


# Endpoints


def test_any_text_may_be_listed_as_an_endpoints_url(sandbox: Sandbox, tmp_path: Path) -> None:
    operator = Operator(sandbox, tmp_path)
    urls = ["http://*.ns", "ftp://x", "", "http://a b\n", "http://[::1", "tcp://h:99999", "ä\u0000"]
    control(sandbox, "PUT", "endpoints", {"endpoints": [{"url": url} for url in urls]})
    assert [each["url"] for each in listed(sandbox, operator)] == urls[::-1]


def test_fields_of_the_listed_object_can_be_replaced_and_left_out(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    body = {"url": "http://a.ns", "fields": {"port": "eighty", "extra": None}, "omit": ["url"]}
    control(sandbox, "PUT", "endpoints", body)
    [shown] = listed(sandbox, Operator(sandbox, tmp_path))
    assert (shown["port"], shown["extra"]) == ("eighty", None)
    assert "url" not in shown


def test_an_endpoint_keeps_its_id_when_its_url_changes(sandbox: Sandbox, tmp_path: Path) -> None:
    operator = Operator(sandbox, tmp_path)
    [added] = control(sandbox, "PUT", "endpoints", {"url": "http://a.ns"})["endpoints"]
    control(sandbox, "PATCH", f"endpoints/{added['id']}", {"url": "http://b.ns"})
    [shown] = listed(sandbox, operator)
    assert (shown["id"], shown["url"]) == (added["id"], "http://b.ns")


def test_endpoints_are_removed_by_id_by_url_and_altogether(sandbox: Sandbox) -> None:
    body = {"endpoints": [{"url": "http://a.ns", "members": 2}, {"url": "http://b.ns"}]}
    added = control(sandbox, "POST", "endpoints", body)["endpoints"]
    control(sandbox, "DELETE", f"endpoints/{added[0]['id']}")
    gone = control(sandbox, "DELETE", "endpoints?url=http%3A%2F%2Fa.ns")["removed"]
    assert gone == [added[1]["id"]]
    control(sandbox, "DELETE", "endpoints")
    assert control(sandbox, "GET", "endpoints") == {"endpoints": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("POST", "endpoints", {}, 400, "url"),
        ("POST", "endpoints", {"url": 1}, 400, "url"),
        ("POST", "endpoints", {"url": "x", "upstream": "nowhere"}, 400, "HOST:PORT"),
        ("POST", "endpoints", {"url": "x", "upstream": "h:70000"}, 400, "HOST:PORT"),
        ("POST", "endpoints", {"url": "x", "members": 0}, 400, "members"),
        ("POST", "endpoints", {"url": "x", "colour": "red"}, 400, "colour"),
        ("POST", "endpoints", {"url": "x", "fields": []}, 400, "fields"),
        ("POST", "endpoints", {"url": "x", "omit": [1]}, 400, "omit"),
        ("POST", "endpoints", {"endpoints": [1]}, 400, "endpoints"),
        ("DELETE", "endpoints/ep_none", None, 404, "ep_none"),
        ("POST", "faults/api", {"kind": "earthquake"}, 400, "status, delay"),
        ("POST", "faults/api", {"kind": "status", "status": 99}, 400, "99"),
        ("POST", "faults/api", {"kind": "status", "count": 0}, 400, "count"),
        ("POST", "faults/api", {"kind": "delay", "delay_s": -1}, 400, "delay_s"),
        ("POST", "faults/api", {"kind": "status", "retry_after": "1\r\nX: y"}, 400, "retry_after"),
        ("POST", "faults/api", {"kind": "redirect"}, 400, "location"),
        ("POST", "faults/api", {"kind": "redirect", "location": "x\ny"}, 400, "location"),
        ("POST", "faults/api", {"kind": "redirect", "location": "x", "status": 200}, 400, "308"),
        ("POST", "faults/api", {"kind": "certificate", "identity": "x"}, 400, "other_key"),
        ("POST", "faults/api", {"kind": "replace"}, 400, "fields"),
        ("POST", "faults/api", {"kind": "replace", "fields": [1]}, 400, "fields"),
        ("POST", "faults/api", {"kind": "replace", "omit": [1]}, 400, "omit"),
        ("POST", "faults/ingress", {"kind": "refuse", "count": 1}, 400, "count"),
        ("POST", "faults/ingress", {"kind": "certificate"}, 400, "identity"),
        ("POST", "faults/ingress", {"kind": "error"}, 400, "error_code"),
        ("POST", "faults/ingress", {"kind": "raw", "hex": "xy"}, 400, "hex"),
        ("POST", "faults/ingress", {"kind": "slow", "at": "connect"}, 400, "at"),
        ("POST", "faults/ingress", {"kind": "hang", "at": "connect", "host": "h"}, 400, "host"),
        ("POST", "faults/ingress", {"kind": "hang", "size": 1}, 400, "size"),
        ("POST", "faults", {"kind": "hang"}, 405, "faults/api"),
        ("DELETE", "faults/fault_9", None, 404, "fault_9"),
        ("PATCH", "settings", {"speed": 1}, 400, "certificate_lifetime"),
        ("PATCH", "settings", {"rate_limit": "fast"}, 400, "rate_limit"),
        ("PATCH", "settings", {"tls_version": "1.1"}, 400, "tls_version"),
        ("PATCH", "settings", [], 400, "object"),
        ("DELETE", "operators/k8sop_none", None, 404, "k8sop_none"),
        ("GET", "nothing", None, 404, "endpoints, faults"),
        ("PUT", "requests", None, 405, "PUT"),
    ],
)
def test_a_mistake_is_named(
    shared: Sandbox, method: str, path: str, body: object, status: int, word: str
) -> None:
    answer = refuse(shared, method, path, body)
    assert answer.status == status
    assert word in answer.json["error"]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
NAMES = st.sampled_from(
    [
        *("url", "upstream", "members", "fields", "omit", "kind", "at", "count"),
        *("delay_s", "rate_limit", "location", "identity"),
    ]
)


@given(
    path=st.sampled_from(["endpoints", "faults/api", "faults/ingress", "settings"]),
    body=st.dictionaries(NAMES, JSON_VALUES, max_size=4),
)
@settings(
    max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_control_request_breaks_the_sandbox(shared: Sandbox, path: str, body: object) -> None:
    method = "PATCH" if path == "settings" else "POST"
    answer = send(shared, method, f"/sandbox/{path}", json.dumps(body).encode(), JSON_HEADERS)
    assert answer.status in (200, 400)
    control(shared, "DELETE", "faults")


def test_web_pages_cannot_steer_the_sandbox(shared: Sandbox) -> None:
    rebound = send(shared, "GET", "/sandbox", headers={"Host": "evil.example"})
    foreign = send(shared, "GET", "/sandbox", headers={"Origin": "http://evil.example"})
    plain = {"Content-Type": "text/plain"}
    form = send(shared, "POST", "/sandbox/endpoints", b'{"url": "x"}', plain)
    assert [rebound.status, foreign.status, form.status] == [403, 403, 400]


def test_the_overview_says_where_everything_is(shared: Sandbox) -> None:
    shown = control(shared, "GET", "")
    assert shown["api_url"] == shared.api_url
    assert shown["ingress"] == shared.ingress
    assert Path(shown["ca_file"]).exists()


# Faults of the API


def fault(sandbox: Sandbox, **body: object) -> str:
    return str(control(sandbox, "POST", "faults/api", body)["id"])


def test_a_status_with_its_code_and_retry_after_for_some_requests(sandbox: Sandbox) -> None:
    fault(sandbox, kind="status", status=429, retry_after="7", count=2)
    first, second, third = (call(sandbox, "GET", OPERATORS) for _ in range(3))
    assert [first.status, second.status, third.status] == [429, 429, 200]
    assert first.json["error_code"] == "ERR_NGROK_226"
    assert first.headers["retry-after"] == "7"


def test_a_fault_stays_until_it_is_cleared(sandbox: Sandbox) -> None:
    one = fault(sandbox, kind="status", status=503)
    assert [call(sandbox, "GET", OPERATORS).status for _ in range(3)] == [503, 503, 503]
    control(sandbox, "DELETE", f"faults/{one}")
    assert call(sandbox, "GET", OPERATORS).status == 200


def test_a_fault_may_concern_one_method_and_path(sandbox: Sandbox, tmp_path: Path) -> None:
    operator = Operator(sandbox, tmp_path)
    fault(sandbox, kind="status", method="GET", path="bound_endpoints")
    assert call(sandbox, "GET", OPERATORS).status == 200
    assert call(sandbox, "PATCH", f"{OPERATORS}/{operator.id}", {}).status == 200
    assert call(sandbox, "GET", f"{OPERATORS}/{operator.id}/bound_endpoints").status == 500


def test_html_garbage_empty_and_any_body_can_be_answered(sandbox: Sandbox) -> None:
    for body in (
        {"kind": "html"},
        {"kind": "garbage"},
        {"kind": "empty"},
        {"kind": "body", "body": "x" * 9, "content_type": "text/x", "status": 418},
    ):
        fault(sandbox, count=1, **body)
    html, garbage, empty, any_body = (call(sandbox, "GET", OPERATORS) for _ in range(4))
    assert (html.status, html.content[:9]) == (200, b"<!DOCTYPE")
    with pytest.raises(ValueError):
        json.loads(garbage.content)
    assert empty.json == {}
    assert (any_body.status, any_body.content) == (418, b"x" * 9)
    assert any_body.headers["content-type"] == "text/x"


def test_a_truncated_answer_ends_before_its_length(sandbox: Sandbox) -> None:
    fault(sandbox, kind="truncated", count=1)
    with pytest.raises(http.client.IncompleteRead) as caught:
        call(sandbox, "GET", OPERATORS)
    assert caught.value.partial.startswith(b'{"operators"')


def test_a_dropped_request_gets_no_answer(sandbox: Sandbox) -> None:
    fault(sandbox, kind="drop", count=1)
    with pytest.raises(http.client.RemoteDisconnected):
        call(sandbox, "GET", OPERATORS)


def test_a_delay_delays_the_true_answer(sandbox: Sandbox) -> None:
    fault(sandbox, kind="delay", delay_s=0.3, count=1)
    watch = Stopwatch()
    assert call(sandbox, "GET", OPERATORS).status == 200
    assert watch.wall() >= 0.3


def test_stop_does_not_wait_for_a_delayed_answer(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path, samples=False)
    sandbox.start()
    fault(sandbox, kind="delay", delay_s=600)
    port = int(sandbox.api_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as waiting:
        waiting.sendall(b"GET /kubernetes_operators HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not control(sandbox, "GET", "requests")["requests"]:
            continue
        watch = Stopwatch()
        sandbox.stop()
        assert watch.own() < 5
        assert waiting.recv(100) == b""


def raw_answer(sandbox: Sandbox, limit: int) -> bytes:
    """What comes of a request for the operators, up to that many bytes."""
    port = int(sandbox.api_url.rpartition(":")[2])
    headers = "".join(f"{name}: {value}\r\n" for name, value in KEY_HEADERS.items())
    received = b""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        request = (
            f"GET {OPERATORS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
        )
        connection.sendall(request.encode())
        while len(received) < limit:
            part = connection.recv(1 << 16)
            if not part:
                break
            received += part
    return received


@pytest.mark.parametrize("kind", ["drip", "drip_head"])
def test_a_dripping_answer_is_true_but_slow(sandbox: Sandbox, kind: str) -> None:
    true = call(sandbox, "GET", OPERATORS).content
    fault(sandbox, kind=kind, delay_s=0.002, count=1)
    watch = Stopwatch()
    assert call(sandbox, "GET", OPERATORS).content == true
    assert watch.wall() >= 0.002 * len(true)


def test_only_drip_head_holds_the_head_back(sandbox: Sandbox) -> None:
    fault(sandbox, kind="drip", delay_s=60, count=1)
    fault(sandbox, kind="drip_head", delay_s=60, count=1)
    assert b"\r\n\r\n" in raw_answer(sandbox, 1)
    port = int(sandbox.api_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 0.3) as connection:
        connection.sendall(b"GET /kubernetes_operators HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(socket.timeout):
            connection.recv(1)


def test_an_endless_answer_goes_on_while_somebody_reads(sandbox: Sandbox) -> None:
    fault(sandbox, kind="endless", count=1)
    head, _, body = raw_answer(sandbox, 4 << 20).partition(b"\r\n\r\n")
    assert b"content-length" not in head.lower()
    assert body.startswith(b'{"operators"') and len(body) > 3 << 20
    assert call(sandbox, "GET", OPERATORS).status == 200


@pytest.mark.parametrize("kind", ["drip", "drip_head", "endless"])
def test_stop_does_not_wait_for_an_answer_without_end(tmp_path: Path, kind: str) -> None:
    sandbox = Sandbox(tmp_path, samples=False)
    sandbox.start()
    fault(sandbox, kind=kind, delay_s=600)
    port = int(sandbox.api_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as waiting:
        waiting.sendall(b"GET /kubernetes_operators HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not control(sandbox, "GET", "requests")["requests"]:
            continue
        watch = Stopwatch()
        sandbox.stop()
        assert watch.own() < 5


def test_a_redirect_names_its_location(sandbox: Sandbox) -> None:
    fault(sandbox, kind="redirect", location="http://127.0.0.1:9/x", count=1)
    fault(sandbox, kind="redirect", location="/y", status=308, count=1)
    first, second = (call(sandbox, "GET", OPERATORS) for _ in range(2))
    assert (first.status, first.headers["location"]) == (302, "http://127.0.0.1:9/x")
    assert (second.status, second.headers["location"]) == (308, "/y")


def certificate_of(answer: Answer) -> tuple[str, str, str]:
    shown = answer.json["binding"]["cert"]
    return shown["cert"], shown["not_before"], shown["not_after"]


@pytest.mark.parametrize(
    ("identity", "same_key", "begun", "ended"),
    [
        ("other_key", False, True, False),
        ("not_yet_valid", True, False, False),
        ("expired", True, True, True),
    ],
)
def test_a_certificate_is_wrong_as_it_was_asked_for(
    sandbox: Sandbox, tmp_path: Path, identity: str, same_key: bool, begun: bool, ended: bool
) -> None:
    operator = Operator(sandbox, tmp_path)
    true_text, *_ = certificate_of(call(sandbox, "GET", f"{OPERATORS}/{operator.id}"))
    fault(sandbox, kind="certificate", identity=identity)
    text, not_before, not_after = certificate_of(call(sandbox, "GET", f"{OPERATORS}/{operator.id}"))
    true, false = (x509.load_pem_x509_certificate(each.encode()) for each in (true_text, text))
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert (true.public_key() == false.public_key()) is same_key
    assert ((not_before <= now), (not_after < now)) == (begun, ended)
    assert not_before == f"{false.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}"
    assert not_after == f"{false.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    [listed] = call(sandbox, "GET", OPERATORS).json["operators"]
    assert listed["binding"]["cert"]["cert"] != true_text
    control(sandbox, "DELETE", "faults")
    assert certificate_of(call(sandbox, "GET", f"{OPERATORS}/{operator.id}"))[0] == true_text


@pytest.mark.parametrize("identity", ["cut", "garbled"])
def test_a_certificate_may_be_none_at_all(sandbox: Sandbox, tmp_path: Path, identity: str) -> None:
    operator = Operator(sandbox, tmp_path)
    fault(sandbox, kind="certificate", identity=identity)
    text, *_ = certificate_of(call(sandbox, "GET", f"{OPERATORS}/{operator.id}"))
    assert text.startswith("-----BEGIN CERTIFICATE-----")
    with pytest.raises(ValueError):
        x509.load_pem_x509_certificate(text.encode())


def test_an_answer_without_a_certificate_has_none_to_be_wrong(sandbox: Sandbox) -> None:
    fault(sandbox, kind="certificate", identity="other_key")
    created = call(sandbox, "POST", OPERATORS, {"binding": {}})
    assert certificate_of(created)[0] == ""
    assert call(sandbox, "DELETE", f"{OPERATORS}/{created.json['id']}").status == 204
    assert call(sandbox, "GET", f"{OPERATORS}/k8sop_none").status == 404


def test_any_field_may_be_replaced_by_any_value_or_left_out(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    path = f"{OPERATORS}/{Operator(sandbox, tmp_path).id}"
    for url in ("http://a.ns", "http://b.ns"):
        control(sandbox, "POST", "endpoints", {"url": url})
    fields: dict[str, object] = {"binding.cert.not_after": [1], "new.deep": 1, "region": None}
    fault(sandbox, kind="replace", fields=fields, omit=["id"], count=1)
    fault(sandbox, kind="replace", fields={"endpoints.*.url": 7, "endpoints.0": "x"}, count=1)
    fault(sandbox, kind="replace", fields={"": {}, "a": {}, "a.b": [2]}, count=1)
    fault(sandbox, kind="replace", omit=["endpoints.0", "endpoints.99", "uri.x"], count=1)
    operator = call(sandbox, "GET", path).json
    urls, whole, shorter = (call(sandbox, "GET", f"{path}/bound_endpoints").json for _ in range(3))
    assert operator["binding"]["cert"]["not_after"] == [1]
    assert operator["region"] is None and "id" not in operator and "new" not in operator
    assert urls["endpoints"][0] == "x"
    assert {each["url"] for each in urls["endpoints"][1:]} == {7}
    assert whole == {"a": {"b": [2]}}
    assert len(shorter["endpoints"]) == len(urls["endpoints"]) - 1


# Faults of the ingress


def ingress_fault(sandbox: Sandbox, **body: object) -> str:
    return str(control(sandbox, "POST", "faults/ingress", body)["id"])


def test_a_refusing_ingress_has_its_port_closed_and_opens_it_again(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    operator = Operator(sandbox, tmp_path)
    ingress_fault(sandbox, kind="refuse")
    with pytest.raises(ConnectionRefusedError):
        operator.dial()
    control(sandbox, "DELETE", "faults")
    with operator.connect("hello.sandbox", 80) as tunnel:
        assert not tunnel.response.refused


def connect_and_upgrade(connection: socket.socket, operator: Operator) -> None:
    Tunnel(connection, operator.context(), "localhost").upgrade(Target("hello.sandbox", 80))


@pytest.mark.parametrize("at", ["connect", "upgrade"])
def test_a_hanging_ingress_says_nothing(sandbox: Sandbox, tmp_path: Path, at: str) -> None:
    operator = Operator(sandbox, tmp_path)
    ingress_fault(sandbox, kind="hang", at=at, count=1)
    port = int(sandbox.ingress.rpartition(":")[2])
    silent = pytest.raises(socket.timeout)
    with socket.create_connection(("127.0.0.1", port), 0.3) as connection, silent:
        connect_and_upgrade(connection, operator)
    with operator.connect("hello.sandbox", 80) as after:
        assert not after.response.refused


@pytest.mark.parametrize("at", ["connect", "upgrade"])
def test_a_resetting_ingress_resets(sandbox: Sandbox, tmp_path: Path, at: str) -> None:
    ingress_fault(sandbox, kind="reset", at=at)
    with pytest.raises(ConnectionResetError):
        Operator(sandbox, tmp_path).connect("hello.sandbox", 80)


@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        ("self_signed", "self.signed"),
        ("wrong_name", "Hostname mismatch"),
        ("expired", "expired"),
    ],
)
def test_a_lying_ingress_fails_verification(
    sandbox: Sandbox, tmp_path: Path, identity: str, reason: str
) -> None:
    operator = Operator(sandbox, tmp_path)
    ingress_fault(sandbox, kind="certificate", identity=identity, count=1)
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        operator.dial()
    operator.dial().close()


def test_an_error_answers_one_host_only(sandbox: Sandbox, tmp_path: Path) -> None:
    operator = Operator(sandbox, tmp_path)
    ingress_fault(sandbox, kind="error", error_code="ERR_NGROK_702", host="hello.sandbox")
    with operator.connect("hello.sandbox", 80) as refused:
        assert refused.response.error_code == "ERR_NGROK_702"
    with operator.connect("echo.sandbox", 7000) as tunnel:
        assert not tunnel.response.refused


def test_a_slow_answer_comes_byte_by_byte_and_then_the_tunnel_works(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    ingress_fault(sandbox, kind="slow", delay_s=0.005, count=1)
    with Operator(sandbox, tmp_path).connect("echo.sandbox", 7000) as tunnel:
        tunnel.send(b"still")
        assert tunnel.recv_exactly(5) == b"still"


def test_raw_bytes_can_break_the_protocol(sandbox: Sandbox, tmp_path: Path) -> None:
    ingress_fault(sandbox, kind="raw", hex="0200ffff")
    with pytest.raises(ProtocolError):
        Operator(sandbox, tmp_path).connect("echo.sandbox", 7000)


@pytest.mark.parametrize("data", ["220 ready\r\n", ""])
def test_early_data_shares_the_record_of_the_answer(
    sandbox: Sandbox, tmp_path: Path, data: str
) -> None:
    operator = Operator(sandbox, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        control(sandbox, "POST", "endpoints", {"url": "tcp://first.ns:1", "upstream": address})
        ingress_fault(sandbox, kind="early_data", data=data)
        with operator.dial() as tunnel:
            tunnel.send(wire.encode_request(Target("first.ns", 1)))
            upstream, _ = server.accept()
            with upstream:
                upstream.sendall(b"from upstream")
                record = tunnel.recv()
    assert record.endswith(data.encode() or b"from upstream")
    assert len(record) > len(data or "from upstream")


def test_a_notice_does_not_stop_the_tunnel(sandbox: Sandbox, tmp_path: Path) -> None:
    ingress_fault(sandbox, kind="notice", error_message="careful")
    with Operator(sandbox, tmp_path).connect("echo.sandbox", 7000) as tunnel:
        assert tunnel.response.notices == ("careful",)
        assert not tunnel.response.refused


# What was seen


def test_requests_are_shown_without_their_key(sandbox: Sandbox) -> None:
    call(sandbox, "GET", OPERATORS + "?limit=5")
    log = control(sandbox, "GET", "requests")
    [seen] = log["requests"]
    assert (seen["method"], seen["path"], seen["query"]) == ("GET", OPERATORS, "limit=5")
    assert seen["status"] == 200
    assert "sandbox-key" not in json.dumps(log)
    assert control(sandbox, "DELETE", "requests") == {"requests": []}


def test_connections_are_shown_with_what_they_carried(sandbox: Sandbox, tmp_path: Path) -> None:
    operator = Operator(sandbox, tmp_path)
    with operator.connect("echo.sandbox", 7000) as tunnel:
        [now] = control(sandbox, "GET", "connections")["connections"]
        tunnel.send(b"12345")
        tunnel.close_write()
        assert tunnel.recv_all() == b"12345"
    [seen] = control(sandbox, "GET", "connections")["connections"]
    assert now["result"] == "open"
    assert (seen["operator_id"], seen["host"], seen["port"]) == (operator.id, "echo.sandbox", 7000)


def test_a_connection_is_shown_before_its_client_has_the_answer(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    operator = Operator(sandbox, tmp_path)
    ingress_fault(sandbox, kind="slow", delay_s=0.3)
    with operator.dial() as tunnel:
        tunnel.send(wire.encode_request(Target("echo.sandbox", 7000)))
        assert len(tunnel.recv()) == 1
        [now] = control(sandbox, "GET", "connections")["connections"]
    assert (now["result"], now["host"]) == ("open", "echo.sandbox")


def test_settings_change_what_new_operators_are_told(sandbox: Sandbox, tmp_path: Path) -> None:
    changed = control(sandbox, "PATCH", "settings", {"ingress_endpoint": "elsewhere.example:443"})
    assert changed["ingress_endpoint"] == "elsewhere.example:443"
    shown = Operator(sandbox, tmp_path).shown["binding"]
    assert shown["ingress_endpoint"] == "elsewhere.example:443"
