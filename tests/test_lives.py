"""A registration that is killed anywhere, time and again, ends with one operator that works."""

from __future__ import annotations

import json
import os
import random
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from ngrokd.sandbox.cloud import Sandbox
from tests.sandbox_client import send

LIFE = Path(__file__).with_name("life.py")
NEVER = 10_000
MOST_ACTS = 100
# Leaving needs a registration before each: every third act is taken. 1 takes all.
STRIDE = int(os.environ.get("CRASH_STRIDE", "3"))
DAMAGED = ("operator_id", "tls.crt", "tls.key", "tls.csr", "registration.json")


class World:
    """A state folder, and a cloud that stays up."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self._sandbox = sandbox
        self.folder = folder
        self.selector = "true"

    def live(self, deadly: int = NEVER, wish: str = "") -> Optional[dict[str, Any]]:
        """What a life came to; None: it was killed."""
        done = subprocess.run(
            [
                sys.executable,
                str(LIFE),
                str(self.folder),
                self._sandbox.api_url,
                str(deadly),
                self.selector,
                *([wish] if wish else []),
            ],
            cwd=LIFE.parent.parent,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode == -signal.SIGKILL:
            return None
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found

    def operators(self) -> list[dict[str, Any]]:
        """As ngrok has them."""
        answer = send(self._sandbox, "GET", "/sandbox/operators")
        return list(answer.json["operators"])

    def delete_operators(self) -> None:
        """As a person does in the dashboard."""
        send(self._sandbox, "DELETE", "/sandbox/operators")

    def check(self, found: Optional[dict[str, Any]]) -> None:
        """Registered, with one operator, and a pair that is its own."""
        assert found is not None and found["state"] == "registered", found
        assert [each["id"] for each in self.operators()] == [found["operator_id"]]
        assert self.operators()[0]["binding"]["endpoint_selectors"] == [self.selector]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(self.folder / "tls.crt", self.folder / "tls.key")
        certificate = x509.load_pem_x509_certificate((self.folder / "tls.crt").read_bytes())
        (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        assert name.value == found["operator_id"]
        assert not list(self.folder.glob("*.next")) and not list(self.folder.glob(".*"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    sandbox = Sandbox(tmp_path / "cloud", samples=False)
    sandbox.start()
    try:
        yield World(sandbox, tmp_path / "state")
    finally:
        sandbox.stop()


def acts_of(world: World, wish: str) -> int:
    found = world.live(wish=wish)
    assert found is not None
    return int(found["acts"])


def test_a_life_without_a_crash_registers_renews_and_leaves(world: World) -> None:
    world.check(world.live())
    before = (world.folder / "tls.crt").read_bytes()
    world.check(world.live(wish="rotate"))
    assert (world.folder / "tls.crt").read_bytes() != before
    found = world.live(wish="leave")
    assert found is not None and found["state"] == "left" and world.operators() == []
    assert [path.name for path in world.folder.iterdir()] == ["registration.json"]
    stays = world.live()
    assert stays is not None and stays["state"] == "left" and world.operators() == []


@pytest.mark.long
def test_a_registration_killed_before_any_of_its_acts_heals(world: World, tmp_path: Path) -> None:
    killed = 0
    for deadly in range(1, MOST_ACTS):
        world.folder = tmp_path / f"state{deadly}"
        world.delete_operators()
        first = world.live(deadly)
        if first is not None:
            break
        killed += 1
        world.check(world.live())
    assert 10 < killed < MOST_ACTS - 1, "the last one was not killed any more"


@pytest.mark.long
def test_a_renewal_killed_before_any_of_its_acts_leaves_a_pair_that_works(world: World) -> None:
    world.check(world.live())
    killed = 0
    for deadly in range(1, MOST_ACTS):
        if world.live(deadly, "rotate") is not None:
            break
        killed += 1
        world.check(world.live())
    assert 5 < killed < MOST_ACTS - 1


@pytest.mark.long
def test_a_leave_taking_that_is_killed_anywhere_is_finished_or_never_began(world: World) -> None:
    killed = 0
    for deadly in range(1, MOST_ACTS, STRIDE):
        for path in world.folder.glob("*"):
            path.unlink()
        world.delete_operators()
        world.check(world.live())
        if world.live(deadly, "leave") is not None:
            break
        killed += 1
        after = world.live()
        assert after is not None and after["state"] in ("left", "registered")
        if after["state"] == "left" and world.operators():
            assert any("cut short" in text for text in after["problems"])
    assert 5 < killed * STRIDE < MOST_ACTS - STRIDE


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
def test_a_walk_of_many_lives_ends_registered_with_one_operator(world: World, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(20):
        event = chance.choice(["nothing", "deleted", "damaged", "removed", "selectors"])
        path = world.folder / chance.choice(DAMAGED)
        if event == "deleted":
            world.delete_operators()
        elif event == "removed":
            path.unlink(missing_ok=True)
        elif event == "damaged" and path.exists():
            path.write_bytes(chance.choice([b"", b"\0" * 100, b"junk\n", path.read_bytes()[:50]]))
        elif event == "selectors":
            world.selector = chance.choice(["true", "endpoint.url.contains('a')"])
        found = world.live(chance.randrange(1, 40), chance.choice(["", "", "rotate"]))
        assert found is None or found["state"] == "registered", (event, path, found)
    world.check(world.live())
