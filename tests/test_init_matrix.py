"""The SysV script: every verb in every state, its exact exit code, and what is true afterwards."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Callable, Optional

import pytest

from tests.init_machine import (
    ORDINARY_USER,
    USERLANDS,
    Service,
    fresh_folders,
    kill,
    service_on,
)
from tests.namespace import Namespace

pytestmark = pytest.mark.root

VERBS = ("start", "stop", "restart", "try-restart", "reload", "force-reload", "status")

# What is true afterwards.
SAME = "the same daemon runs"
FRESH = "another daemon runs"
STOPPED = "none runs, and nothing of it is left"
AS_IT_WAS = "none runs, and what was there is there"

Row = tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class State:
    """How it is brought about, and what each of VERBS does in it."""

    name: str
    arrange: Callable[[Service], object]
    then: Row
    user: int = 0


def _dead(service: Service) -> None:
    service.run_daemon()
    service.kill()


def _pid_of_another(service: Service) -> None:
    service.pid_file.write_text("1\n")


def _broken_while_running(service: Service) -> None:
    service.run_daemon()
    service.configure("broken")


def _removed_while_running(service: Service) -> None:
    service.run_daemon()
    service.daemon.rename(service.daemon.with_name("moved"))


def _dead_and_removed(service: Service) -> None:
    _dead(service)
    service.daemon.unlink()


def _only_a_lock_file(service: Service) -> None:
    service.machine.run("mkdir", "-p", "/run/lock/subsys")
    service.machine.run("touch", "/run/lock/subsys/ngrokd")


def _private(service: Service) -> None:
    service.config.chmod(0o600)


def _only_ngrokd_finds_the_pid_file(service: Service) -> None:
    service.run_daemon()
    service.config.write_text(f"server:\n  pid_file:\n    {service.pid_file}\n")


STATES = (
    State(
        "never started",
        lambda service: None,
        (
            *((0, FRESH), (0, STOPPED), (0, FRESH), (0, STOPPED)),
            *((7, STOPPED), (7, STOPPED), (3, STOPPED)),
        ),
    ),
    State(
        "running",
        lambda service: service.run_daemon(),
        (
            *((0, SAME), (0, STOPPED), (0, FRESH), (0, FRESH)),
            *((0, SAME), (0, SAME), (0, SAME)),
        ),
    ),
    State(
        "dead with its pid file",
        _dead,
        (
            *((0, FRESH), (0, STOPPED), (0, FRESH), (0, AS_IT_WAS)),
            *((7, AS_IT_WAS), (7, AS_IT_WAS), (1, AS_IT_WAS)),
        ),
    ),
    State(
        "the pid is another program's",
        _pid_of_another,
        (
            *((0, FRESH), (0, STOPPED), (0, FRESH), (0, AS_IT_WAS)),
            *((7, AS_IT_WAS), (7, AS_IT_WAS), (1, AS_IT_WAS)),
        ),
    ),
    State(
        "an empty pid file",
        lambda service: service.pid_file.touch(),
        (
            *((0, FRESH), (0, STOPPED), (0, FRESH), (0, AS_IT_WAS)),
            *((7, AS_IT_WAS), (7, AS_IT_WAS), (1, AS_IT_WAS)),
        ),
    ),
    State(
        "something else where the pid file should be",
        lambda service: service.pid_file.write_text("root:x:0:0\n"),
        (
            *((1, AS_IT_WAS), (1, AS_IT_WAS), (1, AS_IT_WAS), (1, AS_IT_WAS)),
            *((1, AS_IT_WAS), (1, AS_IT_WAS), (4, AS_IT_WAS)),
        ),
    ),
    State(
        "dead with its lock file alone",
        _only_a_lock_file,
        (
            *((0, FRESH), (0, STOPPED), (0, FRESH), (0, STOPPED)),
            *((7, STOPPED), (7, STOPPED), (2, STOPPED)),
        ),
    ),
    State(
        "configuration broken while running",
        _broken_while_running,
        (
            *((0, SAME), (0, STOPPED), (6, SAME), (6, SAME)),
            *((6, SAME), (6, SAME), (0, SAME)),
        ),
    ),
    State(
        "configuration broken while stopped",
        lambda service: service.configure("broken"),
        (
            *((6, STOPPED), (0, STOPPED), (6, STOPPED), (0, STOPPED)),
            *((7, STOPPED), (7, STOPPED), (3, STOPPED)),
        ),
    ),
    State(
        "not root, running",
        lambda service: service.run_daemon(),
        (
            *((4, SAME), (4, SAME), (4, SAME), (4, SAME)),
            *((4, SAME), (4, SAME), (0, SAME)),
        ),
        ORDINARY_USER,
    ),
    State(
        "not root, stopped",
        lambda service: None,
        (
            *((4, STOPPED), (4, STOPPED), (4, STOPPED), (4, STOPPED)),
            *((4, STOPPED), (4, STOPPED), (3, STOPPED)),
        ),
        ORDINARY_USER,
    ),
    State(
        "not root, the configuration private",
        _private,
        (
            *((4, STOPPED), (4, STOPPED), (4, STOPPED), (4, STOPPED)),
            *((4, STOPPED), (4, STOPPED), (4, STOPPED)),
        ),
        ORDINARY_USER,
    ),
    State(
        "not installed",
        lambda service: service.daemon.unlink(),
        (
            *((5, STOPPED), (0, STOPPED), (5, STOPPED), (0, STOPPED)),
            *((5, STOPPED), (5, STOPPED), (3, STOPPED)),
        ),
    ),
    State(
        "the program removed while running",
        _removed_while_running,
        (
            *((5, SAME), (0, STOPPED), (5, SAME), (5, SAME)),
            *((5, SAME), (5, SAME), (0, SAME)),
        ),
    ),
    State(
        "running, with a pid file that only ngrokd finds",
        _only_ngrokd_finds_the_pid_file,
        (
            *((6, SAME), (6, SAME), (6, SAME), (6, SAME)),
            *((6, SAME), (6, SAME), (4, SAME)),
        ),
    ),
    State(
        "dead, and the program removed",
        _dead_and_removed,
        (
            *((5, AS_IT_WAS), (0, STOPPED), (5, AS_IT_WAS), (0, AS_IT_WAS)),
            *((5, AS_IT_WAS), (5, AS_IT_WAS), (1, AS_IT_WAS)),
        ),
    ),
)



@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    with Namespace(tmp_path_factory.mktemp("machine")) as machine:
        fresh_folders(machine)
        yield machine


@pytest.fixture
def service(machine: Namespace) -> Iterator[Service]:
    with service_on(machine) as service:
        yield service
    machine.run("rm", "-rf", "/run/lock/subsys")


@pytest.mark.parametrize("row", range(len(STATES)), ids=lambda row: STATES[row].name)
def test_every_verb_in_every_state(service: Service, row: int) -> None:
    state = STATES[row]
    installed = [userland for userland in USERLANDS if not userland.missing()]
    state.arrange(service)
    for column, verb in enumerate(VERBS):
        # Every verb and every state meets every userland.
        service.use(installed[(row + column) % len(installed)])
        code, afterwards = state.then[column]
        before, pid_file = service.running(), _content(service)
        result = service(verb, state.user)
        assert result.returncode == code, result
        assert _what_is_true(service, before, pid_file) == afterwards, result
        if code == 0 and verb != "status":  # else nothing was changed
            _check_signals(service, verb)
            service.machine.run("rm", "-rf", "/run/lock/subsys")
            service.reset()
            state.arrange(service)
    _check_signals(service, "status")


def _check_signals(service: Service, last_verb: str) -> None:
    """A reload that worked, and nothing else, has reached the daemon; which is ended here."""
    for pid in service.running():
        kill(pid, signal.SIGTERM)  # the daemon takes it after the earlier one
    assert ("reload" in service.told) == (last_verb in ("reload", "force-reload")), last_verb


def _content(service: Service) -> Optional[str]:
    return service.pid_file.read_text() if service.pid_file.exists() else None


def _what_is_true(service: Service, before: list[int], pid_file: Optional[str]) -> str:
    """One of the four above, or what it is instead."""
    now, there = service.running(), _content(service)
    if now and there == f"{now[0]}\n" and len(now) == 1:
        return SAME if now == before else FRESH
    if not now and there is None:
        return STOPPED
    if not now and there == pid_file:
        return AS_IT_WAS
    return f"{now} run, and the pid file holds {there!r}"


