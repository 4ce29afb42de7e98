"""Whoever is refused a low port is told what helps this ngrokd, as it was started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ngrokd.host.lowports import Start, how_started, mend

SYSCTL = "sysctl -w net.ipv4.ip_unprivileged_port_start=80"
OURS = {"INVOCATION_ID": "7", "SYSTEMD_EXEC_PID": str(os.getpid())}


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (Start(), ("run ngrokd as root", SYSCTL, "setcap does nothing for a Python script")),
        (Start(unit="x.service"), ("AmbientCapabilities=", "`systemctl edit x.service`", SYSCTL)),
        (Start(program="/opt/ngrokd"), ("setcap cap_net_bind_service=+ep /opt/ngrokd", SYSCTL)),
        (Start(container=True), ("--sysctl net.ipv4.ip_unprivileged_port_start=80", "as root")),
        (Start(container=True, root=True), ("--cap-add=NET_BIND_SERVICE", "_port_start=80")),
        (Start(permitted=True), ("SELinux",)),
    ],
)
def test_the_mend_is_one_that_works_for_who_was_started_so(
    start: Start, words: tuple[str, ...]
) -> None:
    said = mend(80, start)
    assert [word for word in words if word not in said] == []
    assert ("setcap cap" in said) is bool(start.program)


def test_the_unit_is_the_one_that_systemd_started_us_in(tmp_path: Path) -> None:
    cgroup = tmp_path / "cgroup"
    cgroup.write_text("0::/system.slice/ngrokd-lan.service\n")
    assert how_started(OURS, cgroup).unit == "ngrokd-lan.service"
    by_hand = {**OURS, "SYSTEMD_EXEC_PID": "1"}  # from a shell that this service gave
    assert how_started(by_hand, cgroup).unit == ""
    assert how_started({}, cgroup).unit == ""
    assert how_started(OURS, tmp_path / "missing").unit == ""


def test_a_users_own_systemd_cannot_give_the_right(tmp_path: Path) -> None:
    cgroup = tmp_path / "cgroup"
    cgroup.write_text("0::/user.slice/user-1000.slice/user@1000.service/app.slice/n.service\n")
    assert how_started(OURS, cgroup).unit == ""
