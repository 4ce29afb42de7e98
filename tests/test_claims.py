"""One daemon for one interface and one section, and no trace of one that ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host import claims
from ngrokd.host.claims import Claims
from ngrokd.host.machine import Machine
from ngrokd.host.netif.ipreader import IpReader
from tests.fake_ip import FakeIp
from tests.namespace import Namespace

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 20
# Of no interface: only a name is claimed, which another checkout that is tested may not have.
NAME = f"claims{os.getpid()}"

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


def test_a_second_daemon_of_the_same_interface_is_told_the_first_ones_pid(tmp_path: Path) -> None:
    ours = Claims(settings(tmp_path / "other-hosts"))
    with holding(tmp_path / "hosts") as other:
        with pytest.raises(HostError) as caught:
            ours.take()
        said = str(caught.value)
        assert f"(pid {other.pid})" in said and NAME in said and "net.interface_name" in said
    ours.take()
    ours.release()


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
    assert all(len(f"\0ngrokd:{name}") < 108 for name in names), "sockaddr_un"


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
        ours.take()
    with pytest.raises(OSError):
        claims_again = socket.socket(socket.AF_UNIX)
        with claims_again:
            claims_again.bind(f"\0ngrokd:interface:{NAME}")
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


def test_many_refused_starts_leave_room_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_BACKLOG", 1)
    ours = Claims(settings(tmp_path / "hosts"))
    ours.take()
    for _ in range(20):
        assert claims._holder(f"\0ngrokd:interface:{NAME}") == os.getpid()
        ours.answer()
    ours.release()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_an_ordinary_user_cannot_keep_roots_daemon_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    squat = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.bind(chr(0)+sys.argv[1]); "
    squat += "s.listen(); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        ["/usr/bin/env", "python3", "-c", squat, f"ngrokd:interface:{NAME}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=65534,
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        other.stdout.readline()
        ours = Claims(settings(tmp_path / "hosts"))
        ours.take()
        ours.release()
        other.stdin.close()
    assert "claimed by an unknown program" in caplog.text


def test_a_refused_machine_touches_nothing_at_start_and_at_the_end(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    section = b"# BEGIN ngrokd managed section (%s)\n10.107.0.2\ta.b\n# END ngrokd managed section"
    content = section % NAME.encode() + b" (%s)\n" % NAME.encode()
    hosts.write_bytes(content)
    ip = FakeIp()
    machine = Machine(settings(hosts), ip, lambda net, run: IpReader(run))
    with holding(hosts):
        with pytest.raises(HostError, match="another ngrokd"):
            machine.prepare()
        machine.close()
    assert hosts.read_bytes() == content
    assert ip.ran == []


def test_a_machine_that_is_closed_can_be_had_by_the_next(tmp_path: Path) -> None:
    machine = Machine(settings(tmp_path / "hosts"), FakeIp(), lambda net, run: IpReader(run))
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
        namespace.run("env", f"PYTHONPATH={ROOT}", sys.executable, "-c", script)
    finally:
        ours.release()
