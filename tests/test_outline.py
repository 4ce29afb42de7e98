"""Where a JSON object ends, however its bytes come."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngrokd.control.outline import Outline

LEAVES = st.none() | st.booleans() | st.integers() | st.text('{}"\\a\u00e9[', max_size=8)
OBJECTS = st.dictionaries(
    st.text('{}"\\b', max_size=4),
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=8,
    ),
    max_size=4,
)


def _ends(pieces: list[bytes]) -> list[bool]:
    outline = Outline()
    return [outline.ends_in(piece) for piece in pieces]


@given(OBJECTS, st.booleans())
@settings(max_examples=40)
def test_an_object_ends_with_its_last_byte_and_not_before(value: object, plain: bool) -> None:
    text = json.dumps(value, ensure_ascii=plain).encode()
    assert _ends([text]) == [True]
    assert _ends([text + b" \r\n"]) == [True]
    one_by_one = _ends([text[at : at + 1] for at in range(len(text))])
    assert one_by_one == [False] * (len(text) - 1) + [True]


@pytest.mark.parametrize(
    "text", [b"", b"}", b"}{}", b"{} x", b"[]", b'"{}"', b"{", b'{"}', b'{"\\"}']
)
def test_what_is_no_object_or_has_more_behind_it_does_not_end(text: bytes) -> None:
    assert _ends([text]) == [False]


def test_it_ends_once() -> None:
    assert _ends([b"{}", b"", b" ", b"{}", b"}"]) == [True, False, False, False, False]
    assert _ends([b"{} x", b"{}"]) == [False, False]


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_any_bytes_end_once_at_most(pieces: list[bytes]) -> None:
    assert sum(_ends(pieces)) <= 1
