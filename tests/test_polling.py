"""A poll gives what can be served, or says that its answer cannot be believed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Optional, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.cloud.api import Api
from ngrokd.cloud.pages import Pages
from ngrokd.cloud.polling import poll
from ngrokd.errors import ApiUnavailable
from ngrokd.model import Discovered

GOOD = {"id": "ep_1", "url": "http://a.ns"}


class Listing:
    """The part of `Api` that a poll uses, with an answer of the test's own."""

    unchanged = False

    def __init__(self, items: list[Any]) -> None:
        self._items = items
        self.count = len(items)
        self.pages: Pages = {}

    def each(self) -> Iterator[object]:
        return iter(self._items)

    def bound_endpoints(self, operator_id: str, known: Optional[Pages]) -> Listing:
        assert operator_id == "k8sop_1"
        return self


def polled(*items: Any) -> Discovered:
    return poll(cast(Api, Listing(list(items))), "k8sop_1").discovered


def test_no_endpoints_are_a_good_answer() -> None:
    assert polled() == Discovered()


@pytest.mark.parametrize(
    "damaged", [None, 7, "http://a.ns", [], {}, {"id": "ep_1"}, {"id": "ep_1", "url": None}]
)
def test_a_list_without_a_single_url_is_damage_and_not_the_end_of_all_endpoints(
    damaged: object,
) -> None:
    with pytest.raises(ApiUnavailable, match=r"listed 2 endpoints.*nothing is changed"):
        polled(damaged, damaged)
    found = polled(damaged, GOOD)
    assert [str(each.target) for each in found.endpoints] == ["a.ns:80"]
    assert len(found.skipped) == 1


def test_endpoints_that_can_be_read_but_not_served_are_skipped() -> None:
    found = polled({"id": "ep_1", "url": "http://*.ns"})
    assert found.endpoints == () and len(found.skipped) == 1


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["id", "url", "public_url", "proto", "x"]), inner),
    max_leaves=10,
)


@given(st.lists(anything, max_size=6))
def test_any_list_is_a_value_or_a_sorted_error(items: list[object]) -> None:
    try:
        found = polled(*json.loads(json.dumps(items)))
    except ApiUnavailable:
        assert items
    else:
        assert bool(items) == bool(found.endpoints or found.skipped)
