"""The unit as a text: systemd takes it, and it gives away no more than it must."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

INIT = Path(__file__).parent.parent.parent / "init"
UNIT = INIT / "ngrokd.service"
MAX_EXPOSURE = 3.0  # of systemd-analyze: from 0, a service shut in, to 10, one that may do all

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: the package systemd"
)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """With programs that exist."""
    path = tmp_path / "ngrokd.service"
    path.write_text(UNIT.read_text().replace("/usr/local/bin/ngrokd", "/bin/true"))
    return path


def analyzed(*words: object) -> subprocess.CompletedProcess[str]:
    argv = ("systemd-analyze", *map(str, words))
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def test_systemd_has_nothing_to_say_about_the_unit(unit: Path) -> None:
    done = analyzed("verify", "--man=no", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_mistake_in_it_would_be_found(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("ProtectSystem=strict", "ProtectSystem=very"))
    assert "protect system" in analyzed("verify", "--man=no", unit).stderr


def test_every_program_stands_where_an_installer_replaces_it() -> None:
    commands = re.findall(r"^Exec\w+=-?(.*)$", UNIT.read_text(), re.MULTILINE)
    programs = [word for line in commands for word in line.split() if word.startswith("/")]
    assert set(programs) == {"/usr/local/bin/ngrokd", "/usr/bin/env", "/bin/kill"}
    assert programs.count("/usr/local/bin/ngrokd") == 3


def test_the_manuals_that_it_names_are_there() -> None:
    named = re.findall(r"man:([\w.]+)\(([0-9])\)", UNIT.read_text())
    assert named
    for page, section in named:
        assert (INIT / "man" / f"{page}.{section}").exists()


def test_its_exposure_is_at_most_what_was_promised(unit: Path) -> None:
    done = analyzed("security", "--offline=yes", f"--threshold={MAX_EXPOSURE * 10:.0f}", unit)
    found = re.search(r"Overall exposure level for ngrokd.service: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= MAX_EXPOSURE, done.stdout
    assert done.returncode == 0, done.stderr


def test_it_has_four_capabilities_and_no_more() -> None:
    sets = re.findall(r"^CapabilityBoundingSet=(.*)$", UNIT.read_text(), re.MULTILINE)
    assert [set(line.split()) for line in sets] == [
        {"CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_DAC_OVERRIDE", "CAP_CHOWN"}
    ]
