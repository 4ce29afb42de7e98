"""Waiting for the end of somebody else's process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from ngrokd.process import ending


@pytest.fixture(params=["told by the kernel", "asked again and again"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel can tell, and where it cannot."""
    if request.param != "told by the kernel":
        monkeypatch.delattr(os, "pidfd_open", raising=False)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """One that lives until its input ends."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process


def test_a_process_that_lives_on_is_waited_for_no_longer_than_allowed(
    either: None, process: subprocess.Popen[bytes]
) -> None:
    assert ending.wait_for_end(process.pid, 0.05) is False


def test_a_process_that_has_ended_is_not_waited_for(
    either: None, process: subprocess.Popen[bytes]
) -> None:
    process.communicate()
    assert ending.wait_for_end(process.pid, 30) is True


def test_the_end_is_noticed_while_waiting(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    assert ending.wait_for_end(process.pid, 30) is True
