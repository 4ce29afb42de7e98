"""Lives with aliases of lo0, killed before any one step, or refused it: nothing stays behind."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from ngrokd.errors import HostError
from ngrokd.host.netif.backend import Backend
from tests.macos.mac import Mac
from tests.macos.room import DEFAULTS, leftovers_of, prepare, recorded, taken

THEIRS = "127.0.0.9"
pytestmark = pytest.mark.long

STEPS = ("open", "write", "fsync", "replace", "rename", "unlink")  # of files


class Killed(BaseException):
    """As far as this life can tell, nothing: no step of it is done any more."""


class Fate:
    """What becomes of the steps of a life: commands, and what is done to files in one folder."""

    def __init__(self, mac: Mac, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = str(folder)
        self.done = 0
        self.killed_at: Optional[int] = None
        self.refused: Callable[[int], bool] = lambda step: False
        self.errno = errno.EIO
        self._execute = mac._execute
        monkeypatch.setattr(mac, "_execute", self._command)
        for name in STEPS:
            monkeypatch.setattr(os, name, self._wrapped(getattr(os, name)))

    def begin(self) -> None:
        self.done = 0

    def _step(self) -> None:
        self.done += 1
        if self.killed_at is not None and self.done >= self.killed_at:
            raise Killed

    def _command(self, argv: list[str]) -> tuple[int, str]:
        self._step()
        return self._execute(argv)

    def _wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **options: Any) -> Any:
            if self._is_ours(words[0]):
                self._step()
                if self.refused(self.done):
                    raise OSError(self.errno, os.strerror(self.errno))
            return real(*words, **options)

        return call

    def _is_ours(self, which: object) -> bool:
        if isinstance(which, int):
            try:
                which = os.readlink(f"/proc/self/fd/{which}")
            except OSError:
                return False
        return str(which).startswith(self._folder)


def is_refused(first: int, for_good: bool, step: int) -> bool:
    """From the first on, or that one alone."""
    return step == first or (for_good and step > first)


def life(mac: Mac, folder: Path) -> None:
    """What a daemon does: it starts, endpoints come and go, it stops."""
    backend: Backend = prepare(mac, DEFAULTS, folder)
    backend.add(["127.0.0.2", "127.0.0.3"])
    backend.remove(["127.0.0.2"])
    backend.addresses()
    backend.add(["127.0.0.4"])
    backend.close()


@pytest.fixture
def fated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Mac, Path, Fate]]:
    mac = Mac()
    taken(mac, THEIRS)
    folder = tmp_path / "state"
    folder.mkdir()
    yield mac, folder, Fate(mac, folder, monkeypatch)


def leave_nothing(mac: Mac, folder: Path, ways: Sequence[str]) -> None:
    for way in ways:
        if way == "cleanup":
            leftovers_of(mac, folder)
        else:
            life(mac, folder)
        assert mac.lo0() == [THEIRS] and mac.kernel.holds("127.0.0.1")
        assert os.listdir(folder) == []


@pytest.mark.parametrize("next_one", ["cleanup", "life"])
def test_killed_before_any_step_all_goes_with_the_next_life_or_a_clean_up(
    fated: tuple[Mac, Path, Fate], next_one: str
) -> None:
    mac, folder, fate = fated
    for number in itertools.count(1):
        fate.begin()
        fate.killed_at = number
        try:
            life(mac, folder)
        except Killed:
            fate.killed_at = None
        else:
            break
        ours = set(mac.lo0()) - {THEIRS}
        assert ours <= set(recorded(folder)), f"step {number}: nobody would know of it"
        leave_nothing(mac, folder, [next_one])
    assert number > 30, "so many there are"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("for_good", [False, True])
def test_whichever_step_with_files_fails_the_stop_takes_all_aliases(
    fated: tuple[Mac, Path, Fate], number: int, for_good: bool
) -> None:
    mac, folder, fate = fated
    fate.errno = number
    for at in itertools.count(1):
        fate.begin()
        fate.refused = partial(is_refused, at, for_good)
        try:
            life(mac, folder)
        except HostError as exc:
            assert "left behind" not in str(exc)
        reached = fate.done
        fate.refused = lambda step: False
        assert mac.lo0() == [THEIRS], f"step {at}"
        leave_nothing(mac, folder, ["cleanup" if at % 2 else "life"])
        if reached < at:
            break
