"""What a start would do is told in full, and nothing of this machine is changed by that."""

from __future__ import annotations

import json
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ngrokd import cli
from ngrokd.cloud import discovery
from ngrokd.config import Config, NetSettings, ServerSettings
from ngrokd.host import lastrun
from ngrokd.host.netif import leftovers as interfaces
from ngrokd.host.netif import linuxreader
from ngrokd.host.netif.ifconfigreader import IfconfigReader
from ngrokd.host.netif.ipreader import IpReader
from ngrokd.host.netif.linuxsystem import LinuxSystem
from ngrokd.host.netif.system import Past
from ngrokd.model import Discovered, Endpoint, Target
from ngrokd.verbs import dryrun
from tests.fake_ifconfig import FakeIfconfig
from tests.fake_ip import FakeIp, Link
from tests.namespace import Namespace

LINUX = LinuxSystem()

pytestmark = pytest.mark.usefixtures("own_ranges")

GATEWAY = "10.107.0.1/16"
MAKING = [
    "ip link add ngrokd0 address 02:6e:67:72:6f:6b type dummy",
    "# or, where that is refused: ip tuntap add dev ngrokd0 mode tun user 0 group 0",
    "# or, where that is refused: ip link add ngrokd0 address 02:6e:67:72:6f:6b type bridge",
    "ip link set dev ngrokd0 addrgenmode none",
    "ip address replace 10.107.0.1/16 dev ngrokd0",
    "ip link set dev ngrokd0 up",
]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n10.9.9.9 taken.name\n")
    server = ServerSettings(
        client_cert=str(tmp_path / "tls.crt"),
        socket_path=str(tmp_path / "socket"),
        pid_file=str(tmp_path / "pid"),
    )
    return Config(server=server, net=NetSettings(hosts_file=str(tmp_path / "hosts")))


def remember(folder: Path, **addresses: str) -> None:
    """A last run that served `name.ns` for each name, on port 8080."""
    found = [
        Endpoint(Target(f"{name}.ns", 8080), "http", f"http://{name}.ns:8080", (f"ep_{name}",))
        for name in addresses
    ]
    (folder / "endpoints.json").write_text(json.dumps(discovery.to_json(Discovered(tuple(found)))))
    mapping = {f"{name}.ns": ip for name, ip in addresses.items()}
    (folder / "ip_mappings.json").write_text(json.dumps(mapping))


def told(config: Config, ip: FakeIp) -> list[str]:
    return list(dryrun.lines(config, dryrun.rehearse(config, ip, IpReader(ip)), []))[1:]


def section(whose: str = "") -> str:
    words = f"ngrokd managed section{whose}"
    return f"# BEGIN {words}\n10.107.0.2\ta.ns\n# END {words}\n"


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_first_start_makes_an_interface_and_knows_no_endpoints(
    config: Config, tmp_path: Path
) -> None:
    ip = FakeIp()
    before = tree(tmp_path)
    assert told(config, ip) == [
        "# no endpoints are known yet: ngrok is asked for them at a start",
        "# interface:",
        *MAKING,
    ]
    assert set(ip.links) == {"lo"}
    assert tree(tmp_path) == before


def test_the_last_known_endpoints_get_their_addresses_and_names(
    config: Config, tmp_path: Path
) -> None:
    remember(tmp_path, b="10.107.0.9", a="10.107.0.10")
    before = tree(tmp_path)
    assert told(config, FakeIp()) == [
        "# interface:",
        *MAKING,
        "# addresses:",
        "ip address replace 10.107.0.9/32 dev ngrokd0",
        "ip address replace 10.107.0.10/32 dev ngrokd0",
        f"# to stand in {tmp_path}/hosts:",
        "#\t# BEGIN ngrokd managed section",
        "#\t10.107.0.9\tb.ns",
        "#\t10.107.0.10\ta.ns",
        "#\t# END ngrokd managed section",
    ]
    assert tree(tmp_path) == before


@pytest.mark.parametrize("kinds", [["dummy"], ["tun"], ["bridge"]])
def test_the_commands_are_those_of_a_start(
    config: Config, tmp_path: Path, kinds: list[str]
) -> None:
    """Run by hand, they leave the kernel as the daemon would."""
    remember(tmp_path, a="10.107.0.2", b="10.107.0.3")
    by_hand, daemon = FakeIp(kinds=kinds), FakeIp(kinds=kinds)
    lines = [line.rpartition("refused: ")[2] for line in told(config, by_hand)]
    for line in [line for line in lines if line.startswith("ip ")]:
        makes = "type" in line or "tuntap" in line
        if not makes or kinds[0] in line.split():
            by_hand(line.split())
    backend = LINUX.prepare(config.net, daemon, IpReader(daemon), Past())
    backend.add(["10.107.0.2", "10.107.0.3"])
    assert by_hand.links == daemon.links


def test_what_a_crash_left_is_adopted_and_only_the_difference_is_told(
    config: Config, tmp_path: Path
) -> None:
    remember(tmp_path, a="10.107.0.2", b="10.107.0.3")
    ip = FakeIp()
    held = [GATEWAY, "10.107.0.2/32", "10.107.0.8/32"]
    ip.links["ngrokd0"] = Link("tun", up=True, held=list(held), marked=True)
    lines = told(config, ip)
    assert "# ngrokd0 is left by an earlier run: adopted" in lines
    assert not [line for line in lines if "type" in line]
    assert lines[lines.index("# addresses:") + 1 :][:2] == [
        "ip address replace 10.107.0.3/32 dev ngrokd0",
        "ip address del 10.107.0.8/32 dev ngrokd0",
    ]
    assert ip.links["ngrokd0"].held == held


def test_what_a_run_with_other_settings_left_is_told_first_and_in_nobodys_way(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ip = FakeIp()
    monkeypatch.setattr(interfaces, "_is_there", lambda name: name in ip.links)
    monkeypatch.setattr(linuxreader, "open_reader", lambda net, run: IpReader(run))
    remember(tmp_path, a="10.107.0.2")
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + section(" (old0)"))
    lastrun.begin(tmp_path, replace(config.net, interface_name="old0"))
    ip.links["old0"] = Link("dummy", up=True, held=[GATEWAY, "10.107.0.2/32"], marked=True)
    orphan = tmp_path / f".hosts.ngrokd-{1 << 22}-0123456789abcdef"  # of a pid that cannot be
    orphan.touch()
    before = tree(tmp_path)
    lines = told(config, ip)
    assert lines[: lines.index("# interface:")] == [
        "# left by earlier runs, and removed first:",
        f"# take ngrokd's section out of {hosts}",
        f"rm {orphan}",
        "ip link delete dev old0",
    ]
    assert lines[lines.index("# interface:") + 1 :][: len(MAKING)] == MAKING, "in the same range"
    assert "#\t10.107.0.2\ta.ns" in lines
    assert not [line for line in lines if line.startswith("# refused: ")]
    assert tree(tmp_path) == before and set(ip.links) == {"lo", "old0"}


def test_names_of_an_earlier_run_are_taken_out_where_no_endpoint_is_known(
    config: Config, tmp_path: Path
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + section())
    taking = f"# take ngrokd's section out of {hosts}"
    assert taking in told(config, FakeIp())
    remember(tmp_path, a="10.107.0.2")
    lines = told(config, FakeIp())
    assert taking not in lines and "#\t10.107.0.2\ta.ns" in lines


def test_what_stays_of_an_earlier_run_is_told_and_counts(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ip = FakeIp()
    monkeypatch.setattr(interfaces, "_is_there", lambda name: name in ip.links)
    monkeypatch.setattr(linuxreader, "open_reader", lambda net, run: IpReader(run))
    lastrun.begin(tmp_path, replace(config.net, interface_name="old0"))
    ip.links["old0"] = Link("bridge", up=True, held=[GATEWAY])
    lines = told(config, ip)
    assert any(line.startswith("# refused: ") and "old0" in line for line in lines)
    assert any("interface old0 has the address 10.107.0.1/16" in line for line in lines)


def test_a_conflict_is_told_with_the_range_that_serves_instead(
    config: Config, tmp_path: Path
) -> None:
    remember(tmp_path, a="10.107.0.2")
    ip = FakeIp()
    ip.links["docker0"] = Link("bridge", up=True, held=["10.107.5.1/24"])
    lines = told(config, ip)
    assert not [line for line in lines if line.startswith("ip ")]
    assert any("127.107.0." in line and "a.ns" in line for line in lines)
    (refused,) = (line for line in lines if line.startswith("# refused: "))
    assert "docker0 has the address 10.107.5.1/24" in refused and "net.subnet" in refused


def test_what_would_be_refused_is_told_with_the_reason(config: Config, tmp_path: Path) -> None:
    remember(tmp_path, a="10.107.0.2")
    document = json.loads((tmp_path / "endpoints.json").read_text())
    found = discovery.from_json(document)
    taken = Endpoint(Target("taken.name", 80), "http", "http://taken.name", ("ep_x",))
    found = replace(found, endpoints=(*found.endpoints, taken))
    (tmp_path / "endpoints.json").write_text(json.dumps(discovery.to_json(found)))
    begin = "# BEGIN ngrokd managed section\n"
    (tmp_path / "hosts").write_text(f"10.9.9.9 taken.name\n{begin}{begin}")
    ip = FakeIp()
    ip.links["ngrokd0"] = Link("ethernet")
    refused = [line for line in told(config, ip) if line.startswith("# refused: ")]
    assert "nothing proves that ngrokd made it" in refused[0]
    assert "http://taken.name" in refused[1]
    assert "nothing was written" in refused[2]
    assert len(refused) == 3


def test_in_network_mode_the_next_free_port_is_told_as_a_start_would_take_it(
    config: Config, tmp_path: Path
) -> None:
    remember(tmp_path, a="10.107.0.2")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        net = replace(config.net, listen_interface="0.0.0.0", start_port=port)
        lines = told(replace(config, net=net), FakeIp())
    assert not [line for line in lines if line.startswith("# refused: ")]
    (where,) = (line for line in lines if "a.ns:8080 would listen on 0.0.0.0:" in line)
    assert int(where.rpartition(":")[2]) > port


def test_an_interface_that_is_not_there_is_told_as_such(config: Config, tmp_path: Path) -> None:
    remember(tmp_path, a="10.107.0.2")
    net = replace(config.net, listen_interface="nope0")
    lines = told(replace(config, net=net), FakeIp())
    (refused,) = (line for line in lines if line.startswith("# refused: "))
    assert "nope0: there is no interface nope0" in refused


def test_files_that_do_not_tell_are_named_and_stay(config: Config, tmp_path: Path) -> None:
    (tmp_path / "ip_mappings.json").write_text("{")
    (tmp_path / "endpoints.json").write_text('{"endpoints": 7}')
    before = tree(tmp_path)
    lines = told(config, FakeIp())
    assert any("ip_mappings.json cannot be read" in line for line in lines)
    assert any("endpoints.json is damaged" in line for line in lines)
    assert tree(tmp_path) == before


def test_with_ifconfig_alone_its_commands_are_told(config: Config, tmp_path: Path) -> None:
    remember(tmp_path, a="10.107.0.2")
    only = FakeIfconfig(FakeIp())
    script = dryrun.rehearse(config, only, IfconfigReader(only, only.index_of))
    assert [step.argv[-2:] for step in script.interface[:1]] == [["make", "ngrokd0"]]
    assert [step.argv for step in script.addresses] == [
        ["ifconfig", "ngrokd0:2", "10.107.0.2", "netmask", "255.255.255.255"]
    ]


def test_a_faulty_configuration_is_refused_as_at_a_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yml"
    path.write_text("net: {subnet: nonsense}\n")
    assert cli.main(["--dry-run", "--config", str(path)]) == 2
    assert "net.subnet" in capsys.readouterr().err
    assert cli.main(["--dry-run", "--config", str(tmp_path / "none.yml")]) == 2


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "check-config"])
def test_no_command_is_carried_out_by_mistake(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--dry-run", verb])
    assert caught.value.code == 2
    assert "--dry-run goes with no command" in capsys.readouterr().err


def test_before_a_command_it_counts_as_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []

    def install(*words: object) -> int:
        seen.append(words)
        return 0

    monkeypatch.setattr("ngrokd.verbs.installation.install", install)
    assert cli.main(["--dry-run", "install"]) == 0
    assert seen == [(None, None, True)]


@pytest.mark.root
def test_it_needs_no_right_of_root_and_the_machine_stays_as_it_is(
    namespace: Namespace, tmp_path: Path
) -> None:
    remember(tmp_path, a="10.107.0.2")
    (tmp_path / "config.yml").write_text(
        f"server: {{pid_file: {tmp_path}/p, socket_path: {tmp_path}/s,"
        f" client_cert: {tmp_path}/tls.crt}}\n"
    )

    def machine() -> tuple[object, ...]:
        links = namespace.run("ip", "-o", "addr").stdout
        return tree(tmp_path), links, namespace.hosts.read_bytes()

    before = machine()
    without_rights = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    words = ("-m", "ngrokd", "--dry-run", "--config", tmp_path / "config.yml")
    done = namespace.run(*without_rights, sys.executable, *words, check=False)
    assert done.returncode == 0, done.stderr
    assert "ip address replace 10.107.0.2/32 dev ngrokd0" in done.stdout
    assert "#\t10.107.0.2\ta.ns" in done.stdout
    assert machine() == before
