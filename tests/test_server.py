"""The control socket against clients of every kind."""

from __future__ import annotations

import contextlib
import grp
import json
import logging
import os
import queue
import select
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngrokd.control import connections, conversation, server, socketfile, visit
from ngrokd.control.limit import RateLimit
from ngrokd.control.peer import Peer, credentials, may_command
from ngrokd.control.server import Command, ControlServer
from ngrokd.errors import ControlError, HostError
from tests.control_room import (
    NOBODY,
    PATIENCE_S,
    as_user,
    connect,
    read_all,
    serving,
    talk,
    without_a_free_descriptor,
)
from tests.fair import Stopwatch

LIST = b'{"command":"list"}\n'
LISTED = {"success": True, "data": [{"id": "ep_1"}]}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


def _refuse(_: list[str]) -> object:
    raise ControlError("timeout", "the poll takes long")


def _host_error(_: list[str]) -> object:
    raise HostError("ip: not found; install iproute2")


def _fault(args: list[str]) -> object:
    raise ValueError(f"internal words {args}")


def _answer_with_a_set(_: list[str]) -> object:
    return {1, 2}


COMMANDS: dict[str, Command] = {
    "list": lambda _: [{"id": "ep_1"}],
    "echo": lambda args: args,
    "refuse": _refuse,
    "host-error": _host_error,
    "fault": _fault,
    "not-json": _answer_with_a_set,
    "set-api-key": lambda args: "set",
    "huge": lambda _: "x" * 800_000,  # the kernel keeps a quarter of it
}


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "ngrokd.sock"
    with serving(path, COMMANDS):
        yield path


def test_a_line_is_answered_by_a_line(path: Path) -> None:
    assert talk(path, LIST) == [LISTED]


def test_several_lines_get_an_answer_each_in_order(path: Path) -> None:
    sent = b"".join(b'{"command":"echo","args":["%d"]}\n' % i for i in range(200))
    assert [answer["data"] for answer in talk(path, sent)] == [[str(i)] for i in range(200)]


def test_a_client_may_ask_again_after_it_has_read_an_answer(path: Path) -> None:
    with connect(path) as conn, conn.makefile("rb") as answers:
        for _ in range(3):
            conn.sendall(LIST)
            assert json.loads(answers.readline()) == LISTED


@pytest.mark.parametrize("sent", [LIST, LIST.strip()])
def test_a_client_that_only_waits_is_answered_and_released(path: Path, sent: bytes) -> None:
    assert talk(path, sent, half_close=False) == [LISTED]


def test_a_last_line_without_newline_is_answered_at_the_clients_end(path: Path) -> None:
    assert [answer["code"] for answer in talk(path, b'{"command":')] == ["bad_request"]


def test_nothing_is_answered_by_nothing(path: Path) -> None:
    assert talk(path, b"") == []


@pytest.mark.parametrize("sent", [b"\n", b" \r\n", b" "])
def test_a_blank_line_is_a_bad_request(path: Path, sent: bytes) -> None:
    assert [answer["code"] for answer in talk(path, sent)] == ["bad_request"]


def test_a_client_that_waits_after_a_blank_line_is_answered_and_released(path: Path) -> None:
    watch = Stopwatch()
    assert [answer["code"] for answer in talk(path, b"\n", half_close=False)] == ["bad_request"]
    assert watch.own() < conversation.REQUEST_S


def test_the_newline_that_follows_an_answered_object_is_no_request(path: Path) -> None:
    with connect(path) as conn, conn.makefile("rb") as answers:
        conn.sendall(LIST.strip())
        assert json.loads(answers.readline()) == LISTED
        conn.sendall(b"\n" + LIST)
        assert json.loads(answers.readline()) == LISTED


@pytest.mark.parametrize("first", [b"", LIST])
def test_blank_lines_gain_no_time(
    path: Path, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(conversation, "REQUEST_S", 0.3)
    monkeypatch.setattr(conversation, "NEXT_REQUEST_S", 0.2)
    watch = Stopwatch()
    with connect(path) as conn, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        conn.sendall(first)
        while True:
            conn.sendall(b"\n")
            assert watch.own() < PATIENCE_S
            if select.select([conn], [], [], 0.02)[0] and not conn.recv(65536):
                break
    assert watch.own() < 0.3 + visit.LINGER_S + 1


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"hello\n", "bad_request"),
        (b'{"command":"nope"}\n', "unknown_command"),
        (b'{"command":"refuse"}\n', "timeout"),
        (b'{"command":"host-error"}\n', "failed"),
        (b'{"command":"fault"}\n', "failed"),
        (b'{"command":"not-json"}\n', "failed"),
        (b"x" * 70_000, "too_large"),
        (b"x" * 3_000_000, "too_large"),
    ],
)
def test_every_failure_has_its_code_and_no_traceback(path: Path, sent: bytes, code: str) -> None:
    (answer,) = talk(path, sent)
    assert answer["success"] is False
    assert answer["code"] == code
    assert "Traceback" not in answer["error"]
    assert "internal words" not in answer["error"]


def test_an_unknown_command_is_told_which_there_are(path: Path) -> None:
    (answer,) = talk(path, b'{"command":"nope"}\n')
    assert answer["error"].startswith("unknown command 'nope'; there are: echo, fault, ")


def test_after_a_bad_line_the_next_is_answered(path: Path) -> None:
    assert [answer["success"] for answer in talk(path, b"bad\n" + LIST)] == [False, True]


@given(st.binary(max_size=2000))
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_arbitrary_bytes_get_one_answer_a_line(path: Path, sent: bytes) -> None:
    assert len(talk(path, sent)) == sent.count(b"\n") + (sent[-1:] not in (b"", b"\n"))
    assert talk(path, LIST) == [LISTED]


def test_a_slow_request_is_told_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "REQUEST_S", 0.1)
    with connect(path) as conn:
        conn.sendall(b'{"command":')
        assert json.loads(read_all(conn))["code"] == "timeout"


def test_a_slow_second_request_is_told_so_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "REQUEST_S", 0.7)
    with connect(path) as conn:
        conn.sendall(LIST + b'{"command":')
        first, second = (json.loads(line) for line in read_all(conn).splitlines())
    assert first == LISTED
    assert second["code"] == "timeout"


def test_a_silent_client_is_told_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "REQUEST_S", 0.1)
    with connect(path) as conn:
        assert json.loads(read_all(conn))["code"] == "timeout"


def test_clients_that_never_read_take_no_others_place(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ANSWER_S", 0.2)
    stuck = [connect(path) for _ in range(server.MAX_CONNECTIONS)]
    for conn in stuck:
        conn.sendall(b'{"command":"huge"}\n')
    assert talk(path, LIST) == [LISTED]
    for conn in stuck:
        conn.close()


def test_a_client_that_closes_before_its_answer_harms_nobody(path: Path) -> None:
    for _ in range(20):
        with connect(path) as conn:
            conn.sendall(b'{"command":"huge"}\n')
    assert talk(path, LIST) == [LISTED]


def test_two_hundred_clients_at_once_are_all_answered(path: Path) -> None:
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda _: talk(path, LIST), range(200)))
    assert answers == [[LISTED]] * 200


def test_over_the_limit_for_too_long_a_client_is_told_that_it_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SLOT_WAIT_S", 0.05)
    go_on = threading.Event()
    begun = threading.Semaphore(0)

    def hold(_: list[str]) -> object:
        begun.release()
        return go_on.wait(PATIENCE_S)

    path = tmp_path / "s"
    with serving(path, {"list": hold}):
        held = [connect(path) for _ in range(server.MAX_CONNECTIONS)]
        for conn in held:
            conn.sendall(LIST)
        assert begun.acquire(timeout=PATIENCE_S)  # the others wait for their turn
        assert [answer["code"] for answer in talk(path, b"")] == ["busy"]
        go_on.set()
        for conn in held:
            assert json.loads(read_all(conn)) == {"success": True, "data": True}
            conn.close()
        assert talk(path, LIST) == [{"success": True, "data": True}]


def test_without_a_free_descriptor_the_socket_still_answers(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_UNIX) as client, without_a_free_descriptor():
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        client.sendall(LIST)
        client.shutdown(socket.SHUT_WR)
        assert json.loads(read_all(client)) == LISTED
    assert "no file descriptor left" in caplog.text
    assert talk(path, LIST) == [LISTED]


@pytest.mark.parametrize("kind", [ValueError, KeyError, MemoryError])
def test_a_fault_in_one_connection_costs_that_one_and_one_line(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: type[Exception],
) -> None:
    died: list[object] = []
    fault = kind("a bug")

    def broken(_: socket.socket) -> Peer:
        raise fault

    monkeypatch.setattr(threading, "excepthook", died.append)
    with monkeypatch.context() as patch:
        patch.setattr(server, "credentials", broken)
        for _ in range(server.MAX_CONNECTIONS + 1):  # each gives its place back
            assert talk(path, LIST) == []
    assert talk(path, LIST) == [LISTED]
    assert died == []
    assert len(caplog.records) == server.MAX_CONNECTIONS + 1
    line = caplog.records[0]
    assert line.getMessage() == "control: a connection met a fault of ngrokd's own and was ended"
    assert line.exc_info is not None
    assert line.exc_info[1] is fault


# Keys and the log


def test_the_key_is_set_five_times_a_minute_at_most(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = talk(path, b'{"command":"set-api-key","args":["k"]}\n' * 6 + LIST)
    assert [answer["success"] for answer in answers] == [True] * 5 + [False, True]
    assert answers[5]["code"] == "rate_limited"
    assert "try again in" in answers[5]["error"]
    (told,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    asker = f"uid {os.getuid()}, pid {os.getpid()}"
    assert told == f"control: too many API keys are tried, now by {asker}"


def test_a_permit_comes_back_when_its_minute_is_over() -> None:
    clock = [0.0]
    limit = RateLimit(2, 60, lambda: clock[0])
    assert limit.seconds_to_wait() == 0
    clock[0] = 30
    assert limit.seconds_to_wait() == 0
    assert limit.seconds_to_wait() == 30
    clock[0] = 60
    assert limit.seconds_to_wait() == 0
    assert limit.seconds_to_wait() == 30


def test_a_key_never_reaches_the_log_even_when_the_command_breaks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(tmp_path / "s", {"set-api-key": _fault}):
        (answer,) = talk(tmp_path / "s", b'{"command":"set-api-key","args":["2abcSECRET"]}\n')
    assert answer["code"] == "failed"
    assert "set-api-key failed: ValueError" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_fault_of_a_command_is_in_the_log_with_its_place(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    talk(path, b'{"command":"fault"}\n')
    assert "fault failed: ValueError: internal words" in caplog.text
    assert "in _fault" in caplog.text


# Who may


@pytest.mark.parametrize(
    ("peer", "own_uid", "group", "allowed"),
    [
        (Peer(1, 0, frozenset({0})), 1000, None, True),
        (Peer(1, 1000, frozenset({5})), 1000, None, True),
        (Peer(1, 1001, frozenset({5})), 1000, None, False),
        (Peer(1, 1001, frozenset({5, 7})), 1000, 7, True),
        (Peer(1, 1001, frozenset({5})), 1000, 7, False),
        (Peer(1, 1001, frozenset({0})), 0, None, False),
    ],
)
def test_root_the_own_user_and_the_group_may_command(
    peer: Peer, own_uid: int, group: int, allowed: bool
) -> None:
    assert may_command(peer, own_uid, group) is allowed


def test_the_kernel_tells_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = credentials(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.groups == {os.getegid(), *os.getgroups()}


def _loosened(path: Path) -> None:
    """Lets anybody connect, so that only the credentials decide."""
    path.chmod(0o666)
    for folder in path.parents:
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(0o755)


@as_root
def test_another_user_is_refused_even_if_the_socket_is_open_to_all(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _loosened(path)
    for sent in (LIST, b'{"command":"set-api-key","args":["evil"]}\n', b""):
        answer = json.loads(as_user(NOBODY, [], lambda sent=sent: json.dumps(talk(path, sent))))  # type: ignore[misc]
        assert [line["code"] for line in answer] == ["forbidden"]
    assert f"refused uid {NOBODY}" in caplog.text


def test_who_the_kernel_does_not_tell_of_is_not_answered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As macOS's LOCAL_PEERCRED may, in a version that is not known yet."""

    def untold(conn: socket.socket) -> Peer:
        raise OSError("the kernel tells who is at the other end in an unknown form (1)")

    monkeypatch.setattr(server, "credentials", untold)
    assert talk(path, LIST) == []
    monkeypatch.undo()
    assert [answer["success"] for answer in talk(path, LIST)] == [True]


@as_root
@pytest.mark.parametrize(("groups", "allowed"), [([54321], True), ([54322], False)])
def test_a_supplementary_group_opens_the_socket(
    tmp_path: Path, groups: list[int], allowed: bool
) -> None:
    path = tmp_path / "s"
    with serving(path, COMMANDS, group="54321"):
        assert path.stat().st_gid == 54321
        _loosened(path)
        (answer,) = json.loads(as_user(NOBODY, groups, lambda: json.dumps(talk(path, LIST))))
    assert answer["success"] is allowed


# The file


def test_the_socket_is_for_owner_and_group_only(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_group_is_found_by_its_name(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getegid())
    with serving(tmp_path / "s", COMMANDS, group=group.gr_name):
        assert (tmp_path / "s").stat().st_gid == group.gr_gid


def test_an_unknown_group_is_named_with_its_mend(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"socket_group: .*'nosuchgroup'.*groupadd --system"):
        ControlServer(str(tmp_path / "s"), "nosuchgroup", COMMANDS).start()
    assert not (tmp_path / "s").exists()


def test_stop_removes_the_socket_and_every_thread_and_may_be_repeated(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    control = ControlServer(str(tmp_path / "s"), "", COMMANDS)
    control.stop()
    control.start()
    idle = connect(tmp_path / "s")
    talk(tmp_path / "s", LIST)
    control.stop()
    control.stop()
    idle.close()
    assert not (tmp_path / "s").exists()
    assert set(threading.enumerate()) == before


def test_an_answer_on_its_way_at_stop_still_arrives(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: list[str]) -> object:
        begun.set()
        return go_on.wait(PATIENCE_S)

    control = ControlServer(str(tmp_path / "s"), "", {"slow": slow})
    control.start()
    with connect(tmp_path / "s") as conn:
        conn.sendall(b'{"command":"slow"}\n')
        assert begun.wait(PATIENCE_S)
        stopping = threading.Thread(target=control.stop)
        stopping.start()
        go_on.set()
        assert json.loads(read_all(conn)) == {"success": True, "data": True}
        stopping.join(PATIENCE_S)
    assert not stopping.is_alive()


def test_a_socket_left_by_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    with serving(path, COMMANDS):
        assert talk(path, LIST) == [LISTED]


def test_a_living_daemons_socket_is_left_alone_and_the_daemon_named(path: Path) -> None:
    inode = path.stat().st_ino
    second = ControlServer(str(path), "", COMMANDS)
    with pytest.raises(HostError, match=rf"{path}: another daemon .*\(pid {os.getpid()}\).*kill"):
        second.start()
    second.stop()
    assert path.stat().st_ino == inode
    assert talk(path, LIST) == [LISTED]


def test_a_hanging_daemons_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(path))
        hanging.listen(0)
        with connect(path):  # the backlog is full now
            with pytest.raises(HostError, match="another program may be listening there"):
                ControlServer(str(path), "", COMMANDS).start()
            assert path.is_socket()


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("mine")
    with pytest.raises(HostError, match="not a socket; move it away"):
        ControlServer(str(path), "", COMMANDS).start()
    assert path.read_text() == "mine"


def test_what_somebody_puts_in_the_place_of_a_new_socket_keeps_its_mode(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("")
    secret.chmod(0o600)
    path = tmp_path / "s"

    class Replaced(socket.socket):
        def bind(self, address: object) -> None:
            super().bind(address)  # type: ignore[arg-type]
            path.rename(tmp_path / "taken")
            path.symlink_to(secret)

    with patch.object(socket, "socket", Replaced), pytest.raises(HostError, match="only root may"):
        socketfile.listen(str(path), None, 1)
    assert secret.stat().st_mode & 0o777 == 0o600
    assert path.is_symlink()


def test_what_somebody_puts_in_the_place_of_a_new_folder_keeps_its_mode(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(0o700)
    folder = tmp_path / "run"

    def replaced(made: Path) -> None:
        made.symlink_to(theirs)

    with patch.object(Path, "mkdir", replaced), contextlib.suppress(HostError):
        socketfile.listen(str(folder / "s"), None, 1)[0].close()
    assert theirs.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("name", "mend"),
    [("no/ne/s", "No such file or directory; make its folder with `mkdir -p "), ("x" * 200, "107")],
)
def test_a_path_that_cannot_be_used_is_named_with_its_mend(
    tmp_path: Path, name: str, mend: str
) -> None:
    with pytest.raises(HostError, match="control socket .*" + mend):
        ControlServer(str(tmp_path / name), "", COMMANDS).start()


@as_root
def test_a_folder_one_may_not_write_to_is_named_with_its_mend(tmp_path: Path) -> None:
    def start() -> str:
        try:
            ControlServer("/etc/ngrokd-test.sock", "", COMMANDS).start()
        except HostError as exc:
            return str(exc)
        return "started"

    assert "Permission denied; run as root, or set server.socket_path" in as_user(NOBODY, [], start)


@contextlib.contextmanager
def watched(path: Path) -> Iterator[tuple[ControlServer, queue.SimpleQueue[str]]]:
    """A server at that path, and its warnings as they come."""
    said: queue.SimpleQueue[str] = queue.SimpleQueue()

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.put(record.getMessage())

    watch = Watch(logging.WARNING)
    logging.getLogger("ngrokd.control.server").addHandler(watch)
    control = ControlServer(str(path), "", COMMANDS)
    control.start()
    try:
        yield control, said
    finally:
        control.stop()
        logging.getLogger("ngrokd.control.server").removeHandler(watch)


def test_a_socket_that_somebody_removed_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "TICK_S", 0.02)
    path = tmp_path / "run" / "s"
    with watched(path) as (_, said):
        for folder_too in (False, True):
            path.unlink()
            if folder_too:
                path.parent.rmdir()
            assert "made again" in said.get(timeout=PATIENCE_S)
            assert talk(path, LIST) == [LISTED]
            assert path.stat().st_mode & 0o777 == 0o660
    assert not path.exists()


def test_the_main_thread_can_have_it_looked_at_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "TICK_S", 3600.0)
    path = tmp_path / "s"
    with watched(path) as (control, said):
        control.ensure()
        path.unlink()
        control.ensure()
        assert "made again" in said.get(timeout=PATIENCE_S)
        assert talk(path, LIST) == [LISTED]
    control.ensure()  # after the end, too


def test_making_it_again_disturbs_no_client(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with watched(path) as (control, said), connect(path) as conn, conn.makefile("rb") as answers:
        conn.sendall(LIST)
        assert json.loads(answers.readline()) == LISTED
        path.unlink()
        control.ensure()
        said.get(timeout=PATIENCE_S)
        conn.sendall(LIST)
        assert json.loads(answers.readline()) == LISTED


def test_who_waits_at_the_old_socket_is_served_before_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with contextlib.ExitStack() as stack:
        control, said = stack.enter_context(watched(path))
        moved = path.with_name("moved")
        path.rename(moved)
        waiting = [stack.enter_context(connect(moved)) for _ in range(20)]
        control.ensure()
        assert "made again" in said.get(timeout=PATIENCE_S)
        for conn in waiting:
            conn.sendall(LIST)
            conn.shutdown(socket.SHUT_WR)
            assert json.loads(read_all(conn)) == LISTED


def test_a_stale_socket_in_its_place_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with watched(path) as (control, said):
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(tmp_path / "stale"))
        (tmp_path / "stale").replace(path)
        control.ensure()
        assert "made again" in said.get(timeout=PATIENCE_S)
        assert talk(path, LIST) == [LISTED]


def test_another_file_in_its_place_stays_and_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with watched(path) as (control, said):
        path.unlink()
        path.write_text("precious")
        control.ensure()
        assert "that is not a socket" in said.get(timeout=PATIENCE_S)
        control.ensure()
        path.unlink()
        control.ensure()
        assert "made again" in said.get(timeout=PATIENCE_S)
        path.unlink()
        path.write_text("precious")
    assert path.read_text() == "precious"


def test_a_socket_that_another_daemon_made_meanwhile_stays_while_and_after_we_run(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as other:
        with watched(path) as (control, said):
            path.unlink()
            other.bind(str(path))
            other.listen()
            control.ensure()
            assert f"another daemon answers there (pid {os.getpid()})" in said.get(
                timeout=PATIENCE_S
            )
        with connect(path):
            pass


def test_anothers_socket_with_the_number_of_ours_is_not_removed_at_the_end(tmp_path: Path) -> None:
    """A file system gives the number of a file that is gone to the next one."""
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen();"
        "print(flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "s")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        found = (tmp_path / "s").stat()
        file = socketfile.SocketFile(tmp_path / "s", found.st_dev, found.st_ino)
        file.remove()
        assert (tmp_path / "s").is_socket()
        other.kill()
        other.wait()
        file.remove()
        assert not (tmp_path / "s").exists()


def test_a_stale_socket_is_removed_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert not socketfile.remove_stale(str(path))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        with pytest.raises(HostError, match=f"pid {os.getpid()}"):
            socketfile.remove_stale(str(path))
    assert socketfile.remove_stale(str(path)) and not path.exists()
    path.write_text("precious")
    assert not socketfile.remove_stale(str(path))
    assert path.read_text() == "precious"


# Real programs

needs_nc = pytest.mark.skipif(
    shutil.which("nc") is None or shutil.which("jq") is None,
    reason="needs nc and jq (apt install netcat-openbsd jq)",
)


def _shell(line: str, path: Path) -> str:
    return subprocess.run(
        ["sh", "-c", line],
        env={**os.environ, "SOCK": str(path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    ).stdout


@needs_nc
@pytest.mark.parametrize("options", ["-U", "-N -U"])
def test_nc_and_jq_work_and_return(path: Path, options: str) -> None:
    line = f"""echo '{{"command":"list"}}' | nc {options} "$SOCK" | jq -r '.data[0].id'"""
    assert _shell(line, path) == "ep_1\n"


@needs_nc
def test_nc_sends_several_lines(path: Path) -> None:
    line = r"""printf '{"command":"list"}\n{"command":"x"}\n' | nc -U "$SOCK" | jq -c .success"""
    assert _shell(line, path) == "true\nfalse\n"


@needs_nc
def test_nc_without_a_newline_works_too(path: Path) -> None:
    line = r"""printf '{"command":"list"}' | nc -U "$SOCK" | jq -c .success"""
    assert _shell(line, path) == "true\n"
