"""Endpoints that come and go all the time, or by the thousand, cost what they must and no more.

In the first test nothing is a fake: a machine on a part of 127.0.0.0/8, a forwarder, state files.
"""

from __future__ import annotations

import gc
import logging
import os
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from ngrokd.cloud.discovery import discover
from ngrokd.config import ForwardSettings, NetSettings
from ngrokd.forward.forwarder import Forwarder
from ngrokd.host.machine import Machine
from ngrokd.memory import Memory
from ngrokd.model import Address, Discovered
from ngrokd.reconcile.reconciler import Reconciler
from tests.fakes import FakeForwarder, FakeMachine, FakeMemory

WARM_UP = 100
# 13 addresses for endpoints: a pool that leaks is soon exhausted. They are this machine's
# own, where another checkout may be tested at the same time.
SUBNET = f"{ip_address('127.128.0.0') + os.getpid() % (1 << 19) * 16}/28"
STAYING = {"id": "ep_1", "url": "tcp://stays.ns:7001"}
FLAPPING = {"id": "ep_2", "url": "tcp://flaps.ns:7002"}
BOTH, ONE = discover([STAYING, FLAPPING]), discover([STAYING])


class Household:
    """A reconciler with all that it works on. Owner: the test."""

    def __init__(self, folder: Path) -> None:
        self.hosts = folder / "hosts"
        self.hosts.write_text("127.0.0.1\tlocalhost\n")
        self.net = NetSettings(interface_name="flaps", subnet=SUBNET, hosts_file=str(self.hosts))
        self.crashes: list[BaseException] = []
        self.forwarder = Forwarder(ForwardSettings(warm_connections="off"), self.crashes.append)
        self.reconciler = Reconciler(Machine(self.net), self.forwarder, Memory(folder))
        self.reconciler.recall()
        self.reconciler.prepare()
        self.forwarder.start()

    def apply(self, discovered: Discovered) -> None:
        self.reconciler.apply(discovered, self.net, ())

    def address(self) -> str:
        """Of the endpoint that flaps, as the hosts file has it; "": none."""
        lines = [line.split() for line in self.hosts.read_text().splitlines()]
        return next((line[0] for line in lines if line[1:] == ["flaps.ns"]), "")

    def close(self) -> None:
        self.reconciler.stop_accepting()
        self.forwarder.stop()
        self.reconciler.close()
        assert self.crashes == []


@pytest.fixture
def household(tmp_path: Path) -> Iterator[Household]:
    household = Household(tmp_path)
    try:
        yield household
    finally:
        household.close()


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


# Each cycle is two polls. Five thousand of them are written, synced and measured for half a minute.
# `most` is then 13 bytes a cycle: less than any object has.
@pytest.mark.parametrize(
    ("cycles", "most"), [(200, 32 << 10), pytest.param(2500, 16 << 10, marks=pytest.mark.long)]
)
def test_an_endpoint_that_flaps_at_every_poll_keeps_its_address_and_leaves_nothing(
    household: Household, cycles: int, most: int
) -> None:
    household.apply(BOTH)
    address, writes = household.address(), household.reconciler.hosts_writes
    seen = set()
    middle = (WARM_UP + cycles) // 2
    held = 0
    marks = []
    logging.disable(logging.CRITICAL)  # pytest keeps what is logged, and that would count
    tracemalloc.start()
    try:
        for cycle in range(cycles):
            if cycle == WARM_UP:
                held = descriptors()
            if cycle in (WARM_UP, middle):
                marks.append(traced())
            household.apply(ONE)
            household.apply(BOTH)
            seen.add(household.address())
        marks.append(traced())
    finally:
        tracemalloc.stop()
        logging.disable(logging.NOTSET)
    assert address and seen == {address}
    assert household.reconciler.hosts_writes - writes == 2 * cycles
    assert household.reconciler.problems == () and household.reconciler.failed == 0
    assert descriptors() == held
    # What is kept of each cycle is seen in both halves. The interpreter's own table of the words
    # it shares (pathlib's names are among them) is made anew at once, in one of the two: 1.9 MB.
    assert min(marks[1] - marks[0], marks[2] - marks[1]) < most


def test_two_thousand_names_one_after_the_other_never_exhaust_thirteen_addresses() -> None:
    machine, memory = FakeMachine(SUBNET), FakeMemory()
    reconciler = Reconciler(machine, FakeForwarder(machine), memory)
    reconciler.prepare()
    for number in range(2000):
        passing = discover([STAYING, {"id": "ep", "url": f"tcp://n{number}.ns:7002"}])
        reconciler.apply(passing, NetSettings(subnet=SUBNET), ())
        assert reconciler.failed == 0
    assert set(machine.names) == {"stays.ns", "n1999.ns"}
    assert len(machine.present) == 2
    assert len(memory.remembered.addresses) == 13


class _Doors(FakeForwarder):
    """As quick as the real one."""

    def remove_listeners(self, addresses: Iterable[Address]) -> None:
        for address in addresses:
            del self.listeners[address]
            self.machine.bound.discard(address)


def test_ten_thousand_endpoints_come_stay_and_go_in_seconds() -> None:
    """A look at all of them for each of them would take a minute."""
    machine = FakeMachine()
    reconciler = Reconciler(machine, _Doors(machine), FakeMemory())
    reconciler.prepare()
    items = [{"id": f"ep_{n}", "url": f"tcp://n{n}.ns:7000"} for n in range(10_000)]
    began = time.process_time()
    for wanted in (items, items, items[:10], items):
        found = discover(wanted)
        reconciler.apply(found, NetSettings(), ())
        assert len(reconciler.endpoints) == len(machine.names) == len(wanted)
    assert time.process_time() - began < 15
