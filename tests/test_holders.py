"""Naming who listens on a port, with and without the right to see it."""

from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

import pytest

from ngrokd.errors import BindError
from ngrokd.host.holders import Holders
from ngrokd.host.listening import listen
from ngrokd.model import Address

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid timeout"
LINE = " 0: {} 00000000:0000 {} 00000000:00000000 00:00000000 00000000 {:5} 0 4711 1 0 100 0 0 10 0"
LISTENING, CONNECTED = "0A", "01"


def proc_with(folder: Path, *lines: str) -> Path:
    """A /proc that shows sockets, and no process."""
    (folder / "net").mkdir()
    (folder / "net" / "tcp").write_text("\n".join((HEADER, *lines)) + "\n")
    return folder


def everywhere(port: int) -> str:
    return f"00000000:{port:04X}"


def test_a_program_that_we_may_look_into_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        told = Holders().of(Address(*server.getsockname()))
    assert f"(pid {os.getpid()}) on 127.0.0.1:" in told


def test_of_a_program_that_hides_its_descriptors_user_and_place_are_told(tmp_path: Path) -> None:
    user = pwd.getpwuid(0).pw_name
    proc = proc_with(tmp_path, LINE.format(everywhere(80), LISTENING, 0))
    assert Holders(proc).of(Address("10.107.0.2", 80)) == (
        f"a program of user {user} on 0.0.0.0:80 (which one: `sudo ss -ltnp sport = :80`)"
    )


def test_a_user_without_a_name_is_told_by_number(tmp_path: Path) -> None:
    proc = proc_with(tmp_path, LINE.format(everywhere(80), LISTENING, 3999999999))
    assert "a program of uid 3999999999 on 0.0.0.0:80" in Holders(proc).of(Address("::1", 80))


@pytest.mark.parametrize(
    "line",
    [
        LINE.format(everywhere(80), CONNECTED, 0),
        LINE.format(everywhere(81), LISTENING, 0),
        LINE.format("0200007F:0050", LISTENING, 0),
    ],
    ids=["connected", "another port", "another address"],
)
def test_other_sockets_are_not_taken_for_the_holder(tmp_path: Path, line: str) -> None:
    assert Holders(proc_with(tmp_path, line)).of(Address("10.107.0.2", 80)) == ""


def test_one_on_any_address_of_this_machine_is_in_the_way_of_all_of_them(tmp_path: Path) -> None:
    proc = proc_with(tmp_path, LINE.format("0100007F:0050", LISTENING, 0))
    assert "on 127.0.0.1:80" in Holders(proc).of(Address("0.0.0.0", 80))
    assert Holders(proc).of(Address("0.0.0.0", 81)) == ""


def test_where_clients_of_a_taken_port_end_up_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        proc = proc_with(tmp_path, LINE.format(f"0100007F:{port:04X}", LISTENING, 0))
        with pytest.raises(BindError, match="until then clients of this port reach that program"):
            listen(Address("127.0.0.1", port), Holders(proc))


def test_a_port_that_is_bound_and_not_listened_on_is_not_said_to_be() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(BindError, match=f"none is seen to listen.* `ss -tanp sport = :{port}`"):
            listen(Address("127.0.0.1", port), Holders())


def test_without_proc_nothing_is_said(tmp_path: Path) -> None:
    assert Holders(tmp_path / "none").of(Address("10.107.0.2", 80)) == ""
