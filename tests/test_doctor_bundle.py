"""A bundle for a bug report holds what helps, and no secret, wherever one was planted."""

from __future__ import annotations

import base64
import io
import json
import os
import stat
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.config import ApiSettings, Config, NetSettings, ServerSettings
from ngrokd.control import ctl
from ngrokd.doctor import bundle, collecting, secrets
from ngrokd.doctor.bundle import Scrubber
from ngrokd.doctor.collecting import Sources
from ngrokd.doctor.daemon import Asked
from ngrokd.errors import HostError, NotPermitted
from tests.certificates import Authority

CONFIGURED = "configured-api-key-0123456789"
SAVED = "saved-api-key-0123456789abc"
IN_ENVIRONMENT = "api-key-of-the-environment-42"
IN_FILE = "api-key-of-a-file-of-its-own-7"
OLD = "2aBcDeFgHiJkLmNoPqRsTuVwXyZ_4AbCdEfGhIjKlMnOpQrSt"  # known to nobody here any more
PASSWORD = "pass-word-of-the-proxy"
BEARER = "somebodys-token"
NOTHING = Sources(Config(), Path("/nowhere"), {}, Asked("/sock"), "/nowhere.log")


def unpacked(path: Path) -> dict[str, str]:
    with tarfile.open(path) as tar:
        found = {}
        for entry in tar.getmembers():
            file = tar.extractfile(entry)
            assert file is not None and entry.mode == 0o600
            found[entry.name.partition("/")[2]] = file.read().decode()
    return found


class Planted:
    """A machine of ours with a secret in every place."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        state = folder / "state"
        state.mkdir()
        pair = Authority(folder).issue("client")
        self.key = pair.key.read_text()
        other_key = Authority(folder, "Other CA").issue("other").key.read_text()
        self.other_lines = other_key.splitlines()[1:-1]
        (state / "tls.key").write_text(self.key)
        (state / "api_key").write_text(f"{SAVED}\n")
        (state / "endpoints.json").write_text(json.dumps({"note": [SAVED, OLD]}))
        (state / "ip_mappings.json").write_text('{"web.ns": "10.107.0.2"}')
        (folder / "key").write_text(f"{IN_FILE}\n")
        monkeypatch.setenv("NGROK_API_KEY", IN_ENVIRONMENT)
        monkeypatch.setenv("NGROK_API_KEY_FILE", str(folder / "key"))
        monkeypatch.setenv("https_proxy", f"http://me:{PASSWORD}@proxy:3128")
        (folder / "ngrokd.log").write_text(
            f"asked with {CONFIGURED}\nAuthorization: Bearer {BEARER}\n{OLD} {IN_FILE}\n"
            f"through http://me:{PASSWORD}@proxy:3128\n{self.key}{other_key}the last line\n"
        )
        (folder / "hosts").write_text(
            f"10.0.0.9 intranet.secret\n# {SAVED}\n# BEGIN ngrokd managed section\n"
            f"10.107.0.2\tweb.ns\n# {SAVED}\n# END ngrokd managed section\n"
        )
        self.config = Config(
            ApiSettings("https://api.ngrok.com", CONFIGURED),
            server=ServerSettings(
                client_cert=str(state / "tls.crt"),
                client_key=str(state / "tls.key"),
                log_file=str(folder / "ngrokd.log"),
            ),
            net=NetSettings(hosts_file=str(folder / "hosts"), overrides={"a.ns": SAVED}),
        )
        status: dict[str, object] = {"problems": [f"the key {IN_ENVIRONMENT} is refused"]}
        self.asked = Asked("/sock", status, ({"last_error": f"Bearer {BEARER} {self.key}"},))
        log = self.config.server.log_file
        self.sources = Sources(self.config, folder / "config.yml", os.environ, self.asked, log)
        self.pages = {"doctor.txt": f"daemon failed: {SAVED}\n"}
        self.secrets = [
            *(CONFIGURED, SAVED, IN_ENVIRONMENT, IN_FILE, OLD, PASSWORD, BEARER),
            *self.key.splitlines()[1:-1],
            *self.other_lines,
            "intranet.secret",
        ]


def test_no_secret_is_in_it_wherever_it_was_planted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Planted(tmp_path, monkeypatch)
    path = tmp_path / "bundle.tar.gz"
    collecting.write(path, planted.sources, planted.pages)
    texts = unpacked(path)
    leaked = [(s, name) for name, text in texts.items() for s in planted.secrets if s in text]
    assert leaked == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


ODD = 'my+api/key"with\\odd=signs~1234'
ENCODED = {
    "json": json.dumps(ODD)[1:-1],
    "url": quote(ODD, safe=""),
    "base64": base64.b64encode(ODD.encode()).decode(),
    "within base64": base64.b64encode(b"me:" + ODD.encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(b"x" + ODD.encode()).decode(),
    "hex": ODD.encode().hex(),
}


@pytest.mark.parametrize("form", ENCODED)
def test_a_secret_is_found_in_whatever_form_it_stands(form: str) -> None:
    kept = Scrubber([ODD]).clean(f"sent <{ENCODED[form]}> to ngrok")
    assert ENCODED[form][8:-8] not in kept and "to ngrok" in kept


def in_turn(text: str) -> str:
    """In upper case and lower case by turns."""
    return "".join(c.upper() if i % 2 else c.lower() for i, c in enumerate(text))


@pytest.mark.parametrize("change", [str.upper, str.lower, str.title, in_turn])
@pytest.mark.parametrize("text", [ODD, quote(ODD, safe=""), ODD.encode().hex(), "clé/è-12345"])
def test_a_secret_is_found_in_any_case(text: str, change: Callable[[str], str]) -> None:
    kept = Scrubber([ODD, "clé/è-12345"]).clean(f"İ {change(text)} ﬁ {text}!")
    assert kept == "İ [redacted] ﬁ [redacted]!", "what has another length in lower case shifts none"


def test_a_long_text_with_many_known_words_takes_no_time() -> None:
    words = [f"configured-word-{n:08}" for n in range(secrets.MAX_WORDS)]
    text = "2026-01-01T00:00:00Z INFO http://web.ns:8080 is open on 10.107.0.2:8080\n" * 15_000
    began = time.process_time()
    assert Scrubber(words).clean(text) == text
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("Proxy-Authorization: Basic bWU6c2VjcmV0", "bWU6c2VjcmV0"),
        ('{"api_key":"unknown-here-97"}', "unknown-here-97"),
        ("NGROK_API_KEY=unknown-here-98", "unknown-here-98"),
        ("via http://me:p@ss/w0rd:x@proxy", "w0rd"),
        ("via http://only-a-token@proxy", "only-a-token"),
        (f"see {base64.b64encode(OLD.encode()).decode()}", base64.b64encode(OLD.encode()).decode()),
    ],
)
def test_what_nobody_here_knows_is_recognised_by_its_look(line: str, secret: str) -> None:
    assert secret not in Scrubber([]).clean(line)


def test_a_private_key_without_its_first_line_is_recognised(tmp_path: Path) -> None:
    lines = Authority(tmp_path).issue("client").key.read_text().splitlines()[1:-1]
    assert "".join(lines)[8:] not in Scrubber([]).clean(f"key {''.join(lines)} end")


@pytest.mark.parametrize(
    "line",
    [
        "2026-01-01T00:00:00Z INFO http://web.ns:8080 is open on 10.107.0.2:8080",
        'GET https://api.ngrok.com/kubernetes_operators?limit=1: HTTP 401, ERR_NGROK_206',
        "no API key is set; make an API key at https://dashboard.ngrok.com/api-keys",
        "SHA-256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "k8sop_2aBcDeFgHiJkLmNoPqRsTuVwXyZ is registered",
        '"client_key": "/etc/ngrokd/tls.key", "key": ""',
    ],
)
def test_a_line_without_a_secret_is_kept_whole(line: str) -> None:
    assert Scrubber([ODD, CONFIGURED]).clean(line) == line


def test_a_key_in_a_configuration_that_is_broken_is_known(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text(f"api:\n  {CONFIGURED}: 1\n# key: {OLD}x\n  kye: [{SAVED}\n")
    log = tmp_path / "log"
    log.write_text(f"config.yml:2: api.{CONFIGURED}: no such key; {OLD}x {SAVED}\n")
    sources = Sources(Config(), path, {}, Asked("/sock"), str(log))
    collecting.write(tmp_path / "b.tar.gz", sources, {})
    kept = unpacked(tmp_path / "b.tar.gz")["log.txt"]
    assert kept == "config.yml:2: api.[redacted]: no such key; [redacted] [redacted]\n"


def test_proxies_keep_their_place_and_lose_who_asks() -> None:
    environ = {
        "https_proxy": "http://me:p@ss/w0rd@proxy:3128",
        "HTTP_PROXY": "me:bare-password@proxy:3128",
        "ALL_PROXY": "http://user%40x:pass%2Fword@proxy",
        "NGROK_AUTHTOKEN": "token-of-nobody",
        "NGROK_API_KEY_FILE": "/etc/key-file-is-told",
    }
    known = list(secrets.of_variables(environ))
    text = Scrubber(known).clean("".join(collecting._environment(environ)))
    for each in ("w0rd", "bare-password", "pass%2Fword", "token-of-nobody"):
        assert each not in text
    assert "proxy:3128" in text and "/etc/key-file-is-told" in text
    assert "pass/word" not in Scrubber(known).clean("user pass/word")


def test_a_log_of_gigabytes_is_read_at_its_end_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(8 << 30)
        file.seek(0, os.SEEK_END)
        file.write(b"\nthe last line\n")
    assert collecting._log(str(path)).endswith("the last line\n")
    assert len(collecting._log(str(path))) <= collecting.LOG_BYTES


def test_what_a_daemon_or_a_command_says_without_end_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "MAX_FILE_BYTES", 1000)
    asked = Asked("/sock", {"problems": ["x" * 99] * 99})
    collecting.write(tmp_path / "b", replace(NOTHING, asked=asked), {})
    text = unpacked(tmp_path / "b")["status.json"]
    assert len(text) < 1100 and "... cut: it has " in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_half_a_bundle_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(os, "fchmod", lambda descriptor, mode: os.dup2(full, descriptor))
    with pytest.raises(HostError, match="No space left"):
        collecting.write(tmp_path / "b", NOTHING, {})
    os.close(full)
    assert not (tmp_path / "b").exists()


def test_what_helps_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = Planted(tmp_path, monkeypatch)
    path = tmp_path / "bundle.tar.gz"
    collecting.write(path, planted.sources, planted.pages)
    texts = unpacked(path)
    assert json.loads(texts["config.json"])["net"]["subnet"] == "10.107.0.0/16"
    assert json.loads(texts["config.json"])["api"]["key"] == "[redacted]"
    assert texts["log.txt"].endswith("the last line\n")
    assert texts["state/ip_mappings.json"] == '{"web.ns": "10.107.0.2"}'
    assert "2 other lines" in texts["hosts.txt"] and "10.107.0.2\tweb.ns" in texts["hosts.txt"]
    assert texts["doctor.txt"] == "daemon failed: [redacted]\n"
    assert "not read" in texts["state/registration.json"]
    assert {"status.json", "list.json", "environment.txt", "system.txt"} <= texts.keys()


def test_a_log_is_cut_at_a_line_and_a_key_that_was_cut_too_is_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Planted(tmp_path, monkeypatch)
    log = Path(planted.config.server.log_file)
    block = "-----BEGIN PRIVATE KEY-----\n" + "\n".join(planted.other_lines * 4)
    text = f"first\n{block}\n-----END PRIVATE KEY-----\nlast\n"
    log.write_text(text)
    for size in range(10, len(text) + 10, 13):
        monkeypatch.setattr(collecting, "LOG_BYTES", size)
        kept = Scrubber([]).clean(collecting._log(str(log)))
        assert not any(line in kept for line in planted.other_lines)


def test_no_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_text("mine")
    with pytest.raises(HostError, match="there already"):
        collecting.write(path, NOTHING, {})
    assert path.read_text() == "mine"


@pytest.mark.root
def test_a_place_that_is_closed_or_full_is_told(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be written"):
        collecting.write(tmp_path / "no" / "b.tar.gz", NOTHING, {})
    with pytest.raises((HostError, NotPermitted)):
        collecting.write(Path("/proc/b.tar.gz"), NOTHING, {})


def test_a_log_that_is_a_pipe_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not read" in collecting._log(str(tmp_path / "pipe"))


@given(st.text(), st.text(), st.sampled_from([CONFIGURED, OLD, f"Bearer {BEARER}"]))
def test_a_secret_is_found_in_the_midst_of_any_text(before: str, after: str, secret: str) -> None:
    text = f"{before} {secret} {after}"
    cleaned = Scrubber([CONFIGURED]).clean(text)
    assert secret.rpartition(" ")[2] not in cleaned


def test_the_command_writes_it_and_says_where_in_colours_that_it_does_not_keep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, config = tmp_path / "b.tar.gz", tmp_path / "config.yml"
    config.write_text(
        json.dumps(
            {
                "api": {"url": "http://127.0.0.1:1", "key": CONFIGURED},
                "ingressEndpoint": "127.0.0.1:1",
                "server": {"client_cert": str(tmp_path / "state" / "tls.crt")},
                "net": {"hosts_file": str(tmp_path / "hosts")},
            }
        )
    )
    words = ["--socket", str(tmp_path / "sock"), "doctor", "--config", str(config)]
    monkeypatch.setattr(ctl, "_colour", lambda: True)  # as on a terminal
    assert ctl.main([*words, "--bundle", str(path)]) == ctl.FAILED
    told = capsys.readouterr().out
    assert f"{path} is written" in told and "\x1b[31mfailed\x1b[0m   daemon " in told
    texts = unpacked(path)
    assert "failed   daemon " in texts["doctor.txt"] and "\x1b" not in str(texts)
    assert ctl.main([*words, "--bundle", str(path)]) == ctl.FAILED
    assert "there already" in capsys.readouterr().err


def test_an_archive_of_no_secrets_is_what_was_put_in(tmp_path: Path) -> None:
    packed = bundle.archive({"a": "plain \ud800", "b/c": ""}, Scrubber([]), 1e9)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getnames() == ["ngrokd-bundle/a", "ngrokd-bundle/b/c"]
        assert {entry.mtime for entry in tar.getmembers()} == {10**9}
    keyless = replace(Config(), api=ApiSettings())
    assert json.loads(bundle.configuration(keyless))["api"]["key"] == ""
