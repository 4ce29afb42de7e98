"""Keys come from a process of their own, and from this one where that is not to be had."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from ngrokd.cloud import keymaker, keys
from ngrokd.cloud.keymaker import KeyMaker, Made, UnusableKey
from ngrokd.errors import HostError, StateError
from ngrokd.host import command

ROOT = Path(__file__).parent.parent
KEYS_PY = str(Path(keys.__file__).absolute())
SAMPLE = keys.answer("")
OTHER = keys.answer("")


class Recorded:
    """Runs what it is asked to run, and remembers it."""

    def __init__(self) -> None:
        self.argvs: list[Sequence[str]] = []
        self.texts: list[str] = []
        self.printed = ""

    def __call__(self, argv: Sequence[str], text: str) -> str:
        self.argvs.append(argv)
        self.texts.append(text)
        self.printed = command.run(argv, text)
        return self.printed


def printing(text: str) -> keymaker.Run:
    return lambda _argv, _text: text


def assert_works(made: Made) -> None:
    key = serialization.load_pem_private_key(made.key, None)
    request = x509.load_pem_x509_csr(made.request.encode())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert request.is_signature_valid and request.public_key() == key.public_key()


def encrypted_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def rsa_key() -> bytes:
    return rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def old_form_of(key: bytes) -> bytes:
    """As `openssl ecparam -genkey` writes it: another label."""
    loaded = serialization.load_pem_private_key(key, None)
    return loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


# By a process of its own


def test_a_new_key_and_its_request_come_from_another_process() -> None:
    run = Recorded()
    made = KeyMaker(run).new()
    assert_works(made)
    assert json.loads(run.printed)["key"].encode() == made.key


def test_no_list_of_processes_shows_a_key_and_no_log_either(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    run = Recorded()
    made = KeyMaker(run).new()
    KeyMaker(run).request(made.key)
    assert run.argvs == [(sys.executable, "-I", "-S", KEYS_PY)] * 2
    body = made.key.decode().splitlines()[1]
    assert body in run.texts[1] and body not in caplog.text
    assert body not in repr(made)


def test_the_process_that_asks_never_loads_cryptography(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from ngrokd.cloud.keymaker import KeyMaker\n"
        "from ngrokd.host import command\n"
        "made = KeyMaker(command.run).new()\n"
        "assert KeyMaker(command.run).request(made.key).key == made.key\n"
        "print([name for name in sys.modules if name.startswith('cryptography')])\n"
    )
    argv = [sys.executable, "-I", "-c", program, str(ROOT)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_modules_are_found_where_the_parent_finds_them_and_nowhere_else(tmp_path: Path) -> None:
    """`make install` keeps them in a folder of its own, which no environment names."""
    private = tmp_path / "lib"
    (private / "cryptography").mkdir(parents=True)
    (private / "cryptography" / "__init__.py").write_text("raise ImportError('the private one')")
    question = json.dumps({"path": [str(private), *sys.path[1:]], "key": ""})
    with pytest.raises(command.CommandError, match="the private one"):
        command.run((sys.executable, "-I", "-S", KEYS_PY), question)


def test_a_module_in_the_current_folder_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cryptography.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    run = Recorded()
    assert_works(KeyMaker(run).new())
    assert run.printed and "" not in json.loads(run.texts[0])["path"]


def test_every_python_that_is_here_makes_keys() -> None:
    """Those of pyenv that have `cryptography`, and the one of the tests."""
    versions = Path.home() / ".pyenv" / "versions"
    pythons = [sys.executable, *map(str, sorted(versions.glob("3.*/bin/python")))]
    ask = "import sys, json, cryptography; print(json.dumps(sys.path[1:]))"
    made = 0
    for python in pythons:
        done = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True)
        if done.returncode == 0:
            question = json.dumps({"path": json.loads(done.stdout), "key": ""})
            answer = json.loads(command.run((python, "-I", "-S", KEYS_PY), question))
            assert_works(Made(answer["key"].encode(), answer["request"]))
            made += 1
    assert made


@pytest.mark.parametrize("run", [None, command.run], ids=["here", "elsewhere"])
def test_the_request_of_a_key_that_is_there_leaves_the_key_as_it_is(run: keymaker.Run) -> None:
    key = SAMPLE["key"].encode()
    for each in (key, b"\n" + key + b"\n\n", old_form_of(key)):
        made = KeyMaker(run).request(each)
        assert made.key == each
        assert_works(made)


@pytest.mark.parametrize("run", [None, command.run], ids=["here", "elsewhere"])
@pytest.mark.parametrize(
    "make_key",
    [bytes, lambda: b"junk", lambda: b"\xff\xfe", lambda: bytes(4096), encrypted_key, rsa_key],
    ids=["empty", "junk", "not text", "zeros", "encrypted", "rsa"],
)
def test_a_key_without_a_request_is_unusable(
    run: keymaker.Run, make_key: Callable[[], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    key = make_key()
    with pytest.raises(UnusableKey):
        KeyMaker(run).request(key)
    assert not KeyMaker(run).usable(key)
    assert caplog.text == ""  # that is an answer, not a process that failed


# Where that is not to be had


def failing(*argv: str) -> keymaker.Run:
    return lambda _argv, text: command.run(argv, text)


def a_file_nobody_may_run(folder: Path) -> str:
    path = folder / "python3"
    path.write_text("#!/bin/sh\nexit 0\n")
    path.chmod(0o644)
    return str(path)


def test_a_process_that_is_killed_costs_memory_and_no_registration(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert_works(KeyMaker(failing("sh", "-c", "kill -9 $$")).new())
    assert "the private key is made within ngrokd" in caplog.text
    assert "exit status -9" in caplog.text


def test_a_python_that_may_not_be_run_or_is_gone_costs_no_registration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (a_file_nobody_may_run(tmp_path), str(tmp_path / "gone"), ""):
        monkeypatch.setattr(sys, "executable", name)
        assert_works(KeyMaker(command.run).new())
    assert "Permission denied" in caplog.text and "there is no program" in caplog.text


def test_a_program_that_cannot_be_read_costs_no_registration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keys, "__file__", str(tmp_path / "package.zip" / "keys.py"))
    assert_works(KeyMaker(command.run).new())
    assert "keys.py" in caplog.text


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        '{"fault": "for a new key"}',
        json.dumps(SAMPLE)[:-9],
        json.dumps({**SAMPLE, "key": 1}),
        json.dumps({**SAMPLE, "key": SAMPLE["request"]}),
        json.dumps({**SAMPLE, "request": ""}),
        json.dumps({**SAMPLE, "request": SAMPLE["key"]}),
        json.dumps(SAMPLE) * 2,
    ],
)
def test_garbage_in_the_place_of_an_answer_is_told_and_not_used(
    printed: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = KeyMaker(printing(printed)).new()
    assert_works(made)
    assert made.key.decode() != SAMPLE["key"]
    assert "cannot be used" in caplog.text
    assert SAMPLE["key"].splitlines()[1] not in caplog.text


@settings(max_examples=50)
@given(st.text() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_whatever_is_printed_the_key_works(printed: str) -> None:
    assert_works(KeyMaker(printing(printed)).new())


def test_an_answer_about_another_key_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    key = SAMPLE["key"].encode()
    made = KeyMaker(printing(json.dumps(OTHER))).request(key)
    assert made.key == key
    assert_works(made)
    assert "another key" in caplog.text


def test_a_runner_that_fails_for_any_reason_of_the_host_is_replaced() -> None:
    def run(_argv: Sequence[str], _text: str) -> str:
        raise HostError("no more processes may be started")

    assert_works(KeyMaker(run).new())


@pytest.mark.parametrize("run", [None, printing("")], ids=["here", "after a failure"])
def test_a_python_without_cryptography_is_told_what_to_install(
    run: keymaker.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in sys.modules if each.startswith("cryptography")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(StateError, match="apt-get install python3-cryptography"):
        KeyMaker(run).new()


def test_the_program_says_in_one_line_that_cryptography_is_missing() -> None:
    question = json.dumps({"path": [os.path.dirname(json.__path__[0])], "key": ""})
    with pytest.raises(command.CommandError, match="No module named 'cryptography'"):
        command.run((sys.executable, "-I", "-S", KEYS_PY), question)
