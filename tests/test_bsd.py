"""The words of macOS's programs, and scripts of many commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from ngrokd.host.netif import bsd, shellscript
from ngrokd.host.netif.darwin import DarwinSystem
from ngrokd.host.netif.scene import Scene, Way, gateway
from ngrokd.host.netif.shellbatches import ShellBatches
from tests.macos.mac import Mac
from tests.macos.room import DEFAULTS, taken


@pytest.fixture
def mac() -> Mac:
    return Mac()

def test_netstat_is_read_as_macos_writes_it() -> None:
    table = (
        "Routing tables\n\nInternet:\n"
        "Destination        Gateway            Flags           Netif Expire\n"
        "default            192.168.31.1       UGScg             en1       \n"
        "default            link#28            UCSIg           utun3       \n"
        "2/7                198.18.0.1         UGSc           utun10       \n"
        "10                 10.8.0.5           UGSc            utun4       \n"
        "10.107/16          utun5              USc             utun5       \n"
        "10.8.0.5           10.8.0.6           UH              utun4       \n"
        "100.100.100.100/32 link#28            UCS             utun3       \n"
        "127                127.0.0.1          UCS               lo0       \n"
        "169.254            link#6             UCS               en0      !\n"
        "192.168.31         link#6             UCS               en0      !\n"
        "192.168.31.1       20:c0:47:f2:b5:8e  UHLWIir           en0   1195\n"
    )
    ways = {(str(way.network), way.interface) for way in bsd.ways(table)}
    assert ways == {
        ("2.0.0.0/7", "utun10"),
        ("10.0.0.0/8", "utun4"),
        ("10.107.0.0/16", "utun5"),
        ("100.100.100.100/32", "utun3"),
        ("127.0.0.0/8", "lo0"),
        ("169.254.0.0/16", "en0"),
        ("192.168.31.0/24", "en0"),
    }
    assert list(bsd.gateways(table)) == [
        gateway("192.168.31.1", "en1"),
        gateway("198.18.0.1", "utun10"),
        gateway("10.8.0.5", "utun4"),
    ]


def test_netstat_of_older_macos_has_two_columns_more() -> None:
    table = (
        "Destination        Gateway            Flags        Refs      Use   Netif Expire\n"
        "10.107.0.0/16      10.107.0.2         UGSc            1        0   utun3\n"
        "192.168.1          link#4             UCS             2        0     en0      !\n"
    )
    assert [(str(way.network), way.interface) for way in bsd.ways(table)] == [
        ("10.107.0.0/16", "utun3"),
        ("192.168.1.0/24", "en0"),
    ]


def test_ifconfig_is_read_as_macos_writes_it() -> None:
    shown = (
        "lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384\n"
        "\toptions=1203<RXCSUM,TXCSUM,TXSTATUS,SW_TIMESTAMP>\n"
        "\tinet 127.0.0.1 netmask 0xff000000 \n\tinet6 ::1 prefixlen 128 \n"
        "\tinet6 fe80::1%lo0 prefixlen 64 scopeid 0x1 \n"
        "\tinet 127.0.0.2 netmask 0xffffffff \n\tnd6 options=201<PERFORMNUD,DAD>\n"
        "gif0: flags=8010<POINTOPOINT,MULTICAST> mtu 1280\n"
        "\ttunnel inet 192.0.2.1 --> 192.0.2.2\n"
        "en6: flags=8863<UP,BROADCAST,SMART,RUNNING,SIMPLEX,MULTICAST> mtu 9000\n"
        "\tinet6 2001:db8::1 prefixlen 64 autoconf secured \n"
        "\tinet 192.168.0.13 netmask 0xffffff00 broadcast 192.168.0.255\n"
        "utun3: flags=8051<UP,POINTOPOINT,RUNNING,MULTICAST> mtu 1500\n"
        "\tinet 10.107.0.1 --> 10.107.0.2 netmask 0xffff0000 \n"
        "\tinet 10.107.0.3 netmask 0xffff0000 \n"
    )
    assert bsd.interfaces(shown) == [
        bsd.Interface("lo0", True, ("127.0.0.1/8", "::1/128", "127.0.0.2/32")),
        bsd.Interface("gif0", False, ()),
        bsd.Interface("en6", True, ("2001:db8::1/64", "192.168.0.13/24")),
        bsd.Interface("utun3", True, ("10.107.0.1", "10.107.0.3/16")),
    ]


@pytest.mark.parametrize(
    ("name", "number"),
    [("utun", -1), ("utun0", 0), ("utun12", 12), ("utun01", None), ("utunx", None), ("tun", None)],
)
def test_which_names_ask_for_a_utun(name: str, number: object) -> None:
    assert bsd.utun_number(name) == number


def test_a_look_that_finds_no_change_gives_the_very_same_scene(mac: Mac) -> None:
    reader = DarwinSystem().open_reader(DEFAULTS, mac)
    first: Scene = reader.look()
    assert reader.look() is first
    taken(mac, "127.0.0.2")
    assert reader.look() is not first
    assert Way(IPv4Network("192.168.1.0/24"), "en0") in first.ways


def test_the_script_of_many_commands_does_in_a_real_shell_what_it_says() -> None:
    commands = [["sh", "-c", f"echo 'no; \"$HOME\" {n}' >&2; exit {n % 3}"] for n in range(10)]
    done = subprocess.run(
        shellscript.ARGV,
        input=shellscript.script(commands),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stderr == ""
    assert shellscript.failures(done.stdout) == {
        n: f'no; "$HOME" {n}' for n in range(10) if n % 3
    }


def test_a_program_that_is_not_there_is_told_for_each() -> None:
    done = subprocess.run(
        shellscript.ARGV,
        input=shellscript.script([["no-such-program"]] * 2),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert sorted(shellscript.failures(done.stdout)) == [0, 1]


def test_a_batch_has_a_bound(mac: Mac) -> None:
    scripts: list[str] = []

    def run(argv: Sequence[str], text: str = "") -> str:
        scripts.append(text)
        return mac(argv, text)

    ips = [f"127.1.{n // 250}.{n % 250}" for n in range(1000)]
    assert ShellBatches(run).each({ip: bsd.add_alias(ip) for ip in ips}) == {}
    assert sorted(mac.lo0()) == sorted(ips)
    assert max(text.count("ifconfig") for text in scripts) <= 200


def test_a_killed_daemons_script_ends_with_the_command_that_it_is_at(tmp_path: Path) -> None:
    held, done = tmp_path / "held", tmp_path / "done"
    os.mkfifo(held)
    first = [["cat", str(held)], *[["true"]] * (shellscript.LANES - 1)]
    text = shellscript.script([*first, ["touch", str(done)]])
    program = "import subprocess as s, sys; s.run(['/bin/sh', '-s'], input=sys.argv[1].encode())"
    argv = [sys.executable, "-c", program, text]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as daemon:
        with held.open("w"):  # once the first lane reads
            daemon.kill()
            daemon.wait()
        assert daemon.stdout is not None
        daemon.stdout.read()  # until the script has ended
    assert not done.exists()
