"""The command `ngrokd`: exit status and what it tells the person who typed it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ngrokd import __version__
from ngrokd.cli import main

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 30


def ngrokd(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "ngrokd.py"), *args],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, **env},
        check=False,
    )


def config(folder: Path, text: str) -> str:
    path = folder / "config.yml"
    path.write_text(text)
    return str(path)


def test_the_version_is_told() -> None:
    result = ngrokd("--version")
    assert (result.returncode, result.stdout) == (0, f"ngrokd {__version__}\n")


def test_the_module_is_the_command_too() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ngrokd", "--version"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
        check=True,
    )
    assert result.stdout == f"ngrokd {__version__}\n"


@pytest.mark.parametrize("word", ["--help", "--version", "check-config", "--dry-run"])
def test_a_reader_who_has_seen_enough_is_no_news(word: str, tmp_path: Path) -> None:
    path = config(tmp_path, "net: {subnet: 127.107.0.0/16}\n")
    reading, writing = os.pipe()
    os.close(reading)
    assert said_into(writing, "--config", path, word) == (0, "")


def test_an_answer_that_finds_no_room_is_told_in_one_line(tmp_path: Path) -> None:
    path = config(tmp_path, "net: {subnet: 127.107.0.0/16}\n")
    full = os.open("/dev/full", os.O_WRONLY)
    told = "ngrokd: cannot write the answer: No space left on device\n"
    assert said_into(full, "--config", path, "--dry-run") == (0, told)


def said_into(output: int, *args: str) -> tuple[int, str]:
    """The exit status and the complaints of one whose answers go there."""
    result = subprocess.run(
        [sys.executable, str(ROOT / "ngrokd.py"), *args],
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    os.close(output)
    return result.returncode, result.stderr


def test_a_good_configuration_is_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path, "bound_endpoints: {poll_interval: 5}\n")
    assert main(["check-config", path]) == 0
    assert capsys.readouterr().out == f"{path}: ok\n"


def test_every_fault_is_told_with_its_line_and_the_status_is_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, "bound_endpoints:\n  poll_interval: -1\nnett: {}\n")
    assert main(["check-config", path]) == 2
    faults = capsys.readouterr().err.splitlines()
    assert [fault.split(": ")[:2] for fault in faults] == [
        [f"{path}:2", "bound_endpoints.poll_interval"],
        [f"{path}:3", "nett"],
    ]


@pytest.mark.parametrize("mode", [["--foreground"], []])
def test_a_bad_configuration_starts_nothing(tmp_path: Path, mode: list[str]) -> None:
    pid_file = tmp_path / "pid"
    path = config(tmp_path, f"server: {{pid_file: {pid_file}, log_level: loud}}\n")
    result = ngrokd("--config", path, *mode)
    assert result.returncode == 2
    assert f"{path}:1: server.log_level: " in result.stderr
    assert not pid_file.exists()


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = ngrokd("--foreground", "--config", str(tmp_path / "none.yml"))
    assert result.returncode == 2
    assert "none.yml" in result.stderr and "Traceback" not in result.stderr


def test_an_unknown_command_is_usage() -> None:
    result = ngrokd("fly")
    assert result.returncode == 2
    assert "check-config" in result.stderr


def test_a_state_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = config(
        tmp_path,
        f"server: {{client_cert: {tmp_path}/file/tls.crt, client_key: {tmp_path}/file/tls.key,\n"
        f"  pid_file: {tmp_path}/pid, socket_path: {tmp_path}/s, health_port: 0}}\n"
        f"net: {{subnet: 127.107.0.0/16, hosts_file: {tmp_path}/hosts}}\n",
    )
    result = ngrokd("--foreground", "--config", path)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert str(tmp_path / "file") in result.stderr.splitlines()[-1]
    assert not (tmp_path / "pid").exists() and not (tmp_path / "s").exists()


def test_a_command_of_ngrokctl_is_pointed_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 2
    assert "`ngrokctl status`" in capsys.readouterr().err


def test_a_relative_path_in_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    result = subprocess.run(
        [
            *("sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", sys.executable, str(ROOT / "ngrokd.py")),
            *("--config", "c.yml", "--foreground"),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=folder,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr == "c.yml: the current folder is no longer there: name the whole path\n"


def test_a_file_with_faults_without_end_is_told_in_a_hundred_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, "".join(f"nett{n}: 1\n" for n in range(5000)))
    assert main(["check-config", path]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 101
    assert lines[-1] == "and 4900 faults more"
