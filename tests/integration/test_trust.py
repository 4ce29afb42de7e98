"""An ingress that is not trusted is shown, and `ngrokctl trust` mends that without a restart."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from ngrokd.cloud import facts
from tests.integration import programs
from tests.integration.netns import receive_exactly
from tests.integration.site import INGRESS_PORT, Daemon, Site

pytestmark = pytest.mark.root


@pytest.fixture
def daemon(site: Site) -> Iterator[Daemon]:
    """Registered; nobody has told it of the authority that signs the ingress."""
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    site.start_cloud("tcp://echo.ns:7000=127.0.0.1:7000")
    yield site.start_daemon({"server": {"ca_file": ""}})


def facts_of(file: Path) -> facts.Facts:
    """Of the first certificate in it."""
    end = "-----END CERTIFICATE-----"
    return facts.read(ssl.PEM_cert_to_DER_cert(file.read_text().partition(end)[0] + end))


def identity(site: Site, name: str) -> facts.Facts:
    """What the ingress presents as one of the sandbox's identities."""
    return facts_of(site.folder / "cloud" / "cloud" / f"{name}.crt")


def problem(daemon: Daemon, words: str) -> str:
    """The one problem there is, once it says that."""
    status = daemon.eventually(lambda now: words in " ".join(now["problems"]), words)
    assert status["state"] == "degraded"
    (text,) = status["problems"]
    return str(text)


def must_echo(site: Site) -> None:
    """Through the daemon, the ingress and back."""
    with site.network.connect("echo.ns", 7000) as connection:
        connection.sendall(b"hello")
        assert receive_exactly(connection, 5) == b"hello"


def test_a_person_sees_what_is_presented_and_mends_it_while_the_daemon_runs(
    site: Site, daemon: Daemon
) -> None:
    daemon.ready()
    presented = identity(site, "ingress")

    text = problem(daemon, "is not trusted")

    assert f"the ingress localhost:{INGRESS_PORT} is not trusted" in text
    assert f"certificate of {presented.subject}, for localhost" in text
    assert f"issued by {presented.issuer}" in text
    assert f"SHA-256 {presented.sha256}; `ngrokctl trust`" in text
    daemon.expect(f"WARNING.*is not trusted.*SHA-256 {presented.sha256}")
    assert not daemon.matching("raw.githubusercontent.com"), "nothing is fetched for a sandbox"

    ca_file = site.cloud.ca_file
    refused = daemon.ctl("trust", ca_file, check=False)
    assert refused.returncode == 1 and "is not ngrok's CA" in refused.stderr
    since = len(daemon.lines)
    sha256 = facts_of(ca_file).sha256
    done = daemon.ctl("trust", ca_file, "--fingerprint", sha256.replace(":", ""), "--json")

    answer = json.loads(done.stdout)
    assert answer["installed"] and answer["daemon"] and answer["ingress"] == "trusted"
    assert (answer["path"], answer["certificate"]["sha256"]) == (f"{site.state}/ca.crt", sha256)
    must_echo(site)
    status = daemon.status()
    assert (status["state"], status["problems"]) == ("ready", [])
    daemon.expect(f"INFO.*SHA-256 {sha256}, is trusted now", since)
    again = daemon.ctl("trust", ca_file, "--fingerprint", sha256)
    assert f"It is in {site.state}/ca.crt already." in again.stdout


@pytest.mark.parametrize("place", ["state", pytest.param("vendor", marks=pytest.mark.long)])
def test_a_file_that_a_person_puts_there_is_taken_up_while_polls_fail(
    site: Site, daemon: Daemon, place: str
) -> None:
    daemon.ready()
    problem(daemon, "is not trusted")
    site.cloud.api_fault("status", status=503)
    folder = site.state if place == "state" else site.namespace.etc / "ssl/certs/ngrok"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ("ca.crt" if place == "state" else "sandbox.pem")
    try:
        file.write_text(site.cloud.ca_file.read_text())
        daemon.expect("INFO.*the ingress .* is trusted now")
        must_echo(site)
    finally:
        file.unlink()
    daemon.eventually(
        lambda now: "is not trusted" in " ".join(now["problems"]), "what is gone is trusted still"
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("self_signed", "is not trusted (self"),
        ("wrong_name", "is not for that name (Hostname mismatch"),
        ("expired", "is not valid now (certificate has expired)"),
    ],
)
def test_another_certificate_at_a_running_daemon_is_shown_and_forgotten_when_it_goes(
    site: Site, daemon: Daemon, name: str, words: str
) -> None:
    sha256 = facts_of(site.cloud.ca_file).sha256
    daemon.ready().ctl("trust", site.cloud.ca_file, "--fingerprint", sha256)
    must_echo(site)

    site.cloud.ingress_fault("certificate", identity=name)
    with site.network.connect("echo.ns", 7000) as connection:
        connection.sendall(b"hello")

    presented = identity(site, name)
    text = problem(daemon, words)
    assert f"certificate of {presented.subject}, for " in text and presented.sha256 in text
    assert daemon.matching(f"WARNING.*SHA-256 {presented.sha256}")
    site.cloud.heal()
    daemon.eventually(lambda now: now["problems"] == [], "the problem stays")
    must_echo(site)
