"""What each answer of the API becomes: which error, with which wait and which words."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.cloud.apierrors import Answer, Asked, document_of, retry_after
from ngrokd.errors import ApiError, ApiRefused, ApiUnavailable, OperatorLost
from ngrokd.upkeep.backoff import wait_s
from tests.api_room import shows_a_piece
from tests.cloud_fake import KEY

INTERVAL = 30.0
LATER, REFUSED, LOST = ApiUnavailable, ApiRefused, OperatorLost
AUTHTOKEN = "an authtoken was given instead of an API key: make an API key at"
HTML = b"<!DOCTYPE html><title>Hotel</title>"

# Status, code (or a body as it is), Retry-After; the error, the least and the longest wait after
# the first failure where polls are 30 s apart, and words of what mends it.
DECISIONS: list[tuple[int, object, str, type[ApiError], float, float, str]] = [
    (500, "", "", LATER, 3, 30, "tried again"),
    (500, "ERR_NGROK_19000", "", LATER, 3, 30, "tried again"),
    (502, HTML, "", LATER, 3, 30, 'HTML page titled "Hotel".*tried again'),
    (503, "", "17", LATER, 20, 47, "tried again"),
    (503, "ERR_NGROK_1500", "", LATER, 3, 30, "tried again"),
    (400, "ERR_NGROK_1501", "", LATER, 3, 30, "tried again"),
    (408, "", "", LATER, 3, 30, "tried again"),
    (425, "", "", LATER, 3, 30, "tried again"),
    (429, "", "", LATER, 30, 90, "tried again"),
    (429, HTML, "", LATER, 30, 90, "tried again"),
    (429, "ERR_NGROK_226", "", LATER, 30, 90, "tried again"),
    (429, "ERR_NGROK_226", "200", LATER, 200, 260, "tried again"),
    (429, "ERR_NGROK_226", "1", LATER, 30, 90, "tried again"),
    (429, "ERR_NGROK_226", "999999999", LATER, 3600, 3660, "tried again"),
    (429, "ERR_NGROK_226", "soon", LATER, 30, 90, "tried again"),
    (400, "ERR_NGROK_225", "", LATER, 30, 90, "tried again"),
    (403, "ERR_NGROK_225", "", LATER, 30, 90, "tried again"),
    (404, "ERR_NGROK_226", "", LATER, 30, 90, "tried again"),
    (200, "ERR_NGROK_226", "", LATER, 30, 90, "tried again"),
    (302, "ERR_NGROK_225", "", LATER, 30, 90, "tried again"),
    (200, HTML, "", LATER, 3, 30, 'HTML page titled "Hotel".*api.url or a proxy'),
    (200, b"", "", LATER, 3, 30, "an empty body.*api.url or a proxy"),
    (200, b'{"endpoints": [', "", LATER, 3, 30, "cut short"),
    (204, b"", "", LATER, 3, 30, "an empty body"),
    (101, b"", "", LATER, 3, 30, "never redirects"),
    (302, b"", "", LATER, 3, 30, "answered 302.*never redirects.*api.url or a proxy"),
    (304, b"", "", LATER, 3, 30, "answered 304"),
    (401, HTML, "", LATER, 3, 30, "HTML page.*api.url or a proxy"),
    (403, HTML, "", LATER, 3, 30, "HTML page.*api.url or a proxy"),
    (404, HTML, "", LATER, 3, 30, "HTML page.*api.url or a proxy"),
    (404, b"\xef\xbb\xbf\r\n <html>", "", LATER, 3, 30, "HTML page.*api.url or a proxy"),
    (404, {"status_code": 404, "msg": "x"}, "", LOST, 3, 30, "registered again"),
    (404, "", "", LATER, 3, 30, "api.url or a proxy"),
    (404, b"", "", LATER, 3, 30, "an empty body.*api.url or a proxy"),
    (404, b"404 page not found\n", "", LATER, 3, 30, "not JSON.*api.url or a proxy"),
    (404, b'{"message":"no Route matched"}', "", LATER, 3, 30, "api.url or a proxy"),
    (404, b'{"status":404,"error":"Not Found"}', "", LATER, 3, 30, "api.url or a proxy"),
    (404, b'{"status_code":"404","error_code":""}', "", LATER, 3, 30, "api.url or a proxy"),
    (404, b'[{"status_code":404}]', "", LATER, 3, 30, "api.url or a proxy"),
    (404, b'{"error_code":"ERR_NGROK_404"}', "", LOST, 3, 30, "registered again"),
    (404, "ERR_NGROK_404", "", LOST, 3, 30, "registered again"),
    (401, "", "", REFUSED, 300, 450, "`ngrokctl set-api-key`"),
    (401, b"", "", REFUSED, 300, 450, "`ngrokctl set-api-key`"),
    (401, "ERR_NGROK_200", "", REFUSED, 300, 450, "`ngrokctl set-api-key`"),
    (401, "ERR_NGROK_203", "60", REFUSED, 300, 450, "`ngrokctl set-api-key`"),
    (403, "", "", REFUSED, 300, 450, "of an account that may use Kubernetes endpoints"),
    (401, "ERR_NGROK_206", "", REFUSED, 300, 450, AUTHTOKEN),
    (400, "ERR_NGROK_207", "", REFUSED, 300, 450, AUTHTOKEN),
    (401, "ERR_NGROK_208", "", REFUSED, 300, 450, "the id of an API key was given instead"),
    (403, "ERR_NGROK_205", "", REFUSED, 300, 450, "account at https://dashboard"),
    (403, "ERR_NGROK_220", "", REFUSED, 300, 450, "IP policy does not let this machine"),
    (403, "ERR_NGROK_247", "", REFUSED, 300, 450, "account at https://dashboard"),
    (400, "ERR_NGROK_19001", "", REFUSED, 300, 450, "`ngrokctl rotate-cert`"),
    (400, "ERR_NGROK_19002", "", REFUSED, 300, 450, "account's plan includes Kubernetes"),
    (400, "ERR_NGROK_19003", "", REFUSED, 300, 450, r"\[\"x ==\"\].*bound_endpoints.selectors"),
    (400, "ERR_NGROK_214", "", REFUSED, 300, 450, "ngrok.com/docs/errors"),
    (405, b"no", "", REFUSED, 300, 450, "ngrok.com/docs/errors"),
    (407, HTML, "", REFUSED, 300, 450, "the proxy's user and password in HTTPS_PROXY"),
    (409, "", "5", REFUSED, 300, 450, "ngrok.com/docs/errors"),
    (418, {"error_code": 7, "msg": []}, "", REFUSED, 300, 450, "ngrok.com/docs/errors"),
]
ASKED = Asked("PATCH /x", "https://api.test", KEY, True, ("x ==",))


def error_to(answer: Answer, asked: Asked = ASKED) -> ApiError:
    with pytest.raises(ApiError) as caught:
        document_of(answer, asked, 0.0)
    return caught.value


def body_of(said: object) -> bytes:
    if isinstance(said, bytes):
        return said
    document = {"error_code": said, "msg": "why"} if isinstance(said, str) else said
    return json.dumps(document).encode()


@pytest.mark.parametrize(("status", "said", "after", "kind", "least", "longest", "mend"), DECISIONS)
def test_an_answer_decides_what_is_done(
    status: int,
    said: object,
    after: str,
    kind: type[ApiError],
    least: float,
    longest: float,
    mend: str,
) -> None:
    error = error_to(Answer(status, body_of(said), retry_after=after))
    assert type(error) is kind and error.status == status
    assert wait_s(error, 1, INTERVAL, 0.0) == pytest.approx(least)
    assert wait_s(error, 1, INTERVAL, 1.0) == pytest.approx(longest)
    with pytest.raises(ApiError, match=mend):
        raise error


@pytest.mark.parametrize("status", [400, 404, 405, 409, 410, 415, 418, 422, 431, 451, 499])
def test_no_other_4xx_is_asked_again_within_five_minutes(status: int) -> None:
    body = json.dumps({"status_code": status}).encode()
    error = error_to(Answer(status, body), Asked("GET /x", "https://api.test", KEY))
    assert isinstance(error, ApiRefused)
    assert min(wait_s(error, failures, 1.0, 0.0) for failures in range(1, 40)) >= 300


def test_selectors_without_end_are_cut() -> None:
    asked = Asked("PATCH /x", "https://api.test", KEY, True, ("endpoint.proto",) * 999)
    text = str(error_to(Answer(400, body_of("ERR_NGROK_19003")), asked))
    assert '["endpoint.proto", "endpoint.proto", ' in text and len(text) < 700


def test_selectors_are_quoted_in_one_line_and_without_the_key() -> None:
    asked = Asked("PATCH /x", "https://api.test", KEY, True, (f"a\n{KEY}\x1b[0m", "é"))
    text = str(error_to(Answer(400, body_of("ERR_NGROK_19003")), asked))
    assert text.isprintable() and not shows_a_piece(text)
    assert '"é"' in text


def test_another_refusal_quotes_no_selectors() -> None:
    assert "x ==" not in str(error_to(Answer(400, body_of("ERR_NGROK_19002"))))


@pytest.mark.parametrize("body", [b'{"id": 1}', b"{}", b'{"error_code": 7}'])
def test_an_object_of_a_good_status_is_the_document(body: bytes) -> None:
    assert document_of(Answer(200, body), ASKED, 0.0) == json.loads(body)


@given(st.lists(st.one_of(st.text(max_size=9), st.tuples(st.integers(0, 42), st.integers(0, 42)))))
def test_no_message_shows_eight_characters_of_the_key(parts: list[object]) -> None:
    said = "".join(
        part if isinstance(part, str) else KEY[slice(*part)] if isinstance(part, tuple) else ""
        for part in parts
    )
    asked = Asked("GET /x", "https://api.test", KEY)
    body = json.dumps({"msg": said, "error_code": said}).encode()
    with pytest.raises(ApiError) as caught:
        document_of(Answer(400, body), asked, 0.0)
    assert not shows_a_piece(str(caught.value)) and not shows_a_piece(caught.value.code)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        (" 5 ", 5.0),
        (formatdate(1030, usegmt=True), 30.0),
        (formatdate(10, usegmt=True), 0.0),
        ("999999999999", 3600.0),
        ("9" * 400, None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("soon", None),
        ("Fri, 99 Foo 2024 99:99:99 GMT", None),
    ],
)
def test_retry_after_comes_as_seconds_or_as_a_date(header: str, seconds: Optional[float]) -> None:
    assert retry_after(header, now=1000) == seconds


@given(st.integers(100, 599), st.binary(max_size=200))
def test_any_answer_is_a_document_or_one_of_the_api_errors(status: int, body: bytes) -> None:
    asked = Asked("GET /x", "https://api.test", KEY, True)
    try:
        document = document_of(Answer(status, body), asked, 0.0)
    except ApiError as error:
        assert str(error).isprintable()
        return
    assert 200 <= status < 300 and isinstance(document, dict)
