"""`ngrokd sandbox` says how to use it, serves, and leaves nothing; its samples answer."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.sandbox.cloud import Sandbox
from ngrokd.sandbox.configfile import FIRST_LINE
from ngrokd.sandbox.endpoints import SpecError, Upstream, locate, parse_argument, parse_upstream
from ngrokd.sandbox.selectors import SelectorError, compile_selector, selects
from ngrokd.sandbox.slots import SLOTS
from tests.sandbox_client import Operator, running

PROGRAM = (
    "import argparse, sys\n"
    "from ngrokd.sandbox import command\n"
    "parser = argparse.ArgumentParser(prog='ngrokd sandbox')\n"
    "command.add_arguments(parser)\n"
    "sys.exit(command.run(parser.parse_args()))\n"
)
SIGNALLED_THREAD = (
    "import signal, sys, threading\n"
    "def get_a_signal():\n"
    "    sys.stdin.readline()\n"
    "    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)\n"
    "threading.Thread(target=get_a_signal, daemon=True).start()\n"
)
TIMEOUT_S = 20


def start(*arguments: str, temporary: Optional[Path] = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"TMPDIR": str(temporary)} if temporary else None,
    )


def printed(program: subprocess.Popen[str]) -> str:
    """What it prints before it waits."""
    assert program.stdout is not None
    lines = []
    for line in program.stdout:
        lines.append(line)
        if line.strip().startswith("hosts_file:"):
            return "".join(lines)
    raise AssertionError(program.communicate())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_a_configuration_serves_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    program = start("--endpoint", "tcp://db.example:5432=localhost:6000", temporary=tmp_path)
    text = printed(program)
    config = yaml.safe_load(text)
    assert config["api"]["key"] == "sandbox-key"
    slot = next(each for each in SLOTS if each.subnet == config["net"]["subnet"])
    assert config["net"]["interface_name"] == slot.name
    assert config["server"]["health_port"] == slot.health_port
    # Root's /etc/hosts is no place for it.
    assert Path(config["net"]["hosts_file"]).parent == Path(config["server"]["pid_file"]).parent
    assert f"http://hello.{slot.name} -> 127.0.0.1:" in text
    assert Path(config["server"]["ca_file"]).exists()
    assert "tcp://db.example:5432 -> localhost:6000" in text
    assert list(tmp_path.iterdir())
    program.send_signal(number)
    output, errors = program.communicate(timeout=TIMEOUT_S)
    assert (program.returncode, output, errors) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_a_signal_that_another_thread_gets_ends_it_too() -> None:
    """Then no system call of the main thread is interrupted; nor is one that is about to begin."""
    program = subprocess.Popen(
        [sys.executable, "-c", SIGNALLED_THREAD + PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    printed(program)
    try:
        output = program.communicate("now\n", timeout=TIMEOUT_S)
    finally:
        program.kill()
    assert (*output, program.returncode) == ("", "", 0)


def test_a_folder_asked_for_stays_and_gives_the_same_authority(tmp_path: Path) -> None:
    anchors = []
    for _ in range(2):
        program = start("--dir", str(tmp_path / "keep"), "--no-samples")
        config = yaml.safe_load(printed(program))
        anchors.append(Path(config["server"]["ca_file"]).read_bytes())
        program.terminate()
        program.communicate(timeout=TIMEOUT_S)
        assert program.returncode == 0
    assert anchors[0] == anchors[1]


def test_a_second_one_on_the_same_port_says_so(tmp_path: Path) -> None:
    first = start(temporary=tmp_path)
    port = re.search(r"http://127\.0\.0\.1:(\d+)", printed(first))
    assert port is not None
    second = start("--port", port[1], temporary=tmp_path)
    output, errors = second.communicate(timeout=TIMEOUT_S)
    first.terminate()
    first.communicate(timeout=TIMEOUT_S)
    assert (second.returncode, output) == (1, "")
    assert f"127.0.0.1:{port[1]}: another program listens there" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--endpoint", "nonsense"], "write URL=HOST:PORT"),
        (["--endpoint", "ftp://a.ns=localhost:1"], "http://, https://, tcp://, tls://"),
        (["--endpoint", "tcp://a.ns=localhost:1"], "needs a port"),
        (["--endpoint", "http://a.ns=localhost"], "HOST:PORT"),
        (["--endpoint", "http://a.ns:0=localhost:1"], "1 to 65535"),
        (["--endpoint", "http://a.ns/path=localhost:1"], "SCHEME://HOSTNAME"),
        (["--port", "70000"], "0 to 65535"),
        (["--ingress-port", "x"], "0 to 65535"),
    ],
)
def test_a_bad_argument_is_named_and_ends_with_2(arguments: list[str], word: str) -> None:
    program = start(*arguments)
    _, errors = program.communicate(timeout=TIMEOUT_S)
    assert program.returncode == 2
    assert arguments[0] in errors
    assert word in errors


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    program = start("--dir", str(tmp_path / "file" / "below"))
    _, errors = program.communicate(timeout=TIMEOUT_S)
    assert program.returncode == 1
    assert f"{tmp_path}/file/below cannot be made" in errors


def test_cryptography_is_not_loaded_by_parsing_arguments() -> None:
    code = "import sys, ngrokd.sandbox.command; sys.exit('cryptography' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=TIMEOUT_S)


def test_a_second_one_on_the_same_folder_says_who_has_it_and_changes_nothing(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "keep"
    first = start("--dir", str(folder))
    printed(first)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    second = start("--dir", str(folder))
    output, errors = second.communicate(timeout=TIMEOUT_S)
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    first.kill()
    first.communicate(timeout=TIMEOUT_S)
    third = start("--dir", str(folder))
    printed(third)
    third.terminate()
    third.communicate(timeout=TIMEOUT_S)
    assert (second.returncode, output, third.returncode) == (1, "", 0)
    assert f"another sandbox runs on {folder} (pid {first.pid})" in errors
    assert errors.count("\n") == 1
    assert after == before


# The configuration in a file


def test_the_configuration_file_is_there_whole_while_it_serves(tmp_path: Path) -> None:
    out = tmp_path / "sandbox.yml"
    out.write_text(FIRST_LINE + "\n# left by one that was killed\n")
    program = start("--config-out", str(out), "--no-samples")
    text = printed(program)
    assert out.read_text() == text
    assert out.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [out]
    api = re.search(r"http://127\.0\.0\.1:(\d+)", text)
    assert api is not None
    socket.create_connection(("127.0.0.1", int(api[1])), TIMEOUT_S).close()
    program.terminate()
    assert (*program.communicate(timeout=TIMEOUT_S), program.returncode) == ("", "", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_stale_configuration_file_is_gone_when_the_start_fails(tmp_path: Path) -> None:
    out = tmp_path / "sandbox.yml"
    out.write_text(FIRST_LINE + "\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        program = start("--config-out", str(out), "--port", str(taken.getsockname()[1]))
        program.communicate(timeout=TIMEOUT_S)
    assert program.returncode == 1
    assert not out.exists()


def test_a_configuration_file_that_was_edited_stays_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "sandbox.yml"
    program = start("--config-out", str(out), "--no-samples")
    edited = printed(program) + "forward: {connect_timeout: 3}\n"
    out.write_text(edited)
    program.terminate()
    program.communicate(timeout=TIMEOUT_S)
    assert (program.returncode, out.read_text()) == (0, edited)


def somebodys_file(path: Path) -> None:
    path.write_text("api: {key: precious}\n")


def link_to_a_sandboxs_file(path: Path) -> None:
    (path.parent / "other").write_text(FIRST_LINE)
    path.symlink_to(path.parent / "other")


@pytest.mark.parametrize(
    "make", [somebodys_file, link_to_a_sandboxs_file, Path.mkdir, os.mkfifo]
)
def test_what_no_sandbox_wrote_is_not_replaced(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    out = tmp_path / "config.yml"
    make(out)
    before = _identity(out)
    program = start("--config-out", str(out))
    output, errors = program.communicate(timeout=TIMEOUT_S)
    assert (program.returncode, output) == (1, "")
    assert errors == (
        f"ngrokd sandbox: {out} is there and was not written by a sandbox: name another\n"
    )
    assert _identity(out) == before


def _identity(path: Path) -> tuple[int, ...]:
    """Of the thing itself; without the time of the last look at it, which any look changes."""
    known = path.lstat()
    return (*known[:7], known.st_mtime_ns, known.st_ctime_ns)  # without st_atime


def test_a_configuration_file_in_no_folder_is_named_before_anything_starts(tmp_path: Path) -> None:
    program = start("--config-out", str(tmp_path / "none" / "c.yml"), "--dir", str(tmp_path / "d"))
    output, errors = program.communicate(timeout=TIMEOUT_S)
    assert (program.returncode, output, errors.count("\n")) == (1, "", 1)
    assert f"{tmp_path}/none/c.yml cannot be written: its folder does not exist" in errors
    assert list(tmp_path.iterdir()) == []


# Arguments and selectors, whatever they are


@given(text=st.text(max_size=40))
def test_no_argument_gives_anything_but_an_endpoint_or_its_fault(text: str) -> None:
    for parse in (parse_argument, parse_upstream):
        try:
            parse(text)
        except SpecError as exc:
            assert str(exc)


@given(text=st.text(alphabet="htps:/[].*ab09@?#= \n", max_size=30))
def test_no_url_stops_the_listing(text: str) -> None:
    scheme, target = locate(text)
    assert isinstance(scheme, str)
    assert target is None or target.port > 0


def test_an_ipv6_upstream_is_written_in_brackets() -> None:
    assert parse_upstream("[::1]:80") == Upstream("::1", 80)
    assert str(Upstream("::1", 80)) == "[::1]:80"


@given(text=st.text(alphabet="endpoint.url()!&|=<>\"'\\[], 019-x", max_size=40))
def test_no_selector_gives_anything_but_a_choice_or_its_fault(text: str) -> None:
    try:
        expression = compile_selector(text)
    except SelectorError as exc:
        assert str(exc)
    else:
        assert selects([expression], {"url": "x"}) in (True, False)


@pytest.mark.parametrize(
    "text",
    ["", "maybe", "endpoint", "endpoint.url ==", "true)", "(" * 60, "!" * 60, '"open', "1.x()"],
)
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(SelectorError):
        compile_selector(text)


# Samples


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    for sandbox in running(tmp_path_factory.mktemp("samples")):
        yield Operator(sandbox, sandbox.folder)


def fetch(operator: Operator, host: str, port: int, request: bytes) -> bytes:
    with operator.connect(host, port) as tunnel:
        tunnel.send(request)
        return tunnel.early + tunnel.recv_all()


def test_hello_says_hello_and_shows_the_request(operator: Operator) -> None:
    request = (
        b"POST /a?b HTTP/1.1\r\nHost: hello.sandbox\r\nX-Mine: yes\r\nContent-Length: 4\r\n"
        b"Connection: close\r\n\r\nbody"
    )
    answer = fetch(operator, "hello.sandbox", 80, request)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    for part in (b"Hello from the ngrokd", b"POST /a?b HTTP/1.1", b"X-Mine: yes", b"\nbody"):
        assert part in answer


def test_files_serves_its_folder(operator: Operator) -> None:
    (operator.sandbox.folder / "files" / "mine.txt").write_text("my text")
    request = b"GET /%s HTTP/1.1\r\nHost: f\r\nConnection: close\r\n\r\n"
    mine = fetch(operator, "files.sandbox", 8000, request % b"mine.txt")
    assert mine.endswith(b"\r\n\r\nmy text")
    assert b"zeros-16M.bin" in fetch(operator, "files.sandbox", 8000, request % b"")
    assert b" 404 " in fetch(operator, "files.sandbox", 8000, request % b"../operators.json")


def test_echo_gives_back_everything_after_a_half_close(operator: Operator) -> None:
    with operator.connect("echo.sandbox", 7000) as tunnel:
        tunnel.send(b"one two")
        tunnel.close_write()
        assert tunnel.early + tunnel.recv_all() == b"one two"


def test_the_overlay_is_what_a_daemon_needs(operator: Operator) -> None:
    config: dict[str, dict[str, Any]] = operator.sandbox.config()
    assert config["api"] == {"url": operator.sandbox.api_url, "key": Sandbox.api_key}
    assert set(config) == {"api", "server", "net"}
