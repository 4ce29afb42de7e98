"""One socket of a connection."""

from __future__ import annotations

import select
import selectors
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ngrokd.forward import sockets
from ngrokd.forward.delivery import LONGEST_S, SHORTEST_S, Delivery
from ngrokd.forward.interest import READ, WRITE
from ngrokd.forward.leg import UNANSWERED_PULSES, Leg, LegLost
from ngrokd.forward.loop import Loop
from tests.test_loop import TIMEOUT_S, Recorder

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a loopback connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
        with one, other:
            yield one, other


def test_a_peer_that_merely_does_not_read_is_not_lost(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    one, _ = ends
    leg = Leg(one, Loop(), Recorder())
    sockets.prepare(one)
    while leg.send(memoryview(bytes(1 << 16))):
        continue

    for _ in range(2 * UNANSWERED_PULSES):
        leg.pulse()


def test_a_peer_that_acknowledges_nothing_for_long_is_lost(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    leg = Leg(ends[0], Loop(), Recorder())
    monkeypatch.setattr(sockets, "is_unanswered", lambda sock: True)
    for _ in range(UNANSWERED_PULSES - 1):
        leg.pulse()

    with pytest.raises(LegLost, match="timed out"):
        leg.pulse()


def test_one_answer_starts_the_count_anew(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    leg = Leg(ends[0], Loop(), Recorder())
    answers = iter([True, True, False] * 10)
    monkeypatch.setattr(sockets, "is_unanswered", lambda sock: next(answers))

    for _ in range(30):
        leg.pulse()


def test_a_reset_peer_is_lost_at_every_touch(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    leg = Leg(one, Loop(), Recorder())
    sockets.reset_on_close(other)
    other.close()

    with pytest.raises(LegLost, match="reset"):
        leg.check()
    with pytest.raises(LegLost, match="pipe"):
        leg.send(memoryview(b"x"))


def test_a_client_is_looked_at_without_taking_its_bytes(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    one, other = ends
    sockets.prepare(one)
    leg = Leg(one, Loop(), Recorder())
    assert not leg.has_spoken()

    other.send(b"x")
    select.select([one], [], [], TIMEOUT_S)

    assert leg.has_spoken()
    assert one.recv(10) == b"x"


def test_a_fin_alone_is_no_loss(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    leg = Leg(one, Loop(), Recorder())
    other.shutdown(socket.SHUT_WR)

    assert leg.has_spoken()
    leg.check()


def test_a_reset_alone_is_a_loss(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    leg = Leg(one, Loop(), Recorder())
    sockets.reset_on_close(other)
    other.close()

    with pytest.raises(LegLost, match="reset"):
        leg.has_spoken()


class CountedSelector(selectors.DefaultSelector):
    """Counts what it is told. Owner: the test."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        self.told.append(f"register {events}")
        return super().register(fileobj, events, data)

    def modify(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        self.told.append(f"modify {events}")
        return super().modify(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        self.told.append("unregister")
        return super().unregister(fileobj)


def test_the_selector_is_told_of_changes_only(ends: tuple[socket.socket, socket.socket]) -> None:
    selector = CountedSelector()
    loop = Loop(lambda: selector)
    leg = Leg(ends[0], loop, Recorder())

    def change() -> None:
        selector.told.clear()
        for events in (0, READ, READ, READ | WRITE, 0, 0, WRITE):
            leg.want(events)
        leg.give_up()
        leg.give_up()
        loop.stop()

    loop.call_soon(change)
    loop.run()

    assert selector.told == [
        f"register {READ}",
        f"modify {READ | WRITE}",
        "unregister",
        f"register {WRITE}",
        "unregister",
    ]


def test_both_legs_are_kept_alive_and_undelayed(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    sockets.prepare(ends[0])

    assert ends[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert ends[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert not ends[0].getblocking()


def test_a_delivery_that_stands_still_is_looked_at_ever_less_often() -> None:
    delivery = Delivery()
    delivery.look(1000)
    pauses = [delivery.pause_s]
    for _ in range(10):
        assert not delivery.look(1000)
        pauses.append(delivery.pause_s)

    assert pauses[:3] == [SHORTEST_S, 2 * SHORTEST_S, 4 * SHORTEST_S]
    assert pauses[-1] == LONGEST_S
    assert delivery.look(999)
    assert delivery.pause_s == SHORTEST_S
