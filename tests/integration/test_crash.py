"""A daemon that is killed at any moment: what is left is whole, and the next one mends it."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.integration.site import Daemon, Site, run_ngrokd
from tests.integration.wreck import Books, ask, at_once, sites, until_it_holds, until_ready

pytestmark = [pytest.mark.root, pytest.mark.long]

KILLS = 200
SITES = 2  # as many as there are cores where the tests run in the cloud
POOL = [f"e{number}.ns" for number in range(8)]
FIXED, MOVED = "fixed.ns", "moved.ns"  # always listed; the second has an override now and then

# How long after its beginning each of them is still under way, in seconds.
START_S, MAKING_S, RECONCILE_S, RELOAD_S, STOP_S = 0.35, 0.15, 0.12, 0.06, 0.05


class Lives:
    """One site whose daemon is killed again and again. Owner: one thread."""

    def __init__(self, site: Site, seed: int) -> None:
        self._site = site
        self._random = random.Random(seed)
        self._books = Books(site)
        self._listed = {FIXED, MOVED}
        self._override = False
        self.kills = 0
        self.said: list[str] = []

    def prepare(self) -> None:
        self._site.start_cloud()
        self._list_some()
        self._configure()

    def run(self, kills: int) -> None:
        """Every phase in turn; after each kill it is started again and compared."""
        phases = (self._reconcile, self._reload, self._stop, self._start)
        daemon = self._started()
        while self.kills < kills:
            phase = phases[self.kills % len(phases)]
            killed = phase(daemon)
            self._ended(daemon)
            self.kills += killed
            daemon = self._started()
        self._list_some()
        ask(self._site.socket_path, "refresh")
        self._kill(daemon, 0)
        self._ended(daemon)

    def clean_up(self) -> None:
        done = run_ngrokd(self._site, "cleanup", "--config", self._site.config)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(done.stdout.splitlines()) >= 3
        self._books.check_gone()

    def _begun(self) -> Daemon:
        return self._site.start_daemon_as_configured()

    def _started(self) -> Daemon:
        daemon = self._begun()
        assert until_ready(daemon.pid, self._site.socket_path), daemon.output()
        names = self._listed - {MOVED} if self._override else self._listed
        try:
            self._books.check_running(daemon.pid, names)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{daemon.output()}\nbefore: {self.said[-3:]}") from exc
        return daemon

    def _ended(self, daemon: Daemon) -> None:
        self._books.check_wreck()
        self.said.append(daemon.output())
        assert daemon.matching("Traceback|CRITICAL") == [], daemon.output()

    # Phases: each returns whether the daemon was killed before it had ended by itself.

    def _start(self, daemon: Daemon) -> bool:
        """Of a daemon that finds a clean machine, or one that finds a wreck."""
        if self._random.random() < 0.5:
            assert daemon.stop() == 0
            self._books.check_gone()
        else:
            self._kill(daemon, 0)
        starting = self._begun()
        if self._random.random() < 0.3:
            killed = self._kill(starting, self._random.uniform(0, START_S))
        else:  # most of that time Python loads itself: from here on things are made
            until_it_holds(starting.pid, self._site.folder / "ngrokd.pid")
            killed = self._kill(starting, self._random.uniform(0, MAKING_S))
        self._ended(starting)
        return killed

    def _reconcile(self, daemon: Daemon) -> bool:
        self._list_some()
        refresh = b'{"command": "refresh"}\n'
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self._site.socket_path))
            sock.sendall(refresh)
            return self._kill(daemon, self._random.uniform(0, RECONCILE_S))

    def _reload(self, daemon: Daemon) -> bool:
        self._override = not self._override
        self._configure()
        daemon.send(signal.SIGHUP)
        return self._kill(daemon, self._random.uniform(0, RELOAD_S))

    def _stop(self, daemon: Daemon) -> bool:
        daemon.send(self._random.choice([signal.SIGTERM, signal.SIGINT]))
        killed = self._kill(daemon, self._random.uniform(0, STOP_S))
        if not killed:
            self._books.check_gone()
        return killed

    def _kill(self, daemon: Daemon, after_s: float) -> bool:
        try:
            status = daemon.process.wait(after_s)
        except subprocess.TimeoutExpired:
            daemon.send(signal.SIGKILL)
            status = daemon.wait()
        assert status in (0, -signal.SIGKILL), daemon.output()
        return status == -signal.SIGKILL

    # What is wanted

    def _list_some(self) -> None:
        count = self._random.randrange(len(POOL) + 1)
        self._listed = {FIXED, MOVED, *self._random.sample(POOL, count)}
        self._site.cloud.replace(
            *(
                {"url": f"tcp://{name}:7000", "upstream": "127.0.0.1:7000"}
                for name in sorted(self._listed)
            )
        )

    def _configure(self) -> None:
        overrides = {MOVED: "127.0.0.1"} if self._override else {}
        self._site.write_config({"net": {"overrides": overrides}, "forward": {"drain_timeout": 0}})


def test_killed_at_200_random_moments_it_always_starts_again_and_mends_what_is_left(
    tmp_path: Path,
) -> None:
    seed = int(os.environ.get("CRASH_SEED", "20260131"))
    with sites(tmp_path, SITES) as places:
        lives = [Lives(site, seed + number) for number, site in enumerate(places)]
        at_once(*(life.prepare for life in lives))
        at_once(*(lambda life=life: life.run(KILLS // SITES) for life in lives))
        assert sum(life.kills for life in lives) >= KILLS
        for life in lives:
            life.clean_up()
