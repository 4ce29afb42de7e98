"""How the main thread waits for others, and for descriptors."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from ngrokd.messages import ApiAnswered, Drained
from ngrokd.process.mailbox import Mailbox
from tests.fair import Stopwatch

PATIENCE_S = 10.0


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    made = Mailbox()
    yield made
    made.close()


def test_messages_come_in_the_order_they_were_posted_in(mailbox: Mailbox) -> None:
    for n in range(3):
        mailbox.post(ApiAnswered(str(n)))
    assert [mailbox.get(0) for _ in range(4)] == [*(ApiAnswered(str(n)) for n in range(3)), None]


def test_a_message_of_another_thread_ends_the_wait(mailbox: Mailbox) -> None:
    watch = Stopwatch()
    threading.Timer(0.05, lambda: mailbox.post(Drained())).start()
    assert mailbox.get(PATIENCE_S) == Drained()
    assert watch.own() < PATIENCE_S


def test_without_a_message_the_time_is_waited_for_and_no_longer(mailbox: Mailbox) -> None:
    mailbox.post(Drained())
    mailbox.get(0)  # what woke it must not end the next wait
    watch = Stopwatch()
    assert mailbox.get(0.2) is None
    assert watch.wall() >= 0.19 and watch.own() < PATIENCE_S


def test_more_messages_than_the_socket_has_room_for_are_all_taken(mailbox: Mailbox) -> None:
    count = 20_000
    for _ in range(count):
        mailbox.post(Drained())
    assert sum(mailbox.get(0) is not None for _ in range(count)) == count
    assert mailbox.get(0) is None


def test_posts_of_many_threads_are_all_taken(mailbox: Mailbox) -> None:
    def post() -> None:
        for _ in range(500):
            mailbox.post(Drained())

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert all(mailbox.get(PATIENCE_S) == Drained() for _ in range(8 * 500))
    for thread in threads:
        thread.join()
    assert mailbox.get(0) is None


class Pipe:
    """A descriptor to wait for. Owner: the test."""

    def __init__(self, mailbox: Mailbox, is_reason: bool) -> None:
        self.reading, self.writing = os.pipe()
        self.is_reason = is_reason
        self.read = 0
        mailbox.watch(self.reading, self.on_ready)

    def on_ready(self) -> bool:
        self.read += len(os.read(self.reading, 100))
        return self.is_reason

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


def test_a_descriptor_that_has_something_to_say_ends_the_wait(mailbox: Mailbox) -> None:
    pipe = Pipe(mailbox, is_reason=True)
    threading.Timer(0.05, lambda: os.write(pipe.writing, b"x")).start()
    watch = Stopwatch()
    assert mailbox.get(PATIENCE_S) is None
    assert watch.own() < PATIENCE_S
    assert pipe.read == 1
    mailbox.unwatch(pipe.reading)
    os.write(pipe.writing, b"x")
    assert (mailbox.get(0), pipe.read) == (None, 1)
    pipe.close()


def test_one_that_has_not_is_read_and_the_wait_goes_on(mailbox: Mailbox) -> None:
    pipe = Pipe(mailbox, is_reason=False)
    os.write(pipe.writing, b"x")
    watch = Stopwatch()
    assert mailbox.get(0.2) is None
    assert watch.wall() >= 0.19
    assert pipe.read == 1
    pipe.close()


def test_descriptors_are_read_also_while_messages_keep_coming(mailbox: Mailbox) -> None:
    pipe = Pipe(mailbox, is_reason=True)
    os.write(pipe.writing, b"x")
    mailbox.post(Drained())
    assert mailbox.get(PATIENCE_S) == Drained()
    assert pipe.read == 1
    pipe.close()


def test_after_the_end_others_may_still_post(mailbox: Mailbox) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    made = Mailbox()
    made.close()
    made.post(Drained())
    assert len(os.listdir("/proc/self/fd")) == descriptors
