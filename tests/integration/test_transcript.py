"""docs/commands.md and docs/sandbox.md show what a real run prints, docs/json.md its --json."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import transcript
from tests.namespace import why_not
from tests.schemas import definitions, faults

pytestmark = [
    pytest.mark.root,
    pytest.mark.long,
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

SAID = {  # what each schema's command needs said to come to its end
    "open": "open hello.sandbox",
    "set-api-key": "set-api-key sandbox-key",
    "wait --for": "wait --for hello.sandbox",
    "deregister": "deregister --yes",
    "trust": "trust /srv/cloud/cloud/root.crt --fingerprint $(openssl x509 -noout -sha256 "
    "-fingerprint -in /srv/cloud/cloud/root.crt | cut -d= -f2)",
    "doctor": "doctor --bundle /srv/second.tar.gz",
    "config edit": "config edit",
    "log-level": "log-level info",
    "completion": "completion fish",
    "top": "top --interval 0.5",
}
LAST = ["deregister"]  # what the others could not be asked after


@pytest.fixture(scope="module")
def machine() -> Iterator[transcript.Machine]:
    with transcript.machine() as made:
        yield made


@pytest.fixture(scope="module")
def now(machine: transcript.Machine) -> str:
    """The page as a run of today would write it; the daemon of its end runs on."""
    return transcript.played(transcript.PAGE.read_text(encoding="utf-8"), machine)


def test_every_example_prints_what_the_page_shows(now: str) -> None:
    shown = transcript.blocks(transcript.PAGE.read_text(encoding="utf-8"))
    printed = transcript.blocks(now)
    assert len(shown) > 25
    assert list(map(transcript.likened, printed)) == list(map(transcript.likened, shown)), (
        "if that is meant: python -m tests.transcript, as root, and read what git diff shows"
    )


def test_every_command_prints_json_of_its_schema(machine: transcript.Machine, now: str) -> None:
    machine.run("curl -s http://hello.sandbox/")
    names = [name for name in definitions() if name not in ("endpoint", "page /status")]
    wrong: list[str] = []
    for name in sorted(names, key=LAST.__contains__):
        before = "EDITOR='sed -i s/info/debug/' " if name == "config edit" else ""
        wrong += faults(machine.json(f"{before}ngrokctl {SAID.get(name, name)}"), name)
    assert wrong == []


def test_every_example_of_the_sandbox_prints_what_its_page_shows() -> None:
    found = transcript.sandbox_page(transcript.SANDBOX_PAGE.read_text(encoding="utf-8"))
    assert len(found) > 12
    for line, shown, printed in found:
        assert transcript.likened(printed) == transcript.likened(shown), line
