"""A daemon that is killed, or stopped, before each single thing it does to the machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.site import Site, clean_environment
from tests.integration.wreck import Books, at_once, sites, until_ready

pytestmark = [pytest.mark.root, pytest.mark.long]

STEPS = Path(__file__).with_name("steps.py")
ROOT = Path(__file__).parent.parent.parent
MOST_STEPS = 300  # far more than there are

# Every third step is taken, since most are like the one before; which third, and whether all (1),
# can be chosen.
STRIDE = int(os.environ.get("CRASH_STRIDE", "3"))
SEED = int(os.environ.get("CRASH_SEED", "0"))


class Stepper:
    """Daemons that get a signal before their n-th step; steps.py runs them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._log = site.folder.parent / "output"
        with open(self._log, "w") as output:
            self._process = site.namespace.popen(
                *(sys.executable, STEPS),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                env={**clean_environment(), "PYTHONPATH": str(ROOT)},
            )

    def begin(self, at: int, number: int = signal.SIGKILL) -> int:
        """The pid of a daemon that has just been started."""
        argv = ["--foreground", "--config", str(self._site.config)]
        assert self._process.stdin is not None
        order = {"at": at, "signal": number, "argv": argv}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._line())

    def ended(self) -> tuple[int, str]:
        """Its exit status, and the step before which the signal came."""
        status, step = json.loads(self._line())
        return status, step

    def output(self) -> str:
        """The last of it."""
        return self._log.read_text(errors="replace")[-4000:]

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line: str = self._process.stdout.readline()
        assert line, self.output()
        return line


class Walk:
    """From the first step to the last. Owner: one thread."""

    signal = signal.SIGKILL

    def __init__(self, site: Site) -> None:
        self.site = site
        self.books = Books(site)
        self.steps: list[str] = []
        site.start_cloud()
        site.write_config({"forward": {"drain_timeout": 0}})
        self._stepper = Stepper(site)

    def run(self) -> None:
        for number in range(1 + SEED % STRIDE, MOST_STEPS, STRIDE):
            names = self.prepare(number)
            status, step = self._life(number)
            if not step:
                assert (status, number > 1) == (0, True), self._stepper.output()
                self.books.check_gone()
                self._stepper.close()
                return
            self.steps.append(step)
            try:
                self.check(status, names)
            except AssertionError as exc:
                text = f"{self.signal.name} before {step}: {exc}\n{self._stepper.output()}"
                raise AssertionError(text) from exc
        raise AssertionError(f"more than {MOST_STEPS} steps: {self.steps[-9:]}")

    def check(self, status: int, names: set[str]) -> None:
        """After a life that the signal ended."""
        assert status == -signal.SIGKILL, status
        self.books.check_wreck()
        pid = self._stepper.begin(0)
        assert until_ready(pid, self.site.socket_path)
        self.books.check_running(pid, names)
        os.kill(pid, signal.SIGKILL)
        self._stepper.ended()

    def prepare(self, number: int) -> set[str]:
        """What the next life finds and has to do; the names that must be out at its end."""
        raise NotImplementedError

    def _life(self, at: int) -> tuple[int, str]:
        """Start, register, reconcile, stop, as far as it gets."""
        pid = self._stepper.begin(at, self.signal)
        if until_ready(pid, self.site.socket_path):
            with contextlib.suppress(ProcessLookupError):  # its last step has just come
                os.kill(pid, signal.SIGTERM)
        return self._stepper.ended()

    def list_names(self, *names: str) -> set[str]:
        """What ngrok lists from now on."""
        listed = [{"url": f"tcp://{name}:7000", "upstream": "127.0.0.1:7000"} for name in names]
        self.site.cloud.replace(*listed)
        return set(names)


class FirstStarts(Walk):
    """Each on a machine that never had one."""

    def prepare(self, number: int) -> set[str]:
        site = self.site
        shutil.rmtree(site.state, ignore_errors=True)
        for file in (site.socket_path, site.folder / "ngrokd.pid"):
            file.unlink(missing_ok=True)
        if site.interface_words():
            site.run("ip", "link", "delete", "ngrokd0")
        site.namespace.hosts.write_bytes(site.hosts_before)
        site.cloud.ask("DELETE", "/operators")
        self.books = Books(site)
        return self.list_names("a.ns", "b.ns")


class LaterStarts(Walk):
    """Each finds what a killed one left, and other endpoints than that one had."""

    def prepare(self, number: int) -> set[str]:
        return self.list_names("a.ns", f"b{number % 5}.ns", f"c{number % 3}.ns")


class Stops(FirstStarts):
    """Those of a person who thinks better of it. What it has made by then it takes away again."""

    signal = signal.SIGTERM

    def check(self, status: int, names: set[str]) -> None:
        # Before it knows what to do with a signal it has made nothing that it would have to remove.
        assert status in (0, -signal.SIGTERM), status
        self.books.check_gone()


def test_killed_before_any_of_its_steps_it_starts_again_and_mends_what_is_left(
    tmp_path: Path,
) -> None:
    with sites(tmp_path, 2) as (first, second):
        walks: tuple[Walk, ...] = (FirstStarts(first), LaterStarts(second))
        at_once(*(walk.run for walk in walks))

    done = [" ".join(walk.steps) for walk in walks]
    for words in ("lockf", "socket.bind", "os.rename", "fsync", "os.remove", "hosts", "tls.key"):
        assert STRIDE > 1 or words in done[0], f"the walk passed no {words}"
    assert all(len(walk.steps) > 30 / STRIDE for walk in walks)


def test_stopped_before_any_of_its_steps_it_leaves_nothing(tmp_path: Path) -> None:
    with sites(tmp_path, 1) as (site,):
        walk = Stops(site)
        walk.run()
    assert len(walk.steps) > 30 / STRIDE
