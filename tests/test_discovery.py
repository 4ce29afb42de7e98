"""Endpoints out of the API's list: served, folded or skipped with a reason, never an exception."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import Optional

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ngrokd.cloud.discovery import discover, from_json, to_json
from ngrokd.cloud.endpointurl import Unusable, parse
from ngrokd.host.names import Rules
from ngrokd.model import Discovered, Endpoint, SkippedEndpoint, Target

# What is refused though it can be a name: this machine's and ngrok's own.
REFUSED_LATER = (
    "this name always means the machine itself",
    "ngrokd itself must reach ngrok under this name",
)


def item(url: object, identity: object = "ep_1", **more: object) -> dict[str, object]:
    return {"id": identity, "url": url, **more}


USABLE = [
    ("http://web.ns", "http", "web.ns", 80, "http://web.ns"),
    ("https://web.ns", "https", "web.ns", 443, "https://web.ns"),
    ("tls://api-cust1.acme-customers", "tls", "api-cust1.acme-customers", 443, None),
    ("tcp://db.example.com:5432", "tcp", "db.example.com", 5432, "tcp://db.example.com:5432"),
    ("http://controller.example.com", "http", "controller.example.com", 80, None),
    ("http://one", "http", "one", 80, None),
    ("http://a.b.c.d.e", "http", "a.b.c.d.e", 80, None),
    ("http://a.b.c.d.e.", "http", "a.b.c.d.e", 80, "http://a.b.c.d.e"),
    ("http://web.ns:8080", "http", "web.ns", 8080, "http://web.ns:8080"),
    ("http://web.ns:80", "http", "web.ns", 80, "http://web.ns"),
    ("https://web.ns:80", "https", "web.ns", 80, "https://web.ns:80"),
    ("http://web.ns:", "http", "web.ns", 80, "http://web.ns"),
    ("http://web.ns/", "http", "web.ns", 80, "http://web.ns"),
    ("HTTP://Web.NS", "http", "web.ns", 80, "http://web.ns"),
    ("http://web.ns.", "http", "web.ns", 80, "http://web.ns"),
    ("http://xn--bcher-kva.ns", "http", "xn--bcher-kva.ns", 80, None),
    ("http://XN--BCHER-KVA.ns", "http", "xn--bcher-kva.ns", 80, "http://xn--bcher-kva.ns"),
    ("http://bücher.ns", "http", "xn--bcher-kva.ns", 80, "http://xn--bcher-kva.ns"),
    ("tcp://BÜCHER.ns:5", "tcp", "xn--bcher-kva.ns", 5, "tcp://xn--bcher-kva.ns:5"),
    ("http://bu\u0308cher.ns", "http", "xn--bcher-kva.ns", 80, "http://xn--bcher-kva.ns"),
    ("http://\u4f8b\u3048.ns", "http", "xn--r8jz45g.ns", 80, "http://xn--r8jz45g.ns"),
    ("http://web\u3002ns", "http", "web.ns", 80, "http://web.ns"),
    ("http://\uff57eb.ns", "http", "web.ns", 80, "http://web.ns"),
    ("http://xn--strae-oqa.ns", "http", "xn--strae-oqa.ns", 80, None),
    ("http://ab--cd.ns", "http", "ab--cd.ns", 80, None),
    ("http://my_db.ns", "http", "my_db.ns", 80, None),
    ("tcp://redis.ns:65535", "tcp", "redis.ns", 65535, None),
    ("tcp://redis.ns:1", "tcp", "redis.ns", 1, None),
    ("web.ns", "https", "web.ns", 443, "https://web.ns"),
    ("web.ns:8443", "https", "web.ns", 8443, "https://web.ns:8443"),
    ("http://" + "a" * 63 + ".ns", "http", "a" * 63 + ".ns", 80, None),
    ("http://web.7ns", "http", "web.7ns", 80, None),
]


@pytest.mark.parametrize(("url", "scheme", "host", "port", "shown"), USABLE)
def test_a_usable_url_is_served(
    url: str, scheme: str, host: str, port: int, shown: Optional[str]
) -> None:
    (found,) = discover([item(url)]).endpoints
    assert (found.scheme, found.target, found.ids) == (scheme, Target(host, port), ("ep_1",))
    assert found.url == (shown or url)


UNUSABLE = [
    ("tcp://db.ns", "needs a port"),
    ("tcp://db.ns:", "needs a port"),
    ("http://*.private.com", "wildcard"),
    ("http://*", "wildcard"),
    ("http://web.ns:0", "from 1 to 65535"),
    ("http://web.ns:65536", "from 1 to 65535"),
    ("http://web.ns:999999999999", "from 1 to 65535"),
    ("http://web.ns:-1", "from 1 to 65535"),
    ("http://web.ns:80:80", "from 1 to 65535"),
    ("http://web.ns:http", "from 1 to 65535"),
    ("http://web.ns:\u0661", "from 1 to 65535"),
    ("udp://web.ns:53", "not http, https, tls or tcp"),
    ("ftp://web.ns", "not http, https, tls or tcp"),
    ("http://user@web.ns", "names a user"),
    ("http://user:secret@web.ns", "names a user"),
    ("http://", "names no host"),
    ("http:///path", "names no host"),
    ("http://.", "names no host"),
    ("http://:80", "names no host"),
    ("http://.ns", "empty label"),
    ("http://web..ns", "empty label"),
    ("http://-web.ns", "'-web' in the hostname is not a name: it begins or ends with a hyphen"),
    ("http://web-.ns", "begins or ends with a hyphen"),
    ("http://evil#b.ns", "'#b.ns' behind its host"),
    ("http://web.ns?x=1", "'?x=1' behind its host"),
    ("http://web.ns/x/y", "'/x/y' behind its host"),
    ("http://web.ns//", "'//' behind its host"),
    ("http://web.ns:8080/#", "'/#' behind its host"),
    ("http://web ns", "not a name: it has more than letters, digits, hyphens and underscores"),
    ("http://web\n10.0.0.1 evil.ns", "not a name"),
    ("http://web.ns\n", "not a name"),
    ("http://web.ns/\n", "control character"),
    ("http://web.ns\0", "not a name"),
    ("http://web\t.ns", "not a name"),
    ("http://web#.ns\n", "control character"),
    ("http://a.b.c.d.e.f", "more than 5 labels"),
    ("http://\u00fc.b.c.d.e.f", "more than 5 labels"),
    ("http://stra\u00dfe.ns", "by its xn-- form"),
    ("http://a\u200db.ns", "by its xn-- form"),
    ("http://\u00fc..ns", "no hostname"),
    ("http://\ud800.ns", "no hostname"),
    ("http://\u05d0a.ns", "no hostname"),  # right to left and left to right
    ("http://" + "\u00fc" * 60 + ".ns", "no hostname"),
    ("http://" + "\u00fc" * 10_000, "longer than 253"),
    ("http://\u00fc*.ns", "wildcard"),
    ("http://\u3002", "no hostname"),
    ("http://web\u3000\u00fc.ns", "not"),
    ("http://\uff11\uff12\uff17.1", "an address"),
    ("http://xn--.ns", "not a name"),
    ("http://xn--a.ns", "no international name"),
    ("http://xn--abc.ns", "no international name"),
    ("http://xn--abc-.ns", "not a name"),
    ("http://xn--99999999.ns", "no international name"),
    ("http://good.xn--zzzzzzzz", "no international name"),
    ("http://web%2ens", "not a name"),
    ("http://web\\ns", "not a name"),
    ("http://" + "a" * 64 + ".ns", "not a name: it is longer than 63 characters"),
    ("http://" + ".".join(["abcdefgh"] * 30), "longer than 253"),
    ("http://10.0.0.1", "an address"),
    ("http://127.1", "an address"),
    ("http://1", "an address"),
    ("http://0x7f.0x1", "an address"),
    ("http://[::1]:80", "not a name"),
]


@pytest.mark.parametrize(("url", "reason"), UNUSABLE)
def test_an_unusable_url_is_skipped_with_its_reason(url: str, reason: str) -> None:
    found = discover([item(url), item("http://good.ns", "ep_2")])
    assert [each.target.hostname for each in found.endpoints] == ["good.ns"]
    (skipped,) = found.skipped
    assert skipped.id == "ep_1" and reason in skipped.reason
    assert (skipped.url + skipped.reason).isprintable()


def test_tables_of_other_alphabets_are_loaded_for_a_name_that_needs_them_only() -> None:
    program = (
        "import sys\nfrom ngrokd.cloud.endpointurl import parse\nurl = sys.argv[1]\nparse(url)\n"
        "print(bool({'encodings.idna', 'unicodedata'} & set(sys.modules)))"
    )
    loaded = [
        subprocess.run(
            [sys.executable, "-c", program, url], check=True, capture_output=True, text=True
        ).stdout
        for url in ("http://web.ns", "http://xn--bcher-kva.ns", "http://b\u00fccher.ns")
    ]
    assert loaded == ["False\n", "False\n", "True\n"]


@pytest.mark.parametrize(
    "odd", [None, 7, "text", [], {}, {"id": "ep_1"}, item(None), item(7), item("", public_url=[])]
)
def test_something_that_is_no_endpoint_is_skipped(odd: object) -> None:
    found = discover([odd, item("http://good.ns")])
    assert len(found.endpoints) == 1
    assert found.skipped[0].reason


@pytest.mark.parametrize(
    ("odd", "kind"),
    [(None, "null"), (True, "true"), (7.5, "a number"), ("x", "a text"), ([], "a list")],
)
def test_what_was_listed_in_place_of_an_endpoint_is_named(odd: object, kind: str) -> None:
    (skipped,) = discover([odd]).skipped
    assert skipped.reason == f"the API listed {kind} in its place"


def test_url_comes_before_public_url() -> None:
    both = item("http://new.ns", public_url="http://old.ns", proto="http")
    assert discover([both]).endpoints[0].target == Target("new.ns", 80)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"public_url": "tcp://old.ns:99", "proto": "tcp"}, ("tcp", Target("old.ns", 99))),
        ({"public_url": "old.ns:99", "proto": "tcp"}, ("tcp", Target("old.ns", 99))),
        ({"public_url": "old.ns", "proto": "http"}, ("http", Target("old.ns", 80))),
        ({"public_url": "old.ns", "proto": 7}, ("https", Target("old.ns", 443))),
        ({"public_url": "old.ns", "scheme": "tls"}, ("tls", Target("old.ns", 443))),
    ],
)
def test_public_url_and_proto_stand_in_for_a_missing_url(
    more: dict[str, object], expected: tuple[str, Target]
) -> None:
    (found,) = discover([{"id": "ep_1", **more}]).endpoints
    assert (found.scheme, found.target) == expected


def test_members_of_a_pool_are_one_endpoint_with_all_their_ids() -> None:
    urls = ["http://web.ns", "http://WEB.ns:80/", "http://web.ns."]
    found = discover([item(url, f"ep_{3 - number}") for number, url in enumerate(urls)])
    expected = Endpoint(Target("web.ns", 80), "http", "http://web.ns", ("ep_1", "ep_2", "ep_3"))
    assert found == Discovered((expected,))


def test_an_item_listed_twice_counts_once() -> None:
    assert discover([item("http://web.ns")] * 2).endpoints[0].ids == ("ep_1",)


def test_one_host_on_three_ports_is_three_endpoints() -> None:
    found = discover([item("http://web.ns"), item("https://web.ns"), item("tcp://web.ns:5")])
    assert [each.target.port for each in found.endpoints] == [5, 80, 443]


def test_of_two_schemes_on_one_host_and_port_the_same_is_always_served() -> None:
    items = [item("tcp://web.ns:80", "ep_t"), item("http://web.ns", "ep_h")]
    assert discover(items) == discover(items[::-1])
    found = discover(items)
    assert [each.scheme for each in found.endpoints] == ["http"]
    (skipped,) = found.skipped
    assert (skipped.id, skipped.url) == ("ep_t", "tcp://web.ns:80")
    assert "http://web.ns has the same host and port" in skipped.reason


def test_an_endpoint_without_an_id_is_still_served() -> None:
    (found,) = discover([{"url": "http://web.ns"}]).endpoints
    assert found.ids == ("",)


def test_what_is_shown_of_a_hostile_item_is_bounded_and_printable() -> None:
    found = discover([item("http://\x1b[2J" + "x" * 10_000, "\x1b]0;owned\x07" + "y" * 10_000)])
    (skipped,) = found.skipped
    assert max(map(len, (skipped.id, skipped.url, skipped.reason))) <= 300
    assert (skipped.id + skipped.url + skipped.reason).isprintable()


@pytest.mark.parametrize("scheme", ["x\x1b[2J\n", "x" * 10_000])
def test_a_hostile_scheme_is_shown_bounded_and_printable(scheme: str) -> None:
    found = discover([{"url": "web.ns", "proto": scheme}, item(f"{scheme}://web.ns")])
    assert len(found.skipped) == 2
    for skipped in found.skipped:
        assert len(skipped.reason) <= 300 and skipped.reason.isprintable()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
urls = st.text() | st.builds("http://{}.ns".format, st.text(max_size=20)) | st.from_regex(
    r"(http|https|tcp|tls|udp)?(://)?[A-Za-z0-9.*@\n_-]{0,20}(:[0-9a-z]{0,6})?(/.*)?",
    fullmatch=True,
)
endpoint_like = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=5) | anything,
        "url": urls | anything,
        "public_url": urls | anything,
        "proto": st.sampled_from(["http", "tcp", "", "x"]) | anything,
        "scheme": anything,
    },
)


@given(st.lists(endpoint_like | anything, max_size=8))
def test_any_json_is_served_or_skipped_and_never_raises(items: list[object]) -> None:
    found = discover(items)
    targets = [each.target for each in found.endpoints]
    assert targets == sorted(set(targets))
    for each in found.endpoints:
        assert each.target.hostname.isascii() and not set(each.target.hostname) & set(" \t\r\n#*")
        assert 1 <= each.target.port <= 65535
        assert each.ids == tuple(sorted(each.ids)) and each.ids
    assert bool(items) == bool(found.endpoints or found.skipped)
    assert all(each.reason for each in found.skipped)


@given(st.lists(endpoint_like, max_size=8))
@example([{"url": "web.ns", "proto": "x"}, {"url": "web.ns", "proto": "y"}])
@example([item("web ns" + "x" * 300, ""), item("web ns" + "x" * 300 + "\n", "")])
def test_the_order_of_the_list_changes_nothing(items: list[object]) -> None:
    assert discover(items) == discover(items[::-1])


@given(st.lists(endpoint_like | anything, max_size=8))
def test_what_is_saved_is_what_is_read_again(items: list[object]) -> None:
    found = discover(items)
    assert from_json(json.loads(json.dumps(to_json(found)))) == found


@given(anything)
def test_a_damaged_file_is_a_value_error_and_nothing_else(document: object) -> None:
    try:
        from_json(document)
    except ValueError as exc:
        assert str(exc)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"endpoints": [], "skipped": {}},
        {"endpoints": [1], "skipped": []},
        {"endpoints": [{"url": "http://web.ns", "ids": [1]}], "skipped": []},
        {"endpoints": [{"url": 1, "ids": ["ep"]}], "skipped": []},
        {"endpoints": [], "skipped": [{"id": "ep"}]},
    ],
)
def test_a_saved_document_of_another_shape_is_damage(document: object) -> None:
    with pytest.raises(ValueError):
        from_json(document)


def test_an_edited_file_gets_no_name_past_the_rules() -> None:
    edited = {"endpoints": [{"url": "http://a.ns\n10.0.0.1 b", "ids": ["ep"]}], "skipped": []}
    found = from_json(edited)
    assert found.endpoints == () and len(found.skipped) == 1


def test_skipped_endpoints_are_saved_too() -> None:
    found = Discovered(skipped=(SkippedEndpoint("ep_1", "tcp://a.ns", "why"),))
    assert from_json(to_json(found)) == found


@pytest.mark.parametrize(
    "url",
    [
        "http://" + "a" * 200_000 + "/ ",
        "a" * 200_000 + "/ ",
        "http://" + "a/" * 100_000 + "\n",
        "http://" + "\u00fc" * 200_000,
        "http://xn--" + "a" * 200_000,
        "http://" + "." * 200_000,
    ],
    ids=lambda url: repr(url[:12]),
)
def test_a_url_of_any_length_is_judged_at_once(url: str) -> None:
    began = time.process_time()
    with pytest.raises(Unusable):
        parse(url)
    assert time.process_time() - began < 1


hostname_texts = st.text(
    st.sampled_from("abcXYZ019-_.:/@*# \n\t\0") | st.characters(blacklist_categories=()),
    max_size=30,
)


@given(st.sampled_from(["", "http://", "tcp://", "http://xn--", "//"]), hostname_texts)
def test_a_url_is_a_name_that_is_safe_in_a_hosts_file_or_unusable(head: str, text: str) -> None:
    try:
        url = parse(head + text)
    except Unusable as exc:
        assert str(exc)
        return
    assert re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+){0,4}", url.hostname)
    assert len(url.hostname) <= 253 and 1 <= url.port <= 65535
    assert Rules({}, ()).refusal(url.hostname) in ("", *REFUSED_LATER)


@given(st.text(st.characters(min_codepoint=0xA1), min_size=1, max_size=15))
def test_an_international_name_is_published_as_its_owner_can_be_asked_for(label: str) -> None:
    try:
        url = parse(f"http://{label}.ns")
    except Unusable:
        return
    assert parse(f"http://{url.hostname}") == url
    assert url.hostname.encode() == f"{label.lower()}.ns".encode("idna").lower()


@given(st.text())
def test_a_parsed_url_spells_itself_the_same_way_again(text: str) -> None:
    try:
        url = parse(text)
    except Unusable:
        return
    assert parse(str(url)) == url


LISTED = st.lists(
    st.builds(
        item,
        st.sampled_from(
            (
                *("http://a.ns", "https://a.ns:80", "tcp://a.ns:80", "a.ns:80", "HTTP://A.ns/x"),
                *("tls://b.ns", "https://b.ns", "tcp://b.ns:443", "tcp://b.ns", "*", ""),
            )
        ),
        st.sampled_from(["ep_1", "ep_2", "ep_3", None, 7]),
        proto=st.sampled_from(["http", "https", "tcp", 7]),
    ),
    max_size=8,
)


@given(LISTED, LISTED)
def test_what_was_known_before_changes_nothing_in_what_is_found(
    before: list[dict[str, object]], items: list[dict[str, object]]
) -> None:
    assert discover(items, discover(before)) == discover(items)
