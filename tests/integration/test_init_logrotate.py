"""logrotate and the real daemon: no line is lost, and none goes to the old file for long."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.integration.init_host import CONFIG, LOG, InitHost
from tests.integration.overlaid import Overlaid, why_not

pytestmark = pytest.mark.root

SAID = "control: log-level, asked"
RULES = "/etc/logrotate.d/ngrokd"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InitHost]:
    if why_not():
        pytest.skip(why_not())
    if shutil.which("logrotate", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("logrotate is not installed")
    with Overlaid(tmp_path_factory.mktemp("machine")) as machine:
        host = InitHost(machine)
        host.sh("rm -f /etc/logrotate.d/*")
        yield host


@pytest.fixture
def host(shared: InitHost) -> Iterator[InitHost]:
    """With a daemon that has written some lines, and the file as delivered."""
    shared.install("ngrokd.logrotate", RULES, "0644")
    shared.sh(f"ngrokd --config {CONFIG}")
    shared.ctl("wait", "--timeout", 20)
    yield shared
    shared.clear()
    shared.sh("rm -f /var/lib/logrotate/status")


def _rotate(host: InitHost) -> None:
    host.sh("logrotate --force /etc/logrotate.conf")


def _say(host: InitHost) -> None:
    """Makes the daemon write a line with SAID in it, before it answers."""
    host.ctl("log-level", "debug")


def test_as_delivered_the_next_line_goes_to_a_new_file(host: InitHost) -> None:
    before = host.log()
    _rotate(host)
    assert not host.machine.exists(LOG)  # nocreate: the daemon makes it, with the mode it wants
    _say(host)
    assert host.machine.read(f"{LOG}.1") == before
    assert SAID in host.log()
    assert host.sh(f"stat -c '%a %U' {LOG}") == "640 root\n"


def test_a_hangup_opens_the_new_file_at_once(host: InitHost) -> None:
    _rotate(host)
    host.sh(f"kill -HUP {host.pid()}")
    host.until_logged("configuration read again")
    assert "configuration read again" not in host.machine.read(f"{LOG}.1")


def test_a_file_that_logrotate_makes_is_taken(host: InitHost) -> None:
    host.sh(f"sed -i 's/nocreate/create 0600 daemon adm/' {RULES}")
    before = host.log()
    _rotate(host)
    assert host.log() == ""
    _say(host)
    assert host.machine.read(f"{LOG}.1") == before
    assert SAID in host.log()
    assert host.sh(f"stat -c '%a %U' {LOG}") == "600 daemon\n"


def test_a_copied_and_emptied_file_is_written_from_its_beginning(host: InitHost) -> None:
    host.sh(f"sed -i 's/nocreate/copytruncate/' {RULES}")
    _rotate(host)
    _say(host)
    assert "\0" not in host.log()
    assert SAID in host.log()


def test_no_line_is_lost_over_rotations_and_old_ones_are_packed(host: InitHost) -> None:
    for _ in range(3):
        _say(host)
        _rotate(host)
    _say(host)
    assert host.sh(f"ls {LOG}*").split() == [LOG, f"{LOG}.1", f"{LOG}.2.gz", f"{LOG}.3.gz"]
    everything = host.sh(f"zcat -f {LOG}.3.gz {LOG}.2.gz {LOG}.1 {LOG}")
    assert everything.count(SAID) == 4


def test_nothing_is_done_where_there_is_no_log_or_an_empty_one(host: InitHost) -> None:
    _rotate(host)
    _rotate(host)  # none there
    host.sh(f"touch {LOG}")
    _rotate(host)
    assert host.sh(f"ls {LOG}*").split() == [LOG, f"{LOG}.1"]
