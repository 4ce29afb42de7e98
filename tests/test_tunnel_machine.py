"""A tunnel between two sides that do anything in any order: nothing is lost in silence.

The driver here is what `Relay` is, with sockets that take and give as hypothesis says. One fault at
most breaks the ingress's side; it is always seen, and what came before it still arrives.
"""

from __future__ import annotations

import errno
import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ngrokd.errors import ProtocolError
from ngrokd.forward import wire
from ngrokd.forward.backlog import Backlog, OwnBacklog
from ngrokd.forward.interest import READ, WRITE
from ngrokd.forward.tls import RECORD_BYTES, STEP_BYTES, Tls
from ngrokd.forward.tunnel import (
    ANSWER_LIMIT_BYTES,
    HIGH_WATER_BYTES,
    PLAIN_BYTES,
    READ_BYTES,
    Flow,
    Tunnel,
    TunnelState,
)
from ngrokd.model import Target
from tests import certificates
from tests.certificates import SERVER_NAME, Contexts
from tests.test_tls import VERSIONS

TARGET = Target("web.ns", 80)
ANSWER = wire.encode_response(wire.ConnResponse("ep_1", "tcp"))
RECORD_COST = 64  # more than header, padding and tag of one TLS record take, in either version
MOST_RECORDS = READ_BYTES // (16 * 1024) + 2
# Below the mark one read is added; and to the client a record whose first part came before it.
TO_LOCAL_LIMIT = HIGH_WATER_BYTES + READ_BYTES + RECORD_BYTES
TO_REMOTE_LIMIT = HIGH_WATER_BYTES + READ_BYTES + MOST_RECORDS * RECORD_COST
AMOUNTS = st.sampled_from((0, 1000, 100_000, 400_000, 1 << 20))
JUNK = bytes([0xAA]) * PLAIN_BYTES  # what other tunnels leave in the shared buffer
SIZES = st.sampled_from((1, 2, 300, 16_384, 16_385, 65_536, 65_537, 200_000, READ_BYTES))
COUNTS = st.one_of(st.just(0), st.integers(1, 600), st.sampled_from((16_384, 70_000, 1 << 20)))


def new_tunnel(contexts: Contexts, plain: memoryview) -> Tunnel:
    """A tunnel to TARGET whose TCP connection is there: the handshake is under way."""
    tunnel = Tunnel(Tls(contexts.client, SERVER_NAME), plain)
    tunnel.connected()
    return tunnel


class Stream:
    """What one side sends, made up as it goes, and how much of it the other side has."""

    PERIOD = hashlib.shake_128(b"no two places of it look alike").digest(1 << 20)

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0

    def next(self, size: int) -> bytes:
        data = self._part(self.sent, size)
        self.sent += size
        return data

    def take(self, data: bytes) -> None:
        assert self.received + len(data) <= self.sent, "bytes that nobody sent"
        assert data == self._part(self.received, len(data)), "bytes lost, doubled or out of order"
        self.received += len(data)

    def _part(self, start: int, size: int) -> bytes:
        start %= len(self.PERIOD)
        return (self.PERIOD[start:] + self.PERIOD)[:size] if size else b""


class Ingress:
    """The server's end, in memory; it reads whatever it is given, at once."""

    def __init__(self, contexts: Contexts) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = contexts.server.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._requests = wire.RequestReader()
        self.shaken = False
        self.asked: Optional[Target] = None
        self.saw_end = False  # close_notify
        self.saw_alert = False

    def receive(self, data: bytes) -> bytes:
        """What it could decrypt with that; the request for the endpoint is kept back."""
        self._incoming.write(data)
        if not self.shaken:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                return b""
            self.shaken = True
        plain = self._read()
        if self.asked is None and plain:
            self.asked = self._requests.receive_data(plain)
            plain = self._requests.leftover if self.asked else b""
        return plain

    def write(self, data: bytes) -> None:
        while data:
            data = data[self._tls.write(data[: 1 << 15]) :]

    def end(self) -> None:
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            return

    def taken(self) -> bytes:
        return self._outgoing.read()

    def _read(self) -> bytes:
        parts = bytearray()
        try:
            while True:
                part = self._tls.read(1 << 16)
                if not part:
                    break
                parts += part
        except ssl.SSLWantReadError:
            return bytes(parts)
        except ssl.SSLZeroReturnError:
            pass  # an end too, once ours was sent
        except ssl.SSLError:
            self.saw_alert = True
            return bytes(parts)
        self.saw_end = True
        return bytes(parts)


class Driver:
    """Both sockets of a tunnel, which take and give as much as they are told."""

    def __init__(self, contexts: Contexts) -> None:
        self.plain = memoryview(bytearray(PLAIN_BYTES))
        self.tunnel = new_tunnel(contexts, self.plain)
        self.ingress = Ingress(contexts)
        self.up, self.down = Stream(), Stream()
        self.wire = bytearray()  # from the ingress, still under way
        self.fin = False  # of the ingress, behind what is under way
        self.fin_read = False
        self.client_ended = False
        self.ingress_ended = False
        self.client_saw_end = False
        self.client_was_reset = False

    def open(self, split: int) -> None:
        """Up to the answer, which goes onto the wire and no further."""
        while self.ingress.asked is None:
            self.ingress_takes(split)
            self.collect()
            self.arrive(split)
        while self.wire or self.tunnel.to_remote:
            self.arrive(split)
            self.ingress_takes(split)
        assert self.tunnel.state is TunnelState.UPGRADING
        assert self.ingress.asked == TARGET

    # What happens on the client's side

    def client_sends(self, size: int, taken: int) -> None:
        for step in in_steps(self.up.next(size)):
            self.tunnel.to_remote.put(self.tunnel.receive_local(step))
        self.ingress_takes(taken)

    def client_ends(self, taken: int) -> None:
        self.client_ended = True
        self.tunnel.to_remote.put(self.tunnel.receive_local(memoryview(b"")))
        self.ingress_takes(taken)

    def client_takes(self, count: int) -> None:
        self.down.take(take(self.tunnel.to_local, count))
        self.settle()

    # What happens on the ingress's side

    def ingress_sends(self, data: bytes) -> None:
        self.ingress.write(data)
        self.collect()

    def ingress_ends(self) -> None:
        self.ingress_ended = True
        self.ingress.end()
        self.collect()

    def ingress_takes(self, count: int) -> None:
        data = take(self.tunnel.to_remote, count)
        if data:
            self.up.take(self.ingress.receive(data))
        self.settle()

    def collect(self) -> None:
        self.wire += self.ingress.taken()

    def arrive(self, count: int, taken: int = 0) -> None:
        """Some of what is under way reaches the tunnel, of which the client takes `taken`."""
        if not self.reads_ingress():
            return
        count = min(count, READ_BYTES)
        data = bytes(self.wire[:count])
        del self.wire[:count]
        if data or (self.fin and not self.wire and not self.fin_read):
            self.fin_read = not data
            try:
                for step in in_steps(data):
                    self.receive(step)
                    self.client_takes(taken)
            except (ssl.SSLError, ProtocolError):
                assert self.tunnel.state is not TunnelState.OPEN
                self.client_was_reset = True  # by an opening that cannot go on

    def receive(self, step: memoryview) -> None:
        if self.tunnel.down is Flow.RUNNING:
            self.tunnel.to_local.put(self.tunnel.receive_remote(step))
        if self.tunnel.state is TunnelState.READY:
            self.tunnel.request(TARGET)

    def lose(self) -> None:
        """The ingress's socket breaks."""
        self.wire.clear()
        self.tunnel.remote_lost(OSError(errno.ECONNRESET, "reset"))
        self.settle()

    # What the relay does after every step

    def settle(self) -> None:
        if self.tunnel.local_end_due:
            assert not self.client_saw_end, "an end is told twice"
            self.client_saw_end = True
            self.tunnel.local_end_sent()
        if self.tunnel.cut_due:
            self.client_was_reset = True
        if self.tunnel.finished:
            assert self.client_saw_end and not self.tunnel.to_remote, "closed too early"

    def reads_client(self) -> bool:
        return bool(self.tunnel.local_interest() & READ)

    def reads_ingress(self) -> bool:
        return not self.client_was_reset and bool(self.tunnel.remote_interest() & READ)

    def drain(self) -> None:
        """Everybody takes everything, until nothing is left to take."""
        for _ in range(1000):
            before = self.progress()
            self.arrive(READ_BYTES)
            self.client_takes(1 << 20)
            self.ingress_takes(1 << 20)
            self.collect()
            if self.progress() == before:
                return
        raise AssertionError("it goes on for ever")

    def progress(self) -> tuple[object, ...]:
        tunnel = self.tunnel
        sizes = (len(self.wire), len(tunnel.to_local), len(tunnel.to_remote))
        return (*sizes, self.up.received, self.down.received, self.fin_read, self.client_saw_end)


def in_steps(data: bytes) -> list[memoryview]:
    """As the relay hands on what it read; nothing is one step, too: an end."""
    view = memoryview(data)
    return [view[at : at + STEP_BYTES] for at in range(0, len(data) or 1, STEP_BYTES)]


def take(backlog: Union[Backlog, OwnBacklog], count: int) -> bytes:
    """What a socket with room for `count` bytes takes."""
    taken = b""
    while backlog and len(taken) < count:
        with backlog.first()[:] as data:
            part = bytes(data[: count - len(taken)])
        backlog.sent(len(part))
        taken += part
    return taken


# Any order


class Tunnelling(RuleBasedStateMachine):
    """An open tunnel, from the answer on. Owner: hypothesis."""

    def __init__(self, contexts: Contexts) -> None:
        super().__init__()
        self._driver = Driver(contexts)
        self._fault = ""
        self._due_down = 0  # bytes that must arrive whatever the fault
        self._quiet = self._whole = 0  # bytes sent before the first end, and before the fault
        self._all_end = False  # at last

    @initialize(
        split=st.sampled_from((1, 17, 1000, 1 << 20)),
        early=st.integers(0, 3000),
        quiet=AMOUNTS,
        whole=AMOUNTS,
        all_end=st.booleans(),
    )
    def open(self, split: int, early: int, quiet: int, whole: int, all_end: bool) -> None:
        self._quiet, self._whole, self._all_end = quiet, whole, all_end
        self._driver.open(split)
        self._driver.ingress_sends(ANSWER + self._driver.down.next(early))

    @precondition(lambda self: self._driver.reads_client() and not self._driver.client_ended)
    @rule(size=SIZES, taken=COUNTS)
    def the_client_sends(self, size: int, taken: int) -> None:
        self._driver.client_sends(size, taken)

    @precondition(
        lambda self: self._driver.reads_client()
        and not self._driver.client_ended
        and self._may_end()
    )
    @rule(taken=COUNTS)
    def the_client_ends(self, taken: int) -> None:
        self._driver.client_ends(taken)

    @precondition(lambda self: self._driver.tunnel.to_local)
    @rule(count=COUNTS)
    def the_client_takes(self, count: int) -> None:
        assert self._driver.tunnel.local_interest() & WRITE
        self._driver.client_takes(count)

    @precondition(lambda self: not self._driver.ingress_ended and not self._fault)
    @rule(size=SIZES)
    def the_ingress_sends(self, size: int) -> None:
        self._driver.ingress_sends(self._driver.down.next(size))

    @precondition(
        lambda self: not self._driver.ingress_ended and not self._fault and self._may_end()
    )
    @rule()
    def the_ingress_ends(self) -> None:
        self._driver.ingress_ends()

    @precondition(lambda self: self._driver.ingress_ended and not self._fault)
    @rule()
    def the_ingress_closes_behind_its_end(self) -> None:
        self._driver.fin = True

    @precondition(lambda self: self._driver.tunnel.to_remote)
    @rule(count=COUNTS)
    def the_ingress_takes(self, count: int) -> None:
        assert self._driver.tunnel.remote_interest() & WRITE
        self._driver.ingress_takes(count)
        self._driver.collect()

    @precondition(lambda self: self._driver.wire or self._driver.fin)
    @rule(count=st.one_of(st.integers(1, 600), SIZES), taken=COUNTS)
    def bytes_arrive(self, count: int, taken: int) -> None:
        self._driver.arrive(count, taken)

    @precondition(lambda self: not self._driver.ingress_ended and self._may_break())
    @rule()
    def the_ingress_closes_without_an_end(self) -> None:
        self._break("truncation")
        self._driver.fin = True

    @precondition(lambda self: not self._driver.ingress_ended and self._may_break())
    @rule(head=st.sampled_from((b"\x17\x03\x03\x00\x20", b"HTTP/1.1", b"\x80" * 5)))
    def garbage_stands_on_the_wire(self, head: bytes) -> None:
        self._break("garbage")
        self._driver.wire += head + bytes(64)
        self._driver.fin = True

    @precondition(lambda self: self._driver.wire and self._may_break())
    @rule(place=st.floats(0, 1, exclude_max=True))
    def a_byte_on_the_wire_is_damaged(self, place: float) -> None:
        wire_bytes = self._driver.wire
        self._break("damage")
        self._due_down = 0
        wire_bytes[int(place * len(wire_bytes))] ^= 0x40
        self._driver.fin = True

    @precondition(lambda self: self._is_open() and self._may_break())
    @rule()
    def the_ingress_s_socket_breaks(self) -> None:
        self._break("loss")
        self._due_down = self._driver.down.received + len(self._driver.tunnel.to_local)
        self._driver.lose()

    @rule()
    def another_tunnel_uses_the_shared_buffer(self) -> None:
        self._driver.plain[:] = JUNK

    @invariant()
    def the_backlogs_are_bounded(self) -> None:
        assert len(self._driver.tunnel.to_local) <= TO_LOCAL_LIMIT
        assert len(self._driver.tunnel.to_remote) <= TO_REMOTE_LIMIT < ANSWER_LIMIT_BYTES

    @invariant()
    def the_client_sees_an_end_only_where_there_is_one(self) -> None:
        driver = self._driver
        if driver.client_saw_end:
            assert driver.ingress_ended
            assert driver.down.received == driver.down.sent

    @invariant()
    def the_ingress_sees_an_end_only_where_there_is_one(self) -> None:
        driver = self._driver
        if driver.ingress.saw_end:
            assert driver.client_ended
            assert driver.up.received == driver.up.sent

    @invariant()
    def it_is_finished_once_both_have_seen_the_end(self) -> None:
        driver = self._driver
        both = driver.client_saw_end and driver.ingress.saw_end
        if not self._fault:
            assert driver.tunnel.finished is both

    def teardown(self) -> None:
        """With all taken, every byte has arrived or the connection is reset."""
        driver = self._driver
        if driver.ingress.asked is None:
            return  # hypothesis stopped before the first step
        if self._all_end and not self._fault:
            self._end_both()
        driver.drain()
        if self._fault and not self._excused():
            assert driver.client_was_reset, f"{self._fault} was not seen"
            assert driver.down.received >= self._due_down
            if not self._is_open():
                assert driver.ingress.saw_alert or self._fault != "garbage"
                return
            assert driver.tunnel.fault is not None
            assert driver.tunnel.local_interest() == driver.tunnel.remote_interest() == 0
            return
        assert not driver.client_was_reset
        assert driver.down.received == driver.down.sent
        assert driver.up.received == driver.up.sent
        assert driver.client_saw_end is driver.ingress_ended
        assert driver.ingress.saw_end is driver.client_ended
        assert driver.tunnel.finished is (driver.client_ended and driver.ingress_ended)

    def _excused(self) -> bool:
        """Damage to what stands behind the end, which nobody reads."""
        return self._fault == "damage" and self._driver.client_saw_end

    def _end_both(self) -> None:
        """Whatever is under way; only a client that is held back ends later, and not here."""
        if not self._driver.client_ended and self._driver.reads_client():
            self._driver.client_ends(0)
        if not self._driver.ingress_ended:
            self._driver.ingress_ends()

    def _may_end(self) -> bool:
        return self._driver.up.sent + self._driver.down.sent >= self._quiet

    def _may_break(self) -> bool:
        sent = self._driver.up.sent + self._driver.down.sent
        return not self._fault and sent >= self._whole

    def _is_open(self) -> bool:
        return self._driver.tunnel.state is TunnelState.OPEN

    def _break(self, how: str) -> None:
        self._fault = how
        self._due_down = self._driver.down.sent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module", params=list(VERSIONS.values()), ids=list(VERSIONS))
def contexts(request: pytest.FixtureRequest, folder: Path) -> Contexts:
    return certificates.contexts(folder / str(request.param.value), request.param)


def run_machine(contexts: Contexts, examples: int) -> None:
    run_state_machine_as_test(
        lambda: Tunnelling(contexts),  # type: ignore[arg-type]  # it is called, and no more
        settings=settings(max_examples=examples, stateful_step_count=40),
    )


def test_whatever_happens_every_byte_arrives_or_the_connection_is_reset(
    contexts: Contexts,
) -> None:
    run_machine(contexts, 40)


@pytest.mark.long
def test_whatever_happens_for_long_every_byte_arrives_or_the_connection_is_reset(
    contexts: Contexts,
) -> None:
    run_machine(contexts, 1000)


# Every split


@dataclass
class Cutter:
    """Carries bytes in two parts: it stops once, when `left` bytes have gone by."""

    left: int
    carried: int = 0

    def parts(self, data: bytes) -> list[bytes]:
        at, self.left = self.left, self.left - len(data)
        self.carried += len(data)
        return [data[:at], data[at:]] if 0 < at < len(data) else [data] if data else []


def exchange(contexts: Contexts, up: Cutter, down: Cutter) -> tuple[bytes, bytes]:
    """One tunnel's whole life, what goes either way cut once; what the two sides received."""
    driver = Driver(contexts)
    tunnel, ingress = driver.tunnel, driver.ingress
    heard, told = bytearray(), bytearray()

    def carry() -> None:
        driver.collect()
        while tunnel.to_remote or driver.wire:
            for part in up.parts(take(tunnel.to_remote, 1 << 20)):
                heard.extend(ingress.receive(part))
            driver.collect()
            data = bytes(driver.wire)
            driver.wire.clear()
            for part in down.parts(data):
                driver.receive(memoryview(part))
                told.extend(take(tunnel.to_local, 3))
                driver.plain[:PLAYGROUND] = JUNK[:PLAYGROUND]
            told.extend(take(tunnel.to_local, 1 << 20))

    carry()
    ingress.write(ANSWER + b"220 welcome")
    carry()
    for said in (b"question", b""):
        tunnel.to_remote.put(tunnel.receive_local(memoryview(said)))
    carry()
    ingress.write(b"ans")
    ingress.write(b"wer")
    ingress.end()
    carry()
    assert ingress.saw_end and tunnel.local_end_due and not tunnel.finished
    tunnel.local_end_sent()
    assert tunnel.finished
    return bytes(heard), bytes(told)


PLAYGROUND = 64  # of the shared buffer, more than one part of this exchange takes of it
WHOLE = (b"question", b"220 welcome" + b"answer")


def assert_every_split_is_harmless(contexts: Contexts, places: Callable[[int], range]) -> None:
    """`places`: where to cut, for a flow of so many bytes."""
    never = 1 << 30
    up, down = Cutter(never), Cutter(never)
    assert exchange(contexts, up, down) == WHOLE
    for place in places(up.carried):
        assert exchange(contexts, Cutter(place), Cutter(never)) == WHOLE, f"up, at {place}"
    for place in places(down.carried):
        assert exchange(contexts, Cutter(never), Cutter(place)) == WHOLE, f"down, at {place}"


def test_a_cut_anywhere_behind_the_handshake_changes_nothing(contexts: Contexts) -> None:
    assert_every_split_is_harmless(contexts, lambda size: range(max(size - 250, 1), size + 1, 3))


def test_a_cut_in_the_handshake_changes_nothing(contexts: Contexts) -> None:
    assert_every_split_is_harmless(contexts, lambda size: range(1, size, 31))


@pytest.mark.long
def test_a_cut_anywhere_changes_nothing(contexts: Contexts) -> None:
    assert_every_split_is_harmless(contexts, lambda size: range(1, size + 1))
