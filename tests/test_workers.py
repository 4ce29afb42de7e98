"""Jobs run elsewhere; their results and errors come back."""

from __future__ import annotations

import queue
import threading
from typing import Optional

from ngrokd.process.workers import Workers

TIMEOUT_S = 10


def started() -> Workers:
    workers = Workers(count=2)
    workers.start()
    return workers


def test_a_result_comes_back() -> None:
    answers: queue.SimpleQueue[tuple[object, Optional[BaseException]]] = queue.SimpleQueue()
    started().submit(lambda: 42, lambda result, error: answers.put((result, error)))
    assert answers.get(timeout=TIMEOUT_S) == (42, None)


def test_an_error_comes_back_and_the_worker_lives_on() -> None:
    answers: queue.SimpleQueue[tuple[object, Optional[BaseException]]] = queue.SimpleQueue()
    workers = started()
    for _ in range(5):
        workers.submit(lambda: 1 / 0, lambda result, error: answers.put((result, error)))
        _, error = answers.get(timeout=TIMEOUT_S)
        assert isinstance(error, ZeroDivisionError)


def test_a_job_that_hangs_does_not_hold_up_the_others() -> None:
    release = threading.Event()
    answers: queue.SimpleQueue[object] = queue.SimpleQueue()
    workers = started()
    workers.submit(release.wait, lambda result, error: None)
    workers.submit(lambda: "past it", lambda result, error: answers.put(result))
    assert answers.get(timeout=TIMEOUT_S) == "past it"
    release.set()
