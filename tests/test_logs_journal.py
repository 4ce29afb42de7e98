"""Log lines in the journal of a real systemd: one entry each, with its priority."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.booted import Booted, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")

SAYS = """
import logging, os, sys

sys.path.insert(0, sys.argv[1])
from ngrokd import logs
from ngrokd.config import ServerSettings

settings = ServerSettings(log_format=sys.argv[2], log_file=sys.argv[3], log_level="debug")
logs.setup(settings, True, os.environ)
logger = logging.getLogger("ngrokd.x")
logger.debug("one")
logger.info("two\\nlines caf\\u00e9 \\u2028")
logger.warning("\\U0001f600" * 20_000, exc_info=OSError("\\u20ac" * 20_000))
for _ in range(58):
    logger.critical("again")
"""

UNIT = """
[Service]
Type=oneshot
SyslogIdentifier=ngrokd
ExecStart={python} /says.py {root} {log_format} {log_file}
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    with Booted(tmp_path_factory.mktemp("booted")) as booted:
        booted.write("/says.py", SAYS)
        yield booted


def entries(machine: Booted, name: str, log_format: str, log_file: str) -> list[tuple[str, str]]:
    """Priority and text of what the journal has of the unit."""
    root = Path(__file__).parent.parent
    unit = UNIT.format(
        python=sys.executable, root=root, log_format=log_format, log_file=log_file or "''"
    )
    machine.write(f"/etc/systemd/system/{name}.service", unit)
    machine.systemctl("daemon-reload")
    machine.systemctl("start", name)
    machine.run("journalctl", "--sync")
    argv = ("journalctl", "--all", "--output=json", f"_SYSTEMD_UNIT={name}.service")
    found = [json.loads(line) for line in machine.run(*argv).stdout.splitlines()]
    assert {each["SYSLOG_IDENTIFIER"] for each in found} == {"ngrokd"}
    return [(each["PRIORITY"], each["MESSAGE"]) for each in found]


@pytest.mark.parametrize("log_file", ["", "/dev/stdout", "syslog"])
def test_a_line_of_text_is_one_entry(machine: Booted, log_file: str) -> None:
    name = f"text{log_file.replace('/', '-')}"
    one, two, long, again, count = entries(machine, name, "text", log_file)
    assert one == ("7", "DEBUG one")
    assert two == ("6", r"INFO two\nlines " + "caf\u00e9" + r" \u2028")
    assert long[0] == "4" and long[1].endswith("\u20ac")
    assert again == ("2", "CRITICAL again")
    assert count[0] == "2" and "repeated 57 times within 1 s: again" in count[1]


@pytest.mark.parametrize("log_file", ["", "/dev/stdout", "syslog"])
def test_a_line_of_json_is_one_entry(machine: Booted, log_file: str) -> None:
    name = f"json{log_file.replace('/', '-')}"
    found = entries(machine, name, "json", log_file)
    assert [priority for priority, _ in found] == ["7", "6", "4", "2", "2"]
    fields = [json.loads(text) for _, text in found]
    assert fields[1]["message"] == "two\nlines caf\u00e9 \u2028"
    assert fields[4]["repeated"] == 57
