"""What is said to ngrok of this machine, and what its answers mean."""

from __future__ import annotations

import json
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.cloud import registrar
from ngrokd.cloud.api import Api
from ngrokd.cloud.keys import new_key, signing_request
from ngrokd.cloud.operators import (
    Operator,
    Wish,
    change,
    creation,
    is_operator_id,
    merged_metadata,
    own_operator,
    parse_operator,
)
from ngrokd.cloud.registration import Profile
from ngrokd.errors import ApiError, ApiUnavailable, OperatorLost
from tests.cloud_fake import KEY, Authority, FakeApi, Ngrok, Reply, Request

ME = "0123456789abcdef0123456789abcdef"
PROFILE = Profile(("true",), "host-1", "1.2.3")
WISH = Wish(ME, PROFILE, "CSR")
FIRST = Wish(ME, PROFILE, "CSR", first=True)
SIGNED = Authority().sign(signing_request(new_key()))

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
    body = change(Wish(ME, Profile(("a", "b"), "h", "1")), Operator("k8sop_1"))
    assert body["binding"] == {"endpoint_selectors": ["a", "b"]}


@given(st.lists(st.text(st.sampled_from("a\u00fc\udcff\ud800\U0001f600")), min_size=1, max_size=3))
def test_every_text_of_this_machine_can_be_sent(texts: list[str]) -> None:
    wish = Wish(ME, Profile(tuple(texts), texts[0], "1"))
    for body in (creation(wish), change(wish, Operator("k8sop_1"))):
        assert json.loads(json.dumps(body, ensure_ascii=False).encode()) == body


def test_a_host_name_that_is_not_utf_8_is_sent_with_marks_in_its_place() -> None:
    body = creation(Wish(ME, Profile(("a\ud800",), "h\udcffx", "1")))
    assert body["description"] == "ngrokd on h?x"
    assert body["deployment"] == {"name": "h?x", "namespace": "ngrokd", "version": "1"}
    assert body["binding"] == {"endpoint_selectors": ["a?"]}


def test_a_long_host_name_is_cut_to_the_apis_bytes_at_a_whole_character() -> None:
    description = creation(Wish(ME, Profile((), "ü" * 300, "1")))["description"]
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


# The jobs


def asked(fake: FakeApi) -> list[str]:
    return [f"{each.method} {each.path}" for each in fake.requests]


def test_the_first_registration_makes_an_operator() -> None:
    ngrok = Ngrok()
    wish = Wish(ME, PROFILE, signing_request(new_key()))
    with FakeApi(ngrok.answer) as fake:
        operator = registrar.register(Api(fake.url, KEY, "1"), wish, "")
    assert asked(fake) == ["GET /kubernetes_operators", "POST /kubernetes_operators"]
    assert (operator.id, operator.told) == ("k8sop_1", PROFILE)
    assert operator.ingress_endpoint == "ingress.test:443"


def test_a_mark_that_was_never_sent_is_not_looked_for() -> None:
    ngrok = Ngrok()
    wish = Wish(ME, PROFILE, signing_request(new_key()), first=True)
    with FakeApi(ngrok.answer) as fake:
        registrar.register(Api(fake.url, KEY, "1"), wish, "")
    assert asked(fake) == ["POST /kubernetes_operators"]


@pytest.mark.parametrize("known", ["k8sop_1", ""], ids=["known", "known by its mark alone"])
def test_leaving_deletes_our_operator(known: str) -> None:
    ngrok = Ngrok()
    wish = Wish(ME, PROFILE, signing_request(new_key()))
    with FakeApi(ngrok.answer) as fake:
        api = Api(fake.url, KEY, "1")
        registrar.register(api, wish, "")
        assert registrar.leave(api, known, ME) == "k8sop_1"
    assert ngrok.operators == {}


def test_leaving_without_an_operator_is_done_already() -> None:
    with FakeApi(Ngrok().answer) as fake:
        api = Api(fake.url, KEY, "1")
        assert registrar.leave(api, "k8sop_gone", ME) == "k8sop_gone", "404 is as good"
        assert registrar.leave(api, "", ME) == ""
        assert registrar.leave(api, "", "") == ""
    assert len(fake.requests) == 2


def test_our_own_operator_is_adopted_instead_of_a_second_one() -> None:
    ngrok = Ngrok()
    wish = Wish(ME, PROFILE, signing_request(new_key()))
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
    wish = Wish(ME, PROFILE, signing_request(new_key()))
    with FakeApi(ngrok.answer) as fake:
        operator = registrar.register(Api(fake.url, KEY, "1"), wish, "k8sop_9")
    assert operator.id == "k8sop_9"
    path = "/kubernetes_operators/k8sop_9"
    assert asked(fake) == [f"GET {path}", f"PATCH {path}"]
    assert ngrok.operators["k8sop_9"]["metadata"] == "of a person"


def test_a_known_operator_that_is_gone_is_replaced() -> None:
    ngrok = Ngrok()
    wish = Wish(ME, PROFILE, signing_request(new_key()))
    with FakeApi(ngrok.answer) as fake:
        operator = registrar.register(Api(fake.url, KEY, "1"), wish, "k8sop_gone")
    assert operator.id == "k8sop_1"


def test_an_update_tells_the_selectors_and_takes_no_certificate() -> None:
    ngrok = Ngrok()
    ngrok.operators["k8sop_1"] = {"id": "k8sop_1", "metadata": ""}
    with FakeApi(ngrok.answer) as fake:
        wish = Wish(ME, Profile(("x",), "h", "1"))
        operator = registrar.update(Api(fake.url, KEY, "1"), wish, "k8sop_1")
    binding = fake.requests[-1].json()["binding"]
    assert binding == {"endpoint_selectors": ["x"]}
    assert (operator.certificate, operator.told) == ("", Profile(("x",), "h", "1"))


@pytest.mark.parametrize("job", [registrar.renew, registrar.update, registrar.look])
def test_an_answer_about_another_operator_is_none(job: registrar.Job) -> None:
    def reply(request: Request) -> Reply:
        binding = {"cert": {"cert": Authority().sign(signing_request(new_key()))}}
        return Reply(200, {"id": "k8sop_other", "binding": binding})

    with FakeApi(reply) as fake, pytest.raises(ApiUnavailable, match="instead of k8sop_1"):
        job(Api(fake.url, KEY, "1"), WISH, "k8sop_1")


@pytest.mark.parametrize("job", [registrar.renew, registrar.update, registrar.look])
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


@pytest.mark.parametrize("junk", ["\ud800", "x\n" * 600_000, "-----BEGIN CERTIFICATE-----" * 2000])
def test_a_certificate_that_comes_in_hostile_text_is_asked_for_again(junk: str) -> None:
    operator = {"id": "k8sop_1", "binding": {"cert": {"cert": junk + SIGNED}}}
    with FakeApi(lambda _: Reply(201, operator)) as fake, pytest.raises(ApiUnavailable) as caught:
        registrar.register(Api(fake.url, KEY, "1"), FIRST, "")
    assert "the certificate of operator k8sop_1 is unusable" in str(caught.value)


def test_a_private_key_that_comes_with_a_certificate_is_not_taken_along() -> None:
    cert = f"{new_key().decode()}bag\n{SIGNED}"
    with FakeApi(lambda _: Reply(201, {"id": "x", "binding": {"cert": {"cert": cert}}})) as fake:
        operator = registrar.register(Api(fake.url, KEY, "1"), FIRST, "")
    assert operator.certificate == SIGNED
