"""The ingress's address as people and the API write it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ngrokd.cloud.ingressaddress import IngressAddress, is_ingress_address, parse


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("ingress.test", "ingress.test", 443, "ingress.test:443"),
        ("Ingress.Test:8443", "ingress.test", 8443, "ingress.test:8443"),
        ("127.0.0.1:1", "127.0.0.1", 1, "127.0.0.1:1"),
        ("[::1]", "::1", 443, "[::1]:443"),
        ("[2001:DB8:0::1]:65535", "2001:db8::1", 65535, "[2001:db8::1]:65535"),
        ("a_b.test:0443", "a_b.test", 443, "a_b.test:443"),
    ],
)
def test_an_ingress_is_a_host_and_a_port(text: str, host: str, port: int, shown: str) -> None:
    found = parse(text)
    assert found == IngressAddress(host, port)
    assert str(found) == shown
    assert parse(shown) == found


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no usable host"),
        (":443", "no usable host"),
        ("a b", "no usable host"),
        ("a..b", "no usable host"),
        ("a.test.:443", "no usable host"),
        ("-a.test", "no usable host"),
        ("x" * 64 + ".test", "no usable host"),
        (".".join(["x" * 60] * 5), "no usable host"),
        ("10.0.0.300", "no usable host"),
        ("a.1", "no usable host"),
        ("a.\u00b2", "no usable host"),
        ("https://a.test", "URL"),
        ("a:b", "no usable port"),
        ("a:", "no usable port"),
        ("a:0", "no usable port"),
        ("a:65536", "no usable port"),
        ("a:-1", "no usable port"),
        ("a:+1", "no usable port"),
        ("a:\u0661", "no usable port"),
        ("a:" + "9" * 5000, "no usable port"),
        ("a:1:2", "more than one colon"),
        ("2001:db8::1", r"without brackets: write \[2001:db8::1\]"),
        ("[::1", "no IPv6 address between"),
        ("[]:1", "no IPv6 address between"),
        ("[127.0.0.1]:1", "no IPv6 address between"),
        ("[fe80::1%eth0]:1", "no IPv6 address between"),
        ("[::1]443", "after the bracket"),
        ("[::1]:", "no usable port"),
        ("[::1]:0", "no usable port"),
    ],
)
def test_what_is_none_is_told(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(text)
    assert not is_ingress_address(text)


@given(st.one_of(st.text(), st.from_regex(r"\[?[0-9a-fA-F:.%]*\]?(:[0-9]*)?", fullmatch=True)))
@example("[::ffff:1.2.3.4]:9")
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    if is_ingress_address(text):
        found = parse(text)
        assert parse(str(found)) == found
        assert 1 <= found.port <= 65535 and found.host == found.host.lower()
