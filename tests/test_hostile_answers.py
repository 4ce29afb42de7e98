"""Whole jobs against an API that answers anything: a value that can be kept, or a sorted error."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngrokd.cloud import recordfile, registrar
from ngrokd.cloud.api import Api
from ngrokd.cloud.discovery import to_json
from ngrokd.cloud.keymaker import KeyMaker
from ngrokd.cloud.keys import new_key, signing_request
from ngrokd.cloud.operators import Operator, Wish, is_operator_id
from ngrokd.cloud.pair import Pair
from ngrokd.cloud.polling import poll
from ngrokd.cloud.recordfile import Told
from ngrokd.cloud.registration import Profile
from ngrokd.errors import ApiError, ApiUnavailable
from ngrokd.model import Discovered
from tests.cloud_fake import KEY, Authority, FakeApi, Reply, Request

NOW = 1_760_000_000.0
ME = "0123456789abcdef0123456789abcdef"
WISH = Wish(ME, Profile(("true",), "h\udcffx", "1"), "CSR")
PRIVATE = new_key()
SIGNED = Authority().sign(signing_request(PRIVATE))
MARKED = json.dumps({"ngrokd.installation_id": ME})

# Numbers that `json.dumps` does not write; they are written as texts like these first.
NUMBERS = {"#big": "9" * 5000, "#inf": "1e999", "#tiny": "-1e-999", "#nan": "NaN"}
TEXTS = st.sampled_from(
    [
        "", "\ud800", "\udcff.ns", "\0", "a\nb", "\u202e\x1b[31m", "x" * 5000, "1e999", "//x",
        "k8sop_1", "..", "http://a.ns", "tcp://\ud800.ns:7", "tcp://a.ns:99999", "http://[::1",
        "https://xn--a.ns", "[::1%eth0]:1", "ingress.test:443", "1.2.3.4:5", "999:1", "?a=1",
        SIGNED, "\ud800" + SIGNED, SIGNED[:300], "x\n" * 40_000 + SIGNED, SIGNED + PRIVATE.decode(),
        "-----BEGIN CERTIFICATE-----" + " " * 20_000, "-----BEGIN CERTIFICATE-----" * 99,
        "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----", SIGNED.replace("M", "N"),
        MARKED, '{"a":' * 900 + "1" + "}" * 900, '{"\\ud800": "\\udfff"}', '{"a": 1e999}', "[]",
        "ERR_NGROK_226", "ERR_NGROK_404", *NUMBERS,
    ]
)  # fmt: skip
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXTS | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def often(
    usual: st.SearchStrategy[object], other: st.SearchStrategy[object] = ANY, of_ten: int = 8
) -> st.SearchStrategy[object]:
    """`usual` eight times of ten: what is wrong everywhere is refused where it is looked at first.

    Not by `|`, which takes branches that are the same for one.
    """
    return st.integers(0, 9).flatmap(lambda drawn: usual if drawn < of_ten else other)


CERTIFICATE = st.fixed_dictionaries({"cert": often(st.just(SIGNED), TEXTS, 3)})
BINDING = st.fixed_dictionaries({"cert": often(CERTIFICATE, of_ten=9), "ingress_endpoint": TEXTS})
OPERATOR = st.fixed_dictionaries(
    {
        "id": often(st.just("k8sop_1"), of_ten=9),
        "metadata": often(st.just(MARKED), TEXTS),
        "binding": often(BINDING, of_ten=9),
    }
)
ENDPOINT = st.dictionaries(
    st.sampled_from(["id", "url", "public_url", "proto", "scheme"]), TEXTS | ANY, max_size=5
)
PAGE = st.fixed_dictionaries(
    {
        "operators": often(st.lists(often(OPERATOR), min_size=1, max_size=3)),
        "endpoints": often(st.lists(often(ENDPOINT), min_size=1, max_size=3)),
        "next_page_uri": often(st.none(), TEXTS | ANY),
    }
)
FAULT = st.fixed_dictionaries(
    {}, optional={"error_code": TEXTS | ANY, "status_code": st.just(404) | ANY, "msg": TEXTS | ANY}
)


def written(document: object) -> bytes:
    text = json.dumps(document)
    return re.sub('"(#[a-z]+)"', lambda found: NUMBERS.get(found[1], found[0]), text).encode()


GOOD = st.tuples(st.just(200), often(OPERATOR, PAGE))
LISTED = st.tuples(st.just(200), often(PAGE, OPERATOR))
OTHER = st.tuples(st.sampled_from([200, 204, 302, 400, 401, 404, 429, 500]), often(FAULT))
REPLIES = st.lists(often(GOOD, OTHER, 9), min_size=1, max_size=3) | st.lists(
    often(LISTED, GOOD | OTHER, 7), min_size=1, max_size=4
)


@pytest.fixture(scope="module")
def stand_in() -> Iterator[FakeApi]:
    with FakeApi(lambda _: Reply()) as fake:
        yield fake


def kept(folder: Path, operator: Operator) -> None:
    """What the main thread does with it: on disk, or a sorted error."""
    assert is_operator_id(operator.id)
    recordfile.write(folder, Told(operator.id, operator.ingress_endpoint, operator.told))
    notes: list[str] = []
    assert recordfile.read(folder, notes).profile == operator.told and notes == []
    if operator.certificate:
        (folder / "tls.key").write_bytes(PRIVATE)
        pair = Pair(folder / "tls.crt", folder / "tls.key", KeyMaker())
        try:
            pair.install(operator.certificate, NOW)
        except ApiUnavailable:
            return
        assert (folder / "tls.crt").read_text() == SIGNED


@pytest.mark.parametrize(
    "job",
    [
        lambda api: registrar.register(api, WISH, ""),
        lambda api: registrar.register(api, WISH, "k8sop_1"),
        lambda api: registrar.renew(api, WISH, "k8sop_1"),
        lambda api: registrar.update(api, WISH, "k8sop_1"),
        lambda api: registrar.leave(api, "", ME),
        lambda api: registrar.leave(api, "k8sop_1", ME),
        lambda api: poll(api, "k8sop_1").discovered,
        lambda api: api.check_key(),
    ],
    ids=["register", "known", "renew", "update", "leave", "leave known", "poll", "check key"],
)
@settings(
    max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(replies=REPLIES)
def test_a_job_ends_with_what_can_be_kept_or_with_a_sorted_error(
    stand_in: FakeApi,
    tmp_path: Path,
    job: Callable[[Api], object],
    replies: list[tuple[int, object]],
) -> None:
    stand_in.requests.clear()
    stand_in.answer = functools.partial(nth, stand_in, replies)
    try:
        result = job(Api(stand_in.url, KEY, "1", pause=lambda _: None))
    except ApiError as error:
        assert str(error).isprintable() and KEY not in str(error)
        return
    if isinstance(result, Operator):
        kept(tmp_path, result)
    elif isinstance(result, Discovered):
        json.dumps(to_json(result), ensure_ascii=False).encode()
    else:
        assert result is None or isinstance(result, str)


def nth(fake: FakeApi, replies: list[tuple[int, object]], _: Request) -> Reply:
    status, document = replies[min(len(fake.requests), len(replies)) - 1]
    return Reply(status, body=b"" if status == 204 else written(document))
