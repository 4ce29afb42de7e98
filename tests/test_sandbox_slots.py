"""Sandboxes that run at the same time have addresses, names and ports of their own."""

from __future__ import annotations

import errno
import ipaddress
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ngrokd.errors import HostError
from ngrokd.sandbox.cloud import Sandbox
from ngrokd.sandbox.slots import SLOTS, held
from tests.integration.programs import Program
from tests.integration.site import NGROKD, clean_environment
from tests.namespace import Namespace

TIMEOUT_S = 20


@pytest.fixture
def lock_port() -> int:
    """Of this test alone, so that a sandbox elsewhere on this machine has no part in it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def test_each_slot_is_as_documented_and_none_shares_anything() -> None:
    first, second, last = SLOTS[0], SLOTS[1], SLOTS[-1]
    assert (first.subnet, first.name, first.health_port) == ("127.107.0.0/16", "sandbox", 8081)
    assert (second.subnet, second.name, second.health_port) == ("127.108.0.0/16", "sandbox2", 8082)
    assert (last.subnet, last.name, last.health_port) == ("127.126.0.0/16", "sandbox20", 8100)
    for what in ("subnet", "name", "health_port", "lock_address"):
        assert len({getattr(slot, what) for slot in SLOTS}) == len(SLOTS)
    for slot in SLOTS:
        assert ipaddress.IPv4Address(slot.lock_address) in ipaddress.IPv4Network(slot.subnet)


def test_the_first_free_slot_is_taken_and_given_back(lock_port: int) -> None:
    with held(lock_port) as first:
        with held(lock_port) as second, held(lock_port) as third:
            assert (first, second, third) == SLOTS[:3]
        with held(lock_port) as again:
            assert again == SLOTS[1]
    with held(lock_port) as again:
        assert again == SLOTS[0]


def test_when_all_are_taken_it_is_said_with_the_mend(lock_port: int) -> None:
    with ExitStack() as stack:
        for slot in SLOTS:
            assert stack.enter_context(held(lock_port)) == slot
        with pytest.raises(HostError, match=f"127.126.0.0/16 are taken.*{lock_port}"):
            stack.enter_context(held(lock_port))


def test_a_slot_is_free_once_its_process_was_killed(lock_port: int) -> None:
    program = (
        "import sys\n"
        "from ngrokd.sandbox.slots import held\n"
        f"with held({lock_port}) as slot:\n"
        "    print(slot.number, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "1\n"
        with held(lock_port) as beside:
            assert beside == SLOTS[1]
        holder.kill()
        holder.wait(TIMEOUT_S)
        with held(lock_port) as after:
            assert after == SLOTS[0]


def test_no_program_that_is_started_inherits_the_slot(lock_port: int) -> None:
    with held(lock_port) as slot:
        argv = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
        child = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False
        )
        assert child.stdout is not None
        child.stdout.readline()
    with child, held(lock_port) as again:
        assert again == slot


class Unbindable(socket.socket):
    """As on macOS, where 127.0.0.1 is the only loopback address."""

    error = errno.EADDRNOTAVAIL

    def bind(self, address: Any) -> None:
        """Never."""
        raise OSError(self.error, "refused by the test")


def test_where_the_addresses_do_not_exist_the_first_slot_is_used_without_a_lock(
    monkeypatch: pytest.MonkeyPatch, lock_port: int
) -> None:
    monkeypatch.setattr(socket, "socket", Unbindable)
    with held(lock_port) as one, held(lock_port) as other:
        assert one == other == SLOTS[0]


def test_any_other_refusal_is_told(monkeypatch: pytest.MonkeyPatch, lock_port: int) -> None:
    monkeypatch.setattr(Unbindable, "error", errno.EPERM)
    monkeypatch.setattr(socket, "socket", Unbindable)
    with pytest.raises(HostError, match=r"127\.107\.0\.1.*refused by the test"), held(lock_port):
        pass


def settings(sandbox: Sandbox) -> tuple[object, object, object]:
    config = sandbox.config()
    return config["net"]["subnet"], config["net"]["interface_name"], config["server"]["health_port"]


def test_two_sandboxes_give_two_configurations_and_list_two_sets_of_names(tmp_path: Path) -> None:
    one, other = Sandbox(tmp_path / "one"), Sandbox(tmp_path / "other")
    with ExitStack() as stack:
        for sandbox in (one, other):
            sandbox.start()
            stack.callback(sandbox.stop)
        for mine, others in zip(settings(one), settings(other)):
            assert mine != others
        assert {each.url for each in one.listed}.isdisjoint(each.url for each in other.listed)
        for sandbox in (one, other):
            domain = sandbox.config()["net"]["interface_name"]
            assert f"http://hello.{domain}" in [each.url for each in sandbox.listed]


def test_a_sandbox_that_did_not_start_holds_neither_slot_nor_folder(tmp_path: Path) -> None:
    failed = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for _ in range(len(SLOTS) + 1):
            sandbox = Sandbox(tmp_path, samples=False, port=taken.getsockname()[1])
            failed.append(sandbox)
            with pytest.raises(HostError, match="another program"):
                sandbox.start()
    failed[0] = Sandbox(tmp_path, samples=False)
    failed[0].start()
    failed[0].stop()


def test_samples_keep_a_domain_that_is_asked_for(tmp_path: Path) -> None:
    sandboxes = [Sandbox(tmp_path / name, domain="mine.test") for name in ("one", "other")]
    with ExitStack() as stack:
        for sandbox in sandboxes:
            sandbox.start()
            stack.callback(sandbox.stop)
            assert sandbox.listed[0].url == "http://hello.mine.test"


@pytest.mark.long
@pytest.mark.root
def test_two_sandboxed_daemons_of_root_serve_side_by_side(
    namespace: Namespace, tmp_path: Path
) -> None:
    hosts_before = namespace.hosts.read_bytes()

    def daemon(name: str) -> Program:
        argv = (NGROKD, "--foreground", "--sandbox", "--dir", tmp_path / name)
        program = Program(namespace, argv, clean_environment())
        program.expect("End with Ctrl-C")
        return program

    def try_hello(domain: str, health_port: int) -> None:
        page = namespace.run("curl", "-sS", f"http://hello.{domain}/").stdout
        assert "Hello from the ngrokd sandbox" in page
        assert namespace.run("curl", "-sSf", f"http://127.0.0.1:{health_port}/ready").stdout

    with daemon("one") as one:
        with daemon("other") as other:
            try_hello("sandbox", 8081)
            try_hello("sandbox2", 8082)
            assert one.matching(r"\bopen at 127\.107\.") and other.matching(r"\bopen at 127\.108\.")
            assert len(other.matching(r"\bopen at ")) == 3
            assert other.matching(r"ERROR|WARN") == []
            assert other.stop(signal.SIGINT) == 0
        try_hello("sandbox", 8081)
        assert b"sandbox2" not in namespace.hosts.read_bytes()
        assert one.stop(signal.SIGINT) == 0
    assert namespace.hosts.read_bytes() == hosts_before
