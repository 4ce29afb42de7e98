"""Endpoint addresses on a utun, on a Mac that is interpreted."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from ngrokd.errors import HostError, InterfaceTaken
from ngrokd.host.netif import bsd
from ngrokd.host.netif import utun as utunmodule
from ngrokd.host.netif.backend import Backend
from ngrokd.host.netif.utun import Utun
from tests.macos.kernel import Inet, Route
from tests.macos.mac import Mac
from tests.macos.room import DEFAULTS, UTUN, net, prepare, recorded

FAILED = "Failed to create utun interface, falling back to loopback aliases"
FALLBACK = "Using loopback aliases (fallback mode)"


@pytest.fixture
def mac() -> Mac:
    return Mac()

@pytest.fixture
def utun(mac: Mac, tmp_path: Path) -> Iterator[Backend]:
    backend = prepare(mac, UTUN, tmp_path)
    yield backend
    backend.close()


def test_a_utun_is_made_as_in_the_guide(
    mac: Mac, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    backend = prepare(mac, UTUN, tmp_path)
    assert backend.add(["10.107.0.3", "10.107.0.4"]) == {}
    assert [record.getMessage() for record in caplog.records] == [
        'Creating virtual network interface (macOS utun) name="utun" subnet="10.107.0.0/16"',
        'Created utun interface interface="utun1"',
        'Configured utun interface interface="utun1" gateway="10.107.0.1"',
        'Added route for subnet subnet="10.107.0.0/16" interface="utun1"',
        'Added IP to utun interface ip="10.107.0.3" interface="utun1"',
        'Added IP to utun interface ip="10.107.0.4" interface="utun1"',
    ]
    assert "ifconfig utun1 inet 10.107.0.1 10.107.0.2 netmask 255.255.0.0 up" in mac.ran
    assert "route add -net 10.107.0.0/16 -interface utun1" in mac.ran
    assert mac(["ifconfig", "utun1"]) == (
        "utun1: flags=8051<UP,POINTOPOINT,RUNNING,MULTICAST> mtu 1500\n"
        "\tinet 10.107.0.1 --> 10.107.0.2 netmask 0xffff0000 \n"
        "\tinet 10.107.0.3 --> 10.107.0.3 netmask 0xffff0000 \n"
        "\tinet 10.107.0.4 --> 10.107.0.4 netmask 0xffff0000 \n"
    )
    (line,) = [each for each in mac(bsd.SHOW_ROUTES).splitlines() if "10.107/16" in each]
    assert line.split() == ["10.107/16", "utun1", "USc", "utun1"]
    assert backend.status.name == "utun1" and backend.status.subnet == "10.107.0.0/16"
    assert backend.addresses() == {"10.107.0.3", "10.107.0.4"}
    backend.close()
    backend.close()
    assert "utun1" not in mac.kernel.interfaces and mac.kernel.routes == []
    assert recorded(tmp_path) == []


def test_a_number_in_the_name_is_the_one_that_is_made(mac: Mac, tmp_path: Path) -> None:
    backend = prepare(mac, net(interface_name="utun7"), tmp_path)
    assert backend.status.name == "utun7"
    backend.close()


def test_no_endpoint_gets_the_far_end(utun: Backend) -> None:
    assert utun.status.occupied == {"10.107.0.2"}


@pytest.mark.parametrize(
    ("what", "value", "why"),
    [
        ("root", False, "operation not permitted"),
        ("utun_refused", "No such file or directory", "No such file or directory"),
        ("root", True, "Resource busy"),  # by the number
    ],
)
def test_where_a_utun_cannot_be_aliases_serve_and_the_guides_two_messages_are_told(
    mac: Mac,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    what: str,
    value: object,
    why: str,
) -> None:
    caplog.set_level(logging.INFO)
    mac.kernel.make_utun(10)  # utun9, of another program
    setattr(mac.kernel, what, value)
    backend = prepare(mac, net(interface_name="utun9"), tmp_path)
    told = [record.getMessage() for record in caplog.records]
    assert told[1].startswith(f"{FAILED}: ") and why in told[1] and "Mend: " in told[1]
    assert told[2] == FALLBACK
    assert backend.status.name == "lo0" and backend.status.subnet == "127.0.0.0/8"
    (note,) = backend.status.notes
    assert why in note
    mac.kernel.root = True
    assert backend.add(["127.0.0.2"]) == {}
    backend.close()
    assert mac.lo0() == []


def test_a_subnet_that_others_use_gets_no_utun(mac: Mac, tmp_path: Path) -> None:
    mac.kernel.add_route(Route(IPv4Network("10.0.0.0/8"), "en0", "192.168.1.1"))
    (note,) = prepare(mac, UTUN, tmp_path).status.notes
    assert note.startswith("10.107.0.0/16 is in use on this machine: interface en0 has a route to")
    assert "utun1" not in mac.kernel.interfaces


@pytest.mark.parametrize("says_done", [True, False])
def test_a_route_that_is_there_already_leaves_no_utun_behind(
    mac: Mac, tmp_path: Path, says_done: bool
) -> None:
    mac.route_says_done = says_done
    run = mac.programs["ifconfig"]

    def meanwhile(words: list[str]) -> str:
        if "netmask" in words:
            mac.kernel.add_route(Route(IPv4Network("10.107.0.0/16"), "en0"))
        return run(words)

    mac.programs["ifconfig"] = meanwhile
    (note,) = prepare(mac, UTUN, tmp_path).status.notes
    assert "File exists" in note
    assert "utun1" not in mac.kernel.interfaces and len(mac.kernel.routes) == 1


def test_what_a_killed_run_left_on_lo0_goes_once_there_is_a_utun(
    mac: Mac, tmp_path: Path
) -> None:
    prepare(mac, DEFAULTS, tmp_path).add(["127.0.0.2"])
    prepare(mac, UTUN, tmp_path).close()
    assert mac.lo0() == [] and recorded(tmp_path) == []


def test_what_others_did_to_a_utun_is_mended(
    mac: Mac, utun: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    utun.add(["10.107.0.3", "10.107.0.4"])
    mac(["ifconfig", "utun1", "inet", "10.107.0.1", "-alias"])
    mac(["ifconfig", "utun1", "down"])
    mac(["route", "delete", "-net", "10.107.0.0/16", "-interface", "utun1"])
    assert utun.addresses() == {"10.107.0.3", "10.107.0.4"}
    interface = mac.kernel.interfaces["utun1"]
    assert interface.up and interface.find("10.107.0.1") == Inet("10.107.0.1", 16, "10.107.0.2")
    assert len(interface.inets) == 3, "no endpoint's address went for it"
    assert len(mac.kernel.routes) == 1
    assert "lost its address 10.107.0.1" in caplog.text and "set down" in caplog.text
    caplog.clear()
    utun.addresses()
    assert caplog.text == ""


def test_a_utun_that_is_gone_is_made_again(mac: Mac, utun: Backend) -> None:
    utun.add(["10.107.0.3"])
    mac.kernel.drop_utun("utun1")
    assert utun.addresses() == set()
    assert utun.add(["10.107.0.3"]) == {}
    assert utun.addresses() == {"10.107.0.3"}


def test_a_utun_whose_socket_tells_nothing_any_more_is_made_again(mac: Mac, utun: Backend) -> None:
    assert isinstance(utun, Utun)
    before = utun._reflector
    assert before is not None and before._thread is not None
    utun.add(["10.107.0.3"])
    with socket.socket(fileno=os.dup(before._sock.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)
    before._thread.join(10)
    assert not before.lives
    assert utun.addresses() == set(), "of the new one"
    assert utun.add(["10.107.0.3"]) == {}
    assert utun._reflector is not before and utun._reflector is not None and utun._reflector.lives


def end(mac: Mac, backend: Utun) -> None:
    """The kernel takes it away, and another program has one of its name."""
    reflector = backend._reflector
    assert reflector is not None and reflector._thread is not None
    with socket.socket(fileno=os.dup(reflector._sock.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)
    reflector._thread.join(10)


def test_a_name_that_another_program_has_by_now_gets_no_address_from_us(
    mac: Mac, utun: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(utun, Utun)
    utun.add(["10.107.0.3"])
    end(mac, utun)
    theirs = mac.kernel.interfaces["utun1"]
    before = [*theirs.inets]
    assert utun.add(["10.107.0.4"]) == {"10.107.0.4": "utun1 is gone: the next poll makes it again"}
    assert utun.remove(["10.107.0.3"]) == {}
    assert theirs.inets == before

    def refuse(number: int) -> None:
        raise HostError("a utun interface cannot be made: No buffer space available. Mend: none")

    monkeypatch.setattr(utun, "_open", refuse)
    for _ in range(2):
        with pytest.raises(InterfaceTaken, match="utun1 is gone, and no other is there yet"):
            utun.addresses()
        assert "is gone" in utun.add(["10.107.0.3"])["10.107.0.3"]
    assert "Made again" not in caplog.text
    monkeypatch.undo()
    assert utun.addresses() == set() and utun.add(["10.107.0.3"]) == {}
    assert caplog.text.count("Made again") == 1


def test_without_descriptors_for_it_a_utun_is_none_and_aliases_serve(
    mac: Mac, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused:
        def __init__(self, sock: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(utunmodule, "Reflector", Refused)
    (note,) = prepare(mac, UTUN, tmp_path).status.notes
    assert note.startswith("utun1 cannot be made: Too many open files. Mend: ")
    assert mac.wires == {}


def test_who_comes_to_use_the_subnet_is_told(
    mac: Mac, utun: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    mac.kernel.add(mac.kernel.interfaces["en0"], Inet("10.107.0.9", 24))
    utun.addresses()
    utun.addresses()
    assert caplog.text.count("10.107.0.9") == 1
    assert "10.107.0.9" in utun.status.notes[0]


def test_one_address_that_a_utun_is_refused_costs_the_others_nothing(
    mac: Mac, utun: Backend
) -> None:
    utun.add(["10.107.0.3", "10.107.0.4"])
    mac(["ifconfig", "utun1", "inet", "10.107.0.4", "-alias"])
    assert utun.remove(["10.107.0.3", "10.107.0.4"]) == {}
    mac.kernel.root = False
    assert "permission denied" in utun.add(["10.107.0.5"])["10.107.0.5"]
    mac.kernel.root = True
