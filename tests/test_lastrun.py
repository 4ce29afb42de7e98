"""What a crashed run made goes, although the settings have other names by then."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ngrokd.config import Config, NetSettings, ServerSettings
from ngrokd.errors import HostError
from ngrokd.host import lastrun, leftovers
from ngrokd.host.claims import Claims
from ngrokd.host.machine import Machine
from ngrokd.host.netif import leftovers as interfaces
from ngrokd.host.netif import linuxreader
from ngrokd.host.netif.ipreader import IpReader
from ngrokd.host.netif.linuxsystem import LinuxSystem
from ngrokd.verbs import cleanup as cleaning
from tests.fake_ip import FakeIp

OLD = f"old{os.getpid()}"  # they are claimed, and another checkout may be tested beside this
NEW = f"new{os.getpid()}"
ORIGINAL = b"127.0.0.1 localhost\n"
NAMES = {"a.ns": "10.107.0.2"}


class House:
    """A state folder, two hosts files, and the kernel of a machine."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.ip = FakeIp()
        self.state = folder / "state"
        self.hosts, self.other = folder / "hosts", folder / "other"
        self.state.mkdir()
        self.hosts.write_bytes(ORIGINAL)
        self.other.write_bytes(ORIGINAL)
        self.net = NetSettings(interface_name=OLD, hosts_file=str(self.hosts))
        patch.setattr(interfaces, "_is_there", lambda name: name in self.ip.links)
        patch.setattr(linuxreader, "open_reader", lambda net, run: IpReader(run))

    def machine(self, net: NetSettings) -> Machine:
        return Machine(net, self.ip, LinuxSystem(lambda net, run: IpReader(run)), self.state)

    def start(self, net: NetSettings) -> Machine:
        machine = self.machine(net)
        machine.prepare()
        machine.add_addresses(NAMES.values())
        machine.publish(NAMES)
        return machine

    def crash(self, net: NetSettings) -> None:
        """All of it stays, but for what the kernel takes back."""
        self.start(net)._claims.release()

    @property
    def record(self) -> list[dict[str, str]]:
        path = self.state / lastrun.NAME
        return list(json.loads(path.read_bytes())["used"]) if path.exists() else []


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return House(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "changed",
    [
        NetSettings(NEW),
        NetSettings(NEW, "10.108.0.0/16"),
        NetSettings(OLD, "10.108.0.0/16"),
        NetSettings(OLD, hosts_file="other"),
    ],
)
def test_after_a_crash_other_settings_find_a_clean_machine(
    house: House, changed: NetSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    house.crash(house.net)
    file = house.other if changed.hosts_file == "other" else house.hosts
    net = replace(changed, hosts_file=str(file))
    machine = house.machine(net)
    status = machine.prepare()
    assert (status.name, status.subnet, status.notes) == (net.interface_name, net.subnet, ())
    assert house.hosts.read_bytes() == ORIGINAL
    assert set(house.ip.links) == {"lo", net.interface_name}
    assert not machine.reserved_names({}) & set(NAMES)
    assert f"by an earlier run with other settings: {house.hosts}: ngrokd's section" in caplog.text
    assert f"by an earlier run with other settings: interface {OLD} is removed" in caplog.text
    assert [entry["interface_name"] for entry in house.record] == [net.interface_name]
    machine.close()
    assert os.listdir(house.state) == ["hosts.ngrokd.bak"]


def test_the_same_settings_take_up_what_a_crash_left(house: House) -> None:
    house.crash(house.net)
    index = house.ip.links[OLD].index
    machine = house.machine(house.net)
    machine.prepare()
    assert house.ip.links[OLD].index == index
    machine.close()
    assert house.hosts.read_bytes() == ORIGINAL


def test_what_a_run_uses_is_noted_before_anything_is_made(house: House) -> None:
    def look(argv: Sequence[str], text: str = "") -> str:
        assert house.record, "the machine is changed, and nobody knows by whom"
        return house.ip(argv, text)

    Machine(house.net, look, LinuxSystem(lambda net, run: IpReader(run)), house.state).prepare()
    assert house.record[0]["hosts_file"] == str(house.hosts)


def test_what_a_living_daemon_has_is_left_to_it_and_tried_again(
    house: House, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.crash(house.net)
    monkeypatch.setattr(leftovers, "Claims", _Refusing)
    machine = house.machine(replace(house.net, interface_name=NEW, subnet="10.108.0.0/16"))
    machine.prepare()
    machine.close()
    assert "with other settings, and stays: another ngrokd (pid 7)" in caplog.text
    assert b"a.ns" in house.hosts.read_bytes()
    assert [entry["interface_name"] for entry in house.record] == [OLD]


class _Refusing(Claims):
    def take(self) -> str:
        raise HostError("another ngrokd (pid 7) has it")


def test_cleanup_removes_what_was_made_with_other_settings_too(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    means = cleaning.Means(house.ip, flush=())
    house.crash(house.net)
    folder = house.state.parent
    server = ServerSettings(
        socket_path=str(folder / "s"),
        pid_file=str(folder / "p"),
        client_cert=str(house.state / "tls.crt"),
    )
    config = Config(server=server, net=replace(house.net, interface_name=NEW))
    would, stays = cleaning._look(config, means)
    assert (len(would), stays) == (2, [])
    removed = cleaning.cleanup(config, means)
    assert len(removed) == 2
    assert house.hosts.read_bytes() == ORIGINAL
    assert set(house.ip.links) == {"lo"}
    assert os.listdir(house.state) == ["hosts.ngrokd.bak"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"used": 7}',
        b'{"used": [7, {"interface_name": "x"}]}',
        b'{"used": [{"interface_name": "-x", "subnet": "10.0.0.0/8", "hosts_file": "/h"}]}',
        b'{"used": [{"interface_name": "x", "subnet": "10/x", "hosts_file": "/h"}]}',
        b'{"used": [{"interface_name": "x", "subnet": "10.0.0.0/8", "hosts_file": "h"}]}',
    ],
)
def test_a_damaged_record_tells_nothing_and_stops_nothing(house: House, content: bytes) -> None:
    (house.state / lastrun.NAME).write_bytes(content)
    assert lastrun.used(house.state) == ()
    house.machine(house.net).prepare()
    assert len(house.record) == 1
