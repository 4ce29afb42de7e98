"""What `ngrokctl doctor` sees: over real sockets, files and this machine's own /proc."""

from __future__ import annotations

import email.utils
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Callable

import pytest

from ngrokd.cloud.distrust import Verdict
from ngrokd.config import ApiSettings, Config, NetSettings, ServerSettings
from ngrokd.configtext import written
from ngrokd.control import ctl
from ngrokd.doctor import lookcloud, lookhost, looksettings
from ngrokd.doctor.cloud import Reply, Welcome
from ngrokd.doctor.daemon import Asked
from ngrokd.host import cgroups
from ngrokd.host.command import CommandError
from ngrokd.host.holders import Holders
from ngrokd.model import Address
from tests.certificates import Authority, server_context
from tests.cloud_fake import FakeApi
from tests.cloud_fake import Reply as Sent
from tests.control_room import serving

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


# Settings


def test_a_configuration_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    assert not looksettings.at_config(path)[1].is_there
    path.write_text("net: {subnet: 10.9.0.0/16, no: 1}\n")
    config, facts = looksettings.at_config(path)
    assert config.net.subnet == "10.9.0.0/16"
    assert "net.no" in facts.faults[0]
    path.write_text("net: {subnet: 10.9.0.0/16}\n")
    assert looksettings.at_config(path)[1].faults == ()


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
    assert looksettings.at_log(config).fault == ""
    assert not Path(config.server.log_file).exists()
    lost = replace(config, server=replace(config.server, log_file=str(tmp_path / "no" / "log")))
    assert "no folder" in looksettings.at_log(lost).fault
    assert looksettings.at_log(lost).mend == f"mkdir -p {tmp_path / 'no'}"


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
