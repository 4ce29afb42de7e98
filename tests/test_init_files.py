"""The files under init/ that no daemon is needed for: shell, settings, launchd, logrotate."""

from __future__ import annotations

import os
import plistlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ngrokd.config import Config
from ngrokd.verbs import lifecycle
from tests.macos.launchd import KEYS

ROOT = Path(__file__).parent.parent
INIT = ROOT / "init"
PROGRAM = "/usr/local/bin/ngrokd"  # `ngrokd install` puts the real path in its place
SETTINGS = ("DAEMON", "CONFIG", "DAEMON_ARGS", "START_TIMEOUT", "STOP_TIMEOUT", "PIDFILE")


def _shell_files() -> list[Path]:
    """By their first line, so that none is forgotten."""
    found = [INIT / "ngrokd.default"]
    for path in [*INIT.rglob("*"), *(ROOT / ".ci").glob("*")]:
        if path.is_file() and re.match(rb"#!.*\b(sh|bash|openrc-run)\b", path.read_bytes()[:80]):
            found.append(path)
    return sorted(found)


@pytest.mark.parametrize("path", _shell_files(), ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    first = path.read_text().partition("\n")[0]
    # Those without a shell in their first line are read by the system's sh.
    dialect = [] if first.endswith(("/sh", "bash")) else ["--shell=sh"]
    done = subprocess.run(["shellcheck", *dialect, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", _shell_files(), ids=lambda path: path.name)
@pytest.mark.parametrize("shell", [["dash"], ["bash"], ["busybox", "ash"]], ids=" ".join)
def test_every_shell_can_read_it(path: Path, shell: list[str]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    if "bash" in path.read_text().partition("\n")[0] and shell != ["bash"]:
        return  # it asks for bash
    subprocess.run([*shell, "-n", path], check=True)


@pytest.mark.parametrize("name", ["ngrokd.init", "ngrokd.openrc"])
def test_scripts_are_executable(name: str) -> None:
    assert os.access(INIT / name, os.X_OK)


@pytest.mark.parametrize(
    "name", ["ngrokd.init", "ngrokd.openrc", "ngrokd.service", "com.ngrok.ngrokd.plist"]
)
def test_the_program_is_named_as_install_looks_for_it(name: str) -> None:
    assert len(re.findall(rf"{PROGRAM}\b", (INIT / name).read_text())) >= 1


def test_the_script_tells_insserv_what_it_needs() -> None:
    header = (INIT / "ngrokd.init").read_text().partition("### END INIT INFO")[0]
    for field in ("Provides", "Required-Start", "Required-Stop", "Default-Start", "Default-Stop"):
        assert re.search(rf"^# {field}: +\S", header, re.MULTILINE)
    assert "### BEGIN INIT INFO\n" in header


# ---- Settings


def test_the_defaults_file_sets_nothing_as_delivered() -> None:
    lines = (INIT / "ngrokd.default").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_the_defaults_file_shows_what_the_script_would_take_anyway() -> None:
    shown = _assignments((INIT / "ngrokd.default").read_text(), "#")
    built_in = _assignments((INIT / "ngrokd.init").read_text(), "")
    for name in SETTINGS:
        if name != "PIDFILE":  # found in the configuration
            assert shown[name] == built_in[name]


def test_the_defaults_file_shows_every_setting_of_the_scripts() -> None:
    shown = _assignments((INIT / "ngrokd.default").read_text(), "#")
    assert set(SETTINGS) <= set(shown)
    assert {"NGROK_API_KEY", "NGROK_API_KEY_FILE", "PATH"} <= set(shown)


def test_every_line_of_the_defaults_file_may_be_uncommented_for_any_reader(tmp_path: Path) -> None:
    text = (INIT / "ngrokd.default").read_text()
    shown = _assignments(text, "#")
    file = tmp_path / "default"
    file.write_text(re.sub(r"^#([A-Z_]+=)", r"\1", text, flags=re.MULTILINE))
    show = '. "$1"; for name in $2; do eval "echo \\"$name=\\$$name\\""; done'
    done = subprocess.run(
        ["sh", "-c", show, "sh", file, " ".join(shown)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"{name}={value}" for name, value in shown.items()]


def _assignments(text: str, before: str) -> dict[str, str]:
    """Of lines NAME=value; systemd, which expands nothing, would take just these values."""
    return dict(re.findall(rf"^{before}([A-Z_]+)=(.*)$", text, re.MULTILINE))


# ---- launchd, logrotate


# What the setup guide for macOS has people write, key by key.
OF_THE_GUIDE = {
    "Label": "com.ngrok.ngrokd",
    "ProgramArguments": ["/usr/local/bin/ngrokd", "--config=/etc/ngrokd/config.yml"],
    "RunAtLoad": True,
    "KeepAlive": True,
    "StandardErrorPath": "/var/log/ngrokd.log",
    "StandardOutPath": "/var/log/ngrokd.log",
    "UserName": "root",
}
PLIST = INIT / "com.ngrok.ngrokd.plist"


def test_the_launchd_job_is_that_of_the_guide_and_has_time_to_end() -> None:
    assert plistlib.loads(PLIST.read_bytes()) == {**OF_THE_GUIDE, "ExitTimeOut": 45}


def test_the_launchd_job_may_take_as_long_to_end_as_a_stop_does() -> None:
    job = plistlib.loads(PLIST.read_bytes())
    assert job["ExitTimeOut"] > lifecycle.patience_s(Config())


def test_every_key_of_the_launchd_job_is_one_of_launchd_plist_with_its_type() -> None:
    """launchd.plist(5) of macOS 14; what it does not know, launchd leaves unread in silence."""
    job = plistlib.loads(PLIST.read_bytes())
    assert {key: type(value) for key, value in job.items()}.items() <= KEYS.items()
    assert PLIST.stem == job["Label"], "the file is named for its label"


def test_logrotate_takes_its_file(tmp_path: Path) -> None:
    logrotate = shutil.which("logrotate", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if logrotate is None:
        pytest.skip("logrotate is not installed")
    rules = tmp_path / "ngrokd"
    shutil.copy(INIT / "ngrokd.logrotate", rules)
    rules.chmod(0o644)
    done = subprocess.run(
        [logrotate, "-d", "-s", tmp_path / "state", rules], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "error" not in done.stderr
