"""Whom this machine asks for names, read as its C library reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.host.resolvconf import MAX_SERVERS, Resolvers, domains, resolvers

PLAIN = "hosts: files dns\n"
LOCAL = Resolvers(servers=("127.0.0.1",))
LINK = "fe80::1%eth0"


@pytest.mark.parametrize(
    ("resolv_conf", "nsswitch", "asked"),
    [
        ("nameserver 10.0.0.1\n", PLAIN, Resolvers(servers=("10.0.0.1",))),
        ("nameserver 10.0.0.1\n", "", Resolvers(servers=("10.0.0.1",))),
        ("", PLAIN, Resolvers(servers=("127.0.0.1",))),
        ("  nameserver\t::1 # here\n", PLAIN, Resolvers(servers=("::1",))),
        ("#nameserver 10.0.0.1\n", PLAIN, Resolvers(servers=("127.0.0.1",))),
        ("nameserver 127.0.0.53\n", PLAIN, Resolvers(True, ("127.0.0.53",))),
        (
            "nameserver 10.0.0.1\n",
            "hosts: mymachines resolve [!UNAVAIL=return] files dns\n",
            Resolvers(True, ("10.0.0.1",)),
        ),
        ("nameserver 127.0.0.53\n", "hosts: resolve files\n", Resolvers(True)),
        ("nameserver 192.168..1\nnameserver ..\n", PLAIN, Resolvers(servers=("127.0.0.1",))),
        (f"nameserver {'a' * 64}\nnameserver é\nnameserver fe80::1%é\n", PLAIN, LOCAL),
        ("nameserver dns.example\nnameserver fe80::1%eth0\n", PLAIN, Resolvers(False, (LINK,))),
        ("nameserver 10.0.0.1\n", "passwd: files\nhosts:files # dns\n", Resolvers()),
        (
            "# Mac OS X Notice\n# This file is not consulted for DNS hostname resolution\n"
            "nameserver 10.0.0.1\n",
            "",
            Resolvers(),
        ),
    ],
)
def test_who_is_asked_is_who_every_program_here_asks(
    resolv_conf: str, nsswitch: str, asked: Resolvers
) -> None:
    assert resolvers(resolv_conf, nsswitch) == asked


def test_no_more_servers_are_asked_than_the_c_library_asks() -> None:
    text = "".join(f"nameserver 10.0.0.{n}\n" for n in range(9))
    assert resolvers(text, PLAIN).servers == ("10.0.0.0", "10.0.0.1", "10.0.0.2")


def test_the_last_search_line_counts() -> None:
    assert domains("domain a.ns\nsearch B.ns. c.ns\n") == ("b.ns", "c.ns")
    assert domains("nameserver 10.0.0.1\nsearch .\n") == ()


@given(st.text(), st.text())
def test_any_text_says_something(resolv_conf: str, nsswitch: str) -> None:
    assert len(resolvers(resolv_conf, nsswitch).servers) <= MAX_SERVERS
    assert all(domains(resolv_conf))
