"""Answers one question after the other and rests in between, so that no crowd slows forwarding.

Theory of operation. Python runs one thread at a time, so each thread that works makes the
forwarding thread wait for its turn: dozens of clients who ask without a pause made a byte wait for
a hundred times as long. What all of them ask is therefore worked out by one thread. It works for a
part of its time only, once it has worked for longer than a moment; and what several people wait for
is worked out once, after the last of them has asked.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Optional, TypeVar

Answer = TypeVar("Answer")

JOIN_S = 2.0  # for what is being worked out at stop; the thread is a daemon
AROUND_S = 0.0001  # of work for each question on the thread of who asked, which is not measured
PART = 0.25  # of the time, at most, that the work of a crowd takes
UNPACED_S = 0.05  # of work, for which a person who asks now and then never waits
REST_S = 1.0  # at most at once: behind a single long piece of work the next may come soon


@dataclass(frozen=True)
class _Question:
    asked: float  # monotonic
    work: Callable[[], Any]
    reply: Future[Any] = field(default_factory=Future)


class Pace:
    """How long to rest so that work takes no more than `part` of the time. Times in seconds."""

    def __init__(self, part: float = PART) -> None:
        self._part = part
        self._owed = 0.0
        self._at = 0.0

    def worked(self, seconds: float, now: float) -> float:
        """The rest that is due after so much work, which ended `now`."""
        self._owed = max(0.0, self._owed - (now - self._at) * self._part) + seconds
        self._at = now
        return min(REST_S, max(0.0, self._owed - UNPACED_S) / self._part)


class Desk:
    """Owner: the thread that it starts. Any thread: `ask`. Who made it: `start`, `stop`."""

    def __init__(self, name: str, part: float = PART) -> None:
        """`part`: of the time, at most, that the work of a crowd takes."""
        self._name = name
        self._questions: queue.SimpleQueue[Optional[_Question]] = queue.SimpleQueue()
        self._pace = Pace(part)
        self._asked = 0.0  # when the question in work was
        self._known: dict[str, tuple[float, Any]] = {}  # since when each answer is true
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._thread: Optional[threading.Thread] = None

    def start(self) -> None:
        """Starts to answer. Once."""
        self._thread = threading.Thread(target=self._run, name=f"{self._name}-desk", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Whoever has asked is still answered, without rests. Twice is harmless."""
        self._stopping.set()
        self._questions.put(None)
        if self._thread is None:
            self._ended.set()
        else:
            self._thread.join(JOIN_S)

    def ask(self, work: Callable[[], Answer]) -> Answer:
        """What `work` gives or raises, done in turn; once the thread has ended, done here."""
        question = _Question(time.monotonic(), work)
        self._questions.put(question)
        if self._ended.is_set():
            self._answer_the_rest()
        answer: Answer = question.reply.result()
        return answer

    @property
    def waiting(self) -> int:
        """Questions whose turn has not come."""
        return self._questions.qsize()

    # ON ITS THREAD

    def shared(self, name: str, work: Callable[[], Answer]) -> Answer:
        """For `work` that was asked: what others are given who asked before this was begun."""
        since, answer = self._known.get(name, (-math.inf, None))
        if since <= self._asked:
            since = time.monotonic()
            answer = work()
            self._known[name] = since, answer
        given: Answer = answer
        return given

    def _run(self) -> None:
        while (question := self._questions.get()) is not None:
            before = time.thread_time()
            self._answer(question)
            if self._questions.empty():
                self._known.clear()  # whoever comes now asks for what is true now
            worked = AROUND_S + time.thread_time() - before
            self._stopping.wait(self._pace.worked(worked, time.monotonic()))
        self._ended.set()
        self._answer_the_rest()

    def _answer_the_rest(self) -> None:
        """Who asks queues, then looks whether this has ended: one of both takes the question."""
        with contextlib.suppress(queue.Empty):
            while True:
                question = self._questions.get_nowait()
                if question is not None:
                    self._answer(question)

    def _answer(self, question: _Question) -> None:
        self._asked = question.asked
        try:
            question.reply.set_result(question.work())
        except Exception as exc:  # noqa: BLE001 - it belongs to who asked, as if done on his thread
            question.reply.set_exception(exc)
