"""The drop-ins of docs/systemd.md, as they stand there, do what is said of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.booted import Booted, why_not
from tests.integration.site import NGROKCTL
from tests.integration.systemd_service import CONFIG, Service

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")

DOCS = Path(__file__).parent.parent.parent / "docs" / "systemd.md"
BLOCKS = dict(re.findall(r"^### ([^\n]*)\n\n```ini\n(.*?)```$", DOCS.read_text(), re.M | re.S))
KEY = "sandbox-key"
NOT_PERMITTED = 5


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    with Booted(tmp_path_factory.mktemp("booted")) as machine:
        yield machine


@pytest.fixture(scope="module")
def service(machine: Booted) -> Service:
    """Not started."""
    return Service(machine)


def environment(service: Service) -> str:
    return service.machine.read(f"/proc/{service.pid}/environ")


def test_a_key_from_a_credential_is_used_and_stands_nowhere(service: Service) -> None:
    service.machine.write("/root/ngrok-api-key", KEY + "\n", "0600")
    settings = {"api": {"key": ""}}
    with service.changed(BLOCKS["An API key that is in no configuration"], settings):
        assert service.serves()
        assert KEY not in environment(service)
        assert KEY not in service.machine.systemctl("show", "ngrokd").stdout
        assert not any(KEY in message for message in service.messages())
        service.machine.systemctl("reload", "ngrokd")  # its check is no ExecStart: it sees no key
    assert not any("NGROK_API_KEY_FILE" in message for message in service.messages())


def test_a_proxy_is_told_to_the_daemon(service: Service) -> None:
    with service.changed(BLOCKS["A proxy for the API"]):
        assert "HTTPS_PROXY=http://proxy.example:3128" in environment(service).split("\0")
        assert "NO_PROXY=localhost,127.0.0.1" in environment(service).split("\0")
        assert service.serves()


def test_the_state_can_be_in_var_lib(service: Service) -> None:
    where = {"client_cert": "/var/lib/ngrokd/tls.crt", "client_key": "/var/lib/ngrokd/tls.key"}
    with service.changed(BLOCKS["State in /var/lib"], {"server": where}):
        assert service.serves()
        mode = service.machine.run("stat", "-c", "%a", "/var/lib/ngrokd").stdout
        assert mode.strip() == "700"
        assert service.machine.read("/var/lib/ngrokd/operator_id")


def test_etc_can_be_closed_where_the_names_go_elsewhere(service: Service) -> None:
    settings = {"net": {"hosts_file": "/etc/ngrokd/hosts"}}
    service.machine.write("/etc/ngrokd/hosts", "")
    with service.changed(BLOCKS["No writing in /etc"], settings):
        assert "hello.sandbox" in service.machine.read("/etc/ngrokd/hosts")
        assert service.machine.read("/etc/hosts") == service.hosts_before
        where = ("nsenter", f"--target={service.pid}", "--mount", "--", "test", "-w")
        assert service.machine.run(*where, "/etc", check=False).returncode == 1
        assert service.machine.run(*where, "/etc/ngrokd", check=False).returncode == 0
    assert service.machine.read("/etc/ngrokd/hosts") == ""


def test_patience_is_a_matter_of_the_unit(service: Service) -> None:
    with service.changed(BLOCKS["More patience, or less"]):
        assert service.show("WatchdogUSec") == "0"
        assert service.show("RestartUSec") == "30s"
        assert "WATCHDOG_USEC" not in environment(service)


def test_a_start_can_wait_for_the_network(service: Service) -> None:
    with service.changed(section=BLOCKS["Only when the network is there"]):
        assert "network-online.target" in service.show("After").split()
        assert "network-online.target" in service.show("Wants").split()
        assert service.show("ActiveState") == "active"


def test_a_unit_that_needs_the_names_finds_them_at_boot(service: Service) -> None:
    needs = BLOCKS["A unit that needs the names"]
    command = "[Service]\nType=oneshot\nExecStart=curl -sSf http://hello.sandbox/"
    service.machine.write("/etc/systemd/system/needs.service", f"{needs}\n{command}\n")
    service.machine.systemctl("daemon-reload")
    service.stop()
    service.machine.systemctl("start", "needs")
    assert service.machine.show("needs", "Result") == "success"
    service.stop()


def test_the_defaults_file_chooses_configuration_arguments_and_key(service: Service) -> None:
    other = "/etc/ngrokd/other.yml"
    text = f"CONFIG={other}\nDAEMON_ARGS=--verbose\nNGROK_API_KEY={KEY}\n"
    service.machine.write("/etc/default/ngrokd", text, "0600")
    settings = {"api": {"key": ""}}
    try:
        with service.changed(f"ExecStartPre=cp {CONFIG} {other}", settings):
            assert service.serves()
            assert any(message.startswith("DEBUG ") for message in service.messages())
            assert other in service.machine.run("ps", "-ww", "-e", "-o", "args=").stdout
    finally:
        service.machine.run("rm", "-f", "/etc/default/ngrokd", other)


def test_the_group_of_the_socket_may_use_it_without_more_rights(service: Service) -> None:
    with service.changed(settings={"server": {"socket_group": "users"}}):
        owners = service.machine.run("stat", "-c", "%U:%G %a", "/run/ngrokd.sock").stdout
        assert owners == "root:users 660\n"

        def listed_by(group: str) -> int:
            who = ("setpriv", "--reuid=nobody", f"--regid={group}", "--clear-groups", "--")
            return service.machine.run(*who, NGROKCTL, "list", check=False).returncode

        assert listed_by("users") == 0
        assert listed_by("nogroup") == NOT_PERMITTED


def test_every_drop_in_of_the_documentation_is_tried_here() -> None:
    used = set(re.findall(r'BLOCKS\["(.*?)"\]', Path(__file__).read_text()))
    assert set(BLOCKS) == used
