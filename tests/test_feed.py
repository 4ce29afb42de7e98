"""Events over the control socket: to readers that read, that stop reading, and that leave."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.control import feed, server, stream
from ngrokd.control.feed import Feed, Subscription
from ngrokd.errors import ControlError
from ngrokd.model import Status
from tests.control_room import PATIENCE_S, connect, read_all, serving, talk
from tests.fair import Stopwatch
from tests.newsroom import EVENTS, Newsroom, Reader, half_closed, newsroom

LIST = b'{"command":"list"}\n'
LISTED = {"success": True, "data": ["ep_1"]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def room(path: Path) -> Iterator[Newsroom]:
    with newsroom(path) as room:
        yield room


def test_a_reader_is_told_what_is_true_and_then_what_happens(path: Path, room: Newsroom) -> None:
    with Reader(path) as reader:
        assert (reader.began["event"], reader.began["state"]) == ("began", "ready")
        room.tell("disk full")
        assert reader.next() == {
            "event": "problem",
            "seq": reader.began["seq"] + 1,
            "time": "1970-01-01T00:00:00Z",
            "text": "disk full",
        }


def test_every_reader_is_told_everything(path: Path, room: Newsroom) -> None:
    with Reader(path) as first, Reader(path) as second:
        room.tell("a")
        assert first.next() == second.next()


def test_nothing_that_happens_after_the_beginning_is_missed(path: Path, room: Newsroom) -> None:
    room.tell("before")
    with Reader(path) as reader:
        assert reader.began["problems"] == ["before"]
        room.tell("after")
        assert [reader.next()["event"], reader.next()["event"]] == ["problem_gone", "problem"]


def test_a_daemon_that_stops_ends_the_stream_with_a_last_event(path: Path, room: Newsroom) -> None:
    with Reader(path) as reader:
        room.tell("a")
        room.end()
        assert [event["event"] for event in reader.rest()] == ["problem", "stopped"]


def test_a_reader_that_ends_its_own_side_goes_on_reading(path: Path, room: Newsroom) -> None:
    with half_closed(path) as reader:
        room.tell("a")
        assert reader.next()["text"] == "a"


def test_a_reader_that_goes_on_talking_is_not_listened_to(path: Path, room: Newsroom) -> None:
    with Reader(path, EVENTS + LIST) as reader:
        reader.conn.sendall(b"\xff\n" * 1000)
        room.tell("a")
        assert reader.next()["text"] == "a"


def test_a_reader_that_leaves_is_forgotten_without_another_event(
    path: Path, room: Newsroom
) -> None:
    with Reader(path):
        assert room.followers.get(timeout=PATIENCE_S) == 1
    assert room.followers.get(timeout=PATIENCE_S) == 0


def test_what_a_slow_reader_loses_is_told_in_its_place_and_counted(
    path: Path, room: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MAX_WAITING", 100)
    with Reader(path) as slow, Reader(path) as quick:
        slow.conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        total = 0
        for _ in range(60):
            room.count(50)
            room.count(0)
            told = [quick.next()["seq"] for _ in range(100)]
            assert told == list(range(total + 1, total + 101))
            total += 100
        room.end()
        events = slow.rest()
    assert events[-1]["event"] == "stopped"
    seen = 0
    lost = 0
    for event in events:
        if event["event"] == "lost":
            lost += event["count"]
            seen += event["count"]
        else:
            seen += 1
        assert event["seq"] == seen
    assert lost > 1000
    assert seen == total + 1


def test_a_loss_after_which_nothing_comes_is_told_too(
    path: Path, room: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MAX_WAITING", 10)
    with Reader(path) as reader:
        room.count(25)
        told = [reader.next() for _ in range(11)]
    assert [event["event"] for event in told] == ["problem"] * 10 + ["lost"]
    assert (told[-1]["count"], told[-1]["seq"]) == (15, 25)


def test_readers_that_stop_reading_delay_nobody(path: Path, room: Newsroom) -> None:
    with contextlib.ExitStack() as stack:
        stuck = [stack.enter_context(Reader(path)) for _ in range(feed.MAX_READERS)]
        watch = Stopwatch()
        for _ in range(10):
            room.count(1000)
            room.count(0)
            assert talk(path, LIST) == [LISTED]
        assert watch.own() < PATIENCE_S / 2
        for reader in stuck:
            reader.close()


def test_what_waits_for_a_reader_that_stopped_reading_is_bounded(room: Newsroom) -> None:
    bell, _ = socket.socketpair()
    reader = Subscription(bell, lambda: None, lambda _: None)
    room.do(lambda: room.feed.add(reader, Future()))
    for _ in range(3):
        room.count(feed.MAX_WAITING)
        room.count(0)
    assert len(reader._waiting) == feed.MAX_WAITING
    room.do(lambda: room.feed.remove(reader))


def test_one_reader_too_many_is_told_so_and_requests_are_still_answered(
    path: Path, room: Newsroom
) -> None:
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(Reader(path)) for _ in range(feed.MAX_READERS)]
        (refused,) = talk(path, EVENTS)
        assert refused["code"] == "busy"
        assert "16 programs follow" in refused["error"]
        assert talk(path, LIST) == [LISTED]
        readers[0].close()
        for count in (feed.MAX_READERS, feed.MAX_READERS - 1):  # all had come; one has left
            while room.followers.get(timeout=PATIENCE_S) != count:
                pass
        with Reader(path):
            pass


def test_readers_leave_places_for_requests() -> None:
    assert feed.MAX_READERS < server.MAX_CONNECTIONS // 2


def test_readers_keep_their_places_when_others_come(path: Path, room: Newsroom) -> None:
    with Reader(path) as reader, contextlib.ExitStack() as stack:
        for _ in range(server.MAX_CONNECTIONS + 5):
            stack.enter_context(connect(path)).sendall(b"{")
        assert talk(path, LIST) == [LISTED]
        room.tell("a")
        assert reader.next()["text"] == "a"


def test_a_reader_that_takes_nothing_holds_up_no_stop(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "LAST_LINE_S", 0.2)
    before = set(threading.enumerate())
    with newsroom(path) as room, Reader(path) as reader:
        reader.conn.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        room.count(4000)
        room.count(0)
        (serving_it,) = [t for t in threading.enumerate() if t.name == "control-connection"]
        room.end()
        serving_it.join(PATIENCE_S)
        assert not serving_it.is_alive()
    assert set(threading.enumerate()) == before


def test_descriptors_are_given_back(path: Path, room: Newsroom) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for _ in range(10):
        with Reader(path):
            pass
        while room.followers.get(timeout=PATIENCE_S) != 0:
            pass
    for thread in threading.enumerate():
        if thread.name == "control-connection":
            thread.join(PATIENCE_S)
    room.do(lambda: None)
    assert descriptors() == before


def test_without_main_a_reader_is_told_that_the_daemon_stops(path: Path) -> None:
    from ngrokd.commands import Commands

    def turn_away(message: Any) -> None:
        if hasattr(message, "reply"):
            message.reply.set_exception(ControlError("stopping", "the daemon is stopping"))

    table = Commands(Status, None, turn_away, None).table()  # type: ignore[arg-type]
    with serving(path, table):
        assert [answer["code"] for answer in talk(path, EVENTS)] == ["stopping"]


def test_without_descriptors_a_reader_is_told_so(
    path: Path, room: Newsroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> object:
        raise OSError(24, "Too many open files")

    with connect(path) as conn:
        monkeypatch.setattr(socket, "socketpair", refuse)
        conn.sendall(EVENTS)
        answer = json.loads(read_all(conn))
        monkeypatch.undo()
    assert (answer["code"], answer["error"]) == (
        "busy",
        "no socket for the events: Too many open files",
    )


@given(st.lists(st.one_of(st.integers(1, 6), st.just("take")), max_size=40))
def test_every_number_is_seen_or_counted_as_lost_in_order(steps: list[Any]) -> None:
    reader = Subscription(None, lambda: None, lambda _: None)  # type: ignore[arg-type]
    reader.begin(0, {})
    offered = seen = 0
    bound, feed.MAX_WAITING = feed.MAX_WAITING, 5
    try:
        for step in [*steps, *["take"] * 60]:
            if step == "take":
                for line in reader.take().splitlines():
                    event = json.loads(line)
                    seen += event.get("count", 1)
                    assert event["seq"] == seen
            else:
                numbers = range(offered + 1, offered + step + 1)
                offered += step
                reader.offer([(n, b'{"seq": %d}\n' % n) for n in numbers], offered)
    finally:
        feed.MAX_WAITING = bound
    assert seen == offered


def test_nobody_listens_so_nothing_is_counted() -> None:
    news = Feed(lambda: 0.0)
    news.look(Status(problems=("a",)))
    reader = Subscription(None, lambda: None, lambda _: None)  # type: ignore[arg-type]
    news.add(reader, Future())
    assert (reader.began["seq"], reader.began["problems"]) == (0, ["a"])
