"""What a dead daemon left goes, what is others' stays, and a living daemon is left alone."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ngrokd.config import Config, NetSettings, ServerSettings
from ngrokd.errors import HostError
from ngrokd.host import leftovers
from ngrokd.host.claims import Claims
from ngrokd.host.netif import leftovers as interfaces
from ngrokd.host.netif import linuxreader
from ngrokd.host.netif.ipreader import IpReader
from ngrokd.host.netif.linuxsystem import LinuxSystem
from ngrokd.host.netif.system import Past
from ngrokd.verbs import cleanup as cleaning
from ngrokd.verbs.cleanup import cleanup
from tests.fake_ip import FakeIp, Link
from tests.namespace import Namespace

LINUX = LinuxSystem()

ROOT = Path(__file__).parent.parent
NAME = f"clean{os.getpid()}"  # it is claimed, and another checkout may be tested beside this
ORIGINAL = b"127.0.0.1 localhost\r\n# caf\xe9\n::1 six"
HALF = ORIGINAL[:9]
SECTION = b"# BEGIN ngrokd managed section (%s)\n10.107.0.2\ta.ns\n" % NAME.encode()
SECTION += b"# END ngrokd managed section (%s)\n" % NAME.encode()


class Wreck:
    """A folder with all that a killed daemon may leave, and its configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("etc", "run", "state"):
            (folder / name).mkdir()
        self.hosts = folder / "etc" / "hosts"
        self.socket = folder / "run" / "ngrokd.sock"
        self.pid = folder / "run" / "ngrokd.pid"
        self.hosts.write_bytes(ORIGINAL)
        self.config = Config(
            server=ServerSettings(
                socket_path=str(self.socket),
                pid_file=str(self.pid),
                client_cert=str(folder / "state" / "tls.crt"),
                client_key=str(folder / "state" / "tls.key"),
            ),
            net=NetSettings(interface_name=NAME, hosts_file=str(self.hosts)),
        )
        self.before = self.tree()

    def crash(self) -> None:
        """Leaves everything."""
        self.hosts.write_bytes(ORIGINAL[:-7] + SECTION + ORIGINAL[-7:])
        for folder, name in (("etc", "hosts"), ("state", "ip_mappings.json")):
            (self.folder / folder / f".{name}.ngrokd-99999999-{'a' * 16}").write_bytes(HALF)
        self.pid.write_text("99999999\n")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(self.socket))
            sock.listen()

    def tree(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else b""
            for path in self.folder.rglob("*")
        }

    def write_config(self, text: str = "") -> Path:
        path = self.folder / "etc" / "config.yml"
        path.write_text(
            f"net: {{interface_name: {NAME}, hosts_file: {self.hosts}}}\n"
            f"server:\n  socket_path: {self.socket}\n  pid_file: {self.pid}\n"
            f"  client_cert: {self.folder}/state/tls.crt\n{text}"
        )
        return path


@pytest.fixture
def wreck(tmp_path: Path) -> Wreck:
    return Wreck(tmp_path)


def run(*words: object) -> int:
    """`ngrokd cleanup`, as cli.py has it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    cleaning.add_commands(parser.add_subparsers())
    args = parser.parse_args([str(word) for word in words])
    status: int = args.run(args)
    return status


def test_nothing_of_a_dead_daemon_is_left_and_each_thing_is_named(wreck: Wreck) -> None:
    wreck.crash()
    removed = cleanup(wreck.config)
    assert wreck.tree() == wreck.before
    said = "\n".join(removed)
    for thing in ("section", "socket", "pid file", ".hosts.ngrokd-", ".ip_mappings.json.ngrokd-"):
        assert thing in said
    assert len(removed) == 5


def test_where_nothing_is_left_nothing_is_said_or_made(wreck: Wreck) -> None:
    wreck.crash()
    cleanup(wreck.config)
    before = wreck.hosts.stat().st_ino, wreck.hosts.stat().st_ctime_ns
    assert cleanup(wreck.config) == []
    assert wreck.tree() == wreck.before
    after = wreck.hosts.stat().st_ino, wreck.hosts.stat().st_ctime_ns
    assert after == before, "the hosts file was written"


def test_a_machine_that_never_had_one_stays_as_it_is(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    server = ServerSettings(
        socket_path=str(gone / "s"), pid_file=str(gone / "p"), client_cert=str(gone / "c")
    )
    net = NetSettings(interface_name=NAME, hosts_file=str(gone / "hosts"))
    assert cleanup(Config(server=server, net=net)) == []
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_removed_and_then_nothing(
    wreck: Wreck, capsys: pytest.CaptureFixture[str]
) -> None:
    path = wreck.write_config()
    before = wreck.tree()
    wreck.crash()
    assert run("--config", path, "cleanup") == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert wreck.tree() == before
    assert run("cleanup", "--config", path) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("  log_level: loud\n", ":6: server.log_level"),
        ("bound_endpoints: {poll_interval: -1}\nnonsense: 7\n", "poll_interval"),
    ],
)
def test_a_faulty_configuration_is_told_and_cleaned_up_by_all_the_same(
    wreck: Wreck, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    """After a fault in the configuration the daemon exits 2, and ExecStopPost comes."""
    path = wreck.write_config(text)
    before = wreck.tree()
    wreck.crash()
    assert run("cleanup", "--config", path) == 2
    answer = capsys.readouterr()
    assert said in answer.err and "by what could be read" in answer.err
    assert "Traceback" not in answer.err
    assert wreck.tree() == before


def test_a_key_that_cannot_be_had_is_no_fault_here(
    wreck: Wreck, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NGROK_API_KEY_FILE", "/nonexistent/key")
    monkeypatch.setenv("NGROKD_SOCKET", str(wreck.folder / "run" / "other.sock"))
    wreck.crash()
    (wreck.folder / "run" / "ngrokd.sock").rename(wreck.folder / "run" / "other.sock")
    assert run("cleanup", "--config", wreck.write_config()) == 0
    assert list((wreck.folder / "run").iterdir()) == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["missing", "folder", "binary", "yaml", "pipe", "one for two"])
def test_without_a_usable_file_the_defaults_say_where_to_clean(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "config.yml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "one for two":
        path.write_text("server: {pid_file: /x/y, socket_path: /x/y}\n")
    elif kind != "missing":
        path.write_bytes(b"\xff\0" if kind == "binary" else b"a: [")
    config, faults = cleaning.settings(path, {})
    assert config == Config()
    assert faults and str(path) in faults[0]


def test_a_default_file_that_was_never_written_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "DEFAULT_CONFIG_PATH", str(tmp_path / "config.yml"))
    assert cleaning.settings(tmp_path / "config.yml", {}) == (Config(), ())


@contextlib.contextmanager
def living(statements: str, *words: object) -> Iterator[int]:
    """Another process that has run these statements; its pid."""
    script = f"import sys\n{statements}\nprint(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


HOLD_PID = "from ngrokd.process.pidfile import PidFile; p = PidFile(sys.argv[1]); p.acquire()"
LISTEN = (
    "import socket, os; os.unlink(sys.argv[1]); s = socket.socket(socket.AF_UNIX)\n"
    "s.bind(sys.argv[1]); s.listen()"
)
CLAIM = (
    "from ngrokd.config import NetSettings; from ngrokd.host.claims import Claims\n"
    "c = Claims(NetSettings(interface_name=sys.argv[1], hosts_file=sys.argv[2])); c.take()"
)


@pytest.mark.parametrize("sign", ["pid file", "socket", "interface", "section"])
def test_a_living_daemon_is_named_and_nothing_is_touched(
    wreck: Wreck, sign: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wreck.crash()
    started = {
        "pid file": (HOLD_PID, wreck.pid),
        "socket": (LISTEN, wreck.socket),
        "interface": (CLAIM, NAME, "/nonexistent/hosts"),
        "section": (CLAIM, NAME, wreck.hosts),
    }[sign]
    with living(*map(str, started)) as pid:
        before = wreck.tree()
        with pytest.raises(HostError, match=f"pid {pid}"):
            cleanup(wreck.config)
        with pytest.raises(HostError, match=f"pid {pid}"):
            run("cleanup", "--config", wreck.write_config())
        wreck.write_config().unlink()
        assert wreck.tree() == before
        assert capsys.readouterr().out == ""


def test_a_pid_that_another_program_has_by_now_stops_nobody(wreck: Wreck) -> None:
    wreck.crash()
    wreck.pid.write_text(f"{os.getppid()}\n")
    cleanup(wreck.config)
    assert wreck.tree() == wreck.before


def test_others_files_in_the_places_of_ours_stay(wreck: Wreck) -> None:
    wreck.socket.write_text("not a socket")
    wreck.pid.write_text("my notes")
    before = wreck.tree()
    assert cleanup(wreck.config) == []
    assert wreck.tree() == before


def test_broken_markers_are_told_and_the_rest_is_cleaned_up(
    wreck: Wreck, capsys: pytest.CaptureFixture[str]
) -> None:
    path = wreck.write_config()
    wreck.crash()
    broken = ORIGINAL + b"\n" + SECTION + SECTION
    wreck.hosts.write_bytes(broken)
    assert run("cleanup", "--config", path) == 1
    answer = capsys.readouterr()
    assert "Mend: remove these lines" in answer.err and str(wreck.hosts) in answer.err
    assert "socket" in answer.out and "pid file" in answer.out
    assert wreck.hosts.read_bytes() == broken
    assert not wreck.pid.exists() and not wreck.socket.exists()
    with pytest.raises(HostError, match="nothing was written"):
        cleanup(wreck.config)


def test_the_section_of_another_instance_stays(wreck: Wreck) -> None:
    other = SECTION.replace(NAME.encode(), b"ngrokd7")
    wreck.hosts.write_bytes(b"127.0.0.1 localhost\n" + other + SECTION)
    cleanup(wreck.config)
    assert wreck.hosts.read_bytes() == b"127.0.0.1 localhost\n" + other


def test_whose_names_stay_is_told_with_the_command_that_removes_them(
    wreck: Wreck, capsys: pytest.CaptureFixture[str]
) -> None:
    path = wreck.write_config()
    others = [SECTION.replace(NAME.encode(), name) for name in (b"ngrokd7", b"sandbox2")]
    wreck.hosts.write_bytes(b"".join(others))
    assert run("cleanup", "--config", path) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.rpartition("if that one is gone, ")[2] for line in told] == [
        "`ngrokd cleanup --config FILE` removes them",
        "`ngrokd cleanup --config /tmp/ngrokd-sandbox-*/daemon-as-started.yml` removes them",
    ]
    assert ["(interface ngrokd7)" in told[0], "(interface sandbox2)" in told[1]] == [True, True]


# The interface


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says that there is an interface of every name."""
    monkeypatch.setattr(interfaces, "_is_there", lambda name: True)
    monkeypatch.setattr(linuxreader, "open_reader", lambda net, run: IpReader(run))


OURS = ["10.107.0.1/16", "10.107.0.2/32", "10.107.0.3/32"]
KNOWN = frozenset(("10.107.0.2", "10.107.0.3", "10.107.0.4"))


def _remove(ip: FakeIp, known: frozenset[str] = KNOWN, **settings: Any) -> list[str]:
    return interfaces.remove(NetSettings(interface_name=NAME, **settings), known, ip)


def _assert_stays(ip: FakeIp, known: frozenset[str] = KNOWN) -> None:
    """As it is, and it is said, in the words of the dry run."""
    before = list(ip.links[NAME].held)
    _, (stays,) = LINUX.would_remove(NetSettings(interface_name=NAME), ip, Past(known))
    with pytest.raises(HostError) as caught:
        _remove(ip, known)
    assert str(caught.value) == stays and "Mend" in stays
    assert ip.links[NAME].held == before


@pytest.mark.parametrize("kind", ["dummy", "tun", "bridge"])
@pytest.mark.parametrize("held", [[], OURS[:1], OURS])
def test_our_interface_goes_at_whatever_step_it_was_left(
    there: None, kind: str, held: list[str]
) -> None:
    ip = FakeIp()
    ip.links[NAME] = Link(kind, held=list(held), marked=True)
    assert len(_remove(ip, frozenset())) == 1
    assert set(ip.links) == {"lo"}
    assert _remove(ip) == []


@pytest.mark.parametrize("kind", ["bridge", "tap", "vpn tun", "ethernet"])
def test_an_interface_of_another_kind_is_another_programs(there: None, kind: str) -> None:
    ip = FakeIp()
    ip.links[NAME] = Link(kind, held=list(OURS))
    _assert_stays(ip)


def test_an_interface_with_only_others_addresses_is_another_programs(there: None) -> None:
    ip = FakeIp()
    ip.links[NAME] = Link("dummy", held=["192.168.7.1/24"])
    _assert_stays(ip)


def test_an_interface_that_others_use_too_stays_without_our_addresses(there: None) -> None:
    ip = FakeIp()
    ip.links[NAME] = Link("dummy", held=[*OURS, "192.168.7.1/24"])
    with pytest.raises(HostError, match=r"192\.168\.7\.1/24.*ip link delete"):
        _remove(ip)
    assert ip.links[NAME].held == ["192.168.7.1/24"]
    _assert_stays(ip)


@pytest.mark.parametrize("known", [frozenset[str](), KNOWN])
@pytest.mark.parametrize("held", [[], OURS[:1], OURS, [*OURS, "10.107.0.77/32"]])
def test_an_interface_without_our_mark_goes_only_if_everything_else_proves_it(
    there: None, held: list[str], known: frozenset[str]
) -> None:
    ip = FakeIp()
    ip.links[NAME] = Link("dummy", held=list(held))
    is_proven = bool(known) and held in (OURS[:1], OURS)
    if is_proven:
        assert _remove(ip, known)
        assert NAME not in ip.links
    else:
        _assert_stays(ip, known)


def test_a_bridge_with_a_port_stays_with_all_that_is_on_it(there: None) -> None:
    ip = FakeIp()
    ip.links[NAME] = Link("bridge", held=list(OURS), marked=True)
    ip.links["eth0"] = Link("ethernet", master=NAME)
    _assert_stays(ip)


EARLIER = ["10.200.0.1/16", "10.200.0.2/32"]


@pytest.mark.parametrize("held", [EARLIER[:1], EARLIER])
def test_one_with_our_mark_and_an_earlier_subnet_goes(there: None, held: list[str]) -> None:
    ip = FakeIp()
    ip.links[NAME] = Link("dummy", held=list(held), marked=True)
    (line,) = _remove(ip, KNOWN | {"10.200.0.2"})
    assert line.endswith(f", with {len(held)} addresses of 10.200.0.0/16")
    assert set(ip.links) == {"lo"}


@pytest.mark.parametrize(
    ("held", "is_marked"),
    [
        (EARLIER, False),
        ([*EARLIER, "10.200.0.3/32"], True),  # not remembered
        ([*EARLIER, "2001:db8::1/64"], True),
        (["10.200.0.2/32"], True),
        (["10.200.0.5/16", "10.200.0.2/32"], True),
    ],
)
def test_another_subnet_that_is_not_proven_stays(
    there: None, held: list[str], is_marked: bool
) -> None:
    ip = FakeIp()
    ip.links[NAME] = Link("dummy", held=list(held), marked=is_marked)
    with pytest.raises(HostError, match="stays"):
        _remove(ip, KNOWN | {"10.200.0.2"})
    assert ip.links[NAME].held == held


def test_the_loopback_range_has_no_interface_to_clean_up(there: None) -> None:
    """That of root's daemon may live: nothing was claimed of it."""
    ip = FakeIp()
    ip.links[NAME] = Link("dummy", held=OURS[:1], marked=True)
    assert _remove(ip, KNOWN, subnet="127.107.0.0/16") == []
    assert NAME in ip.links


def test_the_commands_are_told_without_being_run(there: None) -> None:
    ip = FakeIp()
    ip.links[NAME] = Link("dummy", held=list(OURS), marked=True)
    net = NetSettings(interface_name=NAME)
    told = LINUX.would_remove(net, ip, Past(KNOWN))
    assert told == ([["ip", "link", "delete", "dev", NAME]], [])
    ip.links[NAME].held.append("192.168.7.1/24")
    commands, (stays,) = LINUX.would_remove(net, ip, Past(KNOWN))
    assert commands == [["ip", "address", "del", text, "dev", NAME] for text in OURS]
    assert "192.168.7.1/24" in stays
    ip.links[NAME] = Link("dummy", held=["10.107.0.1/16"])
    commands, (stays,) = LINUX.would_remove(net, ip, Past())
    assert commands == [] and "no mark of ngrokd" in stays
    assert not [line for line in ip.ran if " del" in line]


def test_a_dry_run_tells_all_and_touches_nothing(
    wreck: Wreck, capsys: pytest.CaptureFixture[str]
) -> None:
    path = wreck.write_config()
    wreck.crash()
    journal = wreck.folder / "state" / "hosts.ngrokd.journal"
    journal.touch()
    edit = wreck.hosts.with_name(f".hosts.ngrokd-99999999-{'b' * 16}")
    edit.write_bytes(b"10.0.0.9 mine\n")
    before = wreck.tree()
    assert run("--config", path, "cleanup", "--dry-run") == 0
    answer = capsys.readouterr()
    assert answer.out.splitlines() == [
        f"# put {wreck.hosts} back if it is half written, as {journal} tells",
        f"# take ngrokd's section out of {wreck.hosts}",
        f"rm {wreck.hosts.with_name('.hosts.ngrokd-99999999-' + 'a' * 16)}",
        f"# keep {edit} as {wreck.hosts}.ngrokd-kept-*",
        f"rm {wreck.socket}",
        f"rm {wreck.pid}",
        f"rm {wreck.folder / 'state' / '.ip_mappings.json.ngrokd-99999999-'}{'a' * 16}",
    ]
    assert wreck.tree() == before
    for left in wreck.folder.rglob(".*.ngrokd-*"):
        left.unlink()
    journal.unlink()
    wreck.hosts.write_bytes(SECTION + SECTION)
    wreck.socket.unlink()
    wreck.pid.write_text("my notes")
    assert run("--config", path, "cleanup", "--dry-run") == 1
    answer = capsys.readouterr()
    assert answer.out == "" and "nothing was written" in answer.err


def test_without_root_the_interface_is_told_with_the_mend(there: None) -> None:
    ip = FakeIp(root=False)
    ip.links[NAME] = Link("dummy", held=list(OURS))
    with pytest.raises(HostError, match=f"Mend: ip link delete dev {NAME}"):
        _remove(ip)


def test_where_there_is_none_no_command_is_run() -> None:
    ip = FakeIp()
    assert _remove(ip) == []
    assert ip.ran == []


def test_no_daemon_can_start_while_it_cleans_up(wreck: Wreck) -> None:
    """And what it took for that is given back."""
    wreck.crash()
    outcome: list[str] = []

    def run_command(argv: object, text: str = "") -> str:
        with living_result(CLAIM, NAME, wreck.hosts) as said:
            outcome.append(said)
        return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interfaces, "_is_there", lambda name: True)
        leftovers.remove(wreck.config.net, frozenset(), run_command)
    assert outcome and f"pid {os.getpid()}" in outcome[0]
    claims = Claims(wreck.config.net)
    claims.take()
    claims.release()


@contextlib.contextmanager
def living_result(statements: str, *words: object) -> Iterator[str]:
    """What another process says that fails at these statements."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{statements}", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    yield done.stderr


@pytest.mark.root
def test_a_real_tun_device_and_its_addresses_go(namespace: Namespace, tmp_path: Path) -> None:
    def ip(*words: object) -> str:
        return str(namespace.run("ip", *words, check=False).stdout)

    before = ip("-o", "addr")
    config = tmp_path / "config.yml"
    config.write_text(
        f"server: {{pid_file: {tmp_path}/p, socket_path: {tmp_path}/s,"
        f" client_cert: {tmp_path}/tls.crt}}\n"
    )
    ip("tuntap", "add", "dev", "ngrokd0", "mode", "tun")
    for address in OURS:
        ip("addr", "add", address, "dev", "ngrokd0")
    (tmp_path / "ip_mappings.json").write_text('{"a.ns": "10.107.0.2", "b.ns": "10.107.0.3"}')
    script = "import argparse,sys; from ngrokd.verbs import cleanup; from pathlib import Path; "
    script += "sys.exit(cleanup.run(argparse.Namespace(config=sys.argv[1], dry_run=False)))"
    argv = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-c", script, config)
    assert namespace.run(*argv).stdout.startswith("interface ngrokd0 is removed")
    assert ip("-o", "addr") == before
    assert namespace.run(*argv).stdout == ""
