"""A whole machine: real interfaces, a real hosts file, real listening, and nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ngrokd.config import NetSettings
from ngrokd.errors import BindError, HostError, InterfaceTaken, PortForbidden
from ngrokd.host.holders import Holders
from ngrokd.host.listening import listen
from ngrokd.host.lowports import Start
from ngrokd.host.machine import Machine
from ngrokd.host.netif.ipreader import IpReader
from ngrokd.host.netif.linuxsystem import LinuxSystem
from ngrokd.model import Address, InterfaceMode
from tests.fake_ip import FakeIp, Link
from tests.namespace import Namespace

ORIGINAL = b"127.0.0.1 localhost\r\n127.0.1.1 Box.home box\n# no final newline: caf\xe9"
NAMES = {"web.ns": "10.107.0.2", "cache.ns": "10.107.0.3"}


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    """A hosts file in a folder of its own."""
    path = tmp_path / "etc" / "hosts"
    path.parent.mkdir()
    path.write_bytes(ORIGINAL)
    return path


def machine_with(hosts: Path, ip: FakeIp, **settings: Any) -> Machine:
    net = NetSettings(hosts_file=str(hosts), **settings)
    return Machine(net, ip, LinuxSystem(lambda net, run: IpReader(run)))


def state(path: Path) -> tuple[bytes, int, int]:
    """Content, inode and time of change."""
    return path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns


def failing(error: int) -> Callable[..., Any]:
    """A function that fails as the kernel would."""

    def fail(*words: object, **options: object) -> None:
        raise OSError(error, os.strerror(error))

    return fail


def test_a_machine_goes_up_and_down_without_a_trace(hosts: Path) -> None:
    ip = FakeIp()
    machine = machine_with(hosts, ip)
    status = machine.prepare()
    assert status.mode is InterfaceMode.DUMMY
    assert machine.add_addresses(NAMES.values()) == {}
    assert machine.publish(NAMES)
    assert machine.addresses() == frozenset(NAMES.values())
    assert b"10.107.0.2\tweb.ns\n" in hosts.read_bytes()
    machine.close()
    machine.close()
    assert hosts.read_bytes() == ORIGINAL
    assert set(ip.links) == {"lo"}
    assert os.listdir(hosts.parent) == ["hosts"]


def test_closing_before_preparing_is_harmless(hosts: Path) -> None:
    ip = FakeIp()
    machine_with(hosts, ip).close()
    assert ip.ran == []
    assert hosts.read_bytes() == ORIGINAL


def test_an_interface_that_is_gone_for_good_has_no_addresses_and_is_no_mere_fault(
    hosts: Path,
) -> None:
    ip = FakeIp()
    machine = machine_with(hosts, ip)
    machine.prepare()
    machine.add_addresses(NAMES.values())
    del ip.links["ngrokd0"]
    ip.kinds = ()
    with pytest.raises(InterfaceTaken, match="cannot be made"):
        machine.addresses()
    ip.kinds = ("dummy",)
    assert machine.addresses() == frozenset()


def test_names_are_written_only_when_they_changed(hosts: Path) -> None:
    machine = machine_with(hosts, FakeIp())
    assert machine.publish(NAMES)
    before = state(hosts)
    assert not machine.publish(dict(reversed(NAMES.items())))
    assert state(hosts) == before
    assert machine.publish({"web.ns": "10.107.0.2"})
    assert machine.publish({})
    assert not machine.publish({})
    assert hosts.read_bytes() == ORIGINAL


def test_a_section_that_somebody_removed_comes_back(hosts: Path) -> None:
    machine = machine_with(hosts, FakeIp())
    machine.publish(NAMES)
    hosts.write_bytes(b"10.0.0.9 mine\n")
    assert machine.publish(NAMES)
    assert hosts.read_bytes().startswith(b"10.0.0.9 mine\n# BEGIN ngrokd managed section\n")


def test_edits_made_while_we_run_survive_our_exit(hosts: Path) -> None:
    machine = machine_with(hosts, FakeIp())
    machine.publish(NAMES)
    hosts.write_bytes(b"10.0.0.9 mine\n" + hosts.read_bytes() + b"\n10.0.0.10 also mine\n")
    machine.close()
    assert hosts.read_bytes() == b"10.0.0.9 mine\n" + ORIGINAL + b"\n10.0.0.10 also mine\n"


def test_an_edit_between_our_read_and_our_rename_is_kept(
    hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync
    edits = [b"10.0.0.9 mine\n"]

    def edit_then_sync(descriptor: int) -> None:
        if edits:
            hosts.write_bytes(edits.pop())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", edit_then_sync)
    assert machine_with(hosts, FakeIp()).publish(NAMES)
    assert hosts.read_bytes().startswith(b"10.0.0.9 mine\n# BEGIN ngrokd")


def test_a_program_that_never_stops_writing_is_told_and_not_fought(
    hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def edit_then_sync(descriptor: int) -> None:
        hosts.write_bytes(hosts.read_bytes() + b"# again\n")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", edit_then_sync)
    with pytest.raises(HostError, match="without a pause"):
        machine_with(hosts, FakeIp()).publish(NAMES)
    assert hosts.read_bytes().startswith(ORIGINAL + b"# again\n")
    assert b"BEGIN" not in hosts.read_bytes()


def test_a_linked_hosts_file_is_followed_and_stays_a_link(hosts: Path, tmp_path: Path) -> None:
    link = tmp_path / "hosts-link"
    link.symlink_to(hosts)
    machine = machine_with(link, FakeIp())
    machine.publish(NAMES)
    assert link.is_symlink()
    assert b"web.ns" in hosts.read_bytes()
    machine.close()
    assert hosts.read_bytes() == ORIGINAL


def test_a_missing_hosts_file_is_made_readable_for_all_and_removed_again(hosts: Path) -> None:
    hosts.unlink()
    machine = machine_with(hosts, FakeIp())
    assert not machine.publish({})
    assert machine.publish(NAMES)
    assert hosts.stat().st_mode & 0o7777 == 0o644
    machine.close()
    assert not hosts.exists()


def test_an_empty_hosts_file_stays(hosts: Path) -> None:
    hosts.write_bytes(b"")
    machine = machine_with(hosts, FakeIp())
    machine.publish(NAMES)
    machine.close()
    assert hosts.read_bytes() == b""


@pytest.mark.parametrize(
    ("error", "mend"),
    [
        (errno.EACCES, "run ngrokd as root"),
        (errno.EROFS, "ReadWritePaths=/etc"),
        (errno.EPERM, "chattr -i"),
        (errno.ENOSPC, "make room"),
        (errno.EIO, "ls -l"),
    ],
)
def test_a_hosts_file_that_cannot_be_written_is_told_with_the_mend(
    hosts: Path, monkeypatch: pytest.MonkeyPatch, error: int, mend: str
) -> None:
    machine = machine_with(hosts, FakeIp())
    monkeypatch.setattr(os, "open", failing(error))
    with pytest.raises(HostError) as caught:
        machine.publish(NAMES)
    monkeypatch.undo()
    assert "names are not published" in str(caught.value)
    assert str(hosts) in str(caught.value)
    assert mend in str(caught.value)
    assert hosts.read_bytes() == ORIGINAL


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_read_error_never_leads_to_a_write(
    hosts: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    machine = machine_with(hosts, FakeIp())
    monkeypatch.setattr(Path, "read_bytes", failing(error))
    with pytest.raises(HostError, match="names are not published"):
        machine.publish(NAMES)
    assert not {"localhost", "box"} & machine.reserved_names({})
    monkeypatch.undo()
    assert hosts.read_bytes() == ORIGINAL


def test_broken_markers_are_told_with_the_file_and_nothing_is_lost(hosts: Path) -> None:
    broken = ORIGINAL + b"\n# BEGIN ngrokd managed section\n10.0.0.9 mine\n"
    hosts.write_bytes(broken)
    ip = FakeIp()
    machine = machine_with(hosts, ip)
    machine.prepare()
    with pytest.raises(HostError, match=str(hosts)):
        machine.publish(NAMES)
    with pytest.raises(HostError, match="BEGIN in line 4"):
        machine.close()
    assert hosts.read_bytes() == broken
    assert set(ip.links) == {"lo"}  # every step of close ran


def test_a_device_as_hosts_file_is_refused_and_survives() -> None:
    machine = machine_with(Path("/dev/null"), FakeIp())
    with pytest.raises(HostError, match="not a regular file"):
        machine.publish(NAMES)
    assert Path("/dev/null").is_char_device()


def test_closing_tells_every_step_that_failed(hosts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ip = FakeIp()
    machine = machine_with(hosts, ip)
    machine.prepare()
    machine.publish(NAMES)
    ip.root = False
    monkeypatch.setattr(os, "open", failing(errno.EROFS))
    with pytest.raises(HostError) as caught:
        machine.close()
    first, second = str(caught.value).splitlines()
    assert "names are not withdrawn" in first
    assert "ngrokd0 is left behind" in second


def test_two_instances_share_a_hosts_file(hosts: Path) -> None:
    one = machine_with(hosts, FakeIp())
    two = machine_with(hosts, FakeIp(), interface_name="ngrokd1", subnet="10.108.0.0/16")
    one.publish({"a.ns": "10.107.0.2"})
    two.publish({"b.ns": "10.108.0.2"})
    assert b"# BEGIN ngrokd managed section (ngrokd1)\n10.108.0.2\tb.ns\n" in hosts.read_bytes()
    assert "b.ns" in one.reserved_names({})
    one.close()
    assert "b.ns" not in two.reserved_names({})
    two.close()
    assert hosts.read_bytes() == ORIGINAL


def test_reserved_are_foreign_lines_and_the_machines_own_names(
    hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Laptop.home")
    machine = machine_with(hosts, FakeIp())
    machine.publish(NAMES)
    names = machine.reserved_names({})
    assert {"localhost", "box.home", "box", "laptop", "laptop.home", "laptop.local"} <= names
    assert not names & set(NAMES)
    hosts.write_bytes(b"10.0.0.9 nas\n10.107.0.2 web.ns\n10.107.0.2 cache.ns\n")
    assert {"web.ns", "cache.ns"} <= machine.reserved_names({})
    assert {"cache.ns"} == machine.reserved_names(NAMES) & set(NAMES)
    assert "nas" in machine.reserved_names({})
    assert "box" not in machine.reserved_names({})


def test_what_has_a_name_already_is_told_apart(
    hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "laptop")
    machine_with(hosts, FakeIp(), interface_name="ngrokd7").publish({"seven.ns": "10.108.0.2"})
    content = hosts.read_bytes()
    section = b"# BEGIN ngrokd managed section\n10.107.0.2\tzero.ns\n# END ngrokd managed section\n"
    hosts.write_bytes(b"10.0.0.9 NAS.ns nas\n\x1b[1m bold\n" + section + content)
    machine = machine_with(hosts, FakeIp(), interface_name="ngrokd8")
    names = {"nas.ns", "seven.ns", "zero.ns", "laptop", "bold"}
    why = machine.why_reserved(machine.reserved_names({}) & names)
    assert why["nas.ns"].startswith(f"{hosts} maps it to 10.0.0.9, outside ngrokd's section; ")
    assert why["bold"].startswith(f"{hosts} maps it to something, ")
    assert why["seven.ns"].startswith("another ngrokd (interface ngrokd7) publishes it; if ")
    assert why["zero.ns"].startswith("another ngrokd (interface ngrokd0) publishes it; if ")
    assert why["laptop"] == "it is the machine's own, by its host name"
    assert why.keys() == names
    assert why == machine.why_reserved(names)
    hosts.write_bytes(b"10.0.0.8 nas.ns\n")
    machine.reserved_names({})
    assert "10.0.0.8" in machine.why_reserved({"nas.ns"})["nas.ns"]


def test_orphans_of_a_killed_run_are_removed_at_start(hosts: Path) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    hosts.with_name(f".hosts.ngrokd-{pid}-{'a' * 16}").write_bytes(ORIGINAL[:30])
    machine_with(hosts, FakeIp()).prepare()
    assert os.listdir(hosts.parent) == ["hosts"]


def test_the_first_address_of_an_interface_is_for_network_mode(hosts: Path) -> None:
    ip = FakeIp()
    ip.links["eth0"] = Link("ethernet", held=["192.168.1.5/24"])
    assert machine_with(hosts, ip).interface_address("eth0") == "192.168.1.5"


@contextmanager
def bound(ip: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A socket that our own `listen` made on a free port."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((ip, 0))
        port = probe.getsockname()[1]
    with listen(Address(ip, port), Holders()) as listener:
        yield listener


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.107.0.2", "::1"])
def test_a_listener_is_ready_to_accept_and_never_blocks(ip: str) -> None:
    with bound(ip) as listener:
        assert not listener.getblocking()
        with pytest.raises(BlockingIOError):
            listener.accept()
        with socket.create_connection(listener.getsockname()[:2], timeout=5):
            listener.settimeout(5)
            listener.accept()[0].close()


def test_a_port_with_old_connections_can_be_listened_on_at_once_again() -> None:
    with bound() as listener:
        address = Address(*listener.getsockname())
        listener.settimeout(5)
        with socket.create_connection((address.ip, address.port), timeout=5) as client:
            server, _ = listener.accept()
            server.close()  # we close first: TIME_WAIT stays on our port
            assert client.recv(1) == b""
    listen(address, Holders()).close()


def test_a_port_in_use_is_told_with_who_holds_it() -> None:
    with bound() as holder, pytest.raises(BindError, match="ngrokd itself") as caught:
        listen(Address(*holder.getsockname()), Holders())
    assert "server.health_port" in str(caught.value)
    assert not isinstance(caught.value, PortForbidden)


def test_a_program_on_all_addresses_is_found_as_the_holder() -> None:
    with socket.create_server(("0.0.0.0", 0)) as holder:
        port = holder.getsockname()[1]
        assert Holders().of(Address("127.107.0.2", port)).endswith(
            f"(pid {os.getpid()}) on 0.0.0.0:{port}"
        )


def test_a_port_whose_holder_is_hidden_is_still_told(tmp_path: Path) -> None:
    with bound() as holder, pytest.raises(BindError, match="another program"):
        listen(Address(*holder.getsockname()), Holders(proc=tmp_path))


def test_one_look_at_proc_explains_a_whole_round_and_later_a_new_one_is_taken() -> None:
    now = [100.0]
    holders = Holders(clock=lambda: now[0])
    with bound() as first:
        assert str(os.getpid()) in holders.of(Address(*first.getsockname()))
        with bound() as second:
            address = Address(*second.getsockname())
            assert holders.of(address) == ""
            now[0] += 10
            assert str(os.getpid()) in holders.of(address)


def test_an_address_this_machine_does_not_have_is_told() -> None:
    with pytest.raises(BindError, match="does not have 192"):
        listen(Address("192.0.2.1", 8080), Holders())


def test_a_forbidden_port_is_told_with_the_commands_that_allow_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket.socket, "bind", failing(errno.EACCES))
    with pytest.raises(PortForbidden) as caught:
        listen(Address("127.0.0.1", 1), Holders(), Start)
    assert "sysctl -w net.ipv4.ip_unprivileged_port_start=1" in str(caught.value)
    with pytest.raises(BindError, match="Permission denied") as denied:
        listen(Address("127.0.0.1", 65000), Holders())
    assert not isinstance(denied.value, PortForbidden)
    with pytest.raises(BindError, match="a security policy refuses it") as one_port:
        listen(Address("127.0.0.1", 1), Holders(), lambda: Start(permitted=True))
    assert not isinstance(one_port.value, PortForbidden), "the other low ports are not concerned"


def test_a_used_up_descriptor_limit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", failing(errno.EMFILE))
    with pytest.raises(BindError, match="descriptor limit"):
        listen(Address("127.0.0.1", 8080), Holders())


# What the tests below run inside a namespace: the actions of argv on a Machine, then its state.
_INSIDE = """
# idna, ctypes, subprocess: an ordinary user may not read root's Python later
import ctypes, encodings.idna, json, os, subprocess, sys
from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host.machine import Machine
from ngrokd.host.netif.ipreader import IpReader
from ngrokd.host.netif.linuxsystem import LinuxSystem
from ngrokd.model import Address

machine = Machine(NetSettings(**json.loads(sys.argv[1])))
if sys.argv[2] != "root":
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
if sys.argv[2] == "own namespace":
    kernel = ctypes.CDLL(None)
    assert kernel.prctl(4, 1, 0, 0, 0) == 0  # PR_SET_DUMPABLE: or its /proc/self stays root's
    assert kernel.unshare(0x10000000 | 0x40000000) == 0  # CLONE_NEWUSER, CLONE_NEWNET
    for name, text in (("setgroups", "deny"), ("uid_map", "0 65534 1"), ("gid_map", "0 65534 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
seen = {}

def attempt(action):
    try:
        action()
        return ""
    except HostError as exc:
        return f"{type(exc).__name__}: {exc}"

def connects(address):
    import socket
    with machine.bind(address) as listener:
        listener.settimeout(5)
        with socket.create_connection((address.ip, address.port), timeout=5):
            listener.accept()[0].close()

known = frozenset(sys.argv[4:])
status = machine.prepare(known)
seen["status"] = [status.name, status.subnet, status.mode.value, list(status.notes)]
seen["found"] = sorted(machine.addresses())
prefix = status.subnet.rpartition(".")[0]
ips = [f"{prefix}.2", f"{prefix}.3"]
seen["refused"] = machine.add_addresses(ips)
seen["addresses"] = sorted(machine.addresses())
ports = [Address(ip, port) for ip in ips for port in (80, 8080)]
seen["connects"] = [attempt(lambda: connects(address)) for address in ports]
seen["publish"] = attempt(lambda: machine.publish({"web.ns": ips[0]}))
seen["hosts"] = open("/etc/hosts", "rb").read().decode(errors="replace")
if sys.argv[3] == "close":
    machine.remove_addresses(ips[:1])
    seen["left"] = sorted(machine.addresses())
    machine.close()
    machine.close()
print(json.dumps(seen))
sys.stdout.flush()
os._exit(0)
"""


def inside(
    namespace: Namespace,
    user: str = "root",
    end: str = "close",
    known: tuple[str, ...] = (),
    **net: object,
) -> dict[str, Any]:
    """What a Machine inside the namespace saw; `user`: also "nobody" and "own namespace"."""
    argv = (sys.executable, "-c", _INSIDE, json.dumps(net), user, end, *known)
    done = namespace.run(*argv, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def trace(namespace: Namespace) -> list[str]:
    """Everything a Machine could have left inside."""
    return [
        namespace.run("ip", "-o", "addr").stdout,
        namespace.run("ip", "-o", "route", "show", "table", "all").stdout,
        namespace.run("sha256sum", "/etc/hosts").stdout,
        namespace.run("ls", "-A", "/etc").stdout,
    ]


@pytest.mark.root
def test_a_real_interface_carries_connections_and_goes_without_a_trace(
    namespace: Namespace,
) -> None:
    before = trace(namespace)
    seen = inside(namespace)
    assert seen["status"][:2] == ["ngrokd0", "10.107.0.0/16"]
    mode, notes = seen["status"][2:]
    assert mode in ("dummy", "tun")
    # Where the kernel has no dummy, the status says so.
    assert [note.partition(":")[0] for note in notes] == (
        [] if mode == "dummy" else ["ngrokd0 cannot be made of type dummy"]
    )
    assert seen["found"] == []
    assert seen["refused"] == {}
    assert seen["addresses"] == ["10.107.0.2", "10.107.0.3"]
    assert seen["connects"] == [""] * 4
    assert seen["publish"] == ""
    assert "\n10.107.0.2\tweb.ns\n" in seen["hosts"]
    assert seen["left"] == ["10.107.0.3"]
    assert trace(namespace) == before


@pytest.mark.root
def test_a_published_name_resolves_to_its_address(namespace: Namespace) -> None:
    inside(namespace, end="crash")
    assert namespace.run("getent", "ahostsv4", "web.ns").stdout.startswith("10.107.0.2 ")


@pytest.mark.root
def test_what_a_crash_left_is_adopted_and_goes_with_the_next_run(namespace: Namespace) -> None:
    before = trace(namespace)
    inside(namespace, end="crash")
    assert trace(namespace) != before
    seen = inside(namespace)
    assert seen["status"][3] == []
    assert seen["found"] == ["10.107.0.2", "10.107.0.3"]
    assert seen["connects"] == [""] * 4
    assert trace(namespace) == before


@pytest.mark.root
def test_a_vpn_in_the_subnet_is_a_conflict_and_is_left_alone(namespace: Namespace) -> None:
    namespace.run("ip", "tuntap", "add", "dev", "vpn0", "mode", "tun")
    namespace.run("ip", "addr", "add", "10.107.9.1/24", "dev", "vpn0")
    namespace.run("ip", "link", "set", "dev", "vpn0", "up")
    before = trace(namespace)
    seen = inside(namespace)
    assert seen["status"][:3] == ["lo", "127.107.0.0/16", "loopback"]
    assert "vpn0" in seen["status"][3][0]
    assert "net.subnet" in seen["status"][3][0]
    assert seen["connects"] == [""] * 4
    assert trace(namespace) == before


@pytest.mark.root
def test_an_interface_of_another_kind_is_really_left_alone(namespace: Namespace) -> None:
    namespace.run("ip", "link", "add", "ngrokd0", "type", "bridge")
    before = trace(namespace)
    seen = inside(namespace)
    assert "a bridge without ngrokd's mark" in seen["status"][3][0]
    assert "ip link delete dev ngrokd0" in seen["status"][3][0]
    assert trace(namespace) == before


@pytest.mark.root
def test_an_ordinary_user_gets_the_loopback_range_and_clear_words(namespace: Namespace) -> None:
    before = trace(namespace)
    seen = inside(namespace, user="nobody")
    assert seen["status"][:3] == ["lo", "127.107.0.0/16", "loopback"]
    assert "run ngrokd as root" in seen["status"][3][0]
    assert seen["addresses"] == ["127.107.0.2", "127.107.0.3"]
    assert seen["connects"][1] == seen["connects"][3] == ""
    assert seen["connects"][0].startswith("PortForbidden: 127.107.0.2:80 cannot be listened on")
    assert "ip_unprivileged_port_start=80" in seen["connects"][0]
    assert seen["publish"].startswith("HostError: names are not published: /etc/hosts")
    assert "run ngrokd as root" in seen["publish"]
    assert trace(namespace) == before


@pytest.mark.root
def test_an_ordinary_user_needs_nothing_for_a_loopback_subnet(namespace: Namespace) -> None:
    seen = inside(namespace, user="nobody", subnet="127.107.0.0/16", interface_name="sandbox")
    assert seen["status"] == ["lo", "127.107.0.0/16", "loopback", []]
    assert seen["connects"][1] == ""


@pytest.mark.root
def test_a_bind_mounted_hosts_file_is_written_in_place_and_restored(
    namespace: Namespace, tmp_path: Path
) -> None:
    real = tmp_path / "container-hosts"
    real.write_bytes(ORIGINAL)
    namespace.run("mount", "--bind", real, "/etc/hosts")
    inode = real.stat().st_ino
    seen = inside(namespace)
    assert seen["publish"] == ""
    assert "10.107.0.2\tweb.ns\n" in seen["hosts"]
    assert real.read_bytes() == ORIGINAL
    assert real.stat().st_ino == inode


@pytest.mark.root
def test_a_read_only_etc_with_a_writable_hosts_mount_is_served(
    namespace: Namespace, tmp_path: Path
) -> None:
    real = tmp_path / "container-hosts"
    real.write_bytes(ORIGINAL)
    namespace.run("mount", "--bind", real, "/etc/hosts")
    namespace.run("mount", "-o", "remount,bind,ro", "/etc")
    seen = inside(namespace)
    assert seen["publish"] == ""
    assert real.read_bytes() == ORIGINAL


@pytest.mark.root
def test_a_read_only_hosts_file_costs_only_the_names(namespace: Namespace) -> None:
    namespace.run("mount", "-o", "remount,bind,ro", "/etc")
    seen = inside(namespace, end="crash")
    assert "names are not published" in seen["publish"]
    assert "Read-only file system" in seen["publish"]
    assert "ReadWritePaths" in seen["publish"]
    assert seen["connects"] == [""] * 4


# A Machine that publishes what it is told to, and what it then has to show.
_PUBLISHES = """
import encodings.idna, json, os, sys
from pathlib import Path
from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host.machine import Machine

machine = Machine(NetSettings(), state_folder=Path(sys.argv[1]))
if sys.argv[2] == "nobody":
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for line in sys.stdin:
    try:
        machine.publish(json.loads(line))
    except HostError:
        pass
    seen = machine.hosts()
    print(json.dumps([seen.published, seen.problem, seen.section.lines()]), flush=True)
"""


class Publisher:
    """Owner: the test. A machine inside a namespace that goes on when it is refused."""

    def __init__(self, namespace: Namespace, state: Path, user: str = "root") -> None:
        argv = (sys.executable, "-c", _PUBLISHES, state, user)
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._program = namespace.popen(*argv, text=True, **pipes)

    def publish(self, names: dict[str, str]) -> tuple[bool, str, list[str]]:
        """Whether they are there, what is wrong, and the lines."""
        assert self._program.stdout is not None
        print(json.dumps(names), file=self._program.stdin, flush=True)
        published, problem, lines = json.loads(self._program.stdout.readline())
        return published, problem, lines

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *fault: object) -> None:
        self._program.communicate(timeout=30)


@pytest.mark.root
@pytest.mark.parametrize(
    ("close", "reopen", "mend"),
    [
        ("mount -o remount,bind,ro /etc", "mount -o remount,bind,rw /etc", "ReadWritePaths=/etc"),
        ("chattr +i /etc/hosts", "chattr -i /etc/hosts", "chattr -i -a /etc/hosts"),
        (
            "cp /etc/hosts /etc/full/hosts; mount --bind /etc/full/hosts /etc/hosts; "
            "dd if=/dev/zero of=/etc/full/x 2>/dev/null || true",
            "rm /etc/full/x",
            "make room",
        ),
    ],
)
def test_a_closed_hosts_file_costs_only_names_shows_the_lines_and_is_used_once_it_opens(
    namespace: Namespace, tmp_path: Path, close: str, reopen: str, mend: str
) -> None:
    namespace.run("mkdir", "/etc/full")
    namespace.run("mount", "-t", "tmpfs", "-o", "size=8k", "none", "/etc/full")
    before = namespace.hosts.read_bytes()
    if namespace.run("sh", "-c", close, check=False).returncode:
        pytest.skip(f"this file system refuses `{close}`")
    try:
        names = {f"name-{i}.a-long-namespace-of-a-customer": f"10.107.0.{i}" for i in range(2, 120)}
        with Publisher(namespace, tmp_path) as publisher:
            published, problem, lines = publisher.publish(names)
            assert not published and mend in problem
            assert namespace.run("cat", "/etc/hosts").stdout.encode() == before
            assert "10.107.0.2\tname-2.a-long-namespace-of-a-customer" in lines
            namespace.run("sh", "-c", reopen)
            assert publisher.publish({"web.ns": "10.107.0.2"})[:2] == (True, "")
            assert namespace.run("getent", "hosts", "web.ns").stdout.startswith("10.107.0.2 ")
            assert publisher.publish({})[0]
        assert namespace.run("cat", "/etc/hosts").stdout.encode() == before
    finally:
        namespace.run("sh", "-c", f"{reopen} || true")


@pytest.mark.root
def test_the_lines_that_an_ordinary_users_daemon_shows_make_names_work(
    namespace: Namespace, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    with Publisher(namespace, tmp_path, "nobody") as publisher:
        published, problem, lines = publisher.publish({"web.ns": "127.107.0.2"})
        assert not published and "run ngrokd as root" in problem
        with namespace.hosts.open("a") as file:
            file.write("\n".join(["", *lines, ""]))
        assert publisher.publish({"web.ns": "127.107.0.2"})[:2] == (True, "")
    assert namespace.run("getent", "hosts", "web.ns").stdout.startswith("127.107.0.2 ")


@pytest.mark.root
def test_a_link_into_a_read_only_store_stays_one_and_says_how_nixos_mends_it(
    namespace: Namespace, tmp_path: Path
) -> None:
    namespace.run("sh", "-c", "mkdir -p /etc/store/etc; mv /etc/hosts /etc/store/etc/hosts")
    namespace.run("ln", "-s", "/nix/store/etc/hosts", "/etc/hosts")
    store = Path("/nix/store")
    if not store.is_dir():
        # Inside its own mounts only: a folder of that name over one that every machine has.
        namespace.run("sh", "-c", "mount -t tmpfs none /mnt; mkdir -p /mnt/nix/store")
        namespace.run("ln", "-sfn", "/mnt/nix/store/etc/hosts", "/etc/hosts")
        store = Path("/mnt/nix/store")
    namespace.run("mount", "--bind", "/etc/store", store)
    namespace.run("mount", "-o", "remount,bind,ro", store)
    with Publisher(namespace, tmp_path) as publisher:
        published, problem, lines = publisher.publish({"web.ns": "10.107.0.2"})
    assert not published and lines
    assert "networking.extraHosts" in problem
    assert namespace.run("readlink", "/etc/hosts").stdout.endswith("/nix/store/etc/hosts\n")


@pytest.mark.root
def test_the_resolver_finds_every_kind_of_name_that_may_be_published(
    namespace: Namespace, tmp_path: Path
) -> None:
    names = ["a.ns", "_srv._tcp.ns", "under_score.ns", "xn--bcher-kva.ns", "1.2x.ns", "a-b.c-d.ns",
             "a" * 63 + ".ns", ".".join(["b" * 60] * 4)]  # fmt: skip
    wanted = {name: f"10.107.0.{number + 2}" for number, name in enumerate(names)}
    with Publisher(namespace, tmp_path) as publisher:
        assert publisher.publish(wanted)[0]
        for name, ip in wanted.items():
            found = namespace.run("getent", "hosts", name).stdout.split()
            assert found == [ip, name]
        assert publisher.publish({})[0]
    assert namespace.run("getent", "hosts", "under_score.ns", check=False).stdout == ""


# A Machine that serves two addresses while others meddle with its interface.
_MEDDLED = """
import json, subprocess, sys
from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host.machine import Machine
from ngrokd.host.netif.ipreader import IpReader
from ngrokd.host.netif.linuxsystem import LinuxSystem

machine = Machine(NetSettings())
machine.prepare()
ips = ["10.107.0.2", "10.107.0.3"]
machine.add_addresses(ips)
subprocess.run(sys.argv[1], shell=True, check=True)

def attempt(action):
    try:
        return sorted(action() or ())
    except HostError as exc:
        return str(exc)

print(json.dumps({
    "look": attempt(machine.addresses),
    "add": machine.add_addresses(ips),
    "remove": machine.remove_addresses(ips[1:]),
    "notes": machine.status().notes,
    "held": subprocess.getoutput("ip -o addr show"),
    "link": subprocess.getoutput("ip -o link show dev ngrokd0"),
    "close": attempt(machine.close),
}))
"""


def meddled(namespace: Namespace, how: str) -> dict[str, Any]:
    """What a Machine saw after the shell command `how`."""
    done = namespace.run(sys.executable, "-c", _MEDDLED, how, check=False)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.mark.root
@pytest.mark.parametrize(
    "make",
    ["ip link add ngrokd0 type bridge", "ip tuntap add dev ngrokd0 mode tun"],
)
@pytest.mark.parametrize("address", ["192.168.77.1/24", "10.107.0.1/16", ""])
def test_an_interface_put_in_the_place_of_ours_is_really_left_alone(
    namespace: Namespace, make: str, address: str
) -> None:
    how = f"ip link delete dev ngrokd0; {make}; ip link set dev ngrokd0 addrgenmode none"
    if address:
        how += f"; ip addr add {address} dev ngrokd0"
    seen = meddled(namespace, how)
    for words in (seen["look"], seen["add"]["10.107.0.2"], seen["close"]):
        assert "ngrokd0 is left as it is: it is no longer ours" in words
        assert "ip link delete dev ngrokd0" in words
    assert seen["remove"] == {}
    left = namespace.run("ip", "-o", "-4", "addr", "show", "dev", "ngrokd0").stdout
    assert [line.split()[3] for line in left.splitlines()] == ([address] if address else [])


@pytest.mark.root
@pytest.mark.parametrize(
    "how",
    [
        "ip addr del 10.107.0.1/16 dev ngrokd0",
        "ip addr flush dev ngrokd0",
        "ip link set ngrokd0 down",
    ],
)
def test_a_gateway_address_that_was_removed_really_comes_back(
    namespace: Namespace, how: str
) -> None:
    before = trace(namespace)
    seen = meddled(namespace, how)
    assert ",UP" in seen["link"]
    assert "inet 10.107.0.1/16 " in seen["held"]
    assert "inet 10.107.0.2/32 " in seen["held"]
    assert seen["add"] == {}
    assert seen["close"] == []
    assert trace(namespace) == before


@pytest.mark.root
def test_an_address_in_the_subnet_that_comes_later_is_really_noted(namespace: Namespace) -> None:
    seen = meddled(
        namespace, "ip link add br0 type bridge; ip addr add 10.107.9.1/24 dev br0"
    )
    assert seen["look"] == ["10.107.0.2", "10.107.0.3"]
    assert "br0 has the address 10.107.9.1/24" in seen["notes"][-1]
    assert seen["close"] == []
    left = namespace.run("ip", "-o", "-4", "addr", "show").stdout
    assert "10.107.9.1/24" in left
    assert "ngrokd0" not in left
