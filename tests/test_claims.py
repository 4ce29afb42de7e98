"""One daemon for one interface and one section, and no trace of one that ended."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host import claims, leftovers, locks
from ngrokd.host.claims import Claims
from ngrokd.host.machine import Machine
from ngrokd.host.netif.ipreader import IpReader
from ngrokd.host.netif.linuxsystem import LinuxSystem
from tests.fake_ip import FakeIp
from tests.namespace import Namespace

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 20
# Of no interface: only a name is claimed, which another checkout that is tested may not have.
NAME = f"claims{os.getpid()}"

SECTION = (
    f"# BEGIN ngrokd managed section ({NAME})\n10.107.0.2\ta.b\n"
    f"# END ngrokd managed section ({NAME})\n"
).encode()

# Takes it and lives until its input ends; with "fork" a child of it holds it a little longer.
HOLDER = """
import os, sys
from ngrokd.config import NetSettings
from ngrokd.host.claims import Claims

claims = Claims(NetSettings(interface_name=sys.argv[1], hosts_file=sys.argv[2]))
claims.take()
if sys.argv[3] == "fork" and os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print("held", flush=True)
sys.stdin.read()
"""


def settings(hosts: Path, name: str = NAME) -> NetSettings:
    return NetSettings(interface_name=name, hosts_file=str(hosts))


@contextlib.contextmanager
def holding(hosts: Path, how: str = "", **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the claims."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, NAME, str(hosts), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        **options,
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def said_by_refused(hosts: Path) -> str:
    """What another process says that cannot have the claims."""
    done = subprocess.run(
        [sys.executable, "-c", HOLDER, NAME, str(hosts), ""],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    return done.stderr


def test_a_second_daemon_of_the_same_interface_is_told_the_first_ones_pid(tmp_path: Path) -> None:
    ours = Claims(settings(tmp_path / "other-hosts"))
    with holding(tmp_path / "hosts") as other:
        with pytest.raises(HostError) as caught:
            ours.take()
        said = str(caught.value)
        assert f"(pid {other.pid})" in said and NAME in said and "net.interface_name" in said
    ours.take()
    ours.release()


def test_names_of_another_ngrokd_are_told_of_unless_that_one_lives(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"127.0.0.1\tlocalhost\n" + SECTION)
    of_a_third = settings(hosts, "ngrokd9")
    with holding(hosts) as other:
        assert leftovers.of_others(of_a_third) == []
        other.kill()
        other.wait()
        (line,) = leftovers.of_others(of_a_third)
    assert f"names of another ngrokd (interface {NAME})" in line
    assert leftovers.of_others(settings(hosts)) == []


def test_the_same_section_under_another_path_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "hosts").touch()
    (tmp_path / "link").symlink_to(tmp_path / "hosts")
    assert claims._section_name(settings(tmp_path / "hosts")) == claims._section_name(
        settings(tmp_path / "link")
    )
    names = {
        claims._section_name(settings(tmp_path / "hosts", name)) for name in (NAME, "ngrokd9")
    } | {claims._section_name(settings(tmp_path / "gone" / "hosts"))}
    assert len(names) == 3


def test_claims_end_with_their_process_however_it_ends(tmp_path: Path) -> None:
    ours = Claims(settings(tmp_path / "hosts"))
    with holding(tmp_path / "hosts") as other:
        other.send_signal(signal.SIGKILL)
        other.wait(TIMEOUT_S)
        ours.take()
    ours.release()
    ours.release()


def test_what_a_dead_daemon_was_about_to_run_is_waited_for(tmp_path: Path) -> None:
    ours = Claims(settings(tmp_path / "hosts"))
    with holding(tmp_path / "hosts", "fork") as other:
        other.send_signal(signal.SIGKILL)
        other.wait(TIMEOUT_S)
        assert other.stdin is not None
        other.stdin.close()  # the child ends while, or before, it is waited for
        assert ours.take() == ""
    assert f"pid {os.getpid()}" in said_by_refused(tmp_path / "hosts")
    ours.release()


def test_a_loopback_subnet_claims_no_interface(tmp_path: Path) -> None:
    """An ordinary user's daemon beside root's, both with the default name."""
    net = NetSettings(
        interface_name=NAME, subnet="127.107.0.0/16", hosts_file=str(tmp_path / "own-hosts")
    )
    with holding(tmp_path / "hosts"):
        ours = Claims(net)
        ours.take()
        ours.release()


def test_one_process_does_not_stand_in_its_own_way(tmp_path: Path) -> None:
    first, second = (Claims(settings(tmp_path / "hosts")) for _ in range(2))
    first.take()
    second.take()
    first.release()
    second.release()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_an_ordinary_user_can_neither_have_nor_block_a_claim_of_root(tmp_path: Path) -> None:
    ours = Claims(settings(tmp_path / "hosts"))
    assert ours.take() == ""
    try:
        folder = locks.folder()
        assert list(folder.iterdir())
        reach = "import os, sys; [os.open(p, os.O_RDONLY) for p in os.scandir(sys.argv[1])]"
        made = "import sys; open(sys.argv[1] + '/interface', 'w')"
        for script in (reach, made):
            done = subprocess.run(
                ["/usr/bin/env", "python3", "-c", script, folder],
                user=65534,
                capture_output=True,
                text=True,
                check=False,
            )
            assert "PermissionError" in done.stderr
    finally:
        ours.release()


def test_a_folder_that_others_made_or_can_write_is_not_relied_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    (tmp_path / "ngrokd-4242").mkdir()
    with pytest.raises(HostError, match="belongs to another user"):
        locks.folder({"TMPDIR": str(tmp_path)})
    monkeypatch.undo()
    own = tmp_path / f"ngrokd-{os.geteuid()}"
    own.mkdir()
    assert locks._fault_of(own) == ""
    own.chmod(0o777)
    assert locks._fault_of(own) == "can be written by other users"
    (tmp_path / "link").symlink_to(own)
    assert locks._fault_of(tmp_path / "link") == "is no folder"


def test_without_a_place_for_claims_a_start_says_so_and_a_cleanup_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "_places", lambda environ: [tmp_path / "no" / "such"])
    hosts = tmp_path / "hosts"
    hosts.write_bytes(SECTION)
    with pytest.raises(HostError, match="cannot be told"):
        leftovers.remove(settings(hosts), frozenset(), FakeIp())
    assert hosts.read_bytes() == SECTION
    machine = Machine(settings(hosts), FakeIp(), LinuxSystem(lambda net, run: IpReader(run)))
    machine.prepare()
    machine.close()
    assert caplog.text.count("a second ngrokd would not be kept from") == 1


def test_no_file_and_no_folder_stays_behind(tmp_path: Path) -> None:
    def folder() -> Path:
        return tmp_path / "locks"

    ours = Claims(settings(tmp_path / "hosts"), folder)
    assert ours.take() == ""
    with ours.making():
        assert len(list(folder().iterdir())) == 3
    ours.release()
    assert not folder().exists()


def test_claims_that_are_dropped_are_let_go(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    ours = Claims(settings(tmp_path / "hosts"), lambda: folder)
    ours.take()
    assert folder.exists()
    del ours
    gc.collect()
    assert not folder.exists()


def test_a_pid_of_another_container_is_not_taken_for_one_of_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are pid 1 there."""
    first, second = (Claims(settings(tmp_path / "hosts"), lambda: tmp_path) for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(locks, "namespace", lambda kind: "another")
        first.take()
    with pytest.raises(HostError, match="an ngrokd of another container has"):
        second.take()
    first.release()


def test_two_that_make_an_interface_at_once_do_it_one_after_the_other(tmp_path: Path) -> None:
    net = settings(tmp_path / "hosts")
    first, second = (Claims(net, lambda: tmp_path) for _ in range(2))
    order: list[str] = []
    inside, waits = threading.Event(), threading.Event()

    def make() -> None:
        inside.wait(TIMEOUT_S)
        waits.set()
        with second.making():
            order.append("second")

    thread = threading.Thread(target=make)
    thread.start()
    with first.making():
        inside.set()
        waits.wait(TIMEOUT_S)
        thread.join(3 * locks._PAUSE_S)
        order.append("first")
    thread.join(TIMEOUT_S)
    assert order == ["first", "second"]


def test_the_making_of_a_daemon_that_hangs_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(claims, "_MAKING_S", 0.05)
    ours = Claims(settings(tmp_path / "hosts"), lambda: tmp_path)
    with ours.making(), ours.making():
        assert "has been making its interface for 0.05 s: not waited for" in caplog.text


def test_a_refused_machine_touches_nothing_at_start_and_at_the_end(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(SECTION)
    ip = FakeIp()
    machine = Machine(settings(hosts), ip, LinuxSystem(lambda net, run: IpReader(run)))
    with holding(hosts):
        with pytest.raises(HostError, match="another ngrokd"):
            machine.prepare()
        machine.close()
    assert hosts.read_bytes() == SECTION
    assert ip.ran == []


def test_a_machine_that_is_closed_can_be_had_by_the_next(tmp_path: Path) -> None:
    system = LinuxSystem(lambda net, run: IpReader(run))
    machine = Machine(settings(tmp_path / "hosts"), FakeIp(), system)
    machine.prepare()
    machine.addresses()
    machine.close()
    with holding(tmp_path / "hosts"):
        pass


@pytest.mark.root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare (util-linux)")
def test_another_network_namespace_has_interfaces_of_its_own(
    tmp_path: Path, namespace: Namespace
) -> None:
    ours = Claims(settings(tmp_path / "hosts"))
    ours.take()
    try:
        script = "from ngrokd.config import NetSettings; from ngrokd.host.claims import Claims; "
        script += f"Claims(NetSettings(interface_name={NAME!r}, hosts_file='/x/hosts')).take()"
        where = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-c")
        namespace.run(*where, script)
        # The file is the same, whichever network its daemon is in.
        script = script.replace("/x/hosts", str(tmp_path / "hosts"))
        done = namespace.run(*where, script, check=False)
        assert f"another ngrokd (pid {os.getpid()}) has ngrokd's section" in done.stderr
    finally:
        ours.release()
