"""The control socket in a crowd: whoever does not ask takes nobody's time who does."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ngrokd.commands import Commands
from ngrokd.control import connections, conversation, dispatch, server
from ngrokd.control.client import request
from ngrokd.control.desk import Desk
from ngrokd.control.dispatch import Caller, Dispatcher
from ngrokd.control.protocol import encode_request
from ngrokd.control.report import Verdict
from ngrokd.control.server import Command
from ngrokd.errors import ControlError
from ngrokd.forward.ledger import Snapshot
from ngrokd.model import Status
from tests.control_room import (
    PATIENCE_S,
    connect,
    read_all,
    serving,
    talk,
    without_a_free_descriptor,
)
from tests.fair import Stopwatch

LIST = b'{"command":"list"}\n'
LISTED = {"success": True, "data": ["ep_1"]}
HALF = b'{"command":"li'
CROWD = 500

COMMANDS: dict[str, Command] = {
    "list": lambda _: ["ep_1"],
    "echo": lambda args: args,
    "set-api-key": lambda _: "set",
}


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "ngrokd.sock"
    with serving(path, COMMANDS):
        yield path


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * CROWD)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _crowd(path: Path, size: int, sent: bytes, stack: contextlib.ExitStack) -> list[socket.socket]:
    crowd = [stack.enter_context(connect(path)) for _ in range(size)]
    for conn in crowd:
        with contextlib.suppress(BrokenPipeError):  # it has lost its place already
            conn.sendall(sent)
    return crowd


@pytest.mark.parametrize("sent", [b"", HALF])
def test_clients_that_do_not_ask_keep_nobody_waiting(
    path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(conversation, "REQUEST_S", 1.5)
    with contextlib.ExitStack() as stack:
        crowd = _crowd(path, server.MAX_CONNECTIONS, sent, stack)
        watch = Stopwatch()
        for _ in range(5):
            assert talk(path, LIST) == [LISTED]
        assert watch.own() < conversation.REQUEST_S / 2
        answers = [json.loads(read_all(conn)) for conn in crowd]
    assert {answer["code"] for answer in answers} == {"busy", "timeout"}


@pytest.mark.long
def test_five_hundred_clients_with_half_a_request_are_each_told_and_hold_up_nobody(
    path: Path, many_descriptors: None
) -> None:
    took: list[float] = []

    def ask(_: int) -> None:
        began = time.monotonic()
        assert request(str(path), "list", timeout_s=PATIENCE_S) == ["ep_1"]
        took.append(time.monotonic() - began)

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        crowd = _crowd(path, CROWD, HALF, stack)
        list(pool.map(ask, range(20)))
        answers = [read_all(conn).splitlines() for conn in crowd]
    assert {len(lines) for lines in answers} == {1}
    assert {json.loads(lines[0])["code"] for lines in answers} <= {"busy", "timeout"}
    assert max(took) < conversation.REQUEST_S / 2
    assert talk(path, LIST) == [LISTED]


def test_a_client_that_has_its_answer_loses_its_place_without_a_word(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "NEXT_REQUEST_S", PATIENCE_S)
    monkeypatch.setattr(conversation, "REQUEST_S", PATIENCE_S)
    with contextlib.ExitStack() as stack:
        crowd = _crowd(path, server.MAX_CONNECTIONS, LIST, stack)
        watch = Stopwatch()
        assert talk(path, LIST) == [LISTED]
        assert watch.own() < PATIENCE_S / 2
        assert json.loads(read_all(crowd[0])) == LISTED


def test_clients_that_do_not_take_their_answers_keep_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "ANSWER_S", PATIENCE_S)
    monkeypatch.setattr(server, "TAKING_S", 0.3)
    large = "x" * 600_000  # more than the kernel keeps for one of them
    commands: dict[str, Command] = {"list": lambda _: ["ep_1"], "status": lambda _: large}
    with serving(tmp_path / "s", commands), contextlib.ExitStack() as stack:
        _crowd(tmp_path / "s", server.MAX_CONNECTIONS, b'{"command":"status"}\n', stack)
        watch = Stopwatch()
        assert talk(tmp_path / "s", LIST) == [LISTED]
        assert watch.own() < PATIENCE_S / 2


def test_all_who_find_no_place_are_told_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SLOT_WAIT_S", 0.5)
    go_on, begun = threading.Event(), threading.Semaphore(0)

    def hold(_: list[str]) -> object:
        begun.release()
        return go_on.wait(PATIENCE_S)

    with contextlib.ExitStack() as stack:
        stack.enter_context(serving(tmp_path / "s", {"list": hold}))
        stack.callback(go_on.set)
        _crowd(tmp_path / "s", server.MAX_CONNECTIONS, LIST, stack)
        assert begun.acquire(timeout=PATIENCE_S)  # the others wait behind it
        watch = Stopwatch()
        late = [stack.enter_context(connect(tmp_path / "s")) for _ in range(20)]
        assert [json.loads(read_all(conn))["code"] for conn in late] == ["busy"] * 20
        assert watch.own() < 20 * connections.SLOT_WAIT_S / 2


def test_requests_that_wait_for_ngrok_leave_places_for_others(tmp_path: Path) -> None:
    go_on, begun = threading.Event(), threading.Semaphore(0)

    def hold(_: list[str]) -> object:
        begun.release()
        return go_on.wait(PATIENCE_S)

    commands: dict[str, Command] = {"refresh": hold, **COMMANDS}
    with contextlib.ExitStack() as stack:
        stack.enter_context(serving(tmp_path / "s", commands))
        stack.callback(go_on.set)
        asked = b'{"command":"refresh"}\n'
        held = _crowd(tmp_path / "s", dispatch.SLOW_AT_ONCE, asked, stack)
        for _ in held:
            assert begun.acquire(timeout=PATIENCE_S)
        assert [answer["code"] for answer in talk(tmp_path / "s", asked)] == ["busy"]
        assert talk(tmp_path / "s", LIST) == [LISTED]
        go_on.set()
        for conn in held:
            assert json.loads(read_all(conn)) == {"success": True, "data": True}
        assert talk(tmp_path / "s", asked) == [{"success": True, "data": True}]


def test_without_a_free_descriptor_only_what_is_quick_is_answered(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client, without_a_free_descriptor():
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        client.sendall(b'{"command":"echo"}\n' + LIST)
        client.shutdown(socket.SHUT_WR)
        refused, listed = (json.loads(line) for line in read_all(client).splitlines())
    assert (refused["code"], listed) == ("busy", LISTED)
    assert "ulimit -n" in refused["error"]


# Whatever comes

CODES = {
    "bad_request",
    "too_large",
    "unknown_command",
    "bad_arguments",
    "rate_limited",
    "timeout",
}

_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(max_size=20)
    | st.sampled_from(["command", "args", "list", "echo", "set-api-key", "\ud800", "\x00"])
)
_keys = st.text(max_size=8) | st.sampled_from(["command", "args"])
_json = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)
_requests = st.fixed_dictionaries(
    {"command": st.sampled_from(["list", "echo", "set-api-key"]) | _json},
    optional={"args": st.lists(_leaves, max_size=4) | _json, "more": _json},
)


def _one_answer(answer: object) -> None:
    assert isinstance(answer, dict)
    assert isinstance(answer["success"], bool)
    members = {"success", "data"} if answer["success"] else {"success", "error", "code"}
    assert set(answer) == members
    if not answer["success"]:
        assert answer["code"] in CODES
        assert "Traceback" not in answer["error"]
        assert len(answer["error"]) < 1000


@given(_json | _requests, st.booleans())
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_any_json_gets_one_answer_with_a_known_code(path: Path, sent: object, ended: bool) -> None:
    _ask_in_json(path, sent, ended)


@pytest.mark.long
@given(_json | _requests, st.booleans())
@settings(max_examples=1500, suppress_health_check=list(HealthCheck))
def test_much_json_gets_one_answer_each(path: Path, sent: object, ended: bool) -> None:
    _ask_in_json(path, sent, ended)


def _ask_in_json(path: Path, sent: object, ended: bool) -> None:
    line = json.dumps(sent).encode() + (b"\n" if ended else b"")
    watch = Stopwatch()
    (answer,) = talk(path, line)
    _one_answer(answer)
    assert watch.own() < conversation.REQUEST_S


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
def test_any_bytes_in_any_pieces_get_one_answer_a_line(path: Path, pieces: list[bytes]) -> None:
    with connect(path) as conn:
        for piece in pieces:
            conn.sendall(piece)
        conn.shutdown(socket.SHUT_WR)
        answers = [json.loads(line) for line in read_all(conn).splitlines()]
    sent = b"".join(pieces)
    assert len(answers) == sent.count(b"\n") + (sent[-1:] not in (b"", b"\n"))
    for answer in answers:
        _one_answer(answer)


class _Idle:
    """A forwarder that nobody uses."""

    def glance(self) -> Snapshot:
        return Snapshot()


def _turned_away(message: Any) -> None:
    if hasattr(message, "reply"):
        message.reply.set_exception(ControlError("stopping", "the daemon is stopping"))


_VERBS = Commands(Status, _Idle(), _turned_away, lambda: Verdict(True, True)).table()  # type: ignore[arg-type]


@given(
    st.sampled_from(sorted(_VERBS)),
    st.lists(st.text(max_size=30) | st.sampled_from(["bound-endpoints", "-", "0"]), max_size=4),
)
@settings(max_examples=80)
def test_any_arguments_of_any_verb_of_the_daemon_get_one_answer(
    verb: str, args: list[str]
) -> None:
    desk = Desk("control")
    desk.stop()  # what is asked is done here
    dispatcher = Dispatcher(desk, _VERBS)
    line = encode_request(verb, args)
    with patch.object(dispatch, "_log_crash", side_effect=AssertionError(verb)):
        answer = dispatcher.answer(line, Caller("uid 1"))
    assert answer.line.count(b"\n") == 1
    found = json.loads(answer.line)
    assert found["success"] or found["code"] in {*CODES, "stopping"}


@pytest.mark.parametrize(
    "sent",
    [
        b"[" * 60_000 + b"\n",
        b'{"command":' * 5_000 + b"\n",
        b'{"command":' + b"9" * 60_000 + b"}\n",
        b'{"command":"list","args":[' + b"1e999," * 9_000 + b"1]}\n",
        b'{"command":"' + b"\\u0000" * 9_000 + b'"}\n',
        b"\xff\xfe" * 30_000 + b"\n",
        b"}" * 60_000,
    ],
)
def test_what_is_made_to_break_a_parser_breaks_nothing(path: Path, sent: bytes) -> None:
    (answer,) = talk(path, sent)
    _one_answer(answer)
    assert answer["success"] is False
    assert talk(path, LIST) == [LISTED]
