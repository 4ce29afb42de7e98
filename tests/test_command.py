"""Commands end in bounded time, and a failed one says what failed and why."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ngrokd.errors import HostError
from ngrokd.host import command
from ngrokd.host.command import CommandError, run


def test_a_command_gets_its_input_and_gives_its_output() -> None:
    assert run(["cat"], "10.107.0.2\n") == "10.107.0.2\n"


def test_without_input_a_command_reads_an_empty_one() -> None:
    assert run(["cat"]) == ""


def test_words_are_passed_as_they_are_without_a_shell() -> None:
    assert run(["printf", "%s|", "$HOME", "a b", ";", "*"]) == "$HOME|a b|;|*|"


def test_a_command_sees_only_the_fixed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGROK_API_KEY", "secret")
    monkeypatch.setenv("PATH", "/nonexistent")
    seen = dict(line.partition("=")[::2] for line in run(["env"]).splitlines())
    assert seen["LC_ALL"] == "C"
    assert {"/sbin", "/usr/sbin"} <= set(seen["PATH"].split(":"))
    assert "NGROK_API_KEY" not in seen


def test_a_failed_command_names_itself_and_the_cause() -> None:
    with pytest.raises(CommandError) as caught:
        run(["sh", "-c", "echo; echo '  no room' >&2; echo more >&2; exit 3"])
    assert "`sh -c" in str(caught.value)
    assert str(caught.value).endswith(": no room")
    assert caught.value.returncode == 3
    assert caught.value.stderr == "  no room\nmore\n"
    assert isinstance(caught.value, HostError)


def test_a_stop_that_waits_for_commands_which_hang_ends_before_systemd_kills_it() -> None:
    unit = (Path(__file__).parent.parent / "init" / "ngrokd.service").read_text()
    (given,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(given) - 5 > 3 * command.TIMEOUT_S


def test_a_silent_failure_tells_the_exit_status() -> None:
    with pytest.raises(CommandError, match="exit status 4"):
        run(["sh", "-c", "exit 4"])


def test_a_missing_program_is_named_with_what_to_install() -> None:
    with pytest.raises(CommandError, match="no program no-such-program") as caught:
        run(["no-such-program", "x"])
    assert caught.value.returncode is None


def test_the_package_of_ip_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_there(*words: Any, **options: Any) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "Popen", not_there)
    with pytest.raises(CommandError, match="install iproute2"):
        run(["ip", "link"])


def test_a_program_that_cannot_be_started_is_named() -> None:
    with pytest.raises(CommandError, match="cannot be started"):
        run(["/etc/hostname"])


def test_a_command_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "TIMEOUT_S", 0.1)
    with pytest.raises(CommandError, match=r"within 0\.1 seconds"):
        run([sys.executable, "-c", "import signal; signal.pause()"])


def test_what_a_command_that_hangs_has_started_ends_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "TIMEOUT_S", 0.5)
    held = tmp_path / "held"
    os.mkfifo(held)
    reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(CommandError, match="did not end") as caught:
        run(["/bin/sh", "-s"], f"( exec sleep 60 >{held} ) &\nwait\n")
    assert caught.value.was_killed
    assert select.select([reader], [], [], 10) == ([reader], [], [])
    assert os.read(reader, 1) == b"", "nobody holds it open any more"
    os.close(reader)


def test_output_that_is_no_utf_8_is_still_read() -> None:
    assert run(["printf", "caf\\351"]) == "caf\ufffd"


def test_the_command_is_not_in_the_group_that_ctrl_c_ends() -> None:
    group = run([sys.executable, "-c", "import os; print(os.getpgrp())"])
    assert int(group) != os.getpgrp()
