"""Fixtures of the integration tests: sites on a machine of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.clock import Clock, why_not
from tests.integration.site import Site
from tests.namespace import Namespace


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """The one namespace of all sites: making one copies all of /etc."""
    with Namespace(tmp_path_factory.mktemp("machine")) as namespace:
        yield namespace


@pytest.fixture
def site(machine: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """This test's own folder and programs; nothing runs yet."""
    yield from _site(machine, tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def shared_site(machine: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same for a whole module, whose tests then leave it as they found it."""
    yield from _site(machine, tmp_path_factory.mktemp("site"))


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    """A wall clock for the programs that are started with its variables."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    return Clock(tmp_path)


def _site(machine: Namespace, folder: Path) -> Iterator[Site]:
    site = Site(folder, machine)
    try:
        yield site
    finally:
        site.close()
