"""What `ngrokctl doctor` sees: over real sockets, files and this machine's own /proc."""

from __future__ import annotations

import email.utils
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Callable

import pytest

from ngrokd.cloud.distrust import Verdict
from ngrokd.config import ApiSettings, Config, NetSettings, ServerSettings
from ngrokd.configtext import written
from ngrokd.control import ctl
from ngrokd.doctor import (
    cloud,
    lookcloud,
    lookdaemon,
    lookhost,
    looksettings,
    settings,
    surroundings,
)
from ngrokd.doctor.aside import Aside
from ngrokd.doctor.cloud import Reply, Welcome
from ngrokd.doctor.daemon import Asked
from ngrokd.doctor.finding import Grade
from ngrokd.doctor.host import InterfaceFacts
from ngrokd.host import cgroups
from ngrokd.host.command import CommandError
from ngrokd.host.holders import Holders
from ngrokd.host.netif import bsd
from ngrokd.host.netif.darwin import DarwinSystem
from ngrokd.model import Address
from ngrokd.process import identity, running
from tests.certificates import Authority, server_context
from tests.cloud_fake import FakeApi
from tests.cloud_fake import Reply as Sent
from tests.control_room import serving
from tests.macos.mac import Mac

KEY = "a-key-that-could-be-one-of-ngroks"
SECTION = b"# BEGIN ngrokd managed section\n10.107.0.2\tweb.ns\n# END ngrokd managed section\n"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Of a state folder of this test's own, with a key that is configured."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    server = ServerSettings(
        client_cert=str(state / "tls.crt"),
        client_key=str(state / "tls.key"),
        log_file=str(tmp_path / "ngrokd.log"),
    )
    net = NetSettings(hosts_file=str(tmp_path / "hosts"))
    return Config(ApiSettings("http://127.0.0.1:1", KEY), server=server, net=net)


@contextmanager
def api(config: Config, sent: Sent) -> Iterator[tuple[Config, FakeApi]]:
    with FakeApi(lambda request: sent) as fake:
        yield replace(config, api=replace(config.api, url=fake.url)), fake


# The cloud


def test_one_request_tells_of_the_api_the_key_and_the_clock(config: Config) -> None:
    with api(config, Sent(200, {"kubernetes_operators": []})) as (there, fake):
        facts = lookcloud.at_api(there)
    assert facts.reply is Reply.TAKEN
    assert facts.skew_s is not None and abs(facts.skew_s) < 5
    (request,) = fake.requests
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.path.endswith("?limit=1")


def test_the_saved_key_goes_before_the_configured_one(config: Config) -> None:
    (config.state_folder / "api_key").write_text("another-key-that-was-set-later\n")
    with api(config, Sent(200, {"kubernetes_operators": []})) as (there, fake):
        lookcloud.at_api(there)
    assert fake.requests[0].headers["authorization"] == "Bearer another-key-that-was-set-later"


def test_a_refused_key_and_an_api_that_is_not_well_are_told_apart(config: Config) -> None:
    with api(config, Sent(401, {"msg": "no", "error_code": "ERR_NGROK_206"})) as (there, _):
        assert lookcloud.at_api(there).reply is Reply.REFUSED
    with api(config, Sent(503, {})) as (there, _):
        assert lookcloud.at_api(there).reply is Reply.UNWELL
    silent = lookcloud.at_api(config)
    assert silent.reply is Reply.NONE and KEY not in silent.why


@pytest.mark.parametrize(
    "sent",
    [
        Sent(200, body=b"<html>log in to the network"),
        Sent(302, {}, headers={"Location": "http://portal/"}),
        Sent(200, body=b"\x16\x03rubbish"),
    ],
)
def test_what_is_not_the_api_is_told_from_one_that_is_not_well(config: Config, sent: Sent) -> None:
    with api(config, sent) as (there, _):
        facts = lookcloud.at_api(there)
    assert facts.reply is Reply.FOREIGN and "tried again" not in facts.why
    (found,) = cloud.of_api(facts)
    assert found.grade is Grade.FAILED and "api.url" in found.mend


def test_a_saved_key_that_is_no_file_is_a_fault_also_for_root(config: Config) -> None:
    (config.state_folder / "api_key").mkdir()
    facts = lookcloud.at_api(config)
    assert not facts.is_unreadable
    assert cloud.of_api(facts)[0].grade is Grade.FAILED



def test_a_clock_that_is_wrong_is_seen_by_the_date_of_the_answer(config: Config) -> None:
    date = email.utils.formatdate(time.time() - 4000, usegmt=True)
    raw = f"HTTP/1.0 200 OK\r\nDate: {date}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    with api(config, Sent(raw=raw)) as (there, _):
        skew_s = lookcloud.at_api(there).skew_s
    assert skew_s is not None and 3990 < skew_s < 4010
    for odd in ("", "yesterday", "Mon, 99 Foo 99999 99:99:99 GMT"):
        raw = f"HTTP/1.0 200 OK\r\nDate: {odd}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
        with api(config, Sent(raw=raw)) as (there, _):
            assert lookcloud.at_api(there).skew_s is None


def test_without_a_key_nothing_is_sent(config: Config) -> None:
    facts = lookcloud.at_api(replace(config, api=ApiSettings(config.api.url, "")))
    assert facts.reply is None and "no API key" in facts.why


class Ingress:
    """Takes clients of one authority, and then waits, or does what `after` says."""

    def __init__(self, folder: Path, version: ssl.TLSVersion) -> None:
        self.version = version
        self.authority = Authority(folder, "Our CA")
        self.stranger = Authority(folder, "Strange CA")
        self.pair = self.authority.issue("127.0.0.1")
        self.after: Callable[[ssl.SSLSocket], object] = lambda link: link.recv(1)

    @contextmanager
    def serving(self) -> Iterator[str]:
        context = server_context(self.pair, self.authority.cert, self.version)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            thread = threading.Thread(target=self._serve, args=(listening, context), daemon=True)
            thread.start()
            yield f"127.0.0.1:{listening.getsockname()[1]}"

    def _serve(self, listening: socket.socket, context: ssl.SSLContext) -> None:
        while True:
            try:
                plain, _ = listening.accept()
                with plain, context.wrap_socket(plain, server_side=True) as link:
                    self.after(link)
            except (ssl.SSLError, ConnectionError):
                continue  # a client that was refused, or has seen enough
            except OSError:
                return  # the test is over


def configured(config: Config, ingress: Ingress, client: Authority, place: str) -> Config:
    pair = client.issue("client")
    server = replace(
        config.server,
        client_cert=str(pair.cert),
        client_key=str(pair.key),
        ca_file=str(ingress.authority.cert),
    )
    return replace(config, server=server, ingress_endpoint=place)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_ingress_that_takes_our_certificate_waits_for_a_request(
    config: Config, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    ingress = Ingress(tmp_path, version)
    with ingress.serving() as place:
        there = configured(config, ingress, ingress.authority, place)
        facts = lookcloud.at_ingress(there, "", has_pair=True)
    assert facts.look is not None and facts.look.verdict is Verdict.TRUSTED
    assert facts.welcome is Welcome.ACCEPTED


def test_a_certificate_that_is_refused_behind_the_handshake_is_seen(
    config: Config, tmp_path: Path
) -> None:
    ingress = Ingress(tmp_path, ssl.TLSVersion.TLSv1_3)
    with ingress.serving() as place:
        there = configured(config, ingress, ingress.stranger, place)
        facts = lookcloud.at_ingress(there, "", has_pair=True)
    assert facts.look is not None and facts.look.verdict is Verdict.TRUSTED
    assert facts.welcome is Welcome.REFUSED and facts.said


def test_an_ingress_that_closes_without_a_word_refuses_us(config: Config, tmp_path: Path) -> None:
    ingress = Ingress(tmp_path, ssl.TLSVersion.TLSv1_3)
    ingress.after = lambda link: None
    with ingress.serving() as place:
        there = configured(config, ingress, ingress.authority, place)
        assert lookcloud.at_ingress(there, "", has_pair=True).welcome is Welcome.REFUSED


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_without_a_certificate_the_ingress_is_judged_all_the_same(
    config: Config, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    ingress = Ingress(tmp_path, version)
    with ingress.serving() as place:
        strange = replace(config, ingress_endpoint=place)
        (wrong,) = cloud.of_ingress(lookcloud.at_ingress(strange, "", has_pair=False))
        trusting = replace(config.server, ca_file=str(ingress.authority.cert))
        known = replace(strange, server=trusting)
        found = cloud.of_ingress(lookcloud.at_ingress(known, "", has_pair=False))
    assert (wrong.grade, wrong.mend) == (Grade.FAILED, "ngrokctl trust")
    assert found[-1].grade is Grade.SKIPPED and "no certificate to show" in found[-1].text
    if version is ssl.TLSVersion.TLSv1_3:  # before, it says within the handshake that it wants one
        assert found[0].grade is Grade.OK


def test_of_a_look_that_does_not_end_nobody_waits_for_longer_than_was_said() -> None:
    never = threading.Event()
    look = Aside(never.wait)
    assert look.found(time.monotonic() + 0.05) is None
    never.set()
    assert look.found(time.monotonic() + 5) is True
    failing: Aside[object] = Aside(lambda: [][0])
    with pytest.raises(IndexError):
        failing.found(time.monotonic() + 5)


def test_a_cloud_that_is_not_found_in_time_is_told_with_its_mend(config: Config) -> None:
    (silent,) = cloud.of_api(lookcloud.late_api(config, 25))
    (lost,) = cloud.of_ingress(lookcloud.late_ingress(config, "", 25))
    for each in (silent, lost):
        assert each.grade is Grade.FAILED and "25 s" in each.text and "DNS" in each.mend


def test_where_the_ingress_is_was_kept_by_the_last_daemon(config: Config) -> None:
    known = '{"operator_id": "k8sop_1", "ingress_endpoint": "127.0.0.1:4443"}'
    (config.state_folder / "registration.json").write_text(known)
    assert str(lookcloud.at_ingress(config, "", has_pair=False).address) == "127.0.0.1:4443"
    assert str(lookcloud.at_ingress(config, "127.0.0.1:5", False).address) == "127.0.0.1:5"
    (config.state_folder / "registration.json").write_text("{damaged")
    assert "ngrok" in lookcloud.at_ingress(config, "", has_pair=False).address.host
    assert os.listdir(config.state_folder) == ["registration.json"]  # nothing is set aside


def test_a_pair_is_judged_by_its_files(config: Config, tmp_path: Path) -> None:
    assert not lookcloud.at_certificate(config).is_there
    authority = Authority(tmp_path)
    one, other = authority.issue("one"), authority.issue("other")
    server = config.server
    whole = replace(server, client_cert=str(one.cert), client_key=str(one.key))
    assert lookcloud.at_certificate(replace(config, server=whole)).validity is not None
    mixed = replace(server, client_cert=str(one.cert), client_key=str(other.key))
    found = lookcloud.at_certificate(replace(config, server=mixed))
    assert found.validity is None and "cannot be used" in found.fault
    Path(config.server.client_cert).write_text("no certificate")
    assert "no PEM certificate" in lookcloud.at_certificate(config).fault


# The host


def test_our_section_of_the_hosts_file_is_seen(config: Config) -> None:
    assert lookhost.at_hosts(config.net).names == {}
    file = Path(config.net.hosts_file)
    file.write_bytes(b"127.0.0.1 localhost\n" + SECTION)
    seen = lookhost.at_hosts(config.net)
    assert seen.names == {"web.ns": "10.107.0.2"} and not seen.is_the_resolvers
    file.write_bytes(SECTION.replace(b"# END", b"# AND"))
    assert "Mend" in lookhost.at_hosts(config.net).fault
    file.unlink()
    file.mkdir()
    assert "cannot be read" in lookhost.at_hosts(config.net).fault


def test_getent_is_asked_for_a_few_names_of_many() -> None:
    names = [f"n{n:03}.ns" for n in range(500)]
    endpoints = [{"published": True, "hostname": name, "ip": "10.107.0.2"} for name in names]
    asked = Asked("/sock", {}, tuple(endpoints))

    def getent(argv: object, text: str = "") -> str:
        assert isinstance(argv, list) and argv[:2] == ["getent", "hosts"]
        if argv[2] == "n000.ns":
            raise CommandError("none", 2)
        if argv[2] == "n496.ns":
            raise CommandError("there is no program getent")
        return f"10.107.0.2      {argv[2]}\n"

    seen = lookhost.at_resolver(asked, getent)
    assert len(seen) == 5 and seen["n000.ns"] == () and None in seen.values()
    assert ("10.107.0.2",) in seen.values()
    assert lookhost.at_resolver(Asked("/sock"), getent) == {}


def test_what_listens_here_is_seen_without_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        at = Address(*listening.getsockname())
        before = lookhost.at_listeners()
        with socket.create_connection((at.ip, at.port)):
            after = lookhost.at_listeners()
    assert before is not None and after is not None
    assert (before[at], after[at]) == (0, 1)
    assert lookhost.at_listeners(Path("/nowhere")) is None


def test_the_descriptors_of_a_process_are_counted() -> None:
    me = Asked("/sock", {"pid": os.getpid()})
    limits = lookhost.at_limits(me)
    assert limits.allowed and limits.used and limits.used < limits.allowed
    assert lookhost.at_limits(me, Path("/nowhere")).allowed is None
    assert lookhost.at_limits(Asked("/sock")).used is None


def on_loopback(name: str) -> Asked:
    return Asked("/sock", {"interface": {"name": name, "mode": "loopback"}})


def test_aliases_are_looked_at_where_a_loopback_interface_has_only_these() -> None:
    mac, facts = Mac(), InterfaceFacts("ngrokd0", "127.0.0.0/8")
    mac(bsd.add_alias("127.0.0.2"))
    seen = lookhost.with_aliases(facts, on_loopback("lo0"), mac, DarwinSystem())
    assert seen.aliases == frozenset(("127.0.0.1", "127.0.0.2", "::1"))
    assert lookhost.with_aliases(facts, on_loopback("lo"), mac, DarwinSystem()) == facts
    assert lookhost.with_aliases(facts, Asked("/sock"), mac, DarwinSystem()) == facts


def test_aliases_that_cannot_be_looked_at_are_told() -> None:
    def refuse(argv: Sequence[str], text: str = "") -> str:
        raise CommandError("`ifconfig -a`: no")

    facts = InterfaceFacts("ngrokd0", "127.0.0.0/8")
    seen = lookhost.with_aliases(facts, on_loopback("lo0"), refuse, DarwinSystem())
    assert seen.fault == "networks cannot be looked at: `ifconfig -a`: no" and seen.aliases is None


# Settings


def test_a_configuration_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    assert not looksettings.at_config(path, {})[1].is_there
    path.write_text("net: {subnet: 10.9.0.0/16, no: 1}\n")
    config, facts = looksettings.at_config(path, {})
    assert config.net.subnet == "10.9.0.0/16"
    assert "net.no" in facts.faults[0] and facts.is_known
    path.write_text("][")
    assert not looksettings.at_config(path, {})[1].is_known
    path.write_text("net: {subnet: 10.9.0.0/16}\n")
    assert looksettings.at_config(path, {})[1].faults == ()


def test_secrets_are_looked_at_where_they_are(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("")
    path.chmod(0o644)
    files = looksettings.at_files(config, path, str(tmp_path / "sock"))
    assert files.folder.mode == 0o700 and files.socket.mode is None
    assert [each.mode for each in files.secrets] == [None, None, 0o644]
    keyless = replace(config, api=ApiSettings())
    assert len(looksettings.at_files(keyless, path, "/sock").secrets) == 2


def test_a_log_is_looked_at_and_not_written(config: Config, tmp_path: Path) -> None:
    place = config.server.log_file
    assert looksettings.at_log(place).fault == ""
    assert not Path(place).exists()
    lost = looksettings.at_log(str(tmp_path / "no" / "log"))
    assert "no folder" in lost.fault
    assert lost.mend == f"mkdir -p {tmp_path / 'no'}"
    (tmp_path / "link").symlink_to(place)
    assert looksettings.at_log(str(tmp_path / "link")).fault == ""  # it is made where that leads


def test_a_log_that_takes_no_lines_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("pipe", ".", "loop"):
        found = looksettings.at_log(str(tmp_path / name))
        assert found.fault and "server.log_file" in found.mend, name


def test_a_log_in_the_foreground_goes_where_its_starter_wants_it(config: Config) -> None:
    unset = replace(config, server=replace(config.server, log_file=""))
    place = looksettings.log_place(unset, Path("/nowhere"), in_foreground=True)
    assert place in (looksettings.STANDARD_ERROR, looksettings.JOURNAL)
    assert "goes to" in settings.of_log(looksettings.at_log(place)).text
    assert looksettings.log_place(config, Path("/n"), True) == config.server.log_file


@pytest.mark.parametrize("make", ["loop", "dangling"])
def test_a_configuration_that_leads_nowhere_is_a_fault_and_not_closed(
    make: str, tmp_path: Path
) -> None:
    path = tmp_path / "config.yml"
    path.symlink_to(path if make == "loop" else tmp_path / "gone")
    facts = looksettings.at_config(path, {})[1]
    assert facts.is_readable and "cannot be read" in facts.faults[0]


# What the daemon has and who asks has not


def test_the_daemons_own_words_go_before_a_configuration_of_another_one(config: Config) -> None:
    status: dict[str, object] = {
        "interface": {"name": "ngrok7", "subnet": "10.9.0.0/16", "mode": "dummy"},
        "hosts": {"path": "/srv/hosts"},
    }
    net = lookhost.as_told(config.net, Asked("/s", status))
    told = (net.interface_name, net.subnet, net.hosts_file)
    assert told == ("ngrok7", "10.9.0.0/16", "/srv/hosts")
    odd: dict[str, object] = {
        "interface": {"name": "-x\0", "subnet": "127.107.0.0/16", "mode": "loopback"},
        "hosts": {"path": "\x1b"},
    }
    assert lookhost.as_told(config.net, Asked("/s", odd)) == config.net
    loopback: dict[str, object] = {
        "interface": {"name": "lo", "subnet": "127.107.0.0/16", "mode": "loopback"}
    }
    assert lookhost.as_told(config.net, Asked("/s", loopback)) == config.net


def test_a_key_of_the_environment_goes_before_that_of_the_file(
    config: Config, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("of-a-file\n")
    named = {"NGROK_API_KEY_FILE": str(tmp_path / "key")}
    assert surroundings.with_key(config, {}).api.key == KEY
    assert surroundings.with_key(config, named).api.key == "of-a-file"
    assert surroundings.with_key(config, {**named, "NGROK_API_KEY": "mine"}).api.key == "mine"


def test_proxies_are_the_daemons_meanwhile_and_ours_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://ours:1")
    with surroundings.way_of({"https_proxy": "http://its:2", "OTHER": "x"}):
        assert "HTTPS_PROXY" not in os.environ and "OTHER" not in os.environ
        assert os.environ["https_proxy"] == "http://its:2"
    assert os.environ["HTTPS_PROXY"] == "http://ours:1" and "https_proxy" not in os.environ


def test_how_a_daemon_was_started_is_read_of_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "is_ngrokd", lambda pid: True)
    process = tmp_path / "7"
    process.mkdir()
    (process / "cwd").symlink_to("/srv")
    (process / "cmdline").write_bytes(b"python3\0ngrokd\0--config\0my.yml\0--foreground\0")
    (process / "environ").write_bytes(b"NGROK_API_KEY=k\0odd\0")
    found = lookdaemon.started(Asked("/s", {"pid": 7}), tmp_path)
    assert found == lookdaemon.Started(Path("/srv/my.yml"), {"NGROK_API_KEY": "k"}, True)
    (process / "environ").unlink()
    (process / "cmdline").write_bytes(b"ngrokd\0--config=/etc/x.yml\0")
    found = lookdaemon.started(Asked("/s", {"pid": 7}), tmp_path)
    assert found == lookdaemon.Started(Path("/etc/x.yml"))
    assert lookdaemon.started(Asked("/s")) == lookdaemon.Started()


def test_a_daemon_that_is_silent_is_stuck_and_not_dead(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookdaemon, "ASK_S", 0.2)
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(8)
        silent = lookdaemon.ask(path, config, "/log")
    assert silent.is_stuck and silent.lives and "0.2 s" in silent.why
    here = replace(config, server=replace(config.server, pid_file=str(tmp_path / "pid")))
    gone = lookdaemon.ask(str(tmp_path / "none"), here, "/log")
    assert not gone.lives and gone.log == "/log"
    monkeypatch.setattr(running, "find", lambda config: 42)
    assert "pid 42" in lookdaemon.ask(str(tmp_path / "none"), here, "/log").why


@pytest.mark.parametrize("name", ["-s", "a\0b", "\ud800.ns", "a b", ""])
def test_no_name_that_is_none_is_given_to_getent(name: str) -> None:
    asked = Asked("", {}, ({"hostname": name, "ip": "10.0.0.1", "published": True},))
    assert lookhost.at_resolver(asked, lambda argv, text="": pytest.fail(name)) == {}


def test_whose_a_port_is_that_the_daemon_may_not_see_is_told_to_who_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "of_listeners", dict)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = Address(*taken.getsockname())
        blind = tmp_path / "proc"
        (blind / "net").mkdir(parents=True)
        (blind / "net" / "tcp").write_text(Path("/proc/net/tcp").read_text())
        said = Holders(blind).of(at)
        reason = f"{at} cannot be listened on: {said}. Mend: stop it"
        failed: dict[str, object] = {"reason": reason}
        other: dict[str, object] = {"reason": "descriptor limit"}
        asked = lookhost.at_holders(Asked("", {}, (failed, other)))
        assert "which one" in reason
        unseen = lookhost.at_holders(Asked("", {}, (failed,)), Holders(blind))
    whose = f"{Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()}) on {at}"
    assert asked.endpoints == (
        {"reason": f"{at} cannot be listened on: {whose}. Mend: stop it"},
        other,
    )
    assert unseen.endpoints == (failed,)


# Which daemon


def test_the_daemon_that_answers_is_looked_at_by_its_own_configuration(
    tmp_path: Path, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    path, socket_path = tmp_path / "its own.yml", tmp_path / "sock"
    shut = replace(config, api=ApiSettings("http://127.0.0.1:1"), ingress_endpoint="127.0.0.1:1")
    path.write_text(written.text_of(shut))
    answers = {"version": "1", "pid": os.getpid(), "state": "ready", "config": str(path)}
    commands = {"status": lambda args: answers, "list": lambda args: []}
    with serving(socket_path, commands):
        ctl.main(["--socket", str(socket_path), "doctor"])
    told = capsys.readouterr().out
    assert f"{path} is valid" in told
    assert str(config.net.hosts_file) in told and "/etc/hosts " not in told


def test_our_section_is_looked_for_as_the_daemon_tells_it(config: Config) -> None:
    path = Path(config.net.hosts_file)
    words = "ngrokd managed section (utun)"
    path.write_text(f"# BEGIN {words}\n10.107.0.3\ta.ns\n# END {words}\n")
    net = replace(config.net, interface_name="utun3")
    told = Asked("/s", {"hosts": {"lines": path.read_text().splitlines()}})
    assert lookhost.at_hosts(net, lookhost.marker(net, told)).names == {"a.ns": "10.107.0.3"}
    assert lookhost.marker(net, Asked("/s", {})).endswith("(utun3)")
    assert lookhost.marker(net, Asked("/s", {"hosts": {"lines": ["odd"]}})).endswith("(utun3)")
