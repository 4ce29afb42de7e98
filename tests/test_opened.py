"""`ngrokctl open`: where a name can be connected to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ngrokd.control import ctl
from ngrokd.control.opened import Wanted, wanted
from tests.control_room import serving


def _endpoint(port: int, listen_address: str = "", reason: str = "") -> dict[str, object]:
    return {
        "hostname": "db.ns",
        "port": port,
        "url": f"tcp://db.ns:{port}",
        "state": "failed" if reason else "open",
        "reason": reason,
        "listen_address": listen_address,
    }


LISTED = [
    _endpoint(6432, "192.168.7.1:9081"),
    _endpoint(5432, "10.107.0.2:5432"),
    _endpoint(80, reason="10.107.0.2:80: address already in use"),
    {**_endpoint(443, "[fd00::2]:443"), "hostname": "web.ns", "url": "https://web.ns"},
    {**_endpoint(0, reason="a wildcard is no name"), "hostname": "", "state": "skipped"},
]


@pytest.fixture(autouse=True)
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NGROKD_SOCKET", str(tmp_path / "s"))
    with serving(tmp_path / "s", {"list": lambda _: LISTED}):
        yield


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("db.ns:5432", "10.107.0.2:5432\n"),
        ("db.ns", "10.107.0.2:5432\n192.168.7.1:9081\n"),
        ("DB.ns.", "10.107.0.2:5432\n192.168.7.1:9081\n"),
        ("db.ns.:6432", "192.168.7.1:9081\n"),
        ("web.ns", "[fd00::2]:443\n"),
    ],
)
def test_an_open_name_is_its_addresses_and_ports(
    capsys: pytest.CaptureFixture[str], name: str, printed: str
) -> None:
    assert ctl.main(["open", name]) == 0
    assert capsys.readouterr() == (printed, "")


def test_json_has_address_and_port_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["open", "web.ns", "--json"]) == 0
    address = {"address": "[fd00::2]:443", "ip": "fd00::2", "port": 443}
    assert json.loads(capsys.readouterr().out) == {
        "endpoints": [{"url": "https://web.ns", **address}]
    }


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("db.ns:80", "tcp://db.ns:80 is failed: 10.107.0.2:80: address already in use"),
        ("db.ns:81", "no endpoint has the name db.ns:81: `ngrokctl list` shows all"),
        ("nope.ns", "no endpoint has the name nope.ns: `ngrokctl list` shows all"),
    ],
)
def test_what_is_not_open_fails_with_the_reason(
    capsys: pytest.CaptureFixture[str], name: str, reason: str
) -> None:
    assert ctl.main(["open", name]) == 1
    assert capsys.readouterr() == ("", f"ngrokctl: {reason}\n")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("a.b", Wanted("a.b")),
        ("a.b:1", Wanted("a.b", 1)),
        ("a.b:", Wanted("a.b:")),
        (":1", Wanted(":1")),
        ("a.b:\u0661", Wanted("a.b:\u0661")),
        ("", Wanted("")),
    ],
)
def test_a_port_is_told_from_a_name(words: str, found: Wanted) -> None:
    assert wanted(words) == found


def test_an_empty_name_is_no_endpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl.main(["open", ""]) == 1
    assert capsys.readouterr().out == ""
