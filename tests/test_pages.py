"""Which page of a list is asked for next, when, and whether the list is whole."""

from __future__ import annotations

from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.cloud import pages
from ngrokd.cloud.apierrors import Asked
from ngrokd.cloud.pages import MAX_LIST_S, MAX_PAGES, Listing, Pages, digest_of
from ngrokd.errors import ApiUnavailable

BASE = "https://api.test"
ASKED = Asked("GET /x", BASE, "a-key-of-the-test")
LIMITED = ApiUnavailable("slow down", 429)


def listing(member: str = "endpoints") -> Listing:
    return Listing(BASE, "/kubernetes_operators/o/bound_endpoints", member, ASKED)


def page(count: int = 100, link: object = None) -> dict[str, object]:
    return {"endpoints": [{"id": f"ep_{n}"} for n in range(count)], "next_page_uri": link}


class Asking:
    """Asks for pages of a list on a clock of its own; a page takes `page_s`."""

    def __init__(self, page_s: float = 0.0) -> None:
        self.listing = listing()
        self.now = 1000.0
        self.sent: list[float] = []
        self._page_s = page_s

    def ask(self, count: int = 100, link: object = None, size: int = 1000) -> None:
        self.now += self.listing.wait_s(self.now)
        self.sent.append(self.now)
        self.listing.ask(self.now)
        self.now += self._page_s
        self.listing.take(page(count, link), size, self.now)

    def ask_all(self, number: int) -> None:
        for n in range(1, number + 1):
            self.ask(link=f"?before_id={n}" if n < number else None)


def refusal(asking: Asking, **what: object) -> str:
    with pytest.raises(ApiUnavailable) as caught:
        asking.ask(**what)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_thousand_pages_are_a_list_and_one_more_is_an_error() -> None:
    asking = Asking()
    asking.ask_all(MAX_PAGES)
    assert asking.listing.url is None and len(asking.listing.items) == 100_000
    asking = Asking()
    for n in range(1, MAX_PAGES):
        asking.ask(link=f"?before_id={n}")
    assert "no end after 1000 pages" in refusal(asking, link="?before_id=1000")


def test_a_hundred_pages_come_without_a_wait() -> None:
    asking = Asking()
    asking.ask_all(100)
    assert asking.sent[-1] == asking.sent[0]


@pytest.mark.parametrize("page_s", [0.0, 0.2, 0.7])
def test_no_minute_sees_more_than_a_hundred_pages(page_s: float) -> None:
    asking = Asking(page_s)
    asking.ask_all(MAX_PAGES)
    gaps = [later - sooner for sooner, later in zip(asking.sent, asking.sent[100:])]
    assert min(gaps) >= 60
    assert asking.sent[-1] - asking.sent[0] <= max(9 * 60, 999 * 0.7) + 1


def test_a_hundred_pages_of_an_api_that_takes_eight_seconds_for_each_are_a_list() -> None:
    asking = Asking(8.0)
    asking.ask_all(100)
    assert len(asking.listing.items) == 10_000


def test_a_list_that_is_not_whole_in_time_is_an_error() -> None:
    asking = Asking(30.0)
    with pytest.raises(ApiUnavailable, match="its list is not whole after 900 s"):
        asking.ask_all(100)
    assert len(asking.sent) == 31


def test_a_list_of_too_many_items_or_bytes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking()
    asking.ask(link="?x=1", size=pages.MAX_LIST_BYTES)
    assert "its list is larger than 128 MiB" in refusal(asking, size=1)
    assert "its list has more than 100000 items" in refusal(Asking(), count=100_001)


@pytest.mark.parametrize(
    ("link", "following"),
    [
        ("https://api.test/x?y=1", "https://api.test/x?y=1"),
        ("https://API.test:443/x?y=1#z", "https://api.test/x?y=1"),
        ("/x?y=1", "https://api.test/x?y=1"),
        ("//api.test/x", "https://api.test/x"),
        ("?y=1", "https://api.test/kubernetes_operators/o/bound_endpoints?y=1"),
        ("next", "https://api.test/kubernetes_operators/o/next"),
        (None, None),
        ("", None),
        ("bound_endpoints", None),
        ("https://api.test:443/kubernetes_operators/o/bound_endpoints#top", None),
    ],
)
def test_the_next_page_is_absolute_or_relative_and_ends_where_it_was_seen(
    link: object, following: Optional[str]
) -> None:
    asking = Asking()
    asking.ask(link=link)
    assert asking.listing.url == following


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.test/x",
        "//evil.test/x",
        "http://api.test/x",
        "https://api.test:444/x",
        "https://user@api.test/x",
        "https://api.test:x/",
        "file:///etc/passwd",
        "/a b",
        ["/x"],
        7,
    ],
)
def test_a_next_page_elsewhere_makes_the_list_unusable(link: object) -> None:
    assert "its next" in refusal(Asking(), link=link)


def test_an_empty_page_ends_the_list_whatever_it_names() -> None:
    asking = Asking()
    asking.ask(count=0, link="https://evil.test/")
    assert asking.listing.url is None and asking.listing.items == []


def list_of(*bodies: bytes, known: Optional[Pages] = None) -> tuple[Listing, list[bytes]]:
    """A whole list of such pages, and those of them that had to be read."""
    made = Listing(BASE, "/x", "endpoints", ASKED, known)
    read: list[bytes] = []
    for number, body in enumerate(bodies, 1):
        digest = digest_of(body)
        if not made.recognises(digest, len(body), 0.0):
            read.append(body)
            link = f"?before_id={number}" if number < len(bodies) else None
            item = {"id": body.decode()}
            made.take({"endpoints": [item], "next_page_uri": link}, len(body), 0.0, digest)
    return made, read


def test_a_list_that_is_still_the_same_is_not_read_again() -> None:
    first, read = list_of(b"a", b"b", b"c")
    assert read == [b"a", b"b", b"c"] and not first.unchanged
    again, read = list_of(b"a", b"b", b"c", known=first.pages)
    assert read == [] and again.unchanged
    assert again.items == first.items and again.pages == first.pages
    assert again.url is None


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_one_page_that_changed_is_read_and_the_others_are_still_known(changed: int) -> None:
    first, _ = list_of(b"a", b"b", b"c")
    bodies = [b"a", b"b", b"c"]
    bodies[changed] = b"new"
    again, read = list_of(*bodies, known=first.pages)
    assert read == [b"new"] and not again.unchanged
    assert again.items == [{"id": body.decode()} for body in bodies]
    once_more, read = list_of(*bodies, known=again.pages)
    assert read == [] and once_more.unchanged


def test_a_known_page_counts_against_the_bounds_as_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, _ = list_of(b"a", b"b")
    for bound, text in (("MAX_LIST_BYTES", "is larger than"), ("MAX_KEPT", "of text")):
        with monkeypatch.context() as patch:
            patch.setattr(pages, bound, 1)
            with pytest.raises(ApiUnavailable, match=text):
                list_of(b"a", b"b", known=first.pages)


def test_what_nobody_reads_of_an_item_is_not_kept() -> None:
    item = {
        "id": "k8sop_1",
        "url": "http://a.ns",
        "public_url": None,
        "proto": ["http"],
        "traffic_policy": "x" * 99,
        "metadata": "m",
        "binding": {"cert": {"cert": "PEM"}},
    }
    endpoints, operators = listing(), listing("operators")
    endpoints.take({"endpoints": [item, 7, [item]]}, 1, 0.0)
    operators.take({"operators": [item]}, 1, 0.0)
    assert endpoints.items == [{"id": "k8sop_1", "url": "http://a.ns"}, None, None]
    assert operators.items == [{"id": "k8sop_1", "metadata": "m"}]


def test_no_text_of_an_item_is_kept_longer_than_it_is_of_use() -> None:
    for member, name, length in (("endpoints", "url", 512), ("operators", "metadata", 4096)):
        asking = listing(member)
        asking.take({member: [{name: "x" * length}, {name: "x" * 9_000_000}]}, 1, 0.0)
        assert asking.items == [{name: "x" * length}] * 2


def test_a_list_of_more_text_than_a_real_one_is_an_error() -> None:
    asking = Asking()
    items = [{"url": "x" * 512, "id": "x" * 512}] * (pages.MAX_KEPT // 1024)
    asking.listing.take({"endpoints": items, "next_page_uri": "?x=1"}, 1, 0.0)
    with pytest.raises(ApiUnavailable, match="its list has more than 16 MiB of text"):
        asking.listing.take({"endpoints": [{"id": "x"}]}, 1, 0.0)


def test_a_first_page_that_is_refused_for_now_is_left_to_the_next_poll() -> None:
    with pytest.raises(ApiUnavailable):
        listing().rest_s(LIMITED, 0.0)


def test_a_later_page_is_asked_for_again_after_longer_and_longer_rests() -> None:
    asking = Asking()
    asking.ask(link="?x=1")
    rests = [asking.listing.rest_s(LIMITED, 1000.0) for _ in range(5)]
    assert rests == [10, 20, 40, 60, 60]
    asking.ask(link="?x=2")
    assert asking.listing.rest_s(LIMITED, 1000.0) == 10
    assert asking.listing.rest_s(ApiUnavailable("x", 400, "ERR_NGROK_225", 45.0), 1000.0) == 45


@pytest.mark.parametrize(
    "error",
    [ApiUnavailable("x", 500), ApiUnavailable("x"), ApiUnavailable("x", 429, "", MAX_LIST_S + 1)],
)
def test_any_other_failure_and_a_rest_that_is_too_long_end_the_list(error: ApiUnavailable) -> None:
    asking = Asking()
    asking.ask(link="?x=1")
    with pytest.raises(ApiUnavailable) as caught:
        asking.listing.rest_s(error, asking.now)
    assert caught.value is error


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["endpoints", "next_page_uri", "uri"]), ANY | st.just([1])),
)
def test_any_page_ends_the_list_leads_on_below_the_api_or_is_unusable(
    document: dict[str, object],
) -> None:
    one = listing()
    try:
        one.take(document, 1, 0.0)
    except ApiUnavailable:
        return
    assert one.url is None or one.url.startswith(f"{BASE}/")
    assert isinstance(document["endpoints"], list)


@given(st.text(alphabet="htps:/.@?#[]\\apitestevl:0149%"))
def test_no_link_leads_to_another_server(link: str) -> None:
    one = listing()
    try:
        one.take({"endpoints": [1], "next_page_uri": link}, 1, 0.0)
    except ApiUnavailable:
        return
    assert one.url is None or one.url.startswith(f"{BASE}/")


def test_a_link_that_is_longer_than_any_url_is_not_remembered() -> None:
    asking = Asking()
    asking.ask(link="?a=" + "1" * 10_000)
    assert "its next_page_uri is not a URL" in refusal(asking, link="?a=" + "1" * 12_000)
