"""How a daemon ends and begins: signals, draining, what a killed one leaves, second instances."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time

import pytest

from tests.integration import programs
from tests.integration.netns import receive_all, receive_exactly
from tests.integration.site import NGROKCTL, NGROKD, Daemon, Site, run_ngrokd

pytestmark = pytest.mark.root

ODD_HOSTS = (
    b"127.0.0.1\tlocalhost\r\n# caf\xe9, in Latin-1\n\n\n10.9.8.7   printer  # END\n"
    b"# BEGIN somebody else's section\n1.2.3.4 x\n# END somebody else's section\n::1 six"
)
CERTAIN_S = 3.0  # well below a drain_timeout of 60 s, well above what ending takes


def _serving(site: Site, drain_timeout: float = 5) -> Daemon:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000", "after_end=7001"))
    site.start_cloud(
        "tcp://echo.ns:7000=127.0.0.1:7000",
        "tcp://slow.ns:7001=127.0.0.1:7001",
        "http://web.ns=127.0.0.1:7000",
    )
    return site.start_daemon({"forward": {"drain_timeout": drain_timeout}}).ready()


def _open_echo(site: Site) -> socket.socket:
    client = site.network.connect("echo.ns", 7000)
    client.sendall(b"hello")
    assert receive_exactly(client, 5) == b"hello"
    return client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_after_a_signal_nothing_is_left_and_the_exit_status_is_0(
    site: Site, number: signal.Signals
) -> None:
    daemon = _serving(site)
    _open_echo(site).close()
    assert site.has_section()
    assert "10.107.0.2/32" in site.interface_words()

    assert daemon.stop(number) == 0

    site.assert_nothing_is_left(daemon)
    assert daemon.matching(" (WARNING|ERROR|CRITICAL) |Traceback") == []


def test_an_odd_hosts_file_is_byte_for_byte_the_same_afterwards_with_owner_and_mode(
    site: Site,
) -> None:
    hosts = site.namespace.hosts
    before = hosts.stat()
    hosts.write_bytes(ODD_HOSTS)
    hosts.chmod(0o664)
    os.chown(hosts, 7, 9)
    try:
        daemon = _serving(site)
        assert site.run("getent", "ahostsv4", "echo.ns").stdout.startswith("10.107.")
        assert daemon.stop() == 0
        after = hosts.stat()

        assert hosts.read_bytes() == ODD_HOSTS
        assert (after.st_mode & 0o777, after.st_uid, after.st_gid) == (0o664, 7, 9)
    finally:
        hosts.chmod(before.st_mode & 0o777)
        os.chown(hosts, before.st_uid, before.st_gid)


def test_lines_that_others_add_meanwhile_stay(site: Site) -> None:
    daemon = _serving(site)
    with open(site.namespace.hosts, "ab") as hosts:
        hosts.write(b"10.1.1.1 added.example\n")
    daemon.refresh()

    assert daemon.stop() == 0

    assert site.namespace.hosts.read_bytes() == site.hosts_before + b"10.1.1.1 added.example\n"


@pytest.mark.long
def test_the_hosts_file_is_not_written_while_nothing_changes(site: Site) -> None:
    daemon = _serving(site)
    before = site.namespace.hosts.stat()

    daemon.refresh()
    daemon.refresh()

    after = site.namespace.hosts.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_open_connections_finish_within_the_drain_timeout_and_no_new_one_gets_in(
    site: Site,
) -> None:
    daemon = _serving(site, drain_timeout=30)
    ip = site.network.address_of("slow.ns")
    body = os.urandom(1 << 20)
    client = site.network.connect("slow.ns", 7001)
    client.sendall(body[: 1 << 19])
    daemon.eventually(lambda now: now["bytes"]["up"] > 0, "nothing was carried")

    daemon.send(signal.SIGTERM)
    daemon.expect("draining 1 connection")

    assert not site.has_section()
    with pytest.raises(OSError):
        site.network.connect(ip, 7001, timeout_s=2)
    client.sendall(body[1 << 19 :])
    client.shutdown(socket.SHUT_WR)
    assert receive_all(client).partition(b"\n")[2] == body
    client.close()
    began = time.monotonic()
    assert daemon.wait() == 0
    assert time.monotonic() - began < CERTAIN_S
    site.assert_nothing_is_left(daemon)


def test_a_connection_that_does_not_end_is_cut_after_the_drain_timeout(site: Site) -> None:
    daemon = _serving(site, drain_timeout=1)
    client = _open_echo(site)
    began = time.monotonic()

    assert daemon.stop() == 0

    assert 1 <= time.monotonic() - began < 1 + CERTAIN_S
    daemon.expect("1 connection.* cut")
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    client.close()
    site.assert_nothing_is_left(daemon)


def test_a_second_signal_ends_at_once(site: Site) -> None:
    daemon = _serving(site, drain_timeout=60)
    client = _open_echo(site)
    daemon.send(signal.SIGTERM)
    daemon.expect("draining 1 connection")
    began = time.monotonic()

    daemon.send(signal.SIGTERM)

    daemon.wait()
    assert time.monotonic() - began < CERTAIN_S
    client.close()
    site.assert_nothing_is_left(daemon)


def test_an_api_that_does_not_answer_does_not_hold_up_the_end(site: Site) -> None:
    daemon = _serving(site)
    site.cloud.api_fault("delay", delay_s=60, path="/bound_endpoints")
    asked = len(site.cloud.requests())
    daemon.eventually(lambda now: len(site.cloud.requests()) > asked, "it does not poll")
    began = time.monotonic()

    assert daemon.stop() == 0

    assert time.monotonic() - began < CERTAIN_S
    site.assert_nothing_is_left(daemon)


def test_stop_on_the_control_socket_ends_it_as_a_signal_does(site: Site) -> None:
    daemon = _serving(site)
    asks = f"nc -U {site.socket_path} | jq .success"

    answer = site.run("sh", "-c", f"""echo '{{"command":"stop"}}' | {asks}""")

    assert answer.stdout == "true\n"
    assert daemon.wait() == 0
    site.assert_nothing_is_left(daemon)


def test_a_hangup_reads_the_configuration_again_and_nothing_is_disturbed(site: Site) -> None:
    daemon = _serving(site)
    client = _open_echo(site)

    site.write_config({"forward": {"connect_timeout": 7}, "server": {"log_level": "debug"}})
    daemon.send(signal.SIGHUP)
    daemon.expect("configuration read again.*forward.connect_timeout")
    before = site.config.read_text()
    site.config.write_text("net: {subnet: nonsense}\n")
    daemon.send(signal.SIGHUP)
    daemon.expect("ERROR.*config.yml:1: net.subnet")

    site.config.write_text(before)
    client.sendall(b"still")
    assert receive_exactly(client, 5) == b"still"
    client.close()
    status = daemon.status()
    assert status["state"] == "ready"
    assert "config.yml:1: net.subnet" in status["problems"][0]
    daemon.send(signal.SIGHUP)
    daemon.eventually(lambda now: not now["problems"], "the fault is gone, its problem is not")


def test_a_killed_daemons_leftovers_are_adopted_and_nothing_is_stale(site: Site) -> None:
    killed = _serving(site)
    before = {name: site.network.address_of(name) for name in ("echo.ns", "slow.ns", "web.ns")}
    killed.send(signal.SIGKILL)
    killed.wait()
    assert site.has_section() and site.interface_words() and site.socket_path.exists()
    site.cloud.remove("http://web.ns")

    daemon = site.start_daemon_as_configured().ready()

    assert site.network.address_of("echo.ns") == before["echo.ns"]
    assert "web.ns" not in site.namespace.hosts.read_text()
    assert f"{before['web.ns']}/32" not in site.interface_words()
    assert len(site.cloud.operators()) == 1
    _open_echo(site).close()
    assert daemon.stop() == 0
    site.assert_nothing_is_left(daemon)


def test_a_second_daemon_names_the_first_and_leaves_it_alone(site: Site) -> None:
    daemon = _serving(site)

    second = run_ngrokd(site, "--foreground", "--config", site.config)

    assert second.returncode == 1
    assert f"pid {daemon.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    assert site.has_section()
    _open_echo(site).close()
    assert daemon.ctl("ping").returncode == 0


def test_the_same_daemon_runs_in_the_background_when_asked_to(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    site.start_cloud("tcp://echo.ns:7000=127.0.0.1:7000")
    site.write_config({"server": {"log_file": str(site.folder / "ngrokd.log")}})

    # Into a file: a pipe that the daemon kept open would be waited for.
    with open(site.folder / "output", "wb") as output:
        started = site.run(
            *(NGROKD, "--config", site.config),
            **{"capture_output": False, "stdout": output, "stderr": output, "text": False},
        )

    assert started.returncode == 0
    pid = int((site.folder / "ngrokd.pid").read_text())
    try:
        ctl = (NGROKCTL, "--socket", site.socket_path)
        site.run(*ctl, "wait", "--for", "echo.ns", "--timeout", 20)
        _open_echo(site).close()
    finally:
        os.kill(pid, signal.SIGTERM)
        _wait_until_gone(pid)
    assert not site.has_section()
    assert not (site.folder / "ngrokd.pid").exists()
    assert "stopped" in (site.folder / "ngrokd.log").read_text()


def _wait_until_gone(pid: int) -> None:
    """It is no child of ours."""
    handle = os.pidfd_open(pid)
    readable, _, _ = select.select([handle], [], [], 20)
    os.close(handle)
    assert readable, f"{pid} does not end"
