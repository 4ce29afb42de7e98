"""The stopwatch of the tests: what others take of the machine is not the program's."""

from __future__ import annotations

import subprocess
import sys
import threading

from tests.fair import Stopwatch

# One processor for both: the other one takes half of it.
SHARED = """
import os, subprocess, sys, time
from tests.fair import Stopwatch

processor = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, {processor})
with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
    watch = Stopwatch()
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    own, wall = watch.own(), watch.wall()
    other.kill()
print(own, wall)
"""


def test_the_time_that_others_take_is_not_counted() -> None:
    argv = [sys.executable, "-c", SHARED]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60)
    own, wall = map(float, done.stdout.split())
    assert wall > 0.25 > own


def test_the_time_that_is_waited_for_something_is_counted() -> None:
    watch = Stopwatch()
    threading.Event().wait(0.1)
    assert 0.09 < watch.own() <= watch.wall()
