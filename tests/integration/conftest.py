"""Fixtures of the integration tests: sites, with a cloud or without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.site import Site


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A machine of this test's own; nothing runs on it yet."""
    yield from _site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A machine that the tests of a module share; each leaves it as it found it."""
    yield from _site(tmp_path_factory.mktemp("site"))


def _site(folder: Path) -> Iterator[Site]:
    site = Site(folder)
    try:
        yield site
    finally:
        site.close()
