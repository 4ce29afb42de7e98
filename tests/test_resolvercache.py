"""A resolver that keeps answers forgets them when names change, and is otherwise left alone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ngrokd.config import Config, NetSettings, ServerSettings
from ngrokd.host import leftovers, platforms, resolvercache
from ngrokd.host.machine import Machine
from ngrokd.host.netif.ipreader import IpReader
from ngrokd.host.netif.linuxsystem import LinuxSystem
from ngrokd.verbs import dryrun
from tests.fake_ip import FakeIp
from tests.macos.resolver import FLUSH, HANG_UP, Resolver
from tests.test_dryrun import remember

pytestmark = pytest.mark.usefixtures("own_ranges")

FLUSHES = platforms.resolver_flush("darwin")


class Mac:
    """The commands of two programs: a resolver's, and all others `ip`'s."""

    def __init__(self, hosts: Path, is_root: bool = True) -> None:
        self.resolver = Resolver(hosts, is_root)
        self.ip = FakeIp()

    def __call__(self, argv: Sequence[str], text: str = "") -> str:
        runner = self.resolver if argv[0] in ("dscacheutil", "killall") else self.ip
        return runner(argv, text)


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As macOS has it: /etc is a link to private/etc."""
    (tmp_path / "private" / "etc").mkdir(parents=True)
    (tmp_path / "etc").symlink_to("private/etc")
    path = tmp_path / "etc" / "hosts"
    path.write_text("127.0.0.1 localhost\n")
    monkeypatch.setattr(resolvercache, "RESOLVERS_FILE", str(path))
    return path


def machine_on(hosts: Path, mac: Mac, **settings: Any) -> Machine:
    net = NetSettings(hosts_file=str(hosts), **settings)
    return Machine(net, mac, LinuxSystem(lambda net, run: IpReader(run)), flush=FLUSHES)


def test_macos_flushes_both_of_its_caches_and_linux_has_none() -> None:
    assert FLUSHES == (FLUSH, HANG_UP)
    assert platforms.resolver_flush("linux") == ()


def test_a_name_that_was_unknown_is_found_as_soon_as_it_is_published(hosts: Path) -> None:
    mac = Mac(hosts)
    machine = machine_on(hosts, mac)
    assert mac.resolver.lookup("web.ns") is None
    machine.publish({"web.ns": "127.0.0.2"})
    assert mac.resolver.lookup("web.ns") == "127.0.0.2"
    machine.close()
    assert mac.resolver.lookup("web.ns") is None


def test_each_change_flushes_once_and_a_poll_without_one_never(hosts: Path) -> None:
    mac = Mac(hosts)
    machine = machine_on(hosts, mac)
    names = {"web.ns": "127.0.0.2"}
    for _ in range(3):
        machine.publish(names)
    assert mac.resolver.commands == [FLUSH, HANG_UP]
    machine.publish({**names, "b.ns": "127.0.0.3"})
    assert mac.resolver.commands == [FLUSH, HANG_UP] * 2
    machine.close()
    machine.close()
    assert mac.resolver.commands == [FLUSH, HANG_UP] * 3


def test_it_can_be_turned_off(hosts: Path) -> None:
    mac = Mac(hosts)
    machine = machine_on(hosts, mac, flush_resolver_cache="off")
    machine.publish({"web.ns": "127.0.0.2"})
    machine.close()
    assert mac.resolver.commands == []


def test_a_file_that_no_resolver_reads_needs_no_flush(
    hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolvercache, "RESOLVERS_FILE", "/another/hosts")
    mac = Mac(hosts)
    machine_on(hosts, mac).publish({"web.ns": "127.0.0.2"})
    assert mac.resolver.commands == []


def test_the_real_place_of_the_file_is_the_same_file(hosts: Path) -> None:
    net = NetSettings(hosts_file=str(hosts.resolve()))
    assert net.hosts_file != str(hosts)
    assert resolvercache.commands(net, FLUSHES) == FLUSHES


def test_a_refused_flush_is_told_once_and_names_are_published_all_the_same(
    hosts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mac = Mac(hosts, is_root=False)
    mac.resolver.missing.add("dscacheutil")
    machine = machine_on(hosts, mac)
    assert machine.publish({"web.ns": "127.0.0.2"})
    assert machine.publish({"web.ns": "127.0.0.3"})
    assert "127.0.0.3\tweb.ns" in hosts.read_text()
    assert mac.resolver.commands == [FLUSH, HANG_UP] * 2  # one that fails does not stop the other
    told = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(told) == 1 and "the resolver may keep old answers" in told[0]
    assert machine.hosts().problem == ""


def test_a_flush_that_hangs_holds_up_neither_names_nor_an_end(
    hosts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolvercache, "PATIENCE_S", 0.05)
    monkeypatch.setattr(resolvercache, "END_S", 0.05)
    hangs, goes_on = threading.Event(), threading.Event()
    ran: list[str] = []

    def run(argv: Sequence[str], text: str = "") -> str:
        ran.append(argv[0])
        hangs.set()
        goes_on.wait(60)
        return ""

    machine = Machine(NetSettings(hosts_file=str(hosts)), run, LinuxSystem(), flush=FLUSHES)
    for n in range(2, 100):
        assert machine.publish({"web.ns": f"127.0.0.{n}"})
    assert "127.0.0.99\tweb.ns" in hosts.read_text()
    assert hangs.is_set() and ran == ["dscacheutil"], "once, however many changes came"
    assert machine.publish({})
    cache = machine._resolver
    thread = cache._thread
    cache.close()
    goes_on.set()
    assert thread is not None
    thread.join(20)
    assert not thread.is_alive()
    assert ran == ["dscacheutil", "killall"] * 2, "and once more for all that came meanwhile"


def test_where_nothing_is_kept_there_is_no_thread_for_it(hosts: Path) -> None:
    machine = Machine(NetSettings(hosts_file=str(hosts)), Mac(hosts), LinuxSystem(), flush=())
    machine.publish({"web.ns": "127.0.0.2"})
    assert machine._resolver._thread is None


def test_cleaning_up_after_a_dead_daemon_flushes_if_names_were_left(hosts: Path) -> None:
    net = NetSettings(hosts_file=str(hosts), interface_name="flush0")
    mac = Mac(hosts)
    crashed = machine_on(hosts, mac, interface_name="flush0")
    crashed.publish({"web.ns": "10.107.0.2"})
    mac.resolver.lookup("web.ns")
    mac.resolver.commands.clear()

    would, _ = leftovers.look(net, frozenset(), mac, flush=FLUSHES)
    assert would[1:3] == ["dscacheutil -flushcache", "killall -HUP mDNSResponder"]
    leftovers.remove(net, frozenset(), mac, flush=FLUSHES)
    assert mac.resolver.lookup("web.ns") is None
    assert mac.resolver.commands == [FLUSH, HANG_UP]

    would, _ = leftovers.look(net, frozenset(), mac, flush=FLUSHES)
    leftovers.remove(net, frozenset(), mac, flush=FLUSHES)
    assert "dscacheutil -flushcache" not in would
    assert mac.resolver.commands == [FLUSH, HANG_UP]


@pytest.mark.parametrize("setting", ["auto", "off"])
def test_a_dry_run_prints_the_commands_behind_the_names(
    hosts: Path, tmp_path: Path, setting: str
) -> None:
    config = Config(
        server=ServerSettings(
            client_cert=str(tmp_path / "tls.crt"),
            socket_path=str(tmp_path / "socket"),
            pid_file=str(tmp_path / "pid"),
        ),
        net=NetSettings(hosts_file=str(hosts), flush_resolver_cache=setting),
    )
    remember(tmp_path, a="10.107.0.2")
    mac = Mac(hosts)
    script = dryrun.rehearse(config, mac, IpReader(mac), FLUSHES)
    told = list(dryrun.lines(config, script, []))
    printed = ["dscacheutil -flushcache", "killall -HUP mDNSResponder"]
    assert (told[-2:] == printed) is (setting == "auto")
    assert mac.resolver.commands == []
