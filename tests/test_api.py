"""The API client: what it sends, what it accepts, and what each wrong answer becomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngrokd.cloud.api import Api
from ngrokd.cloud.apierrors import Asked
from ngrokd.cloud.operators import is_operator_id, own_operator, parse_operator
from ngrokd.cloud.polling import poll
from ngrokd.errors import ApiError, ApiRefused, ApiUnavailable, OperatorLost
from ngrokd.model import Target
from tests.api_room import Serve, client, closed_url, fails, no_proxies, page, serve, shows_a_piece
from tests.cloud_fake import KEY, FakeApi, Reply, Request
from tests.fair import Stopwatch

__all__ = ["no_proxies", "serve"]  # fixtures


# What is sent


def test_a_request_carries_key_version_and_name_and_a_get_no_body(serve: Serve) -> None:
    fake = serve(lambda _: page("http://web.ns"))
    client(fake).bound_endpoints("k8sop_1")
    (sent,) = fake.requests
    assert (sent.method, sent.path) == ("GET", "/kubernetes_operators/k8sop_1/bound_endpoints")
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.headers["ngrok-version"] == "2"
    assert sent.headers["user-agent"] == "ngrokd/1.2.3"
    assert not {"content-type", "content-length", "transfer-encoding"} & set(sent.headers)


def test_post_and_patch_send_exactly_the_body_as_json(serve: Serve) -> None:
    fake = serve(lambda request: Reply(201, {"id": "k8sop_1"}))
    client(fake).create_operator({"region": "global"})
    client(fake).update_operator("k8sop_1", {"metadata": "é"})
    assert [(each.method, each.path, each.json()) for each in fake.requests] == [
        ("POST", "/kubernetes_operators", {"region": "global"}),
        ("PATCH", "/kubernetes_operators/k8sop_1", {"metadata": "é"}),
    ]
    assert fake.requests[0].headers["content-type"] == "application/json"


GONE = {"status_code": 404, "msg": "Resource not found"}


@pytest.mark.parametrize("reply", [Reply(204), Reply(200), Reply(200, {}), Reply(404, GONE)])
def test_deleting_an_operator_that_is_gone_succeeds(serve: Serve, reply: Reply) -> None:
    fake = serve(lambda _: reply)
    client(fake).delete_operator("k8sop_1")
    assert (fake.requests[0].method, fake.requests[0].body) == ("DELETE", b"")
    assert "content-type" not in fake.requests[0].headers


@pytest.mark.parametrize(
    "reply",
    [
        Reply(404),
        Reply(404, body=b"404 page not found\n"),
        Reply(404, {"message": "no Route matched with those values"}),
        Reply(404, {**GONE, "error_code": "ERR_NGROK_226"}),
        Reply(200, body=b"<html><title>Hotel</title>"),
        Reply(200, body=b"OK"),
    ],
)
def test_a_delete_that_the_api_never_saw_is_tried_again(serve: Serve, reply: Reply) -> None:
    fake = serve(lambda _: reply)
    with pytest.raises(ApiUnavailable):
        client(fake).delete_operator("k8sop_1")


def test_a_delete_that_is_refused_says_so(serve: Serve) -> None:
    fake = serve(lambda _: Reply(403, {"msg": "no"}))
    with pytest.raises(ApiRefused):
        client(fake).delete_operator("k8sop_1")


def test_a_key_is_checked_by_one_page_whatever_follows_it(serve: Serve) -> None:
    fake = serve(lambda _: Reply(200, {"operators": [{}], "next_page_uri": "?before_id=1"}))
    client(fake).check_key()
    assert [each.path for each in fake.requests] == ["/kubernetes_operators"]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(401, {"error_code": "ERR_NGROK_203"}), ApiRefused),
        (Reply(429, {"error_code": "ERR_NGROK_226"}), ApiUnavailable),
        (Reply(404), ApiUnavailable),
        (Reply(200, {}), ApiUnavailable),
        (Reply(200, body=b"<html>"), ApiUnavailable),
    ],
)
def test_a_key_that_is_not_confirmed_is_no_good_key(
    serve: Serve, reply: Reply, kind: type[ApiError]
) -> None:
    with pytest.raises(kind):
        client(serve(lambda _: reply)).check_key()


def test_an_operator_id_cannot_leave_its_place_in_the_path(serve: Serve) -> None:
    fake = serve(lambda _: Reply(200, {"id": "x"}))
    client(fake).get_operator("a/../b?c")
    assert fake.requests[0].path == "/kubernetes_operators/a%2F..%2Fb%3Fc"


def test_a_path_in_the_api_url_is_kept(serve: Serve) -> None:
    fake = serve(lambda _: Reply(200, {"id": "x"}))
    Api(fake.url + "/prefix/", KEY, "1").get_operator("k8sop_1")
    assert fake.requests[0].path == "/prefix/kubernetes_operators/k8sop_1"


@pytest.mark.parametrize("key", ["a", "1234567", "  a     \n"])
def test_a_text_too_short_for_a_key_is_refused_with_the_mend(serve: Serve, key: str) -> None:
    fake = serve(lambda _: page())
    with pytest.raises(ApiRefused, match=r"at least 8 characters.*`ngrokctl set-api-key"):
        client(fake, key=key).bound_endpoints("k8sop_1")
    assert fake.requests == []


def test_a_key_of_eight_characters_is_left_to_ngrok_to_judge(serve: Serve) -> None:
    fake = serve(lambda _: page())
    client(fake, key="12345678").bound_endpoints("k8sop_1")
    assert len(fake.requests) == 1


@pytest.mark.parametrize("key", ["", "  ", "two words", "line\r\nX-Evil: 1", "schlüssel", "a\0b"])
def test_what_cannot_be_a_key_is_refused_before_anything_is_sent(serve: Serve, key: str) -> None:
    fake = serve(lambda _: page())
    with pytest.raises(ApiRefused, match="ngrokctl set-api-key"):
        client(fake, key=key).bound_endpoints("k8sop_1")
    assert fake.requests == []


def test_a_line_break_around_the_key_does_no_harm(serve: Serve) -> None:
    fake = serve(lambda _: page())
    client(fake, key=f" {KEY}\n").bound_endpoints("k8sop_1")
    assert fake.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_the_key_is_in_no_representation() -> None:
    assert KEY not in repr(Api("http://127.0.0.1:1", KEY, "1"))
    assert KEY not in repr(Asked("GET /", "http://x", KEY))


def test_every_answer_and_every_silence_is_counted(serve: Serve) -> None:
    counted: list[str] = []
    statuses = iter([200, 429, 404])
    fake = serve(lambda _: Reply(next(statuses), {"endpoints": []}))
    api = Api(fake.url, KEY, "1", 5, counted.append)
    api.bound_endpoints("k8sop_1")
    for _ in range(2):
        with pytest.raises(ApiError):
            api.bound_endpoints("k8sop_1")
    with pytest.raises(ApiUnavailable):
        Api(closed_url(), KEY, "1", 5, counted.append).list_operators()
    assert counted == ["200", "429", "404", "error"]

# Pages


@pytest.mark.parametrize("absolute", [True, False])
def test_all_pages_are_followed(serve: Serve, absolute: bool) -> None:
    def answer(request: Request) -> Reply:
        number = int(request.path.partition("before_id=")[2] or 0)
        base = fake.url if absolute else ""
        link = f"{base}/kubernetes_operators/o/bound_endpoints?before_id={number + 1}"
        urls = [f"http://s{number}-{each}.ns" for each in range(100)]
        return page(*urls, link=link if number < 9 else None)

    fake = serve(answer)
    found = poll(client(fake), "o").discovered
    assert len(found.endpoints) == 1000
    assert [each.headers.get("authorization") for each in fake.requests] == [f"Bearer {KEY}"] * 10


def test_a_poll_that_finds_the_same_gives_the_same_value_though_every_page_is_asked_for(
    serve: Serve,
) -> None:
    urls = {0: ["http://a.ns", "http://b.ns"], 1: ["http://c.ns"]}

    def answer(request: Request) -> Reply:
        number = int(request.path.partition("before_id=")[2] or 0)
        return page(*urls[number], link=None if number else "?before_id=1")

    fake = serve(answer)
    first = poll(client(fake), "o")
    again = poll(client(fake), "o", first)
    assert again is first and len(fake.requests) == 4
    urls[1].append("http://d.ns")
    more = poll(client(fake), "o", again)
    assert [each.target.hostname for each in more.discovered.endpoints] == [
        f"{name}.ns" for name in "abcd"
    ]
    kept = dict(zip(more.discovered.endpoints, first.discovered.endpoints))
    assert all(new is old for new, old in kept.items())


def test_what_was_a_page_is_no_page_with_another_status(serve: Serve) -> None:
    good = page("http://a.ns")
    answers = [good, Reply(503, good.document)]
    fake = serve(lambda _: answers[len(fake.requests) - 1])
    first = poll(client(fake), "o")
    with pytest.raises(ApiUnavailable):
        poll(client(fake), "o", first)


def test_an_empty_page_ends_the_list_even_if_it_names_another(serve: Serve) -> None:
    fake = serve(lambda _: page(link="/kubernetes_operators/o/bound_endpoints?before_id=1"))
    assert client(fake).bound_endpoints("o").items == []
    assert len(fake.requests) == 1


def test_a_page_that_was_seen_ends_the_list(serve: Serve) -> None:
    link = "/kubernetes_operators/k8sop_1/bound_endpoints?before_id=1"
    fake = serve(lambda _: page("http://web.ns", link=link))
    assert len(client(fake).bound_endpoints("k8sop_1").items) == 2
    assert len(fake.requests) == 2


def test_ten_thousand_endpoints_come_whole_without_a_pause(serve: Serve) -> None:
    def answer(request: Request) -> Reply:
        number = int(request.path.partition("before_id=")[2] or 0)
        urls = [f"http://s{number}-{each}.ns" for each in range(100)]
        return page(*urls, link=f"?before_id={number + 1}" if number < 99 else None)

    fake = serve(answer)
    pauses: list[float] = []
    api = Api(fake.url, KEY, "1", pause=pauses.append)
    assert len(poll(api, "o").discovered.endpoints) == 10_000
    assert len(fake.requests) == 100 and pauses == []


def test_a_page_that_is_refused_for_now_is_asked_for_again_and_none_is_lost(serve: Serve) -> None:
    limit = {"error_code": "ERR_NGROK_226", "msg": "slow down"}
    answers = [
        page("http://a.ns", link="?before_id=1"),
        Reply(429, limit, headers={"Retry-After": "33"}),
        Reply(429, limit),
        page("http://b.ns"),
    ]
    fake = serve(lambda _: answers[len(fake.requests) - 1])
    pauses: list[float] = []
    counted: list[str] = []
    api = Api(fake.url, KEY, "1", 5, counted.append, pauses.append)
    found = poll(api, "o").discovered.endpoints
    assert [each.target for each in found] == [Target("a.ns", 80), Target("b.ns", 80)]
    assert pauses == [33.0, 20.0]
    assert counted == ["200", "429", "429", "200"]


@pytest.mark.parametrize(
    "broken",
    [
        Reply(500, {"msg": "no"}),
        Reply(401, {"msg": "no"}),
        Reply(404, {"msg": "no"}),
        Reply(200, {}),
        Reply(200, {"endpoints": None, "uri": "x"}),
        Reply(200, body=b"<html>"),
        Reply(raw=b""),
    ],
)
def test_a_list_whose_second_page_fails_is_no_list(serve: Serve, broken: Reply) -> None:
    fake = serve(
        lambda _: page("http://web.ns", link="?x=1") if len(fake.requests) == 1 else broken
    )
    fails(fake)
    assert len(fake.requests) == 2


def test_the_key_is_not_sent_to_another_server_for_the_next_page(serve: Serve) -> None:
    other = serve(lambda _: page("http://evil.ns"))
    fake = serve(lambda _: page("http://web.ns", link=f"{other.url}/next"))
    error = fails(fake)
    assert isinstance(error, ApiUnavailable) and "another server" in str(error)
    assert other.requests == []


@pytest.mark.parametrize(
    "link",
    [
        7,
        {},
        "http://127.0.0.1:99999/x",
        "http://[::1/x",
        "/with space",
        "/line\nbreak",
        "http://user@127.0.0.1/x",
        "https://127.0.0.1/x",
        "file:///etc/passwd",
        "//evil.test/x",
        "http://127.0.0.1\\@evil.test/x",
    ],
)
def test_a_next_page_that_is_no_url_of_the_api_is_refused(serve: Serve, link: object) -> None:
    fake = serve(lambda _: page("http://web.ns", link=link))
    assert isinstance(fails(fake), ApiUnavailable)
    assert len(fake.requests) == 1

# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_so_the_key_does_not_leak(serve: Serve, status: int) -> None:
    other = serve(lambda _: page("http://evil.ns"))
    fake = serve(lambda _: Reply(status, headers={"Location": other.url + "/login"}))
    error = fails(fake)
    assert isinstance(error, ApiUnavailable)
    assert f"answered {status} to {other.url}/login" in str(error)
    assert other.requests == []


def test_a_redirect_of_a_registration_sends_neither_key_nor_request_there(serve: Serve) -> None:
    other = serve(lambda _: Reply(201, {"id": "k8sop_evil"}))
    fake = serve(lambda _: Reply(307, headers={"Location": other.url}))
    with pytest.raises(ApiUnavailable, match="never redirects"):
        client(fake).create_operator({"binding": {"csr": "x"}})
    assert other.requests == []


# Wrong answers

REFUSED = [
    (400, "ERR_NGROK_19003", "bound_endpoints.selectors"),
    (400, "ERR_NGROK_19002", "plan"),
    (400, "ERR_NGROK_19001", "rotate-cert"),
    (401, "ERR_NGROK_203", "ngrokctl set-api-key"),
    (403, "ERR_NGROK_206", "an authtoken was given instead of an API key"),
    (401, "ERR_NGROK_207", "an authtoken was given instead of an API key"),
    (401, "ERR_NGROK_208", "the id of an API key was given"),
    (403, "ERR_NGROK_220", "IP policy"),
    (403, "ERR_NGROK_205", "dashboard"),
    (400, "invalid_cel_expression", "ngrok.com/docs/errors"),
]


@pytest.mark.parametrize(("status", "code", "mend"), REFUSED)
def test_a_refusal_names_ngroks_code_and_words_and_the_mend(
    serve: Serve, status: int, code: str, mend: str
) -> None:
    body = {"error_code": code, "status_code": status, "msg": "First line.\n\n  Second\tline."}
    error = fails(serve(lambda _: Reply(status, body)))
    assert isinstance(error, ApiRefused)
    assert (error.status, error.code) == (status, code)
    assert f"HTTP {status}, {code}: First line. Second line." in str(error)
    assert mend in str(error)
    assert "\n" not in str(error)


def test_the_credential_that_a_message_repeats_is_not_shown(serve: Serve) -> None:
    token = "1XyzABCdefGHIjklMNOpqrSTU_7abcdefGHIJklmnop"
    message = f'The key "{KEY}" (was "{token}") is not valid.'
    error = fails(serve(lambda _: Reply(401, {"error_code": "ERR_NGROK_202", "msg": message})))
    assert KEY not in str(error) and token not in str(error)
    assert "[redacted]" in str(error)


def test_a_key_of_any_shape_is_not_shown(serve: Serve) -> None:
    fake = serve(lambda request: Reply(401, {"msg": f"what is {request.headers['authorization']}"}))
    with pytest.raises(ApiRefused, match=r"what is Bearer \[redacted\]"):
        client(fake, key="sandbox-key").bound_endpoints("o")


@pytest.mark.parametrize("piece", [KEY[:20], KEY[-20:], KEY[7:15], KEY[:-1], KEY[1:] + KEY[:-1]])
def test_a_piece_of_the_key_that_a_message_repeats_is_not_shown(serve: Serve, piece: str) -> None:
    fake = serve(lambda _: Reply(401, {"msg": f'The key "{piece}..." is not valid.'}))
    text = str(fails(fake))
    assert not shows_a_piece(text)
    assert 'The key "[redacted]..." is not valid.' in text


def test_less_than_eight_characters_of_the_key_stay_as_they_are(serve: Serve) -> None:
    fake = serve(lambda _: Reply(401, {"msg": f"It starts with {KEY[:7]} and not {KEY[-7:]}."}))
    assert f"It starts with {KEY[:7]} and not {KEY[-7:]}." in str(fails(fake))


def test_a_message_of_many_megabytes_is_cut_in_no_time(serve: Serve) -> None:
    fake = serve(lambda _: Reply(401, {"msg": KEY[:9] * 1_500_000}))
    watch = Stopwatch()
    text = str(fails(fake))
    assert watch.own() < 3
    assert len(text) < 1000 and not shows_a_piece(text)


def test_a_piece_of_the_key_is_not_shown_by_what_is_not_http(serve: Serve) -> None:
    fake = serve(lambda _: Reply(raw=f"no {KEY[:20]}\r\n\r\n".encode()))
    text = str(fails(fake))
    assert "not HTTP" in text and not shows_a_piece(text)


def test_the_credential_is_not_shown_in_an_html_title_or_an_error_code(serve: Serve) -> None:
    html = f"<html><title>no {KEY}</title>".encode()
    assert KEY not in str(fails(serve(lambda _: Reply(200, body=html))))
    odd = fails(serve(lambda _: Reply(400, {"error_code": KEY})))
    assert KEY not in str(odd) + odd.code


@pytest.mark.parametrize("document", [GONE, {"error_code": "ERR_NGROK_404"}])
def test_a_404_of_the_api_about_an_operator_loses_it(serve: Serve, document: object) -> None:
    error = fails(serve(lambda _: Reply(404, document)))
    assert isinstance(error, OperatorLost)
    assert error.status == 404


def test_a_404_for_a_later_page_loses_no_operator(serve: Serve) -> None:
    replies = iter([page("http://web.ns", link="?x=1"), Reply(404, GONE)])
    error = fails(serve(lambda _: next(replies)))
    assert isinstance(error, ApiUnavailable) and "a later page" in str(error)


def test_a_404_of_a_captive_portal_loses_no_operator(serve: Serve) -> None:
    fake = serve(lambda _: Reply(404, body=b"\n<html><title>Hotel</title>"))
    error = fails(fake)
    assert isinstance(error, ApiUnavailable) and 'titled "Hotel"' in str(error)
    with pytest.raises(ApiUnavailable):
        client(fake).delete_operator("k8sop_1")


def test_a_404_for_the_list_points_at_the_url_and_loses_no_operator(serve: Serve) -> None:
    replies = iter([Reply(404, GONE), Reply(404)])
    fake = serve(lambda _: next(replies))
    for kind in (ApiRefused, ApiUnavailable):
        with pytest.raises(kind, match=r"api\.url"):
            client(fake).list_operators()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, ""),
        (502, ""),
        (503, "ERR_NGROK_1500"),
        (408, ""),
        (429, "ERR_NGROK_226"),
        (400, "ERR_NGROK_225"),
    ],
)
def test_what_passes_by_itself_is_retried(serve: Serve, status: int, code: str) -> None:
    error = fails(serve(lambda _: Reply(status, {"error_code": code, "msg": "later"})))
    assert isinstance(error, ApiUnavailable)
    assert (error.status, error.code, error.retry_after_s) == (status, code, None)
    assert "tried again" in str(error)


def test_retry_after_is_passed_on(serve: Serve) -> None:
    reply = Reply(429, {"msg": "slow down"}, headers={"Retry-After": "17"})
    error = fails(serve(lambda _: reply))
    assert isinstance(error, ApiUnavailable) and error.retry_after_s == 17


WRONG_BODIES = [
    (b"<!DOCTYPE html><html><title>Hotel\nlogin</title>", 'an HTML page titled "Hotel login"'),
    (b'{"endpoints": [{"id": "ep_1", "ur', "cut short"),
    (b"{}", "JSON without endpoints"),
    (b'{"endpoints": null}', "JSON whose endpoints are null"),
    (b'{"endpoints": null, "uri": "x", "next_page_uri": null}', "JSON whose endpoints are null"),
    (b'{"endpoints": {}, "uri": "x"}', "JSON whose endpoints are no list"),
    (b'{"endpoints": "", "uri": "x"}', "JSON whose endpoints are no list"),
    (b'{"operators": [], "uri": "x"}', "JSON without endpoints"),
    (b"[]", "not an object"),
    (b"", "an empty body"),
    (b"OK", "not JSON"),
    (b"\xff\xfe\x00", "not JSON"),
    (b"[" * 100_000, "cut short, too large or not an object"),
    (b'{"endpoints": [' + b"{}," * 600_000 + b"{}]}", "too large"),
    (b'{"endpoints": [], "x": [' + b"[]," * 300_000 + b"0]}", "too large"),
    (b'{"endpoints": null, "x": ' + b"1" * 2_000_000 + b"}", "endpoints are null"),
]


@pytest.mark.parametrize(("body", "words"), WRONG_BODIES)
def test_a_200_that_is_not_the_apis_is_never_an_empty_list(
    serve: Serve, body: bytes, words: str
) -> None:
    error = fails(serve(lambda _: Reply(200, body=body)))
    assert isinstance(error, ApiUnavailable)
    assert words in str(error)


def test_an_unreadable_error_names_the_operation_for_ngroks_support(serve: Serve) -> None:
    reply = Reply(500, body=b"<html>", headers={"ngrok-operation-id": "op_123"})
    assert "op_123" in str(fails(serve(lambda _: reply)))


def test_refused_selectors_are_quoted(serve: Serve) -> None:
    body = {"error_code": "ERR_NGROK_19003", "msg": "Failed to validate endpoint selectors!"}
    fake = serve(lambda _: Reply(400, body))
    sent = {"binding": {"endpoint_selectors": ["endpoint.proto == 'tcp'", "nonsense("]}}
    calls: list[Callable[[], object]] = [
        lambda: client(fake).create_operator(sent),
        lambda: client(fake).update_operator("k8sop_1", sent),
    ]
    for call in calls:
        with pytest.raises(ApiRefused) as caught:
            call()
        assert """["endpoint.proto == 'tcp'", "nonsense("]""" in str(caught.value)
        assert "correct bound_endpoints.selectors in config.yml" in str(caught.value)


# Anything in place of every answer


MEMBERS = [
    *("id", "uri", "endpoints", "operators", "next_page_uri", "error_code", "msg"),
    *("url", "public_url", "proto", "binding", "cert", "ingress_endpoint", "metadata"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(MEMBERS) | st.text(max_size=5),
        inner,
        max_size=6,
    ),
    max_leaves=20,
)
PAGE = st.fixed_dictionaries(
    {}, optional={"endpoints": JSON, "operators": JSON, "next_page_uri": JSON, "binding": JSON}
)
CONTENT = st.binary(max_size=300) | (JSON | PAGE).map(lambda value: json.dumps(value).encode())
STATUS = st.sampled_from([200, 200, 200, 201, 204, 302, 400, 401, 404, 429, 500]) | st.integers(
    200, 599
)


@pytest.fixture(scope="module")
def stand_in() -> Iterator[FakeApi]:
    with FakeApi(lambda _: Reply()) as fake:
        yield fake


@pytest.mark.parametrize(
    "call",
    [
        lambda api: api.create_operator({"region": "global"}),
        lambda api: api.update_operator("k8sop_1", {"region": "global"}),
        lambda api: api.get_operator("k8sop_1"),
        lambda api: api.delete_operator("k8sop_1"),
        lambda api: own_operator(api.list_operators(), "installation"),
        lambda api: poll(api, "k8sop_1"),
    ],
    ids=["create", "update", "get", "delete", "list", "poll"],
)
@settings(max_examples=120)
@given(replies=st.lists(st.tuples(STATUS, CONTENT), min_size=1, max_size=4))
def test_anything_in_place_of_an_answer_is_a_value_or_a_sorted_error(
    stand_in: FakeApi, call: Callable[[Api], object], replies: list[tuple[int, bytes]]
) -> None:
    stand_in.requests.clear()

    def answer(_: Request) -> Reply:
        number = min(len(stand_in.requests), len(replies)) - 1
        status, body = replies[number]
        return Reply(status, body=b"" if status in (204, 304) else body)

    stand_in.answer = answer
    api = Api(stand_in.url, KEY, "1", pause=lambda _: None)
    try:
        call(api)
    except (ApiUnavailable, ApiRefused, OperatorLost) as error:
        assert str(error).isprintable() and KEY not in str(error)


@given(document=JSON)
def test_anything_in_place_of_an_operator_is_one_or_a_value_error(document: object) -> None:
    try:
        operator = parse_operator(document)
    except ValueError:
        return
    assert is_operator_id(operator.id)
