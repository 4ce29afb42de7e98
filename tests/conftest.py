"""Fixtures every test may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest
from hypothesis import HealthCheck, settings

from tests.namespace import Namespace, why_not

# How long an example takes says more of the machine than of ngrokd.
settings.register_profile("ngrokd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ngrokd")

# Files of minutes. A worker has a whole file: begun late, that alone is waited for at the end.
LONGEST = (
    "test_boot.py",
    "test_bad_api.py",
    "test_flapping.py",
    "test_tunnel_machine.py",
    "test_install.py",
    "test_registration.py",
    "test_crash.py",
    "test_limits.py",
    "test_top_terminal.py",
    "test_hosts_cut_short.py",
    "test_lives.py",
    "test_walk.py",
    "test_boot_instances.py",
    "test_vanished.py",
    "test_wake.py",
    "test_makefile.py",
    "test_crash_steps.py",
    "test_forwarder_ends.py",
)
LONGEST_ID = 100  # characters of a parameter, as pytest 9 bounds them


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then those that start daemons, which are longer than others.

    Tests marked `root` are skipped, with the reason, where namespaces cannot be made.
    """
    items.sort(key=_turn)
    reason = why_not()
    if not reason:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason=reason))


def _turn(item: pytest.Item) -> int:
    if item.path.name in LONGEST:
        return LONGEST.index(item.path.name)
    return len(LONGEST) + (item.path.parent.name != "integration")


def pytest_make_parametrize_id(
    config: pytest.Config, val: object, argname: str
) -> Optional[str]:
    """Long texts hold keys and certificates, which every worker makes anew: all must have the same
    names of tests. The pytest of Python 3.9 takes a text of any length for one."""
    is_long = isinstance(val, (str, bytes)) and len(val) > LONGEST_ID
    return argname if is_long else None


@pytest.fixture
def own_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """No daemon or sandbox elsewhere on this machine has a part in which range is free."""
    monkeypatch.setattr("ngrokd.host.netif.ranges.CLAIM_PORT", 0)


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Namespace]:
    """A network and mount namespace with a private /etc. Mark the test `root`."""
    with Namespace(tmp_path) as machine:
        yield machine
