"""A bundle for a bug report holds what helps, and no secret, wherever one was planted."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngrokd.config import ApiSettings, Config, NetSettings, ServerSettings
from ngrokd.control import ctl
from ngrokd.doctor import bundle, collecting
from ngrokd.doctor.bundle import Scrubber
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
    collecting.write(path, planted.config, planted.asked, planted.pages)
    texts = unpacked(path)
    leaked = [(s, name) for name, text in texts.items() for s in planted.secrets if s in text]
    assert leaked == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_helps_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = Planted(tmp_path, monkeypatch)
    path = tmp_path / "bundle.tar.gz"
    collecting.write(path, planted.config, planted.asked, planted.pages)
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
        collecting.write(path, Config(), Asked("/sock"), {})
    assert path.read_text() == "mine"


@pytest.mark.root
def test_a_place_that_is_closed_or_full_is_told(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be written"):
        collecting.write(tmp_path / "no" / "b.tar.gz", Config(), Asked("/sock"), {})
    with pytest.raises((HostError, NotPermitted)):
        collecting.write(Path("/proc/b.tar.gz"), Config(), Asked("/sock"), {})


def test_a_log_that_is_a_pipe_holds_nothing_up(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    assert "not read" in collecting._log(str(tmp_path / "pipe"))


@settings(deadline=None)
@given(st.text(), st.text(), st.sampled_from([CONFIGURED, OLD, f"Bearer {BEARER}"]))
def test_a_secret_is_found_in_the_midst_of_any_text(before: str, after: str, secret: str) -> None:
    text = f"{before} {secret} {after}"
    cleaned = Scrubber([CONFIGURED]).clean(text)
    assert secret.rpartition(" ")[2] not in cleaned


def test_the_command_writes_it_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
    assert ctl.main([*words, "--bundle", str(path)]) == ctl.FAILED
    assert f"{path} is written" in capsys.readouterr().out
    assert "daemon" in unpacked(path)["doctor.txt"]
    assert ctl.main([*words, "--bundle", str(path)]) == ctl.FAILED
    assert "there already" in capsys.readouterr().err


def test_an_archive_of_no_secrets_is_what_was_put_in(tmp_path: Path) -> None:
    packed = bundle.archive({"a": "plain \ud800", "b/c": ""}, Scrubber([]), 1e9)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getnames() == ["ngrokd-bundle/a", "ngrokd-bundle/b/c"]
        assert {entry.mtime for entry in tar.getmembers()} == {10**9}
    keyless = replace(Config(), api=ApiSettings())
    assert json.loads(bundle.configuration(keyless))["api"]["key"] == ""
