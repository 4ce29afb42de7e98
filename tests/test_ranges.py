"""The parts of the loopback range that instances fall back to: stable, and never two's."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator

import pytest

from ngrokd.host.netif import ranges
from ngrokd.sandbox import slots

NAMES = ("ngrokd0", "ngrokd1", "ngrokd2", "tunnel0", "")


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """One that no daemon of this machine uses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
        monkeypatch.setattr(ranges, "CLAIM_PORT", number)
        yield number


def test_each_name_has_its_own_and_the_default_one_has_that_of_the_manual() -> None:
    assert ranges.first_of("ngrokd0") == "127.107.0.0/16"
    assert len({ranges.first_of(name) for name in NAMES}) == len(NAMES)
    assert [ranges.first_of(name) for name in NAMES] == [ranges.first_of(name) for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_no_other_name_meets_the_sandboxes_or_localhost(name: str) -> None:
    network = ipaddress.IPv4Network(ranges.first_of(name))
    others = {ipaddress.IPv4Network(slot.subnet) for slot in slots.SLOTS}
    assert network not in others or name == "ngrokd0"
    assert not network.overlaps(ipaddress.IPv4Network("127.0.0.0/16"))


def test_a_range_that_another_holds_is_passed_over_until_it_is_given_back(port: int) -> None:
    with contextlib.ExitStack() as stack:
        taken = [ranges.take("ngrokd1") for _ in range(3)]
        for one in taken:
            stack.callback(one.release)
        assert taken[0].subnet == ranges.first_of("ngrokd1")
        assert len({one.subnet for one in taken}) == 3
    again = ranges.take("ngrokd1")
    assert again.subnet == ranges.first_of("ngrokd1")
    again.release()
    again.release()


def test_the_default_instance_and_a_sandbox_never_have_the_same(port: int) -> None:
    with slots.held(port) as slot:
        beside = ranges.take("ngrokd0")
        assert beside.subnet != slot.subnet == "127.107.0.0/16"
        beside.release()
    first = ranges.take("ngrokd0")
    with slots.held(port) as slot:
        assert slot.subnet != first.subnet == "127.107.0.0/16"
    first.release()


def test_the_port_is_the_sandboxes() -> None:
    assert ranges.CLAIM_PORT == slots.LOCK_PORT
