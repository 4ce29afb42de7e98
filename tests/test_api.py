"""The API client: what it sends, what it accepts, and what each wrong answer becomes."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.cloud import api as api_module
from ngrokd.cloud import transport
from ngrokd.cloud.api import Api
from ngrokd.cloud.apierrors import Answer, Asked, document_of, retry_after
from ngrokd.cloud.polling import poll
from ngrokd.errors import ApiError, ApiRefused, ApiUnavailable, OperatorLost
from ngrokd.model import Target
from tests.cloud_fake import KEY, Authority, FakeApi, Reply, Request

Serve = Callable[[Callable[[Request], Reply]], FakeApi]


@pytest.fixture
def serve() -> Iterator[Serve]:
    running: list[FakeApi] = []

    def start(answer: Callable[[Request], Reply]) -> FakeApi:
        fake = FakeApi(answer)
        fake.__enter__()
        running.append(fake)
        return fake

    yield start
    for fake in running:
        fake.__exit__()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def client(fake: FakeApi, timeout_s: float = 5, key: str = KEY) -> Api:
    return Api(fake.url, key, "1.2.3", timeout_s)


def page(*urls: str, link: object = None) -> Reply:
    items = [{"id": f"ep_{number}", "url": url} for number, url in enumerate(urls)]
    return Reply(200, {"endpoints": items, "uri": "x", "next_page_uri": link})


def fails(fake: FakeApi, timeout_s: float = 5) -> ApiError:
    with pytest.raises(ApiError) as caught:
        client(fake, timeout_s).bound_endpoints("k8sop_1")
    return caught.value


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


@pytest.mark.parametrize("status", [204, 404])
def test_deleting_an_operator_that_is_gone_succeeds(serve: Serve, status: int) -> None:
    fake = serve(lambda _: Reply(status))
    client(fake).delete_operator("k8sop_1")
    assert (fake.requests[0].method, fake.requests[0].body) == ("DELETE", b"")
    assert "content-type" not in fake.requests[0].headers


def test_a_delete_that_is_refused_says_so(serve: Serve) -> None:
    fake = serve(lambda _: Reply(403, {"msg": "no"}))
    with pytest.raises(ApiRefused):
        client(fake).delete_operator("k8sop_1")


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
    found = poll(client(fake), "o")
    assert len(found.endpoints) == 1000
    assert [each.headers.get("authorization") for each in fake.requests] == [f"Bearer {KEY}"] * 10


def test_an_empty_page_ends_the_list_even_if_it_names_another(serve: Serve) -> None:
    fake = serve(lambda _: page(link="/kubernetes_operators/o/bound_endpoints?before_id=1"))
    assert client(fake).bound_endpoints("o") == []
    assert len(fake.requests) == 1


def test_a_null_list_in_a_page_of_the_api_is_an_empty_one(serve: Serve) -> None:
    fake = serve(lambda _: Reply(200, {"endpoints": None, "uri": "x", "next_page_uri": None}))
    assert client(fake).bound_endpoints("o") == []


def test_pages_that_lead_in_a_circle_are_an_error_not_a_list(serve: Serve) -> None:
    link = "/kubernetes_operators/k8sop_1/bound_endpoints?before_id=1"
    fake = serve(lambda _: page("http://web.ns", link=link))
    error = fails(fake)
    assert isinstance(error, ApiUnavailable) and "circle" in str(error)
    assert len(fake.requests) == 2


def test_pages_without_end_stop_at_a_bound(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "MAX_PAGES", 5)
    fake = serve(lambda _: page("http://web.ns", link=f"/more?{len(fake.requests)}"))
    error = fails(fake)
    assert isinstance(error, ApiUnavailable) and "no end after 5 pages" in str(error)
    assert len(fake.requests) == 5


@pytest.mark.parametrize(
    ("bound", "value", "words"),
    [
        ("MAX_ITEMS", 250, "more than 250 items"),
        ("MAX_LIST_BYTES", 1 << 20, "larger than 1 MiB"),
        ("MAX_LIST_S", 0.2, "not whole after 0.2 s"),
    ],
)
def test_a_list_of_pages_is_bounded_as_a_whole(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, bound: str, value: float, words: str
) -> None:
    monkeypatch.setattr(api_module, bound, value)
    filler = "x" * (300_000 if bound == "MAX_LIST_BYTES" else 1)

    def answer(request: Request) -> Reply:
        number = len(fake.requests)
        if bound == "MAX_LIST_S":
            fake.done.wait(0.05)
        items = [{"id": f"ep_{number}_{each}"} for each in range(100)]
        link = f"/more?{number}" if number < 60 else None
        return Reply(200, {"endpoints": items, "x": filler, "next_page_uri": link})

    fake = serve(answer)
    error = fails(fake)
    assert isinstance(error, ApiUnavailable) and words in str(error)
    assert 2 <= len(fake.requests) <= 8


def test_a_single_page_of_too_many_items_is_an_error(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "MAX_ITEMS", 2)
    assert "more than 2 items" in str(fails(serve(lambda _: page("http://a", "http://b", "c"))))
    found = client(serve(lambda _: page("http://a", "http://b"))).bound_endpoints("k8sop_1")
    assert len(found) == 2


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


def shows_a_piece(text: str, key: str = KEY) -> bool:
    return any(key[at : at + 8] in text for at in range(len(key) - 7))


@pytest.mark.parametrize("piece", [KEY[:20], KEY[-20:], KEY[7:15], KEY[:-1], KEY[1:] + KEY[:-1]])
def test_a_piece_of_the_key_that_a_message_repeats_is_not_shown(serve: Serve, piece: str) -> None:
    fake = serve(lambda _: Reply(401, {"msg": f'The key "{piece}..." is not valid.'}))
    text = str(fails(fake))
    assert not shows_a_piece(text)
    assert 'The key "[redacted]..." is not valid.' in text


def test_less_than_eight_characters_of_the_key_stay_as_they_are(serve: Serve) -> None:
    fake = serve(lambda _: Reply(401, {"msg": f"It starts with {KEY[:7]} and not {KEY[-7:]}."}))
    assert f"It starts with {KEY[:7]} and not {KEY[-7:]}." in str(fails(fake))


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
    assert not shows_a_piece(str(caught.value) + caught.value.code)


def test_a_message_of_many_megabytes_is_cut_in_no_time(serve: Serve) -> None:
    fake = serve(lambda _: Reply(401, {"msg": KEY[:9] * 1_500_000}))
    started = time.monotonic()
    text = str(fails(fake))
    assert time.monotonic() - started < 3
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


@pytest.mark.parametrize("body", [b"", b"<html>not found</html>", b'{"status_code":404,"msg":"x"}'])
def test_a_404_about_an_operator_is_told_by_its_status(serve: Serve, body: bytes) -> None:
    error = fails(serve(lambda _: Reply(404, body=body)))
    assert isinstance(error, OperatorLost)
    assert error.status == 404


def test_a_404_for_the_list_points_at_the_url_and_loses_no_operator(serve: Serve) -> None:
    fake = serve(lambda _: Reply(404))
    with pytest.raises(ApiRefused, match=r"api\.url"):
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


WRONG_BODIES = [
    (b"<!DOCTYPE html><html><title>Hotel\nlogin</title>", 'an HTML page titled "Hotel login"'),
    (b'{"endpoints": [{"id": "ep_1", "ur', "cut short"),
    (b"{}", "JSON without endpoints"),
    (b'{"endpoints": null}', "JSON without endpoints"),
    (b'{"endpoints": {}, "uri": "x"}', "JSON without endpoints"),
    (b"[]", "not an object"),
    (b"", "an empty body"),
    (b"OK", "not JSON"),
    (b"\xff\xfe\x00", "not JSON"),
    (b"[" * 100_000, "cut short or not an object"),
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


@given(st.integers(100, 599), st.binary(max_size=200))
def test_any_answer_is_a_document_or_one_of_the_api_errors(status: int, body: bytes) -> None:
    asked = Asked("GET /x", "https://api.test", KEY, True)
    try:
        document = document_of(Answer(status, body), asked, 0.0)
    except ApiError as error:
        assert str(error).isprintable()
        return
    assert 200 <= status < 300 and isinstance(document, dict)


# The network


def closed_url() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def test_nobody_listening_is_named_as_the_cause() -> None:
    url = closed_url()
    with pytest.raises(ApiUnavailable) as caught:
        Api(url, KEY, "1").list_operators()
    assert url in str(caught.value) and "Connection refused" in str(caught.value)
    assert caught.value.status is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"endpoints": [',
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 " + b"a" * 70_000,
    ],
)
def test_an_answer_that_is_not_http_or_not_whole_is_unavailable(serve: Serve, raw: bytes) -> None:
    error = fails(serve(lambda _: Reply(raw=raw)))
    assert isinstance(error, ApiUnavailable)


def test_a_server_that_never_answers_is_given_up(serve: Serve) -> None:
    fake = serve(lambda _: hang(fake))
    error = fails(fake, timeout_s=0.2)
    assert isinstance(error, ApiUnavailable) and "within 0.2 s" in str(error)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])
def test_a_server_that_drips_is_given_up_at_the_deadline(start: bytes) -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        dripping = threading.Thread(target=drip, args=(listening, start, stop))
        dripping.start()
        began = time.monotonic()
        with pytest.raises(ApiUnavailable, match=r"within 0\.2 s"):
            Api(url, KEY, "1", timeout_s=0.2).list_operators()
        took = time.monotonic() - began
        stop.set()
        dripping.join(5)
    assert took < 3


def drip(listening: socket.socket, start: bytes, stop: threading.Event) -> None:
    """One byte each 50 ms: a timeout for each byte alone would wait for ever."""
    connection, _ = listening.accept()
    with connection:
        connection.recv(65536)
        try:
            connection.sendall(start)
            while not stop.wait(0.05):
                connection.sendall(b"H")
        except OSError:
            return  # the client is gone, as it should


def test_a_client_that_leaves_the_stand_in_disturbs_no_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    came, gone = threading.Event(), threading.Event()

    def answer(_: Request) -> Reply:
        came.set()
        assert gone.wait(10)
        return Reply(200, body=b" " * (8 << 20))

    with FakeApi(answer) as fake:
        host, port = fake.url[len("http://") :].split(":")
        with socket.create_connection((host, int(port))) as leaving:
            leaving.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert came.wait(10)
        gone.set()
    assert len(fake.requests) == 1
    assert capsys.readouterr().err == ""


def test_an_answer_over_the_bound_is_refused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_BODY_BYTES", 1 << 20)
    fake = serve(lambda _: Reply(200, body=b" " * ((1 << 20) + 1)))
    error = fails(fake)
    assert isinstance(error, ApiUnavailable) and "larger than 1 MiB" in str(error)


# TLS


def secure(fake: FakeApi, folder: Path, authority: Authority) -> Api:
    certificate, key = authority.server("localhost")
    (folder / "server.pem").write_text(certificate + key)
    fake.use_tls(folder / "server.pem")
    return Api(fake.url, KEY, "1", timeout_s=0.5)


def test_https_is_asked_and_bounded_like_http(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority()
    (tmp_path / "ca.pem").write_text(authority.root_pem() + authority.intermediate_pem())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    fake = serve(lambda _: page("http://web.ns") if len(fake.requests) == 1 else hang(fake))
    api = secure(fake, tmp_path, authority)
    assert len(api.bound_endpoints("o")) == 1
    with pytest.raises(ApiUnavailable, match=r"within 0\.5 s"):
        api.bound_endpoints("o")


def hang(fake: FakeApi) -> Reply:
    fake.done.wait(10)
    return Reply()


def test_an_api_with_another_key_is_the_same_one_and_loads_no_anchors_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = serve(lambda _: page())
    first = client(fake)
    monkeypatch.setattr(api_module, "Transport", None)  # making a second one would fail
    other = first.with_key(f" {KEY[::-1]}\n")
    other.bound_endpoints("o")
    first.bound_endpoints("o")
    assert [each.headers["authorization"] for each in fake.requests] == [
        f"Bearer {KEY[::-1]}",
        f"Bearer {KEY}",
    ]


def test_an_api_whose_certificate_is_not_trusted_gets_no_request(
    serve: Serve, tmp_path: Path
) -> None:
    fake = serve(lambda _: page("http://web.ns"))
    with pytest.raises(ApiUnavailable, match="its certificate is not trusted"):
        secure(fake, tmp_path, Authority()).bound_endpoints("o")
    assert fake.requests == []


# Proxies


def test_a_proxy_of_the_environment_is_used(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(lambda _: page("http://web.ns"))
    monkeypatch.setenv("http_proxy", proxy.url)
    found = poll(Api("http://api.test", KEY, "1"), "o")
    assert found.endpoints[0].target == Target("web.ns", 80)
    assert proxy.requests[0].path == "http://api.test/kubernetes_operators/o/bound_endpoints"


def test_a_loopback_api_is_never_asked_through_a_proxy(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", closed_url())
    fake = serve(lambda _: page())
    assert client(fake).bound_endpoints("o") == []


def test_a_proxy_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", closed_url())
    with pytest.raises(ApiUnavailable, match="through the proxy that https_proxy names"):
        Api("https://api.test", KEY, "1").list_operators()


@pytest.mark.parametrize(
    "proxy", ["http://[bad", "http://127.0.0.1:x", "http://127.0.0.1:99999", "::::"]
)
def test_a_proxy_that_is_no_url_is_unavailable_not_a_crash(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(ApiUnavailable):
        Api("https://api.test", KEY, "1", timeout_s=1).list_operators()


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://localhost:1", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:80", True),
        ("https://api.ngrok.com", False),
        ("http://127.0.0.1.evil.test", False),
    ],
)
def test_loopback_hosts_are_told_from_others(url: str, loopback: bool) -> None:
    assert transport.is_loopback(url) is loopback
