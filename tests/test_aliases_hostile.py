"""Aliases of lo0 where commands lie, records are damaged, and others have theirs: nobody's go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngrokd.errors import HostError
from ngrokd.host import files
from ngrokd.host.command import CommandError
from ngrokd.host.netif import bsd
from ngrokd.host.netif.aliases import Aliases
from ngrokd.host.netif.aliasrecord import NAME, AliasRecord
from tests.macos.kernel import Refused
from tests.macos.mac import Mac
from tests.macos.room import DEFAULTS, UTUN, leftovers_of, net, prepare, recorded, taken

WHOLE = "lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> mtu 16384\n\tinet 127.0.0.1 netmask 0xff00"
CUTS = ["", "\n", "rubbish\n", WHOLE, WHOLE[:20], "lo0: \0\ufffd\n", f"en0{WHOLE[3:]}0000 \n"]

# Another ngrokd, which has the record of that folder.
HOLDER = """
import sys, pathlib
from ngrokd.host.command import run
from ngrokd.host.netif.aliasrecord import AliasRecord
record = AliasRecord(pathlib.Path(sys.argv[1]), run)
print(repr(record.claim()), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def mac() -> Mac:
    return Mac()


class Shown:
    """What `ifconfig lo0` and `ifconfig -a` print, and whether the others do what they say."""

    def __init__(self, mac: Mac) -> None:
        self._real = mac.programs["ifconfig"]
        self.change: Callable[[str], str] = lambda text: text
        self.does_nothing_of = ""
        mac.programs["ifconfig"] = self._run

    def _run(self, words: list[str]) -> str:
        if self.does_nothing_of and self.does_nothing_of in words:
            return ""
        said = self._real(words)
        return self.change(said) if len(words) == 1 else said


@pytest.mark.parametrize("text", CUTS)
def test_an_answer_that_is_none_never_makes_an_alias_forgotten(
    mac: Mac, tmp_path: Path, text: str
) -> None:
    backend, shown = prepare(mac, DEFAULTS, tmp_path), Shown(mac)
    assert backend.add(["127.0.0.2", "127.0.0.3"]) == {}
    shown.change = lambda _: text
    for ask in (backend.addresses, backend.close, lambda: leftovers_of(mac, tmp_path)):
        with pytest.raises(HostError, match="`ifconfig lo0`: its answer"):
            ask()
    assert "its answer" in backend.add(["127.0.0.4"])["127.0.0.4"]
    shown.change = lambda text: text
    assert recorded(tmp_path) == ["127.0.0.2", "127.0.0.3"]
    backend.close()
    assert mac.lo0() == []


@pytest.mark.parametrize("line", ["\tinet 1.2.3 netmask 0xff000000 ", "\tinet 127.0.0.999", "\tinet"
                                  " 127.0.0.1 Maske 0xff000000"])  # fmt: skip
def test_an_address_in_another_form_is_no_answer(mac: Mac, tmp_path: Path, line: str) -> None:
    backend, shown = prepare(mac, DEFAULTS, tmp_path), Shown(mac)
    shown.change = lambda text: f"{text}{line}\n"
    with pytest.raises(HostError, match="not known"):
        backend.addresses()


@given(st.text(max_size=60))
@settings(max_examples=30, deadline=None)
def test_whatever_ifconfig_prints_is_an_answer_or_none(text: str) -> None:
    for said in (text, f"lo0: flags=8049<UP>\n{text}", f"lo0: flags=8049<UP>\n\tinet {text}\n"):
        ips = bsd.loopback_ips(said)
        assert ips is None or all(ip.count(".") == 3 for ip in ips)
        bsd.interfaces(said)


def test_whoever_makes_an_alias_that_ngrokd_has_lost_keeps_it(mac: Mac, tmp_path: Path) -> None:
    backend = prepare(mac, DEFAULTS, tmp_path)
    backend.add(["127.0.0.2", "127.0.0.3"])
    mac(bsd.remove_alias("127.0.0.2"))
    assert backend.addresses() == {"127.0.0.3"}
    assert recorded(tmp_path) == ["127.0.0.3"], "also if ngrokd is killed now"
    taken(mac, "127.0.0.2")
    assert backend.addresses() == {"127.0.0.3"}
    assert "127.0.0.2" in backend.status.occupied
    assert backend.remove(["127.0.0.2"]) == {}
    backend.close()
    assert mac.lo0() == ["127.0.0.2"]


@pytest.mark.parametrize("ips", [["127.0.0.2"], ["127.0.0.2", "127.0.0.3"]])
def test_an_ifconfig_that_says_done_and_did_nothing_is_not_believed(
    mac: Mac, tmp_path: Path, caplog: pytest.LogCaptureFixture, ips: list[str]
) -> None:
    backend, shown = prepare(mac, DEFAULTS, tmp_path), Shown(mac)
    shown.does_nothing_of = "alias"
    for _ in range(2):
        refused = backend.add(ips)
        assert sorted(refused) == ips and "nothing came of it" in refused["127.0.0.2"]
    assert recorded(tmp_path) == [] and caplog.text == "", "nobody took them away"
    shown.does_nothing_of = ""
    assert backend.add(ips) == {}
    shown.does_nothing_of = "-alias"
    assert sorted(backend.remove(ips)) == ips
    with pytest.raises(HostError, match="nothing came of it"):
        backend.close()
    assert recorded(tmp_path) == ips
    with pytest.raises(HostError, match="nothing came of it"):
        leftovers_of(mac, tmp_path)
    shown.does_nothing_of = ""
    assert len(leftovers_of(mac, tmp_path)) == len(ips) and mac.lo0() == []


def test_a_lane_that_died_in_the_middle_of_a_batch_is_seen(mac: Mac, tmp_path: Path) -> None:
    backend, shown = prepare(mac, DEFAULTS, tmp_path), Shown(mac)
    shown.does_nothing_of = "127.0.0.77"
    ips = [f"127.0.0.{n}" for n in (*range(2, 53), *range(60, 200))]
    assert list(backend.add(ips)) == ["127.0.0.77"]
    backend.close()
    assert mac.lo0() == []


def test_while_ifconfig_hangs_thousands_take_no_longer_than_a_few(
    mac: Mac, tmp_path: Path
) -> None:
    hangs, scripts = True, 0

    def run(argv: Sequence[str], text: str = "") -> str:
        nonlocal scripts
        if not text:
            return mac(argv, text)
        scripts += 1
        if hangs:
            raise CommandError("`/bin/sh -s`: did not end within 8 seconds")
        return mac(argv, text)

    backend = Aliases("127.0.0.0/8", run, AliasRecord(tmp_path, run))
    ips = [f"127.1.{a}.{b}" for a in range(5) for b in range(200)]
    assert backend.add(ips) == dict.fromkeys(ips, "`/bin/sh -s`: did not end within 8 seconds")
    assert scripts == 1
    hangs = False
    assert backend.add(ips) == {} and len(mac.lo0()) == 1000
    hangs, scripts = True, 0
    with pytest.raises(HostError, match="1000 aliases of lo0 are left behind"):
        backend.close()
    assert scripts == 1
    hangs = False
    assert len(leftovers_of(mac, tmp_path)) == 1000 and mac.lo0() == []


# The record


def test_a_record_that_cannot_be_read_now_is_there_for_a_later_run(
    mac: Mac, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(mac, DEFAULTS, tmp_path).add(["127.0.0.2"])

    def broken(path: Path, max_bytes: int = 0) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(files, "read_regular", broken)
        prepare(mac, DEFAULTS, tmp_path).close()
        leftovers_of(mac, tmp_path)
    assert leftovers_of(mac, tmp_path) == ["lo0: the address 127.0.0.2 is removed"]


def test_where_the_boot_is_not_told_for_once_nothing_is_forgotten(
    mac: Mac, tmp_path: Path
) -> None:
    prepare(mac, DEFAULTS, tmp_path).add(["127.0.0.2"])
    told = mac.programs["sysctl"]

    def fail(words: list[str]) -> str:
        raise Refused("sysctl: Input/output error")

    mac.programs["sysctl"] = fail
    prepare(mac, DEFAULTS, tmp_path).close()
    assert mac.lo0() == ["127.0.0.2"], "it may be somebody's of this boot"
    mac.programs["sysctl"] = told
    assert prepare(mac, DEFAULTS, tmp_path).addresses() == {"127.0.0.2"}


@pytest.mark.parametrize(
    "text",
    [
        '{"boot": "BOOT", "addresses": ["127.0.0.2"', '{"boot": "BOOT", "addresses": 7}', "[]",
        '{"boot": "BOOT", "addresses": {"127.0.0.1": 1, "127.0.0.53x": 2}}', "\0" * 100, "9" * 5000,
        '{"boot": "BOOT", "addresses": ["127.0.0.1", "127.0.0.01", "10.0.0.2", null, ["x"]]}',
        '{"boot": "another", "addresses": ["127.0.0.2"]}', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_record_takes_nothing_from_anybody(
    mac: Mac, tmp_path: Path, text: str
) -> None:
    taken(mac, "127.0.0.2")
    (tmp_path / NAME).write_text(text.replace("BOOT", mac.kernel.session))
    assert leftovers_of(mac, tmp_path) == []
    (tmp_path / NAME).write_text(text.replace("BOOT", mac.kernel.session))
    backend = prepare(mac, DEFAULTS, tmp_path)
    assert backend.addresses() == set()
    backend.close()
    assert mac.lo0() == ["127.0.0.2"]
    assert mac.kernel.holds("127.0.0.1")


def test_a_record_of_a_million_holds_up_no_start(mac: Mac, tmp_path: Path) -> None:
    many = (f"127.{a}.{b}.{c}" for a in range(1, 5) for b in range(256) for c in range(256))
    document = {"boot": mac.kernel.session, "addresses": [*many] * 4}
    (tmp_path / NAME).write_text(json.dumps(document))
    backend = prepare(mac, DEFAULTS, tmp_path)
    backend.add(["127.0.0.2"])
    assert (tmp_path / NAME).stat().st_size < 1000


# Another daemon


@pytest.fixture
def another(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Has the same state folder."""
    argv = [sys.executable, "-c", HOLDER, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "''\n"
        yield holder
        holder.kill()


def test_what_a_living_daemon_has_on_record_is_not_taken_from_it(
    mac: Mac, tmp_path: Path, another: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    theirs = Aliases("127.0.0.0/8", mac, AliasRecord(tmp_path, mac))
    theirs.add(["127.0.0.2"])
    ours = prepare(mac, net(interface_name="second"), tmp_path)
    assert ours.addresses() == set()
    told = f"another ngrokd (pid {another.pid}) keeps {tmp_path / NAME}"
    assert told in caplog.text and told in str(ours.status.notes)
    ours.add(["127.0.0.3"])
    ours.close()
    with pytest.raises(HostError, match="another ngrokd"):
        leftovers_of(mac, tmp_path)
    caplog.clear()
    prepare(mac, UTUN, tmp_path).close()
    assert told in caplog.text
    assert mac.lo0() == ["127.0.0.2"] and recorded(tmp_path) == ["127.0.0.2"]
    another.send_signal(signal.SIGKILL)
    another.wait()
    assert leftovers_of(mac, tmp_path) == ["lo0: the address 127.0.0.2 is removed"]
    assert os.listdir(tmp_path) == []
