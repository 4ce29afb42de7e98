"""A real interface with the tools and the kernel that a machine happens to have, and no trace."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest

from tests.namespace import Namespace
from tests.test_machine import inside, trace

pytestmark = pytest.mark.root

MARK = "02:6e:67:72:6f:6b"
KNOWN = ("10.107.0.2", "10.107.0.3")


def without_tun(namespace: Namespace) -> None:
    namespace.run("mount", "-t", "tmpfs", "none", "/dev/net")


def instead(namespace: Namespace, tool: str, other: str) -> None:
    """Puts another program in the place of a tool; /dev/null: none that can be run."""
    place = f'"$(readlink -f /usr/sbin/{tool} || readlink -f /sbin/{tool})"'
    namespace.run("sh", "-c", f'mount --bind "$(command -v {other} || echo {other})" {place}')


def back(namespace: Namespace, *tools: str) -> None:
    for tool in tools:
        namespace.run("sh", "-c", f'umount "$(readlink -f /usr/sbin/{tool})"')


def serves(seen: dict[str, object], mode: str) -> None:
    """Everything that a Machine is asked to do was done, on an interface of this kind."""
    status = seen["status"]
    assert isinstance(status, list) and status[:3] == ["ngrokd0", "10.107.0.0/16", mode]
    assert seen["refused"] == {}
    assert seen["addresses"] == ["10.107.0.2", "10.107.0.3"]
    assert seen["connects"] == [""] * 4
    if "left" in seen:
        assert seen["left"] == ["10.107.0.3"]


def kernel_has_dummy(namespace: Namespace) -> bool:
    made = namespace.run("ip", "link", "add", "try0", "type", "dummy", check=False).returncode == 0
    namespace.run("ip", "link", "delete", "dev", "try0", check=False)
    return made


def test_without_dummy_and_tun_it_is_a_bridge_of_our_own(namespace: Namespace) -> None:
    if kernel_has_dummy(namespace):
        pytest.skip("this kernel has dummy, which is tried before")
    without_tun(namespace)
    before = trace(namespace)
    seen = inside(namespace, end="crash")
    serves(seen, "bridge")
    assert "type tun" in str(seen["status"])
    shown = namespace.run("ip", "-o", "link", "show", "dev", "ngrokd0").stdout
    assert f"link/ether {MARK}" in shown and "UP" in shown
    seen = inside(namespace)
    assert seen["found"] == ["10.107.0.2", "10.107.0.3"]
    serves(seen, "bridge")
    assert trace(namespace) == before


def test_a_bridge_with_a_port_is_somebodys(namespace: Namespace) -> None:
    without_tun(namespace)
    inside(namespace, end="crash")
    namespace.run("ip", "link", "add", "other0", "type", "bridge")
    namespace.run("ip", "link", "delete", "dev", "ngrokd0")
    namespace.run("ip", "link", "add", "ngrokd0", "address", MARK, "type", "bridge")
    namespace.run("umount", "/dev/net")
    namespace.run("ip", "tuntap", "add", "dev", "port0", "mode", "tap")
    namespace.run("ip", "link", "set", "dev", "port0", "master", "ngrokd0")
    seen = inside(namespace, end="crash")
    note = str(seen["status"])
    assert "a bridge with the port port0" in note or "bridge with the port port0" in note
    assert "ip link delete dev ngrokd0" in note
    assert "master ngrokd0" in namespace.run("ip", "-o", "link").stdout


def test_the_ip_of_busybox_makes_serves_adopts_and_removes(namespace: Namespace) -> None:
    before = trace(namespace)
    dummy = kernel_has_dummy(namespace)
    instead(namespace, "ip", "busybox")
    assert "BusyBox" in namespace.run("ip", check=False).stderr
    mode = "dummy" if dummy else "bridge"
    serves(inside(namespace, end="crash"), mode)
    seen = inside(namespace)
    assert seen["found"] == ["10.107.0.2", "10.107.0.3"]
    serves(seen, mode)
    back(namespace, "ip")
    assert trace(namespace) == before


def test_the_ip_of_busybox_serves_a_tun_that_the_state_folder_proves_ours(
    namespace: Namespace,
) -> None:
    if kernel_has_dummy(namespace):
        pytest.skip("this kernel has dummy: no tun is made")
    before = trace(namespace)
    serves(inside(namespace, end="crash"), "tun")
    instead(namespace, "ip", "busybox")
    assert "no mark of ngrokd" in str(inside(namespace)["status"])
    serves(inside(namespace, known=KNOWN), "tun")
    back(namespace, "ip")
    assert trace(namespace) == before


@pytest.mark.parametrize("whose", ["net-tools", "busybox"])
def test_ifconfig_alone_serves_an_interface_adopts_it_and_removes_it(
    namespace: Namespace, whose: str
) -> None:
    before = trace(namespace)
    if whose == "busybox":
        instead(namespace, "ifconfig", "busybox")
        instead(namespace, "route", "busybox")
    instead(namespace, "ip", "/dev/null")
    serves(inside(namespace, end="crash"), "tun")
    names = namespace.run("ifconfig").stdout
    assert "ngrokd0:2" in names and "ngrokd0:3" in names
    seen = inside(namespace)
    assert seen["found"] == ["10.107.0.2", "10.107.0.3"]
    serves(seen, "tun")
    back(namespace, "ip")
    assert trace(namespace) == before


def test_ifconfig_never_takes_more_than_single_addresses(namespace: Namespace) -> None:
    """An alias of `lo` would make all of 10.0.0.0/8 this machine's, until its mask is set."""
    with namespace.popen("ip", "-o", "monitor", "route", stdout=subprocess.PIPE) as monitor:
        assert monitor.stdout is not None
        heard = b""
        for number in range(1, 100):  # until it listens
            namespace.run("ip", "route", "add", "blackhole", f"192.0.2.{number}")
            if select.select([monitor.stdout], [], [], 0.1)[0]:
                break
        instead(namespace, "ip", "/dev/null")
        serves(inside(namespace), "tun")
        back(namespace, "ip")
        namespace.run("ip", "route", "add", "blackhole", "198.51.100.1")
        while b"198.51.100.1" not in heard and select.select([monitor.stdout], [], [], 10)[0]:
            heard += os.read(monitor.stdout.fileno(), 65536)
        monitor.kill()
    seen = heard.decode()
    assert "local 10.107.0.2 dev ngrokd0" in seen
    assert "10.0.0.0/8" not in seen


def test_ifconfig_leaves_others_aliases_alone(namespace: Namespace) -> None:
    namespace.run("ip", "addr", "add", "10.44.0.1/32", "dev", "lo", "label", "lo:ngrokd0")
    before = trace(namespace)
    instead(namespace, "ip", "/dev/null")
    serves(inside(namespace), "tun")
    back(namespace, "ip")
    assert trace(namespace) == before


def test_ifconfig_sees_who_else_uses_the_subnet(namespace: Namespace) -> None:
    namespace.run("ip", "tuntap", "add", "dev", "vpn0", "mode", "tun")
    namespace.run("ip", "link", "set", "dev", "vpn0", "up")
    namespace.run("ip", "route", "add", "10.107.8.0/24", "dev", "vpn0")
    instead(namespace, "ip", "/dev/null")
    seen = inside(namespace)
    assert "vpn0 has a route to 10.107.8.0/24" in str(seen["status"])
    assert "ngrokd0" not in namespace.run("ifconfig", "-a").stdout


@pytest.mark.parametrize("whose", ["net-tools", "busybox"])
def test_ifconfig_sees_what_the_kernel_tells(namespace: Namespace, whose: str) -> None:
    inside(namespace, end="crash")
    namespace.run("ip", "addr", "add", "2001:db8::7/64", "dev", "ngrokd0")
    namespace.run("ip", "route", "add", "10.107.8.0/24", "dev", "ngrokd0")
    namespace.run("ip", "addr", "del", "10.107.0.2/32", "dev", "ngrokd0")
    namespace.run("ip", "addr", "del", "10.107.0.3/32", "dev", "ngrokd0")  # without labels
    if whose == "busybox":
        instead(namespace, "ifconfig", "busybox")
        instead(namespace, "route", "busybox")
    script = (
        "from ngrokd.host import command; from ngrokd.host.netif import ifconfigreader as i,"
        " kernelreader as k\n"
        "a, b = i.IfconfigReader(command.run).look(), k.KernelReader('10.107.0.0/16').look()\n"
        "assert a.links == b.links, (a, b)\n"
        "for index in b.links:\n"
        "    assert sorted(a.held[index]) == sorted(b.held.get(index, ())), (a, b)\n"
        "assert len(a.held[a.index_of('ngrokd0')]) == 2\n"
        "assert set(a.ways) == set(b.ways) and len(b.ways) == 2, (a.ways, b.ways)\n"
    )
    done = namespace.run(sys.executable, "-c", script, check=False)
    assert done.returncode == 0, done.stderr


def test_without_ip_and_ifconfig_the_loopback_range_serves(namespace: Namespace) -> None:
    instead(namespace, "ip", "/dev/null")
    instead(namespace, "ifconfig", "/dev/null")
    seen = inside(namespace)
    assert seen["status"][:3] == ["lo", "127.107.0.0/16", "loopback"]
    assert seen["connects"] == [""] * 4


def test_a_user_in_a_namespace_of_its_own_makes_an_interface(namespace: Namespace) -> None:
    seen = inside(namespace, user="own namespace")
    mode = seen["status"][2]
    assert mode in ("dummy", "tun", "bridge"), seen["status"]
    serves(seen, mode)
    assert "cannot be read or written" in seen["publish"]  # the hosts file is not its own


def test_no_other_user_can_take_our_tun_device(namespace: Namespace) -> None:
    if kernel_has_dummy(namespace):
        pytest.skip("this kernel has dummy: no tun is made")
    inside(namespace, end="crash")
    namespace.run("mount", "-t", "tmpfs", "none", "/dev/net")
    namespace.run("mknod", "-m", "666", "/dev/net/tun", "c", "10", "200")
    attach = (
        "import fcntl, os, struct\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "device = os.open('/dev/net/tun', os.O_RDWR)\n"
        "fcntl.ioctl(device, 0x400454CA, struct.pack('16sH22x', b'ngrokd0', 0x1001))\n"
    )
    done = namespace.run("python3", "-c", attach, check=False)
    assert "PermissionError" in done.stderr


@pytest.mark.parametrize("known", [(), KNOWN])
def test_an_interface_of_the_released_version_is_ours_if_the_state_folder_knows_its_addresses(
    namespace: Namespace, known: tuple[str, ...]
) -> None:
    before = trace(namespace)
    namespace.run("ip", "tuntap", "add", "dev", "ngrokd0", "mode", "tun")
    for address in ("10.107.0.1/16", "10.107.0.2/32"):
        namespace.run("ip", "addr", "add", address, "dev", "ngrokd0")
    namespace.run("ip", "link", "set", "dev", "ngrokd0", "up")
    left = trace(namespace)
    seen = inside(namespace, known=known)
    if known:
        assert seen["found"] == ["10.107.0.2"]
        assert trace(namespace) == before
    else:
        assert "nothing proves that ngrokd made it" in str(seen["status"])
        assert trace(namespace) == left
