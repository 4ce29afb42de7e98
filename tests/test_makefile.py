"""The commands a person types, and what they say when something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ngrokd import __version__

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 120


def make(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    # Without this the outer make's flags, -n for one, would be taken over.
    inherited = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    return subprocess.run(
        ["make", "-C", ROOT, "--no-print-directory", *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**inherited, **env},
        check=False,
    )


def test_every_target_for_people_is_in_the_help() -> None:
    result = make()
    assert result.returncode == 0
    listed = {line.split()[0] for line in result.stdout.splitlines()[1:]}
    assert listed == {
        "help", "run", "test", "venv", "lint", "check", "clean", "dist", "install"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "package"), [("run", "netcat-openbsd"), ("test", "nginx-light")]
)
def test_missing_debian_packages_are_named_in_one_line(
    tmp_path: Path, target: str, package: str
) -> None:
    for tool in ("python3", "sh", "make"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / tool).symlink_to(found)
    # `override` on the command line: the Makefile itself appends sbin folders.
    result = make(target, f"PATH={tmp_path}", "SHELL=/bin/sh")
    assert result.returncode != 0
    said = [line for line in result.stderr.splitlines() if "apt-get install" in line]
    assert len(said) == 1 and package in said[0]


def test_a_python_that_is_not_there_is_named() -> None:
    result = make("run", "PYTHON=python9")
    assert result.returncode != 0
    assert "no python9" in result.stderr


def test_install_puts_commands_that_run_by_themselves(tmp_path: Path) -> None:
    result = make("install", f"DESTDIR={tmp_path}", "PREFIX=/opt/ngrokd")
    assert result.returncode == 0, result.stderr
    prefix = tmp_path / "opt" / "ngrokd"
    launcher = (prefix / "bin" / "ngrokd").read_text()
    assert launcher.startswith("#!/") and " -I\n" in launcher
    # Packages live under PREFIX; here it is still below DESTDIR.
    moved = tmp_path / "ngrokd"
    moved.write_text(launcher.replace('"/opt/ngrokd/lib', f'"{prefix}/lib'))
    moved.chmod(0o755)
    version = subprocess.run([moved, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"ngrokd {__version__}\n"
    assert (prefix / "bin" / "ngrokctl").exists()
    assert (prefix / "share" / "ngrokd" / "init" / "ngrokd.init").exists()
