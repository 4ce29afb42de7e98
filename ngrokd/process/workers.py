"""A few threads for what may wait on the network: API pages, name resolution."""

from __future__ import annotations

import queue
import threading
from typing import Callable, Optional

Job = Callable[[], object]
Done = Callable[[object, Optional[BaseException]], None]

# Enrolment, poll, resolution, a key and the ingress being checked, names elsewhere: all at once.
WORKERS = 6


class Workers:
    """Runs jobs that are functions of their arguments. Owner: main; jobs run on `pool-n`.

    Not `ThreadPoolExecutor`: at exit the interpreter joins its threads, so an API that hangs would
    hold up SIGTERM for as long as one request may take. These are daemon threads.
    """

    def __init__(self, count: int = WORKERS) -> None:
        self._jobs: queue.SimpleQueue[tuple[Job, Done]] = queue.SimpleQueue()
        self._count = count

    def start(self) -> None:
        """Starts the threads."""
        for n in range(self._count):
            threading.Thread(target=self._work, name=f"pool-{n}", daemon=True).start()

    def submit(self, job: Job, done: Done) -> None:
        """Any thread. `done(result, error)` is called on the worker's thread."""
        self._jobs.put((job, done))

    def _work(self) -> None:
        while True:
            job, done = self._jobs.get()
            try:
                result = job()
            except Exception as exc:  # noqa: BLE001 - handed to the owner, who knows what to do
                done(None, exc)
            else:
                done(result, None)
