"""Large answers in pieces are the JSON they would be in one."""

from __future__ import annotations

import json
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngrokd.control import jsontext
from ngrokd.control.jsontext import MANY

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)


@given(VALUES, st.integers(0, 3))
@settings(max_examples=40)
def test_it_is_what_json_has_for_it(data: object, many: int) -> None:
    with patch.object(jsontext, "MANY", many):
        assert jsontext.text(data) == json.dumps(data)


@pytest.mark.parametrize(
    "data",
    [
        [{"id": n} for n in range(10 * MANY)],
        {"healthy": True, "endpoints": {f"ep_{n}": {"id": n} for n in range(10 * MANY)}},
        {"path": "/etc/hosts", "lines": [f"10.107.0.{n} a" for n in range(10 * MANY)]},
    ],
    ids=["list", "status page", "hosts"],
)
def test_of_thousands_of_endpoints_none_is_encoded_with_another(data: object) -> None:
    longest = 0
    dumps = json.dumps

    def encode(part: object, **how: object) -> str:
        nonlocal longest
        longest = max(longest, len(dumps(part)))
        return dumps(part)

    with patch.object(jsontext.json, "dumps", encode):  # type: ignore[attr-defined]
        text = jsontext.text(data)
    assert text == json.dumps(data)
    assert longest < 40


@pytest.mark.parametrize("bad", [float("nan"), {1, 2}])
def test_what_json_does_not_have_is_refused(bad: object) -> None:
    for data in (bad, [bad] * (MANY + 1), {"a": [bad] * (MANY + 1)}):
        with pytest.raises((TypeError, ValueError)):
            jsontext.text(data)
