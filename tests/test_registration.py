"""What is said to ngrok, what its answers mean, and which step comes next."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timezone
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.cloud import registrar
from ngrokd.cloud.api import Api
from ngrokd.cloud.certificate import Validity, validity
from ngrokd.cloud.keys import new_key, signing_request
from ngrokd.cloud.registration import (
    DAY_S,
    Operator,
    Standing,
    Step,
    Wish,
    change,
    creation,
    is_operator_id,
    merged_metadata,
    next_step,
    own_operator,
    parse_operator,
    renewal_time,
)
from ngrokd.errors import ApiError, ApiUnavailable, OperatorLost
from tests.cloud_fake import KEY, Authority, FakeApi, Ngrok, Reply, Request

ME = "0123456789abcdef0123456789abcdef"
WISH = Wish(ME, "host-1", "1.2.3", ("true",), "CSR")
YEAR = Validity(0, 365 * DAY_S)
EARLY, LATE = 0.0, 336 * DAY_S

# Bodies


def test_the_creation_body_has_exactly_the_documented_fields() -> None:
    assert creation(WISH) == {
        "description": "ngrokd on host-1",
        "metadata": json.dumps({"ngrokd.installation_id": ME}),
        "enabled_features": ["bindings"],
        "region": "global",
        "deployment": {"name": "host-1", "namespace": "ngrokd", "version": "1.2.3"},
        "binding": {"endpoint_selectors": ["true"], "csr": "CSR"},
    }


def test_the_change_body_repeats_neither_id_nor_namespace_nor_description() -> None:
    body = change(WISH, Operator("k8sop_1"))
    assert set(body) == {"enabled_features", "deployment", "binding", "metadata"}
    assert body["deployment"] == {"name": "host-1", "version": "1.2.3"}


def test_a_change_without_a_request_sends_no_csr() -> None:
    body = change(Wish(ME, "h", "1", ("a", "b")), Operator("k8sop_1"))
    assert body["binding"] == {"endpoint_selectors": ["a", "b"]}


def test_a_long_host_name_is_cut_to_the_apis_bytes_at_a_whole_character() -> None:
    description = creation(Wish(ME, "ü" * 300, "1", ()))["description"]
    assert isinstance(description, str)
    assert 250 < len(description.encode()) <= 255


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ("", {"ngrokd.installation_id": ME}),
        ("{}", {"ngrokd.installation_id": ME}),
        ('{"team": "a"}', {"team": "a", "ngrokd.installation_id": ME}),
        ('{"ngrokd.installation_id": "old"}', {"ngrokd.installation_id": ME}),
        (json.dumps({"ngrokd.installation_id": ME, "team": "a"}), None),
        ("owned by team a", None),
        ("[1]", None),
        ("[" * 5000, None),
        (json.dumps({"long": "x" * 4080}), None),
    ],
)
def test_our_mark_joins_the_metadata_and_loses_nothing_of_it(
    known: str, expected: Optional[dict[str, str]]
) -> None:
    merged = merged_metadata(known, ME)
    assert (None if merged is None else json.loads(merged)) == expected
    assert ("metadata" in change(WISH, Operator("k8sop_1", metadata=known))) is bool(expected)


# Answers


def test_an_operator_is_read_from_the_answer() -> None:
    answer = {
        "id": "k8sop_1",
        "metadata": "m",
        "binding": {
            "endpoint_selectors": None,
            "ingress_endpoint": "connect.ngrok-endpoints.com:443",
            "cert": {"cert": "PEM", "not_before": "2024-01-01T00:00:00Z", "not_after": "odd"},
        },
    }
    expected = Operator("k8sop_1", "PEM", "connect.ngrok-endpoints.com:443", "m")
    assert parse_operator(answer) == expected


@pytest.mark.parametrize(
    "binding",
    [
        None,
        {},
        [],
        {"cert": None},
        {"cert": {"cert": "", "not_after": "0001-01-01T00:00:00Z"}, "ingress_endpoint": None},
        {"cert": {"cert": None}, "ingress_endpoint": 7},
        {"ingress_endpoint": "evil host\n:443"},
    ],
)
def test_an_operator_without_certificate_or_ingress_is_read_as_such(binding: object) -> None:
    assert parse_operator({"id": "k8sop_1", "binding": binding}) == Operator("k8sop_1")


@pytest.mark.parametrize("identity", [None, 7, "", "a b", "a/b", "..", "a\n", "x" * 201])
def test_an_answer_without_a_usable_id_is_no_operator(identity: object) -> None:
    with pytest.raises(ValueError):
        parse_operator({"id": identity})


def test_our_operator_is_the_one_that_carries_our_mark() -> None:
    def marked(identity: str, metadata: object) -> dict[str, object]:
        return {"id": identity, "metadata": metadata, "binding": None}

    others = [
        "text",
        {"id": 7},
        marked("k8sop_1", ""),
        marked("k8sop_2", "not json " + ME),
        marked("k8sop_3", None),
        marked("k8sop_4", json.dumps({"ngrokd.installation_id": "other"})),
        marked("k8sop_5", json.dumps([ME])),
    ]
    mine = marked("k8sop_6", json.dumps({"team": "a", "ngrokd.installation_id": ME}))
    assert own_operator([*others, mine], ME) == "k8sop_6"
    assert own_operator(others, ME) == ""


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.fixed_dictionaries({"id": st.just("k8sop_1"), "binding": anything, "metadata": anything}))
def test_any_answer_with_an_id_is_an_operator(answer: dict[str, object]) -> None:
    assert parse_operator(answer).id == "k8sop_1"
    assert own_operator([answer], ME) == ""


@given(st.text())
def test_an_operator_id_is_one_harmless_word(text: str) -> None:
    if is_operator_id(text):
        assert text.isascii() and text.isprintable() and not set(text) & set(" /?#%\\")


# The next step


@pytest.mark.parametrize(
    ("standing", "now", "step"),
    [
        (Standing(), EARLY, Step.REGISTER),
        (Standing("k8sop_1"), EARLY, Step.REGISTER),
        (Standing("", YEAR, ("true",)), EARLY, Step.REGISTER),
        (Standing("k8sop_1", YEAR, ("true",)), EARLY, None),
        (Standing("k8sop_1", YEAR, ("true",)), 335 * DAY_S - 1, None),
        (Standing("k8sop_1", YEAR, ("true",)), 335 * DAY_S, Step.RENEW),
        (Standing("k8sop_1", YEAR, ("true",)), 400 * DAY_S, Step.RENEW),
        (Standing("k8sop_1", YEAR, ("other",)), EARLY, Step.UPDATE),
        (Standing("k8sop_1", YEAR, None), EARLY, Step.UPDATE),
        (Standing("k8sop_1", YEAR, ("other",)), LATE, Step.RENEW),
    ],
)
def test_the_most_urgent_step_comes_first(
    standing: Standing, now: float, step: Optional[Step]
) -> None:
    assert next_step(standing, now, ("true",)) is step


@pytest.mark.parametrize(
    ("days", "renew_at"), [(365, 335), (91, 61), (90, 60), (30, 20), (3, 2), (0, 0), (-1, -1)]
)
def test_a_short_life_is_renewed_in_its_last_third(days: int, renew_at: int) -> None:
    assert renewal_time(Validity(0, days * DAY_S)) == renew_at * DAY_S


# The certificate's dates


def test_the_dates_of_a_certificate_are_those_it_was_signed_with() -> None:
    pem = Authority().sign(signing_request(new_key()))
    assert validity(pem) == Validity(1704067200, 2335219200)
    assert validity("junk\n" + pem + pem) == Validity(1704067200, 2335219200)
    assert validity(Authority().root_pem()) == Validity(1704067200, 2335219200)


def test_dates_of_both_centuries_are_read() -> None:
    early, late = (datetime(year, 6, 1, tzinfo=timezone.utc) for year in (1970, 2055))
    pem = Authority().sign(signing_request(new_key()), early, late)
    assert validity(pem) == Validity(early.timestamp(), late.timestamp())


@given(st.binary(max_size=300))
def test_any_bytes_in_a_pem_are_dates_or_a_value_error(content: bytes) -> None:
    pem = f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(content).decode()}\n"
    pem += "-----END CERTIFICATE-----\n"
    try:
        validity(pem)
    except ValueError as exc:
        assert str(exc)


PEM = Authority().sign(signing_request(new_key()))


@given(st.integers(0, len(PEM) - 1), st.characters(codec="ascii"))
def test_a_certificate_with_one_wrong_character_is_read_or_a_value_error(
    place: int, char: str
) -> None:
    try:
        found = validity(PEM[:place] + char + PEM[place + 1 :])
    except ValueError:
        return
    assert isinstance(found.not_after, float)


@pytest.mark.parametrize("length", range(0, len(PEM), 7))
def test_a_certificate_cut_short_is_a_value_error(length: int) -> None:
    with pytest.raises(ValueError):
        validity(PEM[:length])


# The jobs


def asked(fake: FakeApi) -> list[str]:
    return [f"{each.method} {each.path}" for each in fake.requests]


def test_the_first_registration_makes_an_operator() -> None:
    ngrok = Ngrok()
    wish = Wish(ME, "h", "1", ("true",), signing_request(new_key()))
    with FakeApi(ngrok.answer) as fake:
        operator = registrar.register(Api(fake.url, KEY, "1"), wish, "")
    assert asked(fake) == ["GET /kubernetes_operators", "POST /kubernetes_operators"]
    assert (operator.id, operator.selectors) == ("k8sop_1", ("true",))
    assert operator.ingress_endpoint == "ingress.test:443"


def test_our_own_operator_is_adopted_instead_of_a_second_one() -> None:
    ngrok = Ngrok()
    wish = Wish(ME, "h", "1", ("true",), signing_request(new_key()))
    with FakeApi(ngrok.answer) as fake:
        api = Api(fake.url, KEY, "1")
        registrar.register(api, wish, "")
        operator = registrar.register(api, wish, "")
    assert operator.id == "k8sop_1" and operator.certificate
    assert list(ngrok.operators) == ["k8sop_1"]


def test_our_own_operator_is_found_on_a_later_page() -> None:
    mine = {"id": "k8sop_7", "metadata": json.dumps({"ngrokd.installation_id": ME})}
    certificate = Authority().sign(signing_request(new_key()))

    def answer(request: Request) -> Reply:
        if request.path.startswith("/kubernetes_operators/"):
            return Reply(200, {**mine, "binding": {"cert": {"cert": certificate}}})
        if "before_id" in request.path:
            return Reply(200, {"operators": [mine], "next_page_uri": None})
        link = "/kubernetes_operators?before_id=k8sop_8"
        return Reply(200, {"operators": [{"id": "k8sop_8"}], "next_page_uri": link})

    with FakeApi(answer) as fake:
        assert registrar.register(Api(fake.url, KEY, "1"), WISH, "").id == "k8sop_7"


def test_a_known_operator_gets_a_certificate_without_a_look_at_the_list() -> None:
    ngrok = Ngrok()
    ngrok.operators["k8sop_9"] = {"id": "k8sop_9", "metadata": "of a person"}
    wish = Wish(ME, "h", "1", ("true",), signing_request(new_key()))
    with FakeApi(ngrok.answer) as fake:
        operator = registrar.register(Api(fake.url, KEY, "1"), wish, "k8sop_9")
    assert operator.id == "k8sop_9"
    path = "/kubernetes_operators/k8sop_9"
    assert asked(fake) == [f"GET {path}", f"PATCH {path}"]
    assert ngrok.operators["k8sop_9"]["metadata"] == "of a person"


def test_a_known_operator_that_is_gone_is_replaced() -> None:
    ngrok = Ngrok()
    wish = Wish(ME, "h", "1", ("true",), signing_request(new_key()))
    with FakeApi(ngrok.answer) as fake:
        operator = registrar.register(Api(fake.url, KEY, "1"), wish, "k8sop_gone")
    assert operator.id == "k8sop_1"


def test_an_update_tells_the_selectors_and_takes_no_certificate() -> None:
    ngrok = Ngrok()
    ngrok.operators["k8sop_1"] = {"id": "k8sop_1", "metadata": ""}
    with FakeApi(ngrok.answer) as fake:
        operator = registrar.update(Api(fake.url, KEY, "1"), Wish(ME, "h", "1", ("x",)), "k8sop_1")
    binding = fake.requests[-1].json()["binding"]
    assert binding == {"endpoint_selectors": ["x"]}
    assert (operator.certificate, operator.selectors) == ("", ("x",))


@pytest.mark.parametrize("job", [registrar.renew, registrar.update])
def test_a_step_for_an_operator_that_is_gone_says_that_it_is_lost(job: registrar.Job) -> None:
    with FakeApi(Ngrok().answer) as fake, pytest.raises(OperatorLost):
        job(Api(fake.url, KEY, "1"), WISH, "k8sop_gone")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"id": "k8sop_1", "binding": {"cert": {"cert": ""}}}, "without a certificate"),
        ({"id": "k8sop_1", "binding": {"cert": {"cert": "junk"}}}, "unusable"),
        ({"id": ""}, "not an operator"),
        ({}, "not an operator"),
    ],
)
def test_an_answer_without_operator_or_certificate_is_tried_again(
    answer: object, words: str
) -> None:
    def reply(request: Request) -> Reply:
        return Reply(200, {"operators": []} if request.method == "GET" else answer)

    with FakeApi(reply) as fake, pytest.raises(ApiUnavailable, match=words):
        registrar.register(Api(fake.url, KEY, "1"), WISH, "")


def test_a_refused_registration_says_why() -> None:
    def reply(request: Request) -> Reply:
        if request.method == "GET":
            return Reply(200, {"operators": []})
        return Reply(400, {"error_code": "ERR_NGROK_19003", "msg": "bad CEL"})

    with FakeApi(reply) as fake, pytest.raises(ApiError, match=r"bad CEL.*bound_endpoints"):
        registrar.register(Api(fake.url, KEY, "1"), WISH, "")
