"""Only names that can do no harm are published."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ngrokd.host import hosts
from ngrokd.host.names import Rules

RESERVED = {"laptop": "its own", "laptop.home": "its own", "printer.lan": "/etc/hosts"}
LOOPS = ("api.ngrok.com", "kubernetes-binding-ingress.ngrok.io")


@pytest.mark.parametrize(
    "name",
    [
        "web.ns",
        "api.identifier",
        "db.example.com",
        "a-b.c-d",
        "_srv.ns",
        "a_b.ns",
        "xn--bcher-kva.ns",
        "single",
        "1password.ns",
        "x" * 63 + ".ns",
        ".".join(["x" * 49] * 5),  # 249 characters
        "Web.NS",
        "github.com",
    ],
)
def test_a_proper_name_is_published(name: str) -> None:
    assert Rules(RESERVED, LOOPS).refusal(name) == ""


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        ("*.private.com", "wildcard"),
        ("web.*.ns", "wildcard"),
        ("localhost", "machine itself"),
        ("LOCALHOST", "machine itself"),
        ("web.localhost", "machine itself"),
        ("localhost.localdomain", "machine itself"),
        ("localhost4.localdomain4", "machine itself"),
        ("ip6-allhosts", "machine itself"),
        ("ip6-loopback", "machine itself"),
        ("_gateway", "systemd"),
        ("_localdnsstub", "systemd"),
        ("10.0.0.1", "address"),
        ("127.1", "address"),
        ("0x7f.1", "address"),
        ("0x7f000001", "address"),
        ("web.123", "address"),
        ("::1", "address"),
        ("[::1]", "address"),
        ("web.ns:80", "address"),
        ("api.ngrok.com", "ngrokd itself"),
        ("API.ngrok.com", "ngrokd itself"),
        ("kubernetes-binding-ingress.ngrok.io", "ngrokd itself"),
        ("laptop", "already"),
        ("Printer.lan", "already"),
        ("a b.ns", "white space"),
        ("a\tb.ns", "white space"),
        ("a.ns\n10.0.0.1\tgoogle.com", "white space"),
        ("a.ns\r", "white space"),
        ("a.ns\0", "control"),
        ("a.ns\x7f", "control"),
        ("a\u00a0b.ns", "white space"),
        ("a#b.ns", "letters"),
        ("bücher.ns", "letters"),
        ("\u212aelvin.ns", "letters"),  # KELVIN SIGN, whose lower case is an ASCII k
        ("-x.ns", "hyphen"),
        ("x-.ns", "hyphen"),
        ("web..ns", "empty label"),
        ("web.ns.", "empty label"),
        (".ns", "empty label"),
        ("x" * 64 + ".ns", "63"),
        (".".join(["x" * 50] * 5), "253"),
        ("web.ns/path", "letters"),
    ],
)
def test_a_name_that_could_do_harm_is_refused_with_the_reason(name: str, why: str) -> None:
    assert why in Rules(RESERVED, LOOPS).refusal(name)


def test_a_host_to_reach_is_recognised_with_a_final_dot_and_capitals() -> None:
    assert "ngrokd itself" in Rules({}, ["Ingress.Example.com."]).refusal("ingress.example.com")


@pytest.mark.parametrize(
    "name", ["api.ngrok.com", "API.NGROK.COM", "kubernetes-binding-ingress.ngrok.io"]
)
def test_ngroks_own_hosts_are_refused_also_while_others_are_configured(name: str) -> None:
    assert "ngrokd itself" in Rules({}, ["127.0.0.1", "localhost"]).refusal(name)
    assert Rules({}, []).refusal(f"my-{name}") == ""


@given(st.one_of(st.text(), st.from_regex(r"[a-z0-9_.\-#\s*:\[]{1,70}")))
@example("a.ns\n")
def test_whatever_is_not_refused_is_one_harmless_word(name: str) -> None:
    reason = Rules(RESERVED, LOOPS).refusal(name)
    assert reason or re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?", name)
    assert reason.isprintable()


def names_by_libc(line: bytes) -> list[bytes]:
    """Of a line of a hosts file: what glibc's and musl's parsers make of it, at their widest."""
    return re.split(rb"[ \t\v\f\r\n\0]+", line.partition(b"#")[0].strip(b" \t\v\f\r\n\0"))[1:]


@given(
    st.one_of(
        st.text(),
        st.text(st.characters(max_codepoint=0x17F)),
        st.from_regex(r"[A-Za-z0-9_.\-]{1,70}", fullmatch=True),
    )
)
@example("a.ns\n10.0.0.1\tgoogle.com")
@example("a.ns b.ns")
@example("a.ns#")
@example("a.ns\x85b.ns")
def test_whatever_is_not_refused_makes_one_line_with_one_name(name: str) -> None:
    if Rules(RESERVED, LOOPS).refusal(name):
        return
    before = b"127.0.0.1 localhost\n"
    after = hosts.render(before, {name: "10.107.0.2"}, hosts.marker_of("ngrokd0"))
    added = after[len(before) :].split(b"\n")
    assert after.startswith(before) and len(added) == 4 and added[3] == b""
    assert added[0].startswith(b"# BEGIN ") and added[2].startswith(b"# END ")
    assert names_by_libc(added[1]) == [name.encode("ascii")]
    assert hosts.render(after, {}, hosts.marker_of("ngrokd0")) == before
