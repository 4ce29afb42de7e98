"""What a machine must look like after a daemon was killed, and after the next one has started."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Optional

from tests.integration.netns import PATIENCE_S
from tests.integration.site import SECTION, Site
from tests.namespace import Namespace

GATEWAY = "10.107.0.1/16"
STATE_FILES = {
    "api_key",
    "endpoints.json",
    "hosts.ngrokd.bak",
    "installation_id",
    "ip_mappings.json",
    "network_ports.json",
    "operator_id",
    "registration.json",
    "tls.crt",
    "tls.csr",
    "tls.key",
}
WHILE_IT_RUNS = {"last_run.json"}
PAUSE_S = 0.005

_SECTION = re.compile(rb"# BEGIN %s\n(.*?)# END %s\n" % (SECTION, SECTION), re.DOTALL)


class Books:
    """Keeps account of one site over the lives of its daemons. Owner: the thread that has it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.addresses: dict[str, str] = {}  # every name ever seen, with its address
        self.operator = ""

    def check_wreck(self) -> None:
        """After a kill: what was written is whole, and no name is out that was not saved before."""
        published = self._published()
        assigned = self._state("ip_mappings.json") or {}
        self._state("network_ports.json")
        self._state("endpoints.json")
        self._state("registration.json")
        for name, ip in (published or {}).items():
            assert assigned.get(name) == ip, f"{name} was published before it was saved"
        self._keep(published or {})

    def check_running(self, pid: int, names: set[str]) -> None:
        """After the next start: all that is there is what must be there."""
        site = self.site
        published = self._published()
        assert published is not None, f"no section, but {names} are expected"
        assert set(published) == names
        assigned = self._state("ip_mappings.json")
        assert assigned is not None
        assert {name: assigned[name] for name in names} == published
        self._keep(published)
        expected = {GATEWAY, *(f"{ip}/32" for ip in published.values())}
        held = site.run("ip", "-o", "-4", "addr", "show", "dev", "ngrokd0").stdout
        assert set(re.findall(r"inet (\S+)", held)) == expected
        assert (site.folder / "ngrokd.pid").read_text() == f"{pid}\n"
        self._check_files()
        self._check_operator()

    def check_gone(self) -> None:
        """After a stop or a clean-up: nothing is left but the state."""
        site = self.site
        assert site.namespace.hosts.read_bytes() == site.hosts_before
        assert site.interface_words() == []
        assert not site.socket_path.exists()
        assert not (site.folder / "ngrokd.pid").exists()
        self._check_files()

    def _check_files(self) -> None:
        """No file of another name than those that are meant to be there."""
        site = self.site
        strange = {path.name for path in site.state.glob("*")} - STATE_FILES - WHILE_IT_RUNS
        assert not strange, "left in the state folder"
        beside = {path.name for path in site.folder.iterdir()}
        assert beside <= {"config.yml", "state", "cloud", "ngrokd.pid", "ngrokd.sock"}
        assert not list(site.namespace.etc.glob(".hosts*")), "left beside the hosts file"

    def _check_operator(self) -> None:
        known = [str(operator["id"]) for operator in self.site.cloud.operators()]
        self.operator = self.operator or known[0]
        assert known == [self.operator], "a crash made a second operator"
        assert (self.site.state / "operator_id").read_text().strip() == self.operator

    def _published(self) -> Optional[dict[str, str]]:
        """Our section, or None; every byte outside it must be as it was."""
        content = self.site.namespace.hosts.read_bytes()
        section = _SECTION.search(content)
        if section is None:
            assert content == self.site.hosts_before
            return None
        assert _SECTION.sub(b"", content) == self.site.hosts_before
        lines = [line.split("\t") for line in section[1].decode().splitlines()]
        by_address = sorted(lines, key=lambda line: tuple(map(int, line[0].split("."))))
        assert lines == by_address, "the section is not in its order"
        return {name: ip for ip, name in lines}

    def _keep(self, published: dict[str, str]) -> None:
        for name, ip in published.items():
            assert self.addresses.setdefault(name, ip) == ip, f"{name} lost its address"

    def _state(self, name: str) -> Optional[Any]:
        with contextlib.suppress(FileNotFoundError):
            return json.loads((self.site.state / name).read_bytes())
        return None


def ask(path: Path, command: str) -> Optional[Any]:
    """The data of the daemon's answer; None: nobody answers."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_S)
        try:
            sock.connect(str(path))
            sock.sendall(json.dumps({"command": command}).encode() + b"\n")
            answer = sock.makefile("rb").readline()
        except OSError:
            return None
    return json.loads(answer).get("data") if answer else None


def until_ready(pid: int, path: Path) -> bool:
    """True once that daemon has applied what ngrok lists; False: it has ended."""

    def is_ready() -> bool:
        status = ask(path, "status")
        return bool(status and status["pid"] == pid and status["state"] in ("ready", "degraded"))

    return _until(is_ready, pid)


def until_it_holds(pid: int, pid_file: Path) -> bool:
    """True when its number stands in the pid file; False: it has ended."""

    def stands_there() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return pid_file.read_text() == f"{pid}\n"
        return False

    return _until(stands_there, pid)


def _until(holds: Callable[[], bool], pid: int) -> bool:
    try:
        living = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if holds():
                return True
            if select.select([living], [], [], PAUSE_S)[0]:
                return False
    finally:
        os.close(living)
    raise AssertionError(f"waited for {pid} in vain")


@contextlib.contextmanager
def sites(folder: Path, count: int) -> Iterator[list[Site]]:
    """Machines of their own."""
    made: list[tuple[Namespace, Site]] = []
    try:
        for number in range(count):
            place = folder / str(number)
            (place / "site").mkdir(parents=True)
            namespace = Namespace(place)
            made.append((namespace, Site(place / "site", namespace)))
        yield [site for _, site in made]
    finally:
        for namespace, site in made:
            site.close()
            namespace.close()


def at_once(*tasks: Callable[[], None]) -> None:
    """Each on a thread of its own."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        for done in [pool.submit(task) for task in tasks]:
            done.result()
