"""A new user's first minutes: no key, a wrong one, the right one, and what answers then."""

from __future__ import annotations

import json

import pytest

from tests.integration import programs
from tests.integration.netns import receive_exactly
from tests.integration.site import HEALTH_PORT, KEY, NGROKCTL, Daemon, Site, clean_environment

pytestmark = pytest.mark.root


def _without_key(site: Site) -> Daemon:
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    site.start_cloud("tcp://one.ns:7000=127.0.0.1:7000", "http://two.ns=127.0.0.1:7000")
    daemon = site.start_daemon({"api": {"key": ""}})
    daemon.expect("WARNING.*ngrokctl set-api-key")
    daemon.eventually(lambda now: now["state"] == "waiting_for_api_key", "it does not wait")
    daemon.listens(site.network, HEALTH_PORT)
    return daemon


def test_a_daemon_without_a_key_comes_up_when_it_is_given_one(site: Site) -> None:
    daemon = _without_key(site)
    assert daemon.ready_page() == 503
    assert not site.has_section()
    assert daemon.ctl("wait", "--timeout", "0.2", check=False).returncode == 4
    assert daemon.ctl("health", check=False).returncode == 1
    assert site.cloud.requests() == []

    daemon.ctl("set-api-key", KEY)
    daemon.ctl("wait", "--for", "one.ns", "--timeout", "30")

    with site.network.connect("one.ns", 7000) as client:
        assert receive_exactly(client, 8) == b"goodbye\n"
    assert daemon.ctl("health").returncode == 0
    assert daemon.ready_page() == 200
    saved = site.state / "api_key"
    assert saved.stat().st_mode & 0o777 == 0o600
    assert KEY not in site.config.read_text()
    assert daemon.matching(KEY) == []


@pytest.mark.long
def test_the_key_may_come_from_standard_input_and_outlives_a_restart(site: Site) -> None:
    daemon = _without_key(site)

    daemon.ctl("set-api-key", input=KEY + "\n")
    daemon.ctl("wait", "--endpoints", "2", "--timeout", "30")
    assert daemon.stop() == 0

    again = site.start_daemon_as_configured()
    again.wait_for("--for", "two.ns", "--timeout", "30")
    assert len(site.cloud.operators()) == 1


def test_a_wrong_key_is_refused_with_the_reason_and_nothing_is_kept_of_it(site: Site) -> None:
    daemon = _without_key(site)
    since = len(daemon.lines)

    refused = daemon.ctl("set-api-key", "wrong-key-of-mine", check=False)

    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "ERR_NGROK_203" in refused.stderr
    assert "wrong-key-of-mine" not in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert daemon.status()["state"] == "waiting_for_api_key"
    assert not (site.state / "api_key").exists()
    assert daemon.matching("wrong-key-of-mine", since) == []
    daemon.ctl("set-api-key", KEY)
    daemon.wait_for("--for", "one.ns", "--timeout", "30")


def test_a_wrong_key_in_the_configuration_is_named_once_and_one_set_later_takes_over(
    site: Site,
) -> None:
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    site.start_cloud("tcp://one.ns:7000=127.0.0.1:7000")
    daemon = site.start_daemon({"api": {"key": "not-the-right-key"}})

    line = daemon.expect("WARNING.*ERR_NGROK_203")

    assert "ngrokctl set-api-key" in line
    status = daemon.eventually(lambda status: bool(status["problems"]), "no problem is told")
    assert status["state"] == "registering"
    assert "ERR_NGROK_203" in status["problems"][0]
    daemon.ctl("set-api-key", KEY)
    daemon.wait_for("--for", "one.ns", "--timeout", "30")
    assert daemon.matching("not-the-right-key") == []


def test_status_and_list_are_for_people_and_with_json_for_jq(site: Site) -> None:
    daemon = _without_key(site)
    daemon.ctl("set-api-key", KEY)
    daemon.wait_for("--endpoints", "2", "--timeout", "30")
    ctl = f"{NGROKCTL} --socket {site.socket_path}"

    page = daemon.ctl("list").stdout
    assert "http://two.ns" in page and "tcp://one.ns:7000" in page and "10.107.0.2" in page
    assert "ready" in daemon.ctl("status").stdout
    status = site.run("sh", "-c", f"{ctl} status --json | jq -r '.state, .registered'")
    assert status.stdout == "ready\ntrue\n"
    listed = site.run("sh", "-c", f"{ctl} list --json | jq -r '.endpoints[].hostname'")
    assert sorted(listed.stdout.split()) == ["one.ns", "two.ns"]


def test_the_socket_answers_nc_and_jq_and_returns(site: Site) -> None:
    daemon = _without_key(site)
    daemon.ctl("set-api-key", KEY)
    daemon.wait_for("--endpoints", "2", "--timeout", "30")
    asks = f"nc -U {site.socket_path} | jq"

    listed = site.run("sh", "-c", f"""echo '{{"command":"list"}}' | {asks} -r '.data[].url'""")
    status = site.run("sh", "-c", f"""echo '{{"command":"status"}}' | {asks} .data.registered""")
    wrong = site.run("sh", "-c", f"""echo '{{"command":"dance"}}' | {asks} -c '.success'""")
    half = site.run("sh", "-c", f"""echo '{{"comma' | {asks} -c '.success'""")

    assert sorted(listed.stdout.split()) == ["http://two.ns", "tcp://one.ns:7000"]
    assert (status.stdout, wrong.stdout, half.stdout) == ("true\n", "false\n", "false\n")


def test_refresh_returns_once_what_is_new_is_open(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    cloud = site.start_cloud("tcp://one.ns:7000=127.0.0.1:7000")
    daemon = site.start_daemon({"bound_endpoints": {"poll_interval": 3600}}).ready()
    cloud.add("tcp://new.ns:7000", "127.0.0.1:7000")

    answer = daemon.refresh()

    assert answer == {"endpoints": 2, "opened": ["new.ns:7000"], "closed": [], "failed": []}
    with site.network.connect("new.ns", 7000) as client:
        assert receive_exactly(client, 8) == b"goodbye\n"


@pytest.mark.long
def test_health_pages_and_metrics_tell_of_the_endpoints(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    site.start_cloud("tcp://one.ns:7000=127.0.0.1:7000")
    site.start_daemon().ready()
    with site.network.connect("one.ns", 7000) as client:
        assert receive_exactly(client, 8) == b"goodbye\n"

    page = site.network.http(HEALTH_PORT, "GET", "/health")
    assert (page[0], page[1].strip()) == (200, b"healthy")
    status = json.loads(site.network.http(HEALTH_PORT, "GET", "/status")[1])
    assert [each["name"] for each in status["endpoints"].values()] == ["one.ns"]
    metrics = site.network.http(HEALTH_PORT, "GET", "/metrics")[1].decode()
    assert 'ngrokd_endpoints{state="open"} 1' in metrics
    assert 'hostname="one.ns"' in metrics


@pytest.mark.long
def test_a_renewed_certificate_serves_new_connections_and_leaves_running_ones_alone(
    site: Site,
) -> None:
    site.keep(programs.peers(site.namespace, site.network, "echo=7000"))
    site.start_cloud("tcp://one.ns:7000=127.0.0.1:7000")
    daemon = site.start_daemon().ready()
    before = (site.state / "tls.crt").read_bytes(), (site.state / "tls.key").read_bytes()
    running = site.network.connect("one.ns", 7000)
    running.sendall(b"hello")
    assert receive_exactly(running, 5) == b"hello"

    daemon.ctl("rotate-cert")
    daemon.eventually(
        lambda now: (site.state / "tls.crt").read_bytes() != before[0], "the old one is kept"
    )

    assert (site.state / "tls.key").read_bytes() != before[1]
    assert (site.state / "tls.key").stat().st_mode & 0o777 == 0o600
    with site.network.connect("one.ns", 7000) as another:
        another.sendall(b"anew")
        assert receive_exactly(another, 4) == b"anew"
    running.sendall(b"still")
    assert receive_exactly(running, 5) == b"still"
    running.close()
    assert len(site.cloud.operators()) == 1


def test_ngrokctl_without_a_daemon_says_so_and_exits_with_3(site: Site) -> None:
    done = site.run(
        *(NGROKCTL, "--socket", site.socket_path, "status"), check=False, env=clean_environment()
    )

    assert done.returncode == 3
    assert str(site.socket_path) in done.stderr
    assert done.stdout == ""
