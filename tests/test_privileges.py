"""What is left of root's rights, in processes of the tests' own."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ngrokd.host import privileges
from ngrokd.host.privileges import NEEDED, Rights

PATIENCE_S = 20
ROOT = Path(__file__).parent.parent
ALL = 0x1FFFFFFFFFF
SETPCAP = 1 << 8

# The process gives up its rights, then shows those of itself, of a thread and of a command.
_SHOWN = """
import json, subprocess, sys, threading
from pathlib import Path
from ngrokd.host import privileges

def rights(text):
    lines = dict(line.partition(":")[::2] for line in text.splitlines())
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
    return {name: int(lines[name], 16) for name in names}

def of_thread():
    seen["thread"] = rights(Path("/proc/thread-self/status").read_text())

PREPARE
seen = {"notes": privileges.keep_only_needed()}
seen["notes again"] = privileges.keep_only_needed()
seen["ctypes"] = sys.modules.get("ctypes") is not None
seen["self"] = rights(Path("/proc/self/status").read_text())
thread = threading.Thread(target=of_thread)
thread.start()
thread.join()
seen["command"] = rights(
    subprocess.run(["cat", "/proc/self/status"], stdout=subprocess.PIPE, text=True).stdout
)
print(json.dumps(seen))
"""

# A container's filter: these calls are answered with EPERM.
_SECCOMP = """
import ctypes, struct
CAPSET, PRCTL, DROP = NUMBERS
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
REFUSED, ALLOWED = 0x00050001, 0x7FFF0000
program = [
    (LOAD, 0, 0, 0),  # the call's number
    (EQUAL, 4, 0, CAPSET),
    (EQUAL, 0, 2, PRCTL),
    (LOAD, 0, 0, 16),  # its first argument
    (EQUAL, 1, 0, DROP),
    (RETURN, 0, 0, ALLOWED),
    (RETURN, 0, 0, REFUSED),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
filtered = libc.prctl(22, 2, ctypes.byref(Program(len(program), ctypes.addressof(code))))
assert filtered == 0, ctypes.get_errno()
"""
_NUMBERS = {"x86_64": "126, 157, 24", "aarch64": "91, 167, 24"}

as_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root, and setpriv"
)


def shown(prepare: str = "", *argv: str) -> Any:
    """What a process that is started with `argv` before it shows."""
    code = _SHOWN.replace("PREPARE", prepare)
    # -B: another user's cache files would be in the way of the next test.
    done = subprocess.run(
        [*argv, sys.executable, "-B", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def has_exactly(wanted: int, bounding: int, ambient: bool = True) -> dict[str, int]:
    sets = dict.fromkeys(("CapInh", "CapPrm", "CapEff"), wanted)
    return {**sets, "CapBnd": bounding, "CapAmb": wanted if ambient else 0, "NoNewPrivs": 1}


@as_root
def test_root_keeps_exactly_what_it_needs_and_so_do_its_threads_and_commands() -> None:
    seen = shown()
    wanted = has_exactly(NEEDED, NEEDED)
    assert seen["self"] == seen["thread"] == seen["command"] == wanted
    assert seen["notes"] == seen["notes again"] == []


@as_root
def test_a_daemon_that_is_started_as_the_mend_says_gives_nothing_up_and_loads_nothing() -> None:
    (command,) = re.findall("`(setpriv .*)`", privileges.MEND)
    seen = shown("", *command.split())
    assert seen["self"]["CapPrm"] == seen["self"]["CapBnd"] == NEEDED
    assert (seen["notes"], seen["ctypes"]) == ([], False)


@as_root
def test_a_right_that_a_container_took_is_not_missed() -> None:
    seen = shown("", "setpriv", "--bounding-set=-all,+chown,+setpcap", "--inh-caps=-all")
    assert seen["self"] == seen["command"] == has_exactly(privileges.CHOWN, privileges.CHOWN)
    assert seen["notes"] == []


@as_root
def test_a_bounding_set_that_cannot_be_reduced_is_told() -> None:
    seen = shown("", "setpriv", "--bounding-set=-setpcap", "--inh-caps=-all")
    assert seen["self"]["CapPrm"] == NEEDED
    (note,) = seen["notes"]
    assert note.startswith("the capability bounding set is not reduced (Operation not permitted)")
    assert "setpriv --no-new-privs" in note


@as_root
@pytest.mark.skipif(platform.machine() not in _NUMBERS, reason="numbers of system calls differ")
def test_what_a_filter_of_the_container_refuses_is_told() -> None:
    seen = shown(_SECCOMP.replace("NUMBERS", _NUMBERS[platform.machine()]))
    (note,) = seen["notes"]
    assert note.startswith(
        "the capability bounding set is not reduced (Operation not permitted); "
        "root's capabilities are not given up (Operation not permitted). Mend: "
    )
    assert seen["self"]["CapPrm"] & ~NEEDED


@as_root
def test_without_ctypes_root_is_told_that_its_rights_are_kept() -> None:
    seen = shown("sys.modules['ctypes'] = None")
    (note,) = seen["notes"]
    assert note.startswith("root's rights are kept: Python's ctypes does not load here")


@as_root
def test_without_proc_rights_are_given_up_all_the_same() -> None:
    seen = shown("privileges.read = lambda: None")
    assert seen["self"] == has_exactly(NEEDED, NEEDED)


# Not by setpriv: another user may not be able to run root's Python.
_BECOME_USER = "import ctypes, os; os.setgroups([]); os.setgid(65534); os.setuid(65534)"
_KEEP_RIGHTS = "import ctypes; ctypes.CDLL(None).prctl(8, 1, 0, 0, 0)\n"  # PR_SET_KEEPCAPS


@as_root
def test_an_ordinary_user_only_renounces_new_rights_and_is_told_nothing() -> None:
    seen = shown(_BECOME_USER)
    assert seen["self"]["NoNewPrivs"] == seen["command"]["NoNewPrivs"] == 1
    assert seen["self"]["CapPrm"] == 0
    assert seen["notes"] == []


@as_root
def test_a_user_with_rights_keeps_those_needed_and_hands_them_to_commands() -> None:
    seen = shown(_KEEP_RIGHTS + _BECOME_USER)
    for who in ("self", "thread", "command"):
        assert seen[who]["CapPrm"] == seen[who]["CapEff"] == seen[who]["CapAmb"] == NEEDED
    assert seen["notes"] == []


# Deciding


ENOUGH = Rights(NEEDED, NEEDED, NEEDED, NEEDED, no_new_privs=True)


def test_nothing_is_left_to_give_up_with_no_more_than_is_needed() -> None:
    assert privileges.is_enough(ENOUGH, root=True)
    assert privileges.is_enough(Rights(0, 0, 0, 0, no_new_privs=True), root=True)


@pytest.mark.parametrize(
    "held",
    [
        Rights(NEEDED | SETPCAP, NEEDED, NEEDED, NEEDED, no_new_privs=True),
        Rights(NEEDED, NEEDED | SETPCAP, NEEDED, NEEDED, no_new_privs=True),
        Rights(NEEDED, NEEDED, NEEDED | SETPCAP, NEEDED, no_new_privs=True),
        Rights(NEEDED, NEEDED, NEEDED, NEEDED | SETPCAP, no_new_privs=True),
        Rights(NEEDED, NEEDED, NEEDED, NEEDED, no_new_privs=False),
    ],
    ids=["inheritable", "permitted", "effective", "bounding", "no_new_privs"],
)
def test_one_right_too_many_is_left_to_give_up(held: Rights) -> None:
    assert not privileges.is_enough(held, root=True)


def test_who_is_not_root_gains_nothing_from_the_bounding_set() -> None:
    assert privileges.is_enough(Rights(0, 0, 0, ALL, no_new_privs=True), root=False)


def test_the_rights_of_this_process_can_be_read() -> None:
    held = privileges.read()
    assert held is None or held.effective & ~held.permitted == 0


@pytest.mark.parametrize("text", ["", "Name:\tx\n", "CapInh:\tx\nCapPrm:\t0\n"])
def test_what_tells_no_rights_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "status").write_text(text)
    assert privileges.read(tmp_path / "status") is None
    assert privileges.read(tmp_path / "missing") is None
