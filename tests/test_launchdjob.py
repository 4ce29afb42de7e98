"""A job of launchd is started and stopped when the call returns, whatever launchctl says of it."""

from __future__ import annotations

import json
import os
import plistlib
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.errors import HostError
from ngrokd.host.command import CommandError
from ngrokd.service import launchd
from ngrokd.service.launchd import Job, State
from ngrokd.verbs.launchdjob import LaunchdJob
from tests.macos.launchctl import Launchctl
from tests.macos.launchd import Jobs

# Says that it is up, and ends with the status that it is told, after what it takes to end.
PROGRAM = """
import pathlib, signal, sys
up, status, deaf = sys.argv[1:4]
if status != "serve":
    sys.exit(int(status))
signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else lambda *_: sys.exit(0))
pathlib.Path(up).touch()
while True:
    signal.pause()
"""


class Mac:
    """launchd in this process, with the plist of our job in a folder, and a clock that jumps."""

    def __init__(self, folder: Path, is_old: bool = False) -> None:
        self.folder = folder
        self.up = folder / "up"
        self.launchctl = Launchctl(Jobs(folder, os.geteuid()), is_old)
        self.commands: list[str] = []
        self.uid = 0
        self.now = 0.0
        self.job = LaunchdJob(self.run, lambda: self.now, self.pause)

    def install(self, status: str = "serve", deaf: str = "", **more: object) -> None:
        argv = [sys.executable, "-c", PROGRAM, str(self.up), status, deaf]
        plist = {"Label": launchd.LABEL, "ProgramArguments": argv, "KeepAlive": True, **more}
        path = self.folder / launchd.PLIST.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(plistlib.dumps(plist))
        path.chmod(0o644)

    def run(self, argv: Sequence[str], text: str = "") -> str:
        assert argv[0] == "launchctl"
        self.commands.append(" ".join(argv[1:]))
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            self.launchctl.ask(argv[1:], self.uid, theirs)
            while (told := self._told(ours)) is None:
                self.launchctl.turn()
        status, out, err = json.loads(told)
        if status:
            raise CommandError(f"`{' '.join(argv)}`: {err.strip()}", status, err)
        return str(out)

    def _told(self, sock: socket.socket) -> Optional[bytes]:
        try:
            return sock.recv(65536)
        except BlockingIOError:
            return None

    def pause(self, seconds: float) -> None:
        """Until the program is up, or has ended if it is to end: the clock is not the real one."""
        self.now += seconds
        self.launchctl.turn()
        while any(
            job.pid and (job.leaving or not self.up.exists())
            for job in self.launchctl.jobs.known()
        ):
            self.launchctl.turn()

    def start(self) -> None:
        self.job.start(self.up.exists)

    @property
    def pid(self) -> int:
        return self.job.look().pid


@pytest.fixture
def mac(tmp_path: Path) -> Iterator[Mac]:
    """With our plist in its place."""
    mac = Mac(tmp_path)
    mac.install()
    yield mac
    mac.launchctl.jobs.close()


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Mac]:
    """The same of macOS 10.9."""
    mac = Mac(tmp_path, is_old=True)
    mac.install()
    yield mac
    mac.launchctl.jobs.close()


def test_a_job_that_is_absent_is_loaded_and_waited_for(mac: Mac) -> None:
    assert mac.job.look() == Job(State.ABSENT)
    mac.start()
    assert mac.up.exists() and mac.pid > 0
    assert f"bootstrap system {launchd.PLIST}" in mac.commands


def test_a_job_that_runs_is_left_as_it_is(mac: Mac) -> None:
    mac.start()
    pid = mac.pid
    mac.commands.clear()
    mac.start()
    assert mac.pid == pid
    assert mac.commands[0].startswith("print ")
    assert not any(line.startswith(("bootstrap", "kickstart")) for line in mac.commands)


def test_a_job_that_is_loaded_and_idle_is_kicked(mac: Mac) -> None:
    mac.install(KeepAlive=False)
    mac.run(("launchctl", "bootstrap", "system", launchd.PLIST))
    assert mac.job.look() == Job(State.IDLE)
    mac.start()
    assert mac.up.exists() and f"kickstart {launchd.JOB}" in mac.commands


def test_a_stop_returns_once_launchd_has_forgotten_the_job(mac: Mac) -> None:
    mac.start()
    pid = mac.pid
    assert mac.job.stop(5.0) is True
    assert mac.job.look() == Job(State.ABSENT)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert mac.job.stop(5.0) is False


def test_of_a_job_that_lingers_bootout_says_that_it_is_under_way_and_it_is_waited_for(
    mac: Mac,
) -> None:
    mac.install(deaf="yes", ExitTimeOut=1)
    mac.start()
    with pytest.raises(CommandError, match="36: Operation now in progress"):
        mac.run(launchd.STOP)
    with pytest.raises(CommandError, match="37: Operation already in progress"):
        mac.run(("launchctl", "bootstrap", "system", launchd.PLIST))
    assert mac.job.stop(0.0) is True
    mac.up.unlink()
    mac.install()
    mac.start()  # and is there again at once
    assert mac.up.exists()


def test_what_ends_at_once_is_told_with_its_status(mac: Mac) -> None:
    mac.install(status="2", ThrottleInterval=0, KeepAlive=False, RunAtLoad=True)
    with pytest.raises(HostError, match="ended with exit status 2"):
        mac.start()


def test_what_never_comes_up_is_not_waited_for_for_ever(mac: Mac) -> None:
    with pytest.raises(HostError, match="not up after 90 s"):
        mac.job.start(lambda: False)
    assert mac.now >= 90


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ("mode", "122: Path had bad ownership/permissions"),
        ("disabled", "119: Service is disabled"),
        ("absent", "2: No such file or directory"),
        ("broken", "109: Invalid property list"),
    ],
)
def test_what_launchd_refuses_is_told_with_the_mend(mac: Mac, trouble: str, told: str) -> None:
    path = mac.folder / launchd.PLIST.lstrip("/")
    if trouble == "mode":
        path.chmod(0o666)
    elif trouble == "disabled":
        mac.run(("launchctl", "disable", launchd.JOB))
    elif trouble == "absent":
        path.unlink()
    else:
        path.write_text("<plist>")
    with pytest.raises(HostError) as raised:
        mac.start()
    assert told in str(raised.value)
    assert f"launchctl enable {launchd.JOB}" in str(raised.value)
    assert mac.now == 0


def test_who_is_not_root_is_refused_by_launchd_and_told_so(mac: Mac) -> None:
    mac.uid = 501
    with pytest.raises(HostError, match="5: Input/output error"):
        mac.start()
    assert mac.now >= 10  # it might have been a job that is still being taken away
    mac.uid = 0
    mac.start()
    mac.uid = 501
    with pytest.raises(HostError, match="1: Operation not permitted"):
        mac.job.stop(0.0)


def test_a_launchctl_without_domains_loads_and_unloads(old: Mac) -> None:
    old.start()
    assert old.up.exists() and old.pid > 0
    assert f"load -w {launchd.PLIST}" in old.commands
    old.commands.clear()
    assert old.job.stop(5.0) is True
    assert old.job.look() == Job(State.ABSENT)
    assert old.commands[:2] == [f"list {launchd.LABEL}", f"unload {launchd.PLIST}"]
    assert old.job.stop(5.0) is False


@pytest.mark.parametrize("mode", [0o644, 0o666])
def test_a_load_that_ends_with_0_all_the_same_is_told_with_the_mend(old: Mac, mode: int) -> None:
    path = old.folder / launchd.PLIST.lstrip("/")
    path.chmod(mode)
    old.uid = 501 if mode == 0o644 else 0
    assert old.run(("launchctl", "load", "-w", launchd.PLIST)) == ""
    with pytest.raises(HostError) as raised:
        old.start()
    assert f"`launchctl load -w {launchd.PLIST}` has loaded nothing. Mend:" in str(raised.value)
    assert 10 <= old.now < 20, "it is not waited for as for a daemon that starts"


def test_the_verbs_of_the_guide_do_what_they_say(mac: Mac) -> None:
    mac.install(ThrottleInterval=0)
    mac.run(("launchctl", "load", launchd.PLIST))
    mac.launchctl.turn()
    pid = mac.pid
    assert f"{pid}\t0\t{launchd.LABEL}" in mac.run(("launchctl", "list"))
    _wait(mac.up)
    mac.up.unlink()
    mac.run(("launchctl", "stop", launchd.LABEL))
    _wait(mac.up, mac)  # KeepAlive: a stop is a restart
    assert mac.pid not in (0, pid)
    mac.run(("launchctl", "start", launchd.LABEL))
    mac.run(("launchctl", "unload", launchd.PLIST))
    assert mac.job.look().state is State.ABSENT


def _wait(path: Path, mac: object = None) -> None:
    while not path.exists():
        if isinstance(mac, Mac):
            mac.launchctl.turn()


@pytest.mark.parametrize(
    ("status", "is_done"),
    [
        *((None, True), (3, True), (5, True), (36, True), (37, True), (113, True)),
        *((1, False), (2, False), (109, False), (119, False), (122, False)),
    ],
)
def test_of_some_refusals_only_another_look_tells(status: Optional[int], is_done: bool) -> None:
    assert launchd.is_being_done(status) is is_done


# What launchctl prints


def test_lines_of_what_a_job_holds_are_not_taken_for_its_own() -> None:
    text = (
        "system/com.ngrok.ngrokd = {\n\tactive count = 0\n\tstate = not running\n\n"
        "\tlast exit code = 78: EX_CONFIG\n\tresource coalition = {\n\t\tstate = running\n"
        "\t\tpid = 7\n\t}\n}\n"
    )
    assert launchd.read(text) == Job(State.IDLE, 0, "exit status 78")


@pytest.mark.parametrize(
    ("text", "job"),
    [
        ("\tstate = running\n\tpid = 4711\n\tlast exit code = (never exited)\n",
         Job(State.RUNNING, 4711)),
        ("\tstate = spawn scheduled\n\tlast exit code = 1\n", Job(State.IDLE, 0, "exit status 1")),
        ("\tstate = not running\n\tlast terminating signal = Killed: 9\n",
         Job(State.IDLE, 0, "signal Killed: 9")),
        ("\tstate = waiting\n\tlast exit code = 0\n", Job(State.IDLE)),
    ],
)  # fmt: skip
def test_a_job_is_read_from_what_print_prints(text: str, job: Job) -> None:
    assert launchd.read(f"system/{launchd.LABEL} = {{\n{text}}}\n") == job


@pytest.mark.parametrize(
    ("text", "job"),
    [
        ('{\n\t"Label" = "x";\n\t"LastExitStatus" = 0;\n\t"PID" = 47;\n};', Job(State.RUNNING, 47)),
        ('{\n\t"LastExitStatus" = 512;\n};', Job(State.IDLE, 0, "exit status 2")),
        ('{\n\t"LastExitStatus" = 9;\n};', Job(State.IDLE, 0, "signal 9")),
    ],
)
def test_a_job_is_read_from_what_an_old_list_prints(text: str, job: Job) -> None:
    assert launchd.read_old(text) == job


@given(st.text())
def test_whatever_is_printed_a_job_is_read(text: str) -> None:
    assert launchd.read(text).pid >= 0
    assert launchd.read_old(text).pid >= 0


def test_a_launchctl_that_does_not_answer_is_no_absent_job() -> None:
    def hangs(argv: Sequence[str], text: str = "") -> str:
        raise CommandError("`launchctl print`: did not end within 8 seconds")

    with pytest.raises(HostError, match="did not end"):
        LaunchdJob(hangs).look()


class Refusing:
    """launchctl, which fails at what begins so, as often as `times` says."""

    def __init__(self, mac: Mac, verb: str, status: int, times: int) -> None:
        self._mac, self._verb, self._status, self.times = mac, verb, status, times

    def __call__(self, argv: Sequence[str], text: str = "") -> str:
        if argv[1] == self._verb and self.times:
            self.times -= 1
            self._mac.commands.append(" ".join(argv[1:]))
            raise CommandError(f"`launchctl`: failed: {self._status}", self._status, "failed")
        return self._mac.run(argv, text)


@pytest.mark.parametrize("status", [1, 5, 36, 37, 112, 125])
def test_a_print_that_fails_for_a_while_is_asked_again_and_never_means_absent(
    mac: Mac, status: int
) -> None:
    mac.start()
    for times in (3, 1000):
        job = LaunchdJob(Refusing(mac, "print", status, times), lambda: mac.now, mac.pause)
        mac.commands.clear()
        if times == 3:
            assert job.look().state is State.RUNNING
            continue
        with pytest.raises(HostError, match=f"failed: {status}"):
            job.stop(0.0)
        assert not any(line.startswith(("list", "unload")) for line in mac.commands)


@pytest.mark.parametrize("verb", ["bootstrap", "bootout"])
@pytest.mark.parametrize("status", [3, 5, 36, 37, 113])
def test_an_order_that_is_said_to_fail_and_may_be_done_is_looked_after(
    mac: Mac, verb: str, status: int
) -> None:
    job = LaunchdJob(Refusing(mac, verb, status, int(verb == "bootstrap")),
                     lambda: mac.now, mac.pause)  # fmt: skip
    job.start(mac.up.exists)
    assert mac.up.exists()
    if verb == "bootout":
        refusing = Refusing(mac, verb, status, 1)
        pause = lambda seconds: setattr(mac, "now", mac.now + 1)  # noqa: E731
        job = LaunchdJob(refusing, lambda: mac.now, pause)
        with pytest.raises(HostError, match="does not let go of"):
            job.stop(0.0)


def test_a_job_that_is_taken_away_while_it_starts_is_not_waited_for(mac: Mac) -> None:
    def is_up() -> bool:
        mac.run(launchd.STOP)
        return False

    with pytest.raises(HostError, match="no longer has it: it was stopped meanwhile"):
        mac.job.start(is_up)
    assert mac.now < 5


def test_two_starts_at_once_are_one(mac: Mac) -> None:
    other = LaunchdJob(mac.run, lambda: mac.now, mac.pause)
    ordered = mac.job._order

    def late(argv: Sequence[str]) -> Optional[CommandError]:
        other.start(mac.up.exists)  # after we have looked
        return ordered(argv)

    mac.job._order = late  # type: ignore[method-assign]
    mac.start()
    assert mac.up.exists() and mac.now < 5
    assert sum(line.startswith("bootstrap") for line in mac.commands) == 2


@pytest.mark.parametrize("text", ["", "\0\ufffd", "x" * 100_000, "\tstate = \n\tpid = 0\n"])
def test_a_print_that_is_rubbish_is_a_job_that_is_there(text: str) -> None:
    job = LaunchdJob(lambda argv, text_in="": text)
    assert job.look().state is State.IDLE


def test_the_signal_that_ended_it_is_told(mac: Mac) -> None:
    mac.install(KeepAlive=False, RunAtLoad=True)
    mac.start()
    os.kill(mac.pid, signal.SIGKILL)
    while mac.job.look().state is State.RUNNING:
        mac.launchctl.turn()
    assert mac.job.look().ended == "signal Killed: 9"
