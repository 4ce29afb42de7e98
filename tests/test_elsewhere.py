"""What names mean outside: over real sockets, with servers that answer, refuse and keep silent."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.errors import ProtocolError
from ngrokd.host import elsewhere, resolved
from ngrokd.host.elsewhere import Places, look
from tests.fair import Stopwatch
from tests.nameserver import IS_SILENT, REFUSES, NameServer, Resolved

ZONE = {
    "db.example.com": "93.184.216.34",
    "both.example.com": "192.0.2.7 2001:db8::7",
    "six.example.com": "2001:db8::6",
    "closed.example.com": REFUSES,
    "silent.example.com": IS_SILENT,
}
NOT_FOUND = {"error": "io.systemd.Resolve.DNSError", "parameters": {"rcode": 3}}
FAILED = {"error": "io.systemd.Resolve.DNSError", "parameters": {"rcode": 2}}
NO_RECORD = {"error": "io.systemd.Resolve.NoSuchResourceRecord", "parameters": {}}
NO_SERVERS = {"error": "io.systemd.Resolve.NoNameServers", "parameters": {}}


def found(address: list[int]) -> dict[str, object]:
    one = {"ifindex": 2, "family": 2, "address": address}
    return {"parameters": {"addresses": [one], "name": "x", "flags": 1}}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A machine that asks 127.0.0.1."""
    (tmp_path / "resolv.conf").write_text("search home.lan\nnameserver 127.0.0.1\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: files dns\n")
    return Places(
        tmp_path / "resolv.conf", tmp_path / "nsswitch.conf", tmp_path / "resolved", port=1
    )


@pytest.fixture
def server() -> Iterator[NameServer]:
    with NameServer(ZONE) as running:
        yield running


def test_names_are_told_from_those_that_nobody_has(places: Places, server: NameServer) -> None:
    names = ["db.example.com", "both.example.com", "six.example.com", "api.ns"]
    assert look(names, dataclasses.replace(places, port=server.port)) == {
        "db.example.com": ("93.184.216.34",),
        "both.example.com": ("192.0.2.7", "2001:db8::7"),
        "six.example.com": ("2001:db8::6",),
        "api.ns": (),
    }


def test_each_name_is_asked_once_of_each_kind_and_no_search_domain_is_put_behind_it(
    places: Places, server: NameServer
) -> None:
    look(["db.example.com", "api.ns"], dataclasses.replace(places, port=server.port))
    assert server.asked == ["db.example.com"] * 2 + ["api.ns"] * 2


def test_a_server_that_refuses_or_is_silent_says_nothing(
    places: Places, server: NameServer
) -> None:
    names = ["silent.example.com", "closed.example.com", "db.example.com"]
    seen = look(names, dataclasses.replace(places, port=server.port), patience_s=0.2)
    assert seen == {"db.example.com": ("93.184.216.34",)}


def noise(question: bytes) -> list[bytes]:
    """Of one who guesses, and of a server that is broken: none of it may count, or end the look."""
    other = bytes([question[0] ^ 0xFF]) + question[1:2]
    forged = b"\x81\x80\0\1\0\1\0\0\0\0" + question[12:] + b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4abcd"
    xmas = question[:2] + b"\x81\x80\0\1\xff\xff\0\0\0\0\3two\5words\0\0\1\0\1"
    return [b"\0", question[:11], other + forged, question, xmas, question[:2] + forged[:9]]


def test_what_others_send_in_between_counts_for_nothing(places: Places) -> None:
    with NameServer(ZONE, noise=noise) as server:
        here = dataclasses.replace(places, port=server.port)
        assert look(["both.example.com", "api.ns"], here) == {
            "both.example.com": ("192.0.2.7", "2001:db8::7"),
            "api.ns": (),
        }


def test_a_flood_of_noise_takes_no_more_than_the_time_there_is(places: Places) -> None:
    watch = Stopwatch()
    with NameServer(
        {"silent.example.com": IS_SILENT}, noise=lambda question: [question] * 2000
    ) as server:
        here = dataclasses.replace(places, port=server.port)
        assert look(["silent.example.com"], here, patience_s=0.3) == {}
    assert watch.own() < 5


def test_nobody_there_is_no_fault(places: Places) -> None:
    assert look(["db.example.com"], places, patience_s=0.2) == {}


def test_the_next_server_is_asked_only_what_the_first_one_did_not_tell(places: Places) -> None:
    places.resolv_conf.write_text("nameserver 127.0.0.1\nnameserver 127.0.0.2\n")
    with NameServer(ZONE) as first, NameServer(
        {"silent.example.com": "192.0.2.1"}, "127.0.0.2", first.port
    ) as second:
        here = dataclasses.replace(places, port=first.port)
        seen = look(["api.ns", "silent.example.com"], here, patience_s=0.2)
    assert seen == {"api.ns": (), "silent.example.com": ("192.0.2.1",)}
    assert set(second.asked) == {"silent.example.com"}


@pytest.mark.parametrize("text", ["nameserver here\n", "nameserver ::ffff:300\n", "\0\n"])
def test_a_server_that_is_no_address_is_passed_over(places: Places, text: str) -> None:
    places.resolv_conf.write_text(text)
    assert look(["db.example.com"], places, patience_s=0.2) == {}


def test_a_machine_that_asks_no_name_server_asks_none_for_us(
    places: Places, server: NameServer
) -> None:
    places.nsswitch.write_text("hosts: files\n")
    assert look(["db.example.com"], dataclasses.replace(places, port=server.port)) == {}
    assert server.asked == []


def test_resolved_is_asked_past_the_hosts_file(places: Places, server: NameServer) -> None:
    places.nsswitch.write_text("hosts: files resolve dns\n")
    replies: Mapping[str, object] = {
        "db.example.com": found([93, 184, 216, 34]),
        "api.ns": NOT_FOUND,
        "text.ns": NO_RECORD,
        "bad.ns": FAILED,
        "offline.ns": NO_SERVERS,
    }
    stub = Resolved(places.resolved, replies)
    assert look(list(replies), dataclasses.replace(places, port=server.port)) == {
        "db.example.com": ("93.184.216.34",),
        "api.ns": (),
        "text.ns": (),
    }
    stub.close()
    flags = 1 << 0 | 1 << 8 | 1 << 11
    assert stub.calls[0] == {
        "method": "io.systemd.Resolve.ResolveHostname",
        "parameters": {"name": "db.example.com", "flags": flags},
    }
    assert server.asked == []


def test_where_resolved_is_not_there_the_servers_are_asked(
    places: Places, server: NameServer
) -> None:
    places.nsswitch.write_text("hosts: resolve [!UNAVAIL=return] dns\n")
    seen = look(["db.example.com"], dataclasses.replace(places, port=server.port))
    assert seen == {"db.example.com": ("93.184.216.34",)}


def test_a_resolved_that_says_nothing_in_time_says_nothing(places: Places) -> None:
    places.nsswitch.write_text("hosts: resolve dns\n")
    stub = Resolved(places.resolved, {"db.example.com": b""})
    assert look(["db.example.com"], places, patience_s=0.1) == {}
    stub.close()


@pytest.mark.parametrize("raw", [b"[]\0", b"x" * (1 << 17), b'{"parameters": 1}\0'])
def test_a_resolved_that_answers_nonsense_is_left_for_the_servers(
    places: Places, server: NameServer, raw: bytes
) -> None:
    places.nsswitch.write_text("hosts: resolve dns\n")
    stub = Resolved(places.resolved, {"db.example.com": raw})
    here = dataclasses.replace(places, port=server.port)
    assert look(["db.example.com"], here) == {"db.example.com": ("93.184.216.34",)}
    stub.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["parameters", "addresses", "address", "error"]), inner)
    ),
    max_leaves=8,
)


@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
def test_any_reply_of_resolved_is_an_answer_or_a_protocol_error(reply: bytes) -> None:
    try:
        answer = resolved.answer(reply)
    except ProtocolError:
        return
    assert answer is None or isinstance(answer, tuple)


def test_search_domains_are_read_and_missing_files_say_nothing(places: Places) -> None:
    assert elsewhere.search_domains(places) == ("home.lan",)
    places.resolv_conf.unlink()
    assert elsewhere.search_domains(places) == ()
