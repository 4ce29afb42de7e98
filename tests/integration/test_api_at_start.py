"""A daemon that starts while the API is away comes up by itself, or serves what it knew."""

from __future__ import annotations

import re

import pytest

from tests.integration import programs
from tests.integration.netns import receive_exactly
from tests.integration.site import Site

pytestmark = pytest.mark.root


def test_a_first_start_without_an_api_waits_and_becomes_ready_when_it_is_there(
    site: Site,
) -> None:
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    site.start_cloud("tcp://one.ns:7000=127.0.0.1:7000").stop()  # its CA stays

    daemon = site.start_daemon()
    daemon.expect("WARNING.*http://127.0.0.1:4040.*refused")
    # The line comes a moment before the status that says so.
    status = daemon.eventually(lambda now: bool(now["problems"]), "no problem is told")
    assert status["state"] == "registering"
    assert "127.0.0.1:4040" in status["problems"][0]
    assert daemon.ready_page() == 503
    site.start_cloud("tcp://one.ns:7000=127.0.0.1:7000")

    daemon.wait_for("--for", "one.ns", "--timeout", 20)
    assert daemon.status()["state"] == "ready"
    assert daemon.ready_page() == 200
    with site.network.connect("one.ns", 7000) as client:
        assert receive_exactly(client, 8) == b"goodbye\n"


def test_a_restart_without_an_api_serves_the_endpoints_it_knew(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    cloud = site.start_cloud("tcp://one.ns:7000=127.0.0.1:7000")
    site.start_daemon().ready().stop()
    cloud.api_fault("status", status=503)

    daemon = site.start_daemon_as_configured()

    daemon.expect("endpoint one.ns:7000 open")
    daemon.expect("WARNING.*HTTP 503")
    told = "ngrok has not answered since the start: the endpoints of 20.* UTC are served"
    daemon.eventually(
        lambda now: any(re.fullmatch(told, problem) for problem in now["problems"]),
        "it is not told",
    )
    with site.network.connect("one.ns", 7000) as client:
        assert receive_exactly(client, 8) == b"goodbye\n"
    cloud.heal()
    daemon.ready()
    assert daemon.status()["problems"] == []
    assert len(cloud.operators()) == 1


@pytest.mark.long
def test_damaged_endpoints_are_kept_aside_and_asked_for_anew(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    site.start_cloud("tcp://one.ns:7000=127.0.0.1:7000")
    site.start_daemon().ready().stop()
    kept = site.state / "endpoints.json"
    kept.write_bytes(kept.read_bytes()[:20])

    daemon = site.start_daemon_as_configured()

    daemon.expect("WARNING.*endpoints.json is damaged: kept as endpoints.json.corrupt")
    daemon.wait_for("--for", "one.ns", "--timeout", 20)
    assert b"one.ns" in kept.read_bytes()
    assert len((site.state / "endpoints.json.corrupt").read_bytes()) == 20


@pytest.mark.long
def test_an_ingress_ca_that_is_missing_is_named_with_its_mend(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    cloud = site.start_cloud("tcp://one.ns:7000=127.0.0.1:7000")
    ca_file = site.folder / "cloud" / "cloud" / "intermediate.crt"
    missing = site.folder / "missing.crt"

    daemon = site.start_daemon({"server": {"ca_file": str(missing)}})

    line = daemon.expect("(WARNING|ERROR).*missing.crt")
    assert "ca_file" in line
    daemon.eventually(
        lambda now: any("missing.crt" in problem for problem in now["problems"]),
        "the problem is not in the status",
    )
    missing.write_bytes(ca_file.read_bytes())
    daemon.wait_for("--for", "one.ns", "--timeout", 10)
    daemon.eventually(lambda now: now["problems"] == [], "the problem stays")
    with site.network.connect("one.ns", 7000) as client:
        assert receive_exactly(client, 8) == b"goodbye\n"
    assert len(cloud.operators()) == 1
