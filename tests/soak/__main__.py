"""The soak: a daemon and a stand-in cloud in a namespace, clients and trouble, then a verdict.

    .venv/bin/python -m tests.soak [--minutes N] [--seed N] [--workers N]

As root. Every transfer arrives whole, or fails for its client to see while a fault is being played;
afterwards the daemon's descriptors, threads, memory and counters are where they began. Exit status
1, with the seed, if not.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from tests.integration import programs
from tests.integration.site import Daemon, Site
from tests.namespace import Namespace, why_not
from tests.soak.books import Books
from tests.soak.clients import ECHO, GREET, LATE, NAMES, PORT, Client
from tests.soak.measures import IDLE_SHARE, Measures, differences, idle_share, measure
from tests.soak.trouble import Trouble, reload

UPSTREAMS = {ECHO: ("echo", 7000), LATE: ("after_end", 7001), GREET: ("greeter", 7002)}
WARM_UP = 25  # connections of each worker before the first measurement
SETTLE_S = 90.0  # longer than `half_close_timeout`
REST_S = 5.0  # of looking at a daemon that has nothing to do
LOOK_S = 0.2  # between two looks at its status
REPORT_S = 10.0
FORWARD = {"connect_timeout": 6}  # faults are to be left soon, but not because the machine is busy
SHOWN = 40  # deviations


class Soak:
    """One run. Owner: main."""

    def __init__(self, site: Site, args: argparse.Namespace) -> None:
        self._site, self._args = site, args
        self._books = Books()
        self._over = threading.Event()
        kinds = (f"{kind}={port}" for kind, port in UPSTREAMS.values())
        site.keep(programs.peers(site.namespace, site.network, *kinds))
        urls = (f"tcp://{name}:{PORT}=127.0.0.1:{port}" for name, (_, port) in UPSTREAMS.items())
        site.start_cloud(*urls)
        self._daemon: Daemon = site.start_daemon({"forward": FORWARD}).ready()

    def run(self) -> list[str]:
        """The deviations."""
        print(f"warming up: {WARM_UP} connections of each of {self._args.workers}", flush=True)
        self._work("warm-up", lambda done: done < WARM_UP)
        self._settle()
        before = measure(self._daemon.pid)
        reload(self._site, self._daemon, {**FORWARD, "warm_connections": "auto"})
        print(f"before: {before}", flush=True)
        self._storm()
        self._settle()
        resting = measure(self._daemon.pid)
        self._goes_on(REST_S)
        after = measure(self._daemon.pid)
        print(f"after:  {after}", flush=True)
        return [
            *self._books.deviations,
            *differences(before, after),
            *self._restless(resting, after),
            *self._miscounted(),
            *self._daemon.matching("Traceback|CRITICAL|internal error"),
            *self._ending(),
        ]

    def kinds(self) -> str:
        """How often each kind of connection and of trouble there was."""
        return self._books.table()

    def warnings(self) -> list[str]:
        """Of the daemon; most tell of faults that were played."""
        return self._daemon.matching(" (WARNING|ERROR) ")

    def _storm(self) -> None:
        """Clients and trouble, for as long as was asked."""
        dice = random.Random(f"{self._args.seed}-trouble")
        trouble = Trouble(self._site, self._daemon, self._books, dice, FORWARD)
        threads = [threading.Thread(target=each) for each in (trouble.run, self._report)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + self._args.minutes * 60
        self._work("storm", lambda _: time.monotonic() < end)
        trouble.stop()
        self._over.set()
        for thread in threads:
            thread.join()

    def _work(self, phase: str, goes_on: Callable[[int], bool]) -> None:
        """All workers, each with connections of its own until it is told to stop."""

        def work(number: int) -> None:
            dice = random.Random(f"{self._args.seed}-{phase}-{number}")
            client = Client(self._site.network, self._books, dice)
            done = 0
            while goes_on(done):
                client.one()
                done += 1

        threads = [threading.Thread(target=work, args=(n,)) for n in range(self._args.workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _report(self) -> None:
        began = time.monotonic()
        while not self._over.wait(REPORT_S):
            print(f"{time.monotonic() - began:6.0f} s  {self._books}", flush=True)
            print(f"          {measure(self._daemon.pid)}", flush=True)

    def _settle(self) -> None:
        """Until no connection is open or warm, and what ended with them is gone."""
        reload(self._site, self._daemon, {**FORWARD, "warm_connections": "off"})
        deadline = time.monotonic() + SETTLE_S
        while self._daemon.status()["connections"]["open"] and time.monotonic() < deadline:
            self._goes_on(LOOK_S)
        self._goes_on(REST_S)  # one poll, and the last answers of the control socket

    def _goes_on(self, for_s: float) -> None:
        """Nothing of it may happen meanwhile but its end, which would be a fault."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._daemon.process.wait(for_s)
            raise AssertionError(f"the daemon ended with {status}:\n{self._daemon.output()}")

    # The verdict

    def _restless(self, earlier: Measures, later: Measures) -> list[str]:
        share = idle_share(earlier, later)
        print(f"at rest: {share:.1%} of a processor", flush=True)
        return [f"at rest it takes {share:.0%} of a processor"] if share > IDLE_SHARE else []

    def _miscounted(self) -> list[str]:
        """Counters that do not add up with what the clients did."""
        found = []
        listed = self._daemon.endpoints()
        opened = self._daemon.status()["connections"]["open"]
        if opened:
            found.append(f"{opened} connections are still open")
        for name in NAMES:
            counted = listed[f"tcp://{name}:{PORT}"]
            made = self._books.connections[name]
            if counted["total_connections"] != made:
                found.append(f"{name}: {made} connections, counted {counted['total_connections']}")
            for way, sent in (("up", self._books.up[name]), ("down", self._books.down[name])):
                if counted[f"bytes_{way}"] < sent:
                    found.append(f"{name}: {sent} bytes {way}, counted {counted[f'bytes_{way}']}")
        return found

    def _ending(self) -> list[str]:
        status = self._daemon.stop()
        return [f"the daemon ended with status {status}"] if status else []


def main() -> Optional[str]:
    """What sys.exit takes."""
    parser = argparse.ArgumentParser(prog="tests.soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0, metavar="N")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--workers", type=int, default=8, metavar="N")
    args = parser.parse_args()
    if why_not():
        return why_not()
    print(f"seed {args.seed}, {args.minutes:g} minutes, {args.workers} workers", flush=True)
    with tempfile.TemporaryDirectory(prefix="ngrokd-soak-") as name:
        folder = Path(name)
        with Namespace(folder / "machine") as namespace:
            site = Site(folder, namespace)
            try:
                soak = Soak(site, args)
                deviations = soak.run()
            finally:
                site.close()
    print(soak.kinds())
    for each in deviations[:SHOWN]:
        print(f"DEVIATION {each}")
    if deviations:
        print("the daemon's last warnings:", *soak.warnings()[-SHOWN:], sep="\n  ")
        again = f"make soak MINUTES={args.minutes:g} SEED={args.seed}"
        return f"FAILED: {len(deviations)} deviations; to repeat: {again}"
    print("PASSED: nothing was lost, and nothing is left")
    return None


if __name__ == "__main__":
    sys.exit(main())
