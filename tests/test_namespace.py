"""The namespaces other tests stand on are really private."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.namespace import Namespace


@pytest.mark.root
def test_a_change_inside_is_not_seen_on_the_machine(namespace: Namespace) -> None:
    before = Path("/etc/hosts").read_bytes()
    namespace.run("sh", "-c", "echo '10.9.9.9 inside' >> /etc/hosts; ip addr add 10.9.9.9 dev lo")
    assert b"inside" in namespace.hosts.read_bytes()
    assert Path("/etc/hosts").read_bytes() == before
    assert "10.9.9.9" in namespace.run("ip", "-4", "addr").stdout


class Leaky(Namespace):
    """One that does not get inside, as `nsenter` in a chroot would without `--root`."""

    def argv(self, *argv: object) -> list[str]:
        return [str(word) for word in argv]


@pytest.mark.root
def test_nothing_runs_where_the_private_etc_is_not_seen(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not the private copy"):
        Leaky(tmp_path)
