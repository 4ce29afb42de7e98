"""A daemon's decisions on a Mac that is interpreted: what a start would do, and lives of it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from ngrokd.config import ApiSettings, Config, NetSettings, ServerSettings
from ngrokd.host import locks
from ngrokd.host.netif.darwin import DarwinSystem
from ngrokd.memory import Memory
from ngrokd.model import EndpointState
from ngrokd.reconcile.reconciler import Reconciler
from ngrokd.verbs import dryrun
from tests.fakes import FakeForwarder
from tests.macos.kernel import Route
from tests.macos.mac import Mac
from tests.macos.machine import MacMachine
from tests.macos.room import DEFAULTS, UTUN, discovered, prepare, taken


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mac:
    """With locks of its own: the interface is claimed by the same name in other tests."""
    monkeypatch.setattr(locks, "_places", lambda environ: [tmp_path / "locks"])
    return Mac()


def rehearsed(mac: Mac, folder: Path, settings: NetSettings) -> list[str]:
    server = ServerSettings(
        client_cert=str(folder / "tls.crt"),
        socket_path=str(folder / "s"),
        pid_file=str(folder / "p"),
    )
    hosts = folder / "hosts"
    hosts.touch()
    config = Config(
        api=ApiSettings(), server=server, net=replace(settings, hosts_file=str(hosts))
    )
    memory = Memory(folder)
    memory.save_endpoints(discovered("a.ns", "b.ns"), 0.0)
    system = DarwinSystem(mac.open_utun)
    reader = system.open_reader(settings, mac)
    return list(dryrun.lines(config, dryrun.rehearse(config, mac, reader, system=system), []))[1:]


def test_a_dry_run_prints_the_aliases_of_a_start(mac: Mac, tmp_path: Path) -> None:
    taken(mac, "127.0.0.2")
    prepare(mac, DEFAULTS, tmp_path).add(["127.0.0.9"])
    lines = rehearsed(mac, tmp_path, DEFAULTS)
    assert [line for line in lines if "lo0" in line] == [
        "ifconfig lo0 alias 127.0.0.3 255.255.255.255",
        "ifconfig lo0 alias 127.0.0.4 255.255.255.255",
        "ifconfig lo0 -alias 127.0.0.9",
    ]
    assert sorted(mac.lo0()) == ["127.0.0.2", "127.0.0.9"]


def test_a_dry_run_prints_the_utun_of_a_start(mac: Mac, tmp_path: Path) -> None:
    lines = rehearsed(mac, tmp_path, UTUN)
    assert [line for line in lines if "utun1" in line and not line.startswith("# ")] == [
        "ifconfig utun1 inet 10.107.0.1 10.107.0.2 netmask 255.255.0.0 up",
        "route add -net 10.107.0.0/16 -interface utun1",
        "ifconfig utun1 inet 10.107.0.3 10.107.0.3 netmask 255.255.0.0 alias",
        "ifconfig utun1 inet 10.107.0.4 10.107.0.4 netmask 255.255.0.0 alias",
    ]
    assert "utun1" not in mac.kernel.interfaces
    mac.kernel.add_route(Route(IPv4Network("10.107.0.0/24"), "en0"))
    lines = rehearsed(mac, tmp_path, UTUN)
    assert any(line.startswith("# refused: 10.107.0.0/16 is in use") for line in lines)
    assert "ifconfig lo0 alias 127.0.0.2 255.255.255.255" in lines


class Life:
    """A daemon's life on a Mac, as far as addresses, names and listeners go."""

    def __init__(self, mac: Mac, folder: Path, settings: NetSettings = DEFAULTS) -> None:
        self.net = replace(settings, hosts_file=str(folder / "hosts"))
        (folder / "hosts").touch()
        state = folder / "state"
        state.mkdir(exist_ok=True)
        self.machine = MacMachine(mac, self.net, state)
        forwarder = FakeForwarder(self.machine)  # type: ignore[arg-type]
        self.reconciler = Reconciler(self.machine, forwarder, Memory(state))
        self.reconciler.recall()
        self.reconciler.prepare()

    def apply(self, *names: str) -> dict[str, str]:
        """What is open then: name and address."""
        self.reconciler.apply(discovered(*names), self.net, ())
        assert self.reconciler.problems == ()
        found = (each for each in self.reconciler.endpoints if each.state is EndpointState.OPEN)
        return {each.target.hostname: each.ip for each in found if each.target}

    def crash(self) -> None:
        self.machine._claims.release()


def test_names_lead_to_aliases_and_nothing_is_left_after_a_stop(mac: Mac, tmp_path: Path) -> None:
    life = Life(mac, tmp_path)
    assert life.apply("a.ns", "b.ns") == {"a.ns": "127.0.0.2", "b.ns": "127.0.0.3"}
    assert life.apply("b.ns", "c.ns") == {"b.ns": "127.0.0.3", "c.ns": "127.0.0.4"}
    assert sorted(mac.lo0()) == ["127.0.0.3", "127.0.0.4"]
    life.reconciler.stop_accepting()
    life.reconciler.close()
    assert mac.lo0() == [] and (tmp_path / "hosts").read_bytes() == b""


def test_what_this_machine_or_others_have_is_given_to_nobody(mac: Mac, tmp_path: Path) -> None:
    for ip in ("127.0.0.2", "127.0.0.5", "127.0.0.60"):
        taken(mac, ip)
    life = Life(mac, tmp_path)
    given = set(life.apply(*(f"n{n}.ns" for n in range(300))).values())
    assert len(given) == 300
    others = {"127.0.0.2", "127.0.0.5", "127.0.0.60"}
    assert not given & {"127.0.0.1", "127.0.0.53", "127.0.0.54", "127.0.1.1", *others}
    life.reconciler.close()
    assert set(mac.lo0()) == others


def test_an_alias_that_somebody_made_while_ngrokd_was_away_moves_the_name(
    mac: Mac, tmp_path: Path
) -> None:
    life = Life(mac, tmp_path)
    assert life.apply("a.ns") == {"a.ns": "127.0.0.2"}
    life.reconciler.close()
    taken(mac, "127.0.0.2")
    life = Life(mac, tmp_path)
    assert life.apply("a.ns") == {"a.ns": "127.0.0.3"}
    life.reconciler.close()
    assert mac.lo0() == ["127.0.0.2"]


def test_a_crash_leaves_what_the_next_life_uses_or_removes(mac: Mac, tmp_path: Path) -> None:
    life = Life(mac, tmp_path)
    life.apply("a.ns", "b.ns")
    life.crash()
    life = Life(mac, tmp_path)
    assert life.apply("b.ns") == {"b.ns": "127.0.0.3"}
    assert mac.lo0() == ["127.0.0.3"]
    life.reconciler.close()
    assert mac.lo0() == []


def test_on_a_utun_the_first_endpoint_has_the_third_address(mac: Mac, tmp_path: Path) -> None:
    life = Life(mac, tmp_path, UTUN)
    assert life.apply("my-api.ngrok.app") == {"my-api.ngrok.app": "10.107.0.3"}
    life.reconciler.close()
    assert "utun1" not in mac.kernel.interfaces
