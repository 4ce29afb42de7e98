"""One life of a daemon's registration, killed before its n-th act: a program for test_lives.py.

    life.py FOLDER API-URL ACT-AT-WHICH-IT-DIES SELECTOR [rotate|leave]

An act is whatever changes a file or goes to the API. It prints how many there were and how it
stands with ngrok in the end.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ngrokd.cloud.identity import Identity
from ngrokd.cloud.registration import RegistrationState
from ngrokd.config import ApiSettings, Config, PollSettings, ServerSettings
from ngrokd.messages import JobDone, JobKind
from ngrokd.process.workers import Job
from ngrokd.upkeep.poller import Poller

ACTS = frozenset(
    ("os.rename", "os.remove", "os.mkdir", "os.chmod", "http.client.connect", "http.client.send")
)
TURNS = 20  # far more than a life needs


class Acts:
    """Counts them, and dies before one."""

    def __init__(self, deadly: int) -> None:
        self.count = 0
        self._deadly = deadly

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in ACTS and not (event == "open" and args[2] & os.O_WRONLY):
            return
        self.count += 1
        if self.count == self._deadly:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    folder, url, deadly, selector, wish = (*sys.argv[1:], "")[:5]
    acts = Acts(int(deadly))
    server = ServerSettings(
        client_cert=str(Path(folder, "tls.crt")), client_key=str(Path(folder, "tls.key"))
    )
    config = Config(
        api=ApiSettings(url=url, key="sandbox-key"),
        bound_endpoints=PollSettings(selectors=(selector,)),
        server=server,
    )
    done: queue.SimpleQueue[JobDone] = queue.SimpleQueue()

    def submit(kind: JobKind, job: Job) -> None:
        try:
            done.put(JobDone(kind, job()))
        except Exception as exc:  # noqa: BLE001 - as the workers do
            done.put(JobDone(kind, None, exc))

    identity = Identity(server)
    sys.addaudithook(acts)
    identity.load()
    poller = Poller(config, identity, submit, lambda message: None, lambda: 0.5)
    poller.take_up_key()
    reply: Future[Any] = Future()
    polled = False
    for _ in range(TURNS):
        poller.tick(time.monotonic())
        while not done.empty():
            polled = poller.handle(done.get(), time.monotonic()) is not None or polled
        settled = poller.registration is RegistrationState.REGISTERED and polled
        if settled and wish and not reply.running() and not reply.done():
            reply.set_running_or_notify_cancel()
            {"rotate": poller.rotate_certificate, "leave": poller.leave}[wish](reply)
        elif settled or poller.registration is RegistrationState.LEFT:
            break
    found = {
        "acts": acts.count,
        "state": poller.registration.value,
        "operator_id": identity.operator_id,
        "problems": poller.problems,
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
