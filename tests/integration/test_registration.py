"""A daemon that is left alone stays registered and certified, whatever happens to it at ngrok."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import pytest
from _pytest.mark.structures import ParameterSet

from tests.integration import programs
from tests.integration.netns import receive_exactly
from tests.integration.site import INGRESS_PORT, Daemon, Site

pytestmark = pytest.mark.root

ONE = "tcp://one.ns:7000=127.0.0.1:7000"
PAIR = ("tls.crt", "tls.key")


def served(site: Site) -> Daemon:
    """Ready, with one echo."""
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    site.start_cloud(ONE)
    return site.start_daemon().ready()


def echoes(site: Site) -> None:
    with site.network.connect("one.ns", 7000) as connection:
        connection.sendall(b"hello")
        assert receive_exactly(connection, 5) == b"hello"


def pair(site: Site) -> list[bytes]:
    return [(site.state / name).read_bytes() for name in PAIR]


def ids(site: Site) -> list[str]:
    return [each["id"] for each in site.cloud.operators()]


def asked(site: Site, method: str) -> int:
    return sum(each["method"] == method for each in site.cloud.requests())


def delete_operators(site: Site) -> None:
    site.cloud.ask("DELETE", "/operators")


def test_an_operator_carries_what_tells_it_from_others(site: Site) -> None:
    served(site)
    (operator,) = site.cloud.operators()
    mark = (site.state / "installation_id").read_text().strip()
    assert json.loads(operator["metadata"])["ngrokd.installation_id"] == mark
    assert operator["deployment"]["namespace"] == "ngrokd"
    assert operator["deployment"]["version"] == "0.1.0"
    assert operator["deployment"]["name"]
    first, *_ = ((each["method"], each["path"]) for each in site.cloud.requests())
    assert first == ("POST", "/kubernetes_operators"), "nothing is looked for the first time"
    assert asked(site, "POST") == 1


def test_an_operator_that_was_deleted_is_made_again_once_with_the_same_key(site: Site) -> None:
    daemon = served(site)
    before, key = ids(site), (site.state / "tls.key").read_bytes()
    delete_operators(site)
    daemon.expect("registered as")
    status = daemon.eventually(
        lambda now: now["registration"] == "registered" and [now["operator_id"]] == ids(site),
        "it is not registered again",
    )
    assert status["operator_id"] not in before and len(ids(site)) == 1
    assert (site.state / "tls.key").read_bytes() == key
    daemon.eventually(lambda now: now["state"] == "ready", "the new id is not polled")
    echoes(site)
    assert asked(site, "POST") == 2


IN_SHORT = {("operator_id", b""), ("tls.crt", None), ("tls.key", b"junk \xff\n")}


def damages() -> list[ParameterSet]:
    """Every file with every damage; one of each in the short tests."""
    return [
        pytest.param(
            name, content, marks=() if (name, content) in IN_SHORT else pytest.mark.long
        )
        for name in ("operator_id", "tls.crt", "tls.key", "registration.json")
        for content in (None, b"", b"junk \xff\n")
    ]


@pytest.mark.parametrize(("name", "content"), damages(), ids=range(12))
def test_a_damaged_file_heals_with_the_same_operator(
    site: Site, name: str, content: Optional[bytes]
) -> None:
    served(site).stop()
    before = ids(site)
    path = site.state / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    again = site.start_daemon_as_configured().ready()
    assert ids(site) == before == [again.status()["operator_id"]]
    kept = Path(f"{path}.corrupt")
    assert content is None or kept.read_bytes() == content
    again.eventually(
        lambda now: now["ingress_endpoint"] == f"localhost:{INGRESS_PORT}", "it is not asked for"
    )
    again.expect(f"ingress localhost:{INGRESS_PORT} at")
    again.eventually(lambda now: now["problems"] == [], "something of it is left")
    echoes(site)


def test_a_key_that_is_revoked_and_given_back_needs_no_restart(site: Site) -> None:
    daemon = served(site)
    fault = {"status": 403, "error_code": "ERR_NGROK_203", "message": "sandbox-key is no key"}
    site.cloud.api_fault("status", **fault)
    status = daemon.eventually(lambda now: now["state"] == "degraded", "nothing is said of it")
    assert "ngrokctl set-api-key" in status["problems"][0]
    echoes(site)
    site.cloud.heal()
    daemon.ctl("set-api-key", "sandbox-key")
    daemon.eventually(lambda now: now["state"] == "ready", "it does not recover")
    assert "sandbox-key" not in daemon.output()


@pytest.mark.long
def test_a_short_life_is_renewed_in_time_and_nothing_is_cut(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    site.start_cloud(ONE)
    site.cloud.ask("PATCH", "/settings", {"certificate_lifetime": 15})
    daemon = site.start_daemon().ready()
    first = pair(site)
    with site.network.connect("one.ns", 7000) as running:
        daemon.expect("a new certificate is in use", timeout_s=40)
        assert all(old != new for old, new in zip(first, pair(site)))
        running.sendall(b"hello")
        assert receive_exactly(running, 5) == b"hello"
    echoes(site)
    assert len(ids(site)) == 1


@pytest.mark.long
def test_a_certificate_that_has_ended_mends_itself_once_the_api_can_be_reached(
    site: Site,
) -> None:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    site.start_cloud(ONE)
    site.cloud.ask("PATCH", "/settings", {"certificate_lifetime": 5})
    daemon = site.start_daemon().ready()
    site.cloud.ask("PATCH", "/settings", {"certificate_lifetime": 86400})
    site.cloud.api_fault("drop", method="PATCH")
    daemon.expect("certificate has ended and could not be renewed", timeout_s=30)
    status = daemon.eventually(lambda now: now["state"] == "degraded", "it is no problem")
    assert status["certificate"]["days_left"] <= 0
    site.cloud.heal()
    daemon.ctl("refresh")
    daemon.eventually(lambda now: now["certificate"]["days_left"] > 0.9, "it is not renewed")
    echoes(site)


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ("other_key", "does not fit our private key"),
        ("expired", "clock"),
        pytest.param("not_yet_valid", "clock", marks=pytest.mark.long),
        pytest.param("cut", "unusable", marks=pytest.mark.long),
        pytest.param("garbled", "unusable", marks=pytest.mark.long),
    ],
)
def test_a_certificate_that_is_worse_replaces_none(site: Site, identity: str, words: str) -> None:
    daemon = served(site)
    before = pair(site)
    site.cloud.api_fault("certificate", identity=identity, method="PATCH")
    done = daemon.ctl("rotate-cert", check=False)
    assert done.returncode == 1 and words in done.stderr and "old" in done.stderr
    assert pair(site) == before
    echoes(site)
    site.cloud.heal()
    assert "valid until" in daemon.ctl("rotate-cert").stdout
    assert all(old != new for old, new in zip(before, pair(site)))


def test_changed_selectors_are_told_and_bad_ones_are_quoted(site: Site) -> None:
    daemon = served(site)
    site.write_config({"bound_endpoints": {"selectors": ["endpoint.url.contains("]}})
    daemon.ctl("reload")
    status = daemon.eventually(
        lambda now: any("ERR_NGROK_19003" in text for text in now["problems"]), "it is not told"
    )
    (text,) = (text for text in status["problems"] if "19003" in text)
    assert "endpoint.url.contains(" in text and "bound_endpoints.selectors" in text
    assert status["registration"] == "refused"
    echoes(site)
    site.write_config({"bound_endpoints": {"selectors": ["endpoint.url.contains('one')"]}})
    daemon.ctl("reload")
    daemon.eventually(lambda now: now["registration"] == "registered", "it is not told again")
    (operator,) = site.cloud.operators()
    assert operator["binding"]["endpoint_selectors"] == ["endpoint.url.contains('one')"]
    patches = [each for each in site.cloud.requests() if each["method"] == "PATCH"]
    assert len(patches) == 2, "a refused request is not sent again and again"


def test_who_is_deregistered_leaves_nothing_and_comes_back_with_a_key(site: Site) -> None:
    daemon = served(site)
    (operator_id,) = ids(site)
    assert operator_id in daemon.ctl("deregister", "--yes").stdout
    assert ids(site) == [] and not site.has_section()
    assert not [path for path in site.state.iterdir() if path.name.startswith("tls.")]
    assert daemon.status()["registration"] == "left"
    assert daemon.endpoints() == {}
    daemon.stop()

    again = site.start_daemon_as_configured()
    again.expect("deregister")
    assert ids(site) == [], "the key in the configuration does not bring it back"
    again.ctl("set-api-key", "sandbox-key")
    again.ready()
    assert len(ids(site)) == 1
    echoes(site)


def test_who_cannot_be_deregistered_stays_as_it_was(site: Site) -> None:
    daemon = served(site)
    before = pair(site)
    site.cloud.api_fault("status", status=503, method="DELETE")
    done = daemon.ctl("deregister", "--yes", check=False)
    assert done.returncode == 1 and "still registered" in done.stderr
    site.cloud.heal()
    assert pair(site) == before and len(ids(site)) == 1
    echoes(site)
    daemon.refresh()
    assert daemon.status()["state"] == "ready"


def test_a_stop_deletes_nothing(site: Site) -> None:
    daemon = served(site)
    before = ids(site)
    daemon.stop()
    assert ids(site) == before and all((site.state / name).exists() for name in PAIR)


@pytest.mark.long
def test_an_ingress_that_moved_is_taken_up_at_the_next_start(site: Site) -> None:
    served(site).stop()
    site.cloud.ask("PATCH", "/settings", {"ingress_endpoint": "127.0.0.1:4443"})
    again = site.start_daemon_as_configured().ready()
    again.eventually(
        lambda now: now["ingress_endpoint"] == "127.0.0.1:4443", "the old ingress is used"
    )
    again.expect("ingress 127.0.0.1:4443 at")
    echoes(site)
    patches = [each for each in site.cloud.requests() if each["method"] == "PATCH"]
    assert not patches, "to look changes nothing"


def test_an_ingress_that_moved_is_found_by_a_daemon_that_cannot_reach_it(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    site.start_cloud(ONE)
    site.cloud.ask("PATCH", "/settings", {"ingress_endpoint": "127.0.0.1:4444"})
    daemon = site.start_daemon().ready()
    assert daemon.status()["ingress_endpoint"] == "127.0.0.1:4444"
    site.cloud.ask("PATCH", "/settings", {"ingress_endpoint": "127.0.0.1:4443"})
    daemon.eventually(
        lambda now: now["ingress_endpoint"] == "127.0.0.1:4443", "the old ingress is used"
    )
    daemon.expect("ingress 127.0.0.1:4443 at")
    daemon.eventually(lambda now: now["state"] == "ready", "it is still a problem")
    echoes(site)


@pytest.mark.long
def test_what_ngrok_no_longer_lists_is_not_opened_for_a_moment_at_a_start(site: Site) -> None:
    served(site).stop()
    site.cloud.remove("tcp://one.ns:7000")
    site.cloud.add("tcp://two.ns:7000", "127.0.0.1:7000")
    again = site.start_daemon_as_configured().ready()
    again.expect("endpoint two.ns:7000 open")
    assert not again.matching("one.ns")
