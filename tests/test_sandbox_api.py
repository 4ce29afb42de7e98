"""The sandbox's API answers as ngrok's is documented to."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngrokd.sandbox.books import Books
from ngrokd.sandbox.ca import Authority
from ngrokd.sandbox.cloud import EndpointSpec, Sandbox
from ngrokd.sandbox.messages import Request
from ngrokd.sandbox.service import Service
from tests.sandbox_client import (
    JSON_HEADERS,
    KEY_HEADERS,
    Answer,
    call,
    control,
    new_csr,
    running,
    send,
)

OPERATORS = "/kubernetes_operators"
ALL_HEADERS = {**KEY_HEADERS, **JSON_HEADERS}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    yield from running(tmp_path_factory.mktemp("api"), samples=False)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox that the test may change."""
    yield from running(tmp_path / "own", samples=False)


def register(sandbox: Sandbox, **body: Any) -> Any:
    answer = call(sandbox, "POST", OPERATORS, body)
    assert answer.status == 201, answer
    return answer.json


def assert_error(answer: Answer, status: int, code: str) -> None:
    body = answer.json
    assert (answer.status, body.get("error_code", "")) == (status, code), body
    assert body["status_code"] == status
    assert body["msg"]
    assert body["details"]["operation_id"] == answer.headers["ngrok-operation-id"]


@pytest.mark.parametrize(
    ("authorization", "status", "code"),
    [
        (None, 401, "ERR_NGROK_200"),
        ("Digest x", 401, "ERR_NGROK_201"),
        ("Bearer", 401, "ERR_NGROK_201"),
        ("Bearer short", 403, "ERR_NGROK_202"),
        ("Bearer 2aBcDeFgHiJk_secret", 403, "ERR_NGROK_203"),
        ("Bearer cr_2aBcDeFgHiJk", 403, "ERR_NGROK_206"),
    ],
)
def test_a_bad_credential_is_refused_with_its_own_code(
    sandbox: Sandbox, authorization: Optional[str], status: int, code: str
) -> None:
    headers = {"Ngrok-Version": "2"}
    if authorization is not None:
        headers["Authorization"] = authorization
    answer = send(sandbox, "GET", OPERATORS, headers=headers)
    assert_error(answer, status, code)
    assert b"secret" not in answer.content


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "code"),
    [
        ("GET", OPERATORS, None, {"Ngrok-Version": ""}, 400, "ERR_NGROK_217"),
        ("GET", OPERATORS, None, {"Ngrok-Version": "1"}, 400, "ERR_NGROK_217"),
        ("GET", OPERATORS, b"{}", {}, 400, "ERR_NGROK_211"),
        ("GET", OPERATORS + "?page=2", None, {}, 400, "ERR_NGROK_231"),
        ("GET", OPERATORS + "?limit=1&limit=2", None, {}, 400, "ERR_NGROK_232"),
        ("GET", OPERATORS + "?limit=0", None, {}, 400, "ERR_NGROK_233"),
        ("GET", OPERATORS + "?limit=101", None, {}, 400, "ERR_NGROK_233"),
        ("GET", OPERATORS + "?limit=ten", None, {}, 400, "ERR_NGROK_244"),
        ("GET", OPERATORS + "?before_id=ep_1", None, {}, 400, "ERR_NGROK_227"),
        ("GET", OPERATORS + "?limit", None, {}, 400, "ERR_NGROK_230"),
        ("GET", OPERATORS + "/k8sop_none", None, {}, 404, ""),
        ("DELETE", OPERATORS + "/k8sop_none", None, {}, 404, ""),
        ("PATCH", OPERATORS + "/k8sop_none", b"{}", JSON_HEADERS, 404, ""),
        ("GET", OPERATORS + "/k8sop_none/bound_endpoints", None, {}, 404, ""),
        ("GET", "/endpoints_of_another_api", None, {}, 404, ""),
        ("PUT", OPERATORS, b"{}", JSON_HEADERS, 404, ""),
        ("POST", OPERATORS, b"{}", {}, 400, "ERR_NGROK_216"),
        ("POST", OPERATORS, b"{}", {"Content-Type": "text/plain"}, 400, "ERR_NGROK_210"),
        ("POST", OPERATORS, b"{", JSON_HEADERS, 400, "ERR_NGROK_213"),
        ("POST", OPERATORS, b"[]", JSON_HEADERS, 400, "ERR_NGROK_213"),
        ("POST", OPERATORS, b"[" * 100_000, JSON_HEADERS, 400, "ERR_NGROK_213"),
        ("POST", OPERATORS + "?x=1", b"{}", JSON_HEADERS, 400, "ERR_NGROK_231"),
        ("POST", OPERATORS, b'{"id": "x"}', JSON_HEADERS, 400, "ERR_NGROK_214"),
        ("POST", OPERATORS, b'{"binding": {"cert": "x"}}', JSON_HEADERS, 400, "ERR_NGROK_214"),
        ("POST", OPERATORS, b'{"description": 1}', JSON_HEADERS, 400, "ERR_NGROK_215"),
        ("POST", OPERATORS, b'{"deployment": "x"}', JSON_HEADERS, 400, "ERR_NGROK_215"),
        ("POST", OPERATORS, b'{"region": "mars"}', JSON_HEADERS, 400, "ERR_NGROK_19002"),
        ("POST", OPERATORS, b'{"enabled_features": ["x"]}', JSON_HEADERS, 400, "ERR_NGROK_19002"),
        (
            "POST",
            OPERATORS,
            b'{"binding": {"endpoint_selectors": ["endpoint.url =="]}}',
            JSON_HEADERS,
            400,
            "ERR_NGROK_19003",
        ),
    ],
)
def test_a_request_that_ngrok_refuses_is_refused_with_its_code(
    sandbox: Sandbox,
    method: str,
    path: str,
    body: Optional[bytes],
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    answer = send(sandbox, method, path, body, {**KEY_HEADERS, **headers})
    assert_error(answer, status, code)


def test_a_missing_version_is_218(sandbox: Sandbox) -> None:
    headers = {"Authorization": "Bearer sandbox-key"}
    assert_error(send(sandbox, "GET", OPERATORS, headers=headers), 400, "ERR_NGROK_218")


def test_texts_are_limited_in_bytes_not_characters(sandbox: Sandbox) -> None:
    assert_error(
        call(sandbox, "POST", OPERATORS, {"description": "ä" * 128}), 400, "ERR_NGROK_215"
    )
    assert call(sandbox, "POST", OPERATORS, {"description": "ä" * 127}).status == 201


@given(body=st.binary(max_size=200))
@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_body_gets_anything_but_a_json_answer(sandbox: Sandbox, body: bytes) -> None:
    answer = send(sandbox, "POST", OPERATORS, body, ALL_HEADERS)
    assert answer.status in (201, 400)
    assert isinstance(answer.json, dict)


FIELDS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["binding", "csr", "deployment", "endpoint_selectors", "region", "x"]),
        inner,
        max_size=3,
    ),
    max_leaves=8,
)


@given(body=st.dictionaries(st.sampled_from(["binding", "deployment", "metadata"]), FIELDS))
@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_shape_of_a_body_breaks_the_api(sandbox: Sandbox, body: Any) -> None:
    assert call(sandbox, "POST", OPERATORS, body).status in (201, 400)


# Operators


def test_an_operator_is_created_read_changed_listed_and_deleted(own: Sandbox) -> None:
    created = register(
        own,
        description="d",
        metadata="m",
        enabled_features=["Bindings"],
        deployment={"name": "n", "namespace": "s", "version": "1", "cluster_name": "c"},
        binding={"endpoint_selectors": ["true"], "csr": new_csr()},
    )
    path = f"{OPERATORS}/{created['id']}"
    assert created["id"].startswith("k8sop_")
    assert created["enabled_features"] == ["bindings"]
    assert created["binding"]["ingress_endpoint"] == own.ingress
    assert created["uri"] == own.api_url + path
    assert call(own, "GET", path).json == created
    changed = call(own, "PATCH", path, {"description": "e", "deployment": {"version": "2"}})
    assert changed.status == 200
    assert changed.json["description"] == "e"
    assert changed.json["deployment"]["version"] == "2"
    assert changed.json["deployment"]["name"] == "n"
    assert changed.json["binding"] == created["binding"]
    listed = call(own, "GET", OPERATORS).json
    assert [each["id"] for each in listed["operators"]] == [created["id"]]
    assert listed["next_page_uri"] is None
    gone = call(own, "DELETE", path)
    assert (gone.status, gone.content) == (204, b"")
    assert call(own, "GET", path).status == 404


def test_a_change_may_not_carry_what_only_creation_may(own: Sandbox) -> None:
    created = register(own)
    answer = call(
        own, "PATCH", f"{OPERATORS}/{created['id']}", {"deployment": {"namespace": "other"}}
    )
    assert_error(answer, 400, "ERR_NGROK_214")


def test_without_a_csr_the_certificate_is_empty_with_the_year_one(sandbox: Sandbox) -> None:
    shown = register(sandbox, binding={"endpoint_selectors": ["true"]})["binding"]
    zero = "0001-01-01T00:00:00Z"
    assert shown["cert"] == {"cert": "", "not_before": zero, "not_after": zero}
    assert "ingress_endpoint" not in shown
    assert register(sandbox)["binding"] is None


def test_a_new_csr_renews_the_certificate(sandbox: Sandbox) -> None:
    created = register(sandbox, binding={"csr": new_csr()})
    path = f"{OPERATORS}/{created['id']}"
    renewed = call(sandbox, "PATCH", path, {"binding": {"csr": new_csr()}}).json
    assert renewed["binding"]["cert"]["cert"] != created["binding"]["cert"]["cert"]


@pytest.mark.parametrize(
    "make_csr",
    [
        lambda: "nonsense",
        lambda: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        lambda: new_csr(common_name="me"),
        lambda: new_csr(rsa.generate_private_key(65537, 1024)),
        lambda: "\ud800",
    ],
    ids=["words", "no request", "a common name", "a short key", "half a character"],
)
def test_a_csr_that_ngrok_would_not_sign_is_19001(
    sandbox: Sandbox, make_csr: Callable[[], str]
) -> None:
    csr = make_csr()
    before = call(sandbox, "GET", OPERATORS).json["operators"]
    answer = call(sandbox, "POST", OPERATORS, {"binding": {"csr": csr}})
    assert_error(answer, 400, "ERR_NGROK_19001")
    assert call(sandbox, "GET", OPERATORS).json["operators"] == before


@pytest.mark.parametrize(
    "make_key",
    [
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: rsa.generate_private_key(65537, 2048),
    ],
)
def test_other_usual_keys_are_signed_too(sandbox: Sandbox, make_key: Callable[[], Any]) -> None:
    key = make_key()
    issued = register(sandbox, binding={"csr": new_csr(key)})["binding"]["cert"]["cert"]
    assert x509.load_pem_x509_certificate(issued.encode()).public_key() == key.public_key()


def test_the_dates_shown_are_those_of_the_certificate(own: Sandbox) -> None:
    control(own, "PATCH", "settings", {"certificate_lifetime": 120})
    shown = register(own, binding={"csr": new_csr()})["binding"]["cert"]
    certificate = x509.load_pem_x509_certificate(shown["cert"].encode())
    assert shown["not_after"] == certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert shown["not_before"] == certificate.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_restart_on_the_same_folder_is_the_same_cloud(tmp_path: Path) -> None:
    first = Sandbox(tmp_path / "cloud", samples=False)
    first.start()
    created = register(first, metadata="m", binding={"csr": new_csr()})
    anchor = first.ca_file.read_bytes()
    first.stop()
    second = Sandbox(tmp_path / "cloud", samples=False)
    second.start()
    again = call(second, "GET", f"{OPERATORS}/{created['id']}").json
    second.stop()
    assert second.ca_file.read_bytes() == anchor
    assert again["metadata"] == "m"
    assert again["binding"]["cert"] == created["binding"]["cert"]


# Bound endpoints


def add(sandbox: Sandbox, *urls: str) -> list[str]:
    body = {"endpoints": [{"url": url} for url in urls]}
    return [each["id"] for each in control(sandbox, "POST", "endpoints", body)["endpoints"]]


def pages(sandbox: Sandbox, path: str) -> list[Any]:
    """Follows next_page_uri to the end."""
    found = []
    following: Optional[str] = path
    while following:
        page = call(sandbox, "GET", following).json
        found.append(page["endpoints"])
        following = page["next_page_uri"]
        assert following is None or following.startswith(sandbox.api_url + "/")
        following = following and following[len(sandbox.api_url) :]
    return found


def test_250_endpoints_come_in_three_pages_newest_first(own: Sandbox) -> None:
    ids = add(own, *(f"http://host{number}.ns" for number in range(250)))
    operator = register(own)["id"]
    found = pages(own, f"{OPERATORS}/{operator}/bound_endpoints")
    assert [len(page) for page in found] == [100, 100, 50]
    assert [each["id"] for page in found for each in page] == ids[::-1]


def test_a_page_size_is_kept_over_the_pages(own: Sandbox) -> None:
    add(own, *(f"http://host{number}.ns" for number in range(5)))
    operator = register(own)["id"]
    found = pages(own, f"{OPERATORS}/{operator}/bound_endpoints?limit=2")
    assert [len(page) for page in found] == [2, 2, 1]


def test_the_next_page_is_right_though_its_bookmark_has_been_removed(own: Sandbox) -> None:
    ids = add(own, *(f"http://host{number}.ns" for number in range(4)))
    path = f"{OPERATORS}/{register(own)['id']}/bound_endpoints"
    page = call(own, "GET", f"{path}?limit=2").json
    control(own, "DELETE", f"endpoints/{page['endpoints'][-1]['id']}")
    rest = call(own, "GET", page["next_page_uri"][len(own.api_url) :]).json["endpoints"]
    assert [each["id"] for each in rest] == [ids[1], ids[0]]


def test_an_endpoint_has_the_documented_fields(own: Sandbox) -> None:
    [identifier] = add(own, "tls://api.cust")
    path = f"{OPERATORS}/{register(own)['id']}/bound_endpoints"
    [shown] = call(own, "GET", path).json["endpoints"]
    assert shown["id"] == identifier
    assert (shown["url"], shown["public_url"]) == ("tls://api.cust", "tls://api.cust")
    assert (shown["proto"], shown["host"], shown["port"]) == ("tls", "api.cust", 443)
    assert shown["bindings"] == ["kubernetes"]
    assert shown["pooling_enabled"] is False


@pytest.mark.parametrize(
    ("selectors", "hosts"),
    [
        ([], ["a.prod", "b.staging"]),
        (["true"], ["a.prod", "b.staging"]),
        (["false"], []),
        (['endpoint.url.contains(".staging")'], ["b.staging"]),
        (['endpoint.host == "a.prod" && endpoint.port == 80'], ["a.prod"]),
        (['!(endpoint.proto in ["http"]) || endpoint.host.endsWith("prod")'], ["a.prod"]),
        (['endpoint.host.matches("^b")', "false"], ["b.staging"]),
        (["endpoint.nothing == 1"], []),
        (["endpoint.host < 5"], []),
    ],
)
def test_selectors_choose_what_is_listed(
    own: Sandbox, selectors: list[str], hosts: list[str]
) -> None:
    add(own, "http://a.prod", "http://b.staging")
    operator = register(own, binding={"endpoint_selectors": selectors})
    shown = call(own, "GET", f"{OPERATORS}/{operator['id']}/bound_endpoints").json["endpoints"]
    assert sorted(each["host"] for each in shown) == hosts


def test_the_rate_limit_is_429_with_its_code(own: Sandbox) -> None:
    control(own, "PATCH", "settings", {"rate_limit": 2})
    statuses = [call(own, "GET", OPERATORS).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert_error(call(own, "GET", OPERATORS), 429, "ERR_NGROK_226")


def test_the_rate_limit_counts_what_faults_answer_and_a_minute_at_a_time(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    books = Books(tmp_path / "operators.json", lambda: now)
    books.settings = replace(books.settings, rate_limit=2)
    service = Service(books, Authority(tmp_path / "cloud"), "sandbox-key")
    asked = Request(
        "GET", OPERATORS, headers={name.lower(): KEY_HEADERS[name] for name in KEY_HEADERS}
    )

    service.count_call()
    now += 30
    assert [service.answer(asked).status for _ in range(2)] == [200, 429]
    now += 30
    assert [service.answer(asked).status for _ in range(2)] == [200, 429]
    now += 29.9
    assert service.answer(asked).status == 429
    now += 0.1
    assert service.answer(asked).status == 200


def test_a_connection_serves_several_requests(sandbox: Sandbox) -> None:
    connection = http.client.HTTPConnection(sandbox.api_url[len("http://") :], timeout=10)
    for _ in range(2):
        connection.request("GET", OPERATORS, headers=KEY_HEADERS)
        reply = connection.getresponse()
        assert reply.status == 200
        json.loads(reply.read())
    connection.close()


def test_specified_endpoints_are_listed_from_the_start(tmp_path: Path) -> None:
    specs = [EndpointSpec("http://one.ns"), EndpointSpec("http://one.ns")]
    sandbox = Sandbox(tmp_path, specs, samples=False)
    sandbox.start()
    path = f"{OPERATORS}/{register(sandbox)['id']}/bound_endpoints"
    shown = call(sandbox, "GET", path).json["endpoints"]
    sandbox.stop()
    assert [each["pooling_enabled"] for each in shown] == [True, True]
