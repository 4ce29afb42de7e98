"""Who is taken for a service manager that wants to see its own child."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from ngrokd.verbs import launch


def test_what_asks_macos_for_its_proxies_is_not_loaded_before_the_fork() -> None:
    """CoreFoundation refuses to work in a child of a process that has loaded it."""
    code = (
        "import sys, ngrokd.__main__, ngrokd.cli, ngrokd.verbs.launch;"
        "sys.exit(bool({'urllib.request', '_scproxy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("environ", "foreground"),
    [
        ({}, False),
        ({"NOTIFY_SOCKET": "/run/systemd/notify"}, True),
        ({"XPC_SERVICE_NAME": "com.ngrok.ngrokd"}, True),
        ({"XPC_SERVICE_NAME": "org.example.another-label"}, True),
        ({"XPC_SERVICE_NAME": "0"}, False),  # Terminal of macOS
        # A terminal in an app: `sudo -E ngrokd` in it goes into the background as anywhere.
        ({"XPC_SERVICE_NAME": "application.com.microsoft.VSCode.1152921500312"}, False),
    ],
)
def test_a_service_manager_gets_the_foreground_without_asking(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], foreground: bool
) -> None:
    for name in ("NOTIFY_SOCKET", "XPC_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert launch._in_foreground(argparse.Namespace(foreground=False)) is foreground
    assert launch._in_foreground(argparse.Namespace(foreground=True)) is True
