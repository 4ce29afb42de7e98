"""A machine that is not whole, or not yet: the daemon starts or says why not, and recovers."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from tests.integration import background, programs
from tests.integration.clock import Clock
from tests.integration.netns import receive_exactly
from tests.integration.programs import Program
from tests.integration.site import (
    API_PORT,
    INGRESS_PORT,
    NGROKCTL,
    NGROKD,
    Daemon,
    Overrides,
    Site,
    clean_environment,
)
from tests.integration.wreck import STATE_FILES, until_ready

pytestmark = [pytest.mark.root, pytest.mark.long]

SOON_S = 3.0  # well below any timeout of a resolver or of the API


class Altered(Daemon):
    """`ngrokd --foreground` after shell commands in mounts of its own, or with more variables."""

    def __init__(self, site: Site, before: str = ":", **variables: str) -> None:
        argv = ["unshare", "-m", "--propagation", "private", "sh", "-ec", f'{before}\nexec "$@"']
        argv += ["sh", str(NGROKD), "--foreground", "--config", str(site.config)]
        Program.__init__(self, site.namespace, argv, {**clean_environment(), **variables})
        self._namespace, self._network = site.namespace, site.network
        self.socket_path = site.socket_path
        site.keep(self)


def _serving(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    site.start_cloud("tcp://one.ns:7000=127.0.0.1:7000")


def _must_serve(site: Site, name: str = "one.ns") -> None:
    with site.network.connect(name, 7000) as client:
        assert receive_exactly(client, 8) == b"goodbye\n"


def _no_traceback(daemon: Daemon) -> None:
    assert daemon.matching("Traceback|CRITICAL| ngrokd's own") == []


# The network


@contextlib.contextmanager
def _unreachable(site: Site) -> Iterator[None]:
    """No address, and so no route to anywhere."""
    site.run("ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
    try:
        yield
    finally:
        site.run("ip", "addr", "add", "127.0.0.1/8", "dev", "lo")


def test_without_a_network_at_boot_it_waits_and_serves_when_there_is_one(site: Site) -> None:
    _serving(site)
    with _unreachable(site):
        daemon = site.start_daemon()
        daemon.expect(f"WARNING.*127.0.0.1:{API_PORT}.*unreachable")
        # Not the only problem: the health pages have no address either.
        status = daemon.eventually(
            lambda now: str(API_PORT) in str(now["problems"]), "it does not tell that of the API"
        )
        assert status["state"] == "registering"
    daemon.ready()
    _must_serve(site)
    assert daemon.stop() == 0
    _no_traceback(daemon)
    site.assert_nothing_is_left(daemon)


def test_a_link_that_comes_up_late_is_waited_for(site: Site) -> None:
    """Until then nothing answers, and nothing refuses either."""
    _serving(site)
    site.run("ip", "link", "set", "lo", "down")
    try:
        daemon = site.start_daemon()
        daemon.expect("registering with the ngrok API")
        assert daemon.status()["state"] == "registering"
    finally:
        site.run("ip", "link", "set", "lo", "up")
    daemon.ready()
    _must_serve(site)
    assert daemon.stop() == 0


@contextlib.contextmanager
def _resolver(site: Site, kind: str) -> Iterator[None]:
    """No name is known to the hosts file, and the resolver that is asked is of that kind."""
    etc = site.namespace.etc
    kept = {name: (etc / name).read_bytes() for name in ("hosts", "resolv.conf", "nsswitch.conf")}
    with contextlib.ExitStack() as stack:
        for name, content in kept.items():
            stack.callback((etc / name).write_bytes, content)
        (etc / "hosts").write_text("127.0.0.1 elsewhere\n")
        (etc / "nsswitch.conf").write_text("hosts: files dns\n")
        (etc / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:3 attempts:2\n")
        if kind == "empty":
            (etc / "resolv.conf").write_text("")
        if kind == "silent":
            with site.network.entered():
                listening = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            listening.bind(("127.0.0.1", 53))
        yield


@pytest.mark.parametrize("kind", ["dead", "silent", "empty"])
def test_while_names_cannot_be_resolved_it_answers_stops_and_recovers(
    site: Site, kind: str
) -> None:
    _serving(site)
    overrides: Overrides = {"api": {"url": f"http://localhost:{API_PORT}"}}
    with _resolver(site, kind):
        began = time.monotonic()
        daemon = site.start_daemon(overrides)
        daemon.expect("ngrokd0 is up")
        assert daemon.ctl("ping").returncode == 0
        assert time.monotonic() - began < SOON_S
        assert daemon.stop() == 0
        assert time.monotonic() - began < SOON_S + 1, "a resolver held up the end"
        _no_traceback(daemon)

        daemon = site.start_daemon(overrides)
        if kind != "silent":
            line = daemon.expect("WARNING.*localhost")
            assert re.search("resol|name", line), line
    daemon.ready()
    _must_serve(site)
    assert daemon.stop() == 0


# Folders and disks


def _ctl(site: Site, *words: object) -> str:
    return str(site.run(NGROKCTL, "--socket", site.socket_path, *words).stdout)


def test_missing_folders_for_pid_and_socket_are_made_and_one_for_the_log_is_named(
    site: Site,
) -> None:
    _serving(site)
    run, log = site.folder / "run", site.folder / "log"
    site.socket_path = run / "ngrokd.sock"
    server = {"socket_path": str(site.socket_path), "pid_file": str(run / "ngrokd.pid")}
    site.write_config({"server": {**server, "log_file": str(log / "ngrokd.log")}})

    refused = background.start(site, site.config)
    assert refused.returncode == 1
    assert len(refused.stdout.splitlines()) == 1
    assert f"make the folder {log}" in refused.stdout
    assert list(run.iterdir()) == []

    log.mkdir()
    started = background.start(site, site.config)
    assert (started.returncode, started.stdout) == (0, "")
    assert run.stat().st_mode & 0o777 == 0o755
    _ctl(site, "wait", "--timeout", 20)
    _must_serve(site)
    background.end(run / "ngrokd.pid")
    assert list(run.iterdir()) == []


@contextlib.contextmanager
def _small_disk(site: Site, folder: Path) -> Iterator[Path]:
    """A file system of 64 KiB at `folder`, and the file that fills it."""
    folder.mkdir(exist_ok=True)
    site.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0755", "small", folder)
    try:
        yield folder / "ballast"
    finally:
        site.run("umount", "-l", folder)


def _fill(site: Site, ballast: Path) -> None:
    done = site.run("dd", "if=/dev/zero", f"of={ballast}", "bs=4k", check=False)
    assert "No space left" in done.stderr


def test_a_full_disk_under_the_hosts_file_costs_the_names_until_there_is_room(site: Site) -> None:
    _serving(site)
    etc = site.folder / "etc"
    with _small_disk(site, etc) as ballast:
        site.run("sh", "-c", f"echo '127.0.0.1 localhost' > {etc}/hosts")
        _fill(site, ballast)
        daemon = site.start_daemon({"net": {"hosts_file": str(etc / "hosts")}})
        line = daemon.expect("WARNING.*names are not published.*No space left")
        assert "Mend: make room" in line
        daemon.ready()
        assert site.run("cat", etc / "hosts").stdout == "127.0.0.1 localhost\n"
        _must_serve(site, daemon.endpoints()["tcp://one.ns:7000"]["ip"])

        site.run("rm", ballast)
        daemon.eventually(lambda now: now["state"] == "ready", "it stays degraded")
        assert "one.ns" in site.run("cat", etc / "hosts").stdout
        assert daemon.stop() == 0
        assert site.run("ls", "-A", etc).stdout == "hosts\n"
    _no_traceback(daemon)


def test_a_full_disk_under_the_state_folder_is_told_and_serving_begins_when_there_is_room(
    site: Site,
) -> None:
    _serving(site)
    with _small_disk(site, site.state) as ballast:
        _fill(site, ballast)
        daemon = site.start_daemon()
        full = f"(WARNING|ERROR|ngrokd:).*{site.state}.*No space left"
        daemon.expect(f"{full}.*(free some space|make room)")
        assert site.cloud.operators() == [], "an operator whose id cannot be kept"
        site.run("rm", ballast)
        daemon.ready()
        _must_serve(site)
        assert len(site.cloud.operators()) == 1
        assert daemon.stop() == 0
    _no_traceback(daemon)


@pytest.mark.parametrize("what", ["log_file", "pid_file"])
def test_a_full_disk_under_log_or_pid_file_is_told_or_survived(site: Site, what: str) -> None:
    _serving(site)
    place = site.folder / "small"
    with _small_disk(site, place) as ballast:
        _fill(site, ballast)
        site.write_config({"server": {what: str(place / "file")}})
        started = background.start(site, site.config)
        if what == "pid_file":
            assert started.returncode == 1
            assert len(started.stdout.splitlines()) == 1
            assert "No space left" in started.stdout and "server.pid_file" in started.stdout
            assert not site.socket_path.exists() and not site.interface_words()
            site.run("rm", ballast)
            started = background.start(site, site.config)
        assert started.returncode == 0, started.stdout
        _ctl(site, "wait", "--timeout", 20)
        _must_serve(site)
        pid = site.run("cat", place / "file" if what == "pid_file" else site.folder / "ngrokd.pid")
        (site.folder / "pid").write_text(pid.stdout)
        background.end(site.folder / "pid")
    assert not site.has_section() and not site.interface_words()


def test_a_read_only_hosts_file_costs_the_names_until_it_is_writable(site: Site) -> None:
    _serving(site)
    site.run("mount", "--bind", "/etc", "/etc")
    site.run("mount", "-o", "remount,ro,bind", "/etc")
    try:
        daemon = site.start_daemon()
        line = daemon.expect("WARNING.*names are not published.*/etc/hosts.*Read-only")
        assert "Mend: make it writable" in line
        daemon.ready()
        _must_serve(site, daemon.endpoints()["tcp://one.ns:7000"]["ip"])
    finally:
        site.run("umount", "-l", "/etc")
    daemon.eventually(lambda now: now["state"] == "ready", "it stays degraded")
    _must_serve(site)
    assert daemon.stop() == 0
    site.assert_nothing_is_left(daemon)


def test_a_read_only_state_folder_is_told_and_what_was_known_is_served(site: Site) -> None:
    _serving(site)
    site.start_daemon().ready().stop()
    site.run("mount", "--bind", site.state, site.state)
    site.run("mount", "-o", "remount,ro,bind", site.state)
    try:
        daemon = site.start_daemon_as_configured()
        daemon.expect("endpoint one.ns:7000 open")
        _must_serve(site)
        site.cloud.add("tcp://two.ns:7000", "127.0.0.1:7000")
        daemon.wait_for("--for", "two.ns", "--timeout", 10)
        daemon.expect(f"WARNING.*may differ after a restart.*{site.state}.*Read-only")
    finally:
        site.run("umount", "-l", site.state)
    daemon.eventually(lambda now: now["state"] == "ready", "it stays degraded")
    assert "two.ns" in (site.state / "ip_mappings.json").read_text()
    assert daemon.stop() == 0
    _no_traceback(daemon)


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
def test_a_missing_or_empty_hosts_file_has_nothing_of_ours_afterwards(
    site: Site, content: Optional[bytes]
) -> None:
    _serving(site)
    hosts = site.folder / "etc" / "hosts"
    hosts.parent.mkdir()
    if content is not None:
        hosts.write_bytes(content)
    site.write_config({"net": {"hosts_file": str(hosts)}})
    for number in (signal.SIGKILL, signal.SIGTERM):
        daemon = site.start_daemon_as_configured().ready()
        assert "one.ns" in hosts.read_text()
        daemon.stop(number)
    # Whose an empty file is that a killed daemon may have made, nothing tells: it stays.
    assert (hosts.read_bytes() if hosts.exists() else b"") == b""
    assert len(list(hosts.parent.iterdir())) <= 1


# Files that hold something else


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


GARBAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(b"\0" * 700),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "folder": _directory,
    "fifo": _fifo,
}


def _knows_the_ingress(now: dict[str, Any]) -> bool:
    """And has resolved it: until then that it cannot is a problem."""
    return now["ingress_endpoint"] == f"localhost:{INGRESS_PORT}" and not now["problems"]


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_in_any_file_of_the_state_folder_is_put_aside_or_named(
    site: Site, kind: str
) -> None:
    """After a power cut, a bad disk or a slip of a finger."""
    _serving(site)
    site.start_daemon().ready().stop()
    first = site.cloud.operators()[0]["id"]
    marked = (site.state / "installation_id").read_bytes()
    for name in sorted(STATE_FILES - {"api_key"}):
        path = site.state / name
        before = path.read_bytes()
        GARBAGE[kind](path)

        daemon = site.start_daemon_as_configured()
        if until_ready(daemon.pid, site.socket_path):
            if name == "registration.json":  # which ingress it is must be asked again
                daemon.eventually(_knows_the_ingress, "it is not")
            _must_serve(site)
            assert [each["id"] for each in site.cloud.operators()] == [first], name
            assert daemon.stop() == 0
            assert {file.name for file in site.state.iterdir()} >= STATE_FILES - {"api_key"}
        else:
            assert kind in ("folder", "fifo"), daemon.output()
            assert daemon.wait() == 1
            assert len(daemon.matching(rf"ngrokd: .*{name} .*move it away")) == 1, name
            assert not site.socket_path.exists() and not site.interface_words()
        _no_traceback(daemon)
        if path.is_dir() or path.is_fifo():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            path.write_bytes(before)
        # By it the operator is found again that a later file no longer names.
        (site.state / "installation_id").write_bytes(marked)


def test_a_stale_socket_that_nobody_holds_is_replaced(site: Site) -> None:
    _serving(site)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(site.socket_path))
    daemon = site.start_daemon().ready()
    assert daemon.stop() == 0
    site.assert_nothing_is_left(daemon)


def test_a_socket_that_is_deleted_while_it_runs_comes_back(site: Site) -> None:
    _serving(site)
    daemon = site.start_daemon().ready()
    site.socket_path.unlink()
    daemon.expect("WARNING.*control socket.*made again")
    assert daemon.ctl("ping").returncode == 0
    assert daemon.stop() == 0
    site.assert_nothing_is_left(daemon)


def test_an_unreadable_configuration_is_one_line_and_exit_2(site: Site) -> None:
    site.write_config()
    site.config.chmod(0o600)
    site.folder.chmod(0o755)
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    done = site.run(*as_nobody, "cat", site.config, check=False)
    assert done.returncode != 0
    for argv in ((*as_nobody, NGROKD), (NGROKD,)):
        if argv == (NGROKD,):
            site.config.unlink()
            site.config.mkdir()
        done = site.run(
            *argv, "--foreground", "--config", site.config, check=False, env=clean_environment()
        )
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1 and str(site.config) in done.stderr


# Parts of the system


def test_without_proc_it_works_all_the_same(site: Site) -> None:
    _serving(site)
    site.write_config()
    daemon = Altered(site, "mount -t tmpfs none /proc")
    daemon.ready()
    _must_serve(site)
    assert daemon.stop() == 0
    _no_traceback(daemon)
    site.assert_nothing_is_left(daemon)


def test_without_the_program_ip_it_serves_on_loopback_addresses_and_says_what_to_install(
    site: Site,
) -> None:
    _serving(site)
    site.write_config()
    upper = site.folder / "upper"
    upper.mkdir()
    without = (
        f"mount -t tmpfs none {upper}; mkdir {upper}/up {upper}/work\n"
        f"mount -t overlay -o lowerdir=/usr,upperdir={upper}/up,workdir={upper}/work none /usr\n"
        "rm -f /usr/bin/ip /usr/sbin/ip /usr/bin/ifconfig /usr/sbin/ifconfig"
    )
    daemon = Altered(site, without)
    daemon.ready()
    line = daemon.expect("WARNING.*there is no program ip")
    assert "install iproute2" in line
    assert site.network.address_of("one.ns").startswith("127.")
    _must_serve(site)
    assert daemon.stop() == 0
    _no_traceback(daemon)
    site.assert_nothing_is_left(daemon)


# The clock

def test_a_clock_in_1970_is_named_as_the_cause_and_a_right_one_mends_all(
    site: Site, clock: Clock
) -> None:
    _serving(site)
    site.write_config()
    clock.set(-int(time.time()) + 20)
    daemon = Altered(site, **clock.variables)
    daemon.ready()
    daemon.expect("^1970-01-01T00:.* INFO endpoint one.ns:7000 open")
    with pytest.raises(ConnectionError):
        _must_serve(site)
    line = daemon.expect("WARNING one.ns:7000: .*not yet valid")
    assert "compare this machine's clock" in line
    _recovers(site, daemon)


def test_a_clock_10_years_ahead_is_named_as_the_cause_and_a_right_one_mends_all(
    site: Site, clock: Clock
) -> None:
    _serving(site)
    site.write_config()
    clock.set(3650 * 24 * 3600)
    daemon = Altered(site, **clock.variables)
    daemon.expect("endpoint one.ns:7000 open")
    daemon.eventually(
        lambda now: any("compare this machine's clock" in problem for problem in now["problems"]),
        "no problem says that it is the clock",
    )
    with pytest.raises(ConnectionError):
        _must_serve(site)
    assert "compare this machine's clock" in daemon.expect("WARNING one.ns:7000: .*expired")
    assert len([each for each in site.cloud.requests() if each["method"] != "GET"]) < 5, (
        "it asks for one certificate after the other"
    )
    _recovers(site, daemon)


def _recovers(site: Site, daemon: Daemon) -> None:
    """With a right clock, with what the wrong one left."""
    assert daemon.stop() == 0
    _no_traceback(daemon)
    daemon = site.start_daemon_as_configured().ready()
    _must_serve(site)
    assert daemon.status()["problems"] == []
    assert len(site.cloud.operators()) == 1
    assert daemon.stop() == 0
    _no_traceback(daemon)
    site.assert_nothing_is_left(daemon)
