"""Fixtures every test may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.namespace import Namespace, why_not


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `root` are skipped, with the reason, where namespaces cannot be made."""
    reason = why_not()
    if not reason:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def own_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """No daemon or sandbox elsewhere on this machine has a part in which range is free."""
    monkeypatch.setattr("ngrokd.host.netif.ranges.CLAIM_PORT", 0)


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Namespace]:
    """A network and mount namespace with a private /etc. Mark the test `root`."""
    with Namespace(tmp_path) as machine:
        yield machine
