"""Ten thousand endpoints over a hundred pages, and one that comes and goes at every poll."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from tests.integration import programs
from tests.integration.netns import receive_exactly
from tests.integration.site import HEALTH_PORT, Daemon, Site

pytestmark = [pytest.mark.root, pytest.mark.long]

MANY, FEW = 10_000, 10
NEEDED_DESCRIPTORS = MANY + 200
CPU_S = 60.0  # of the daemon, for all that is asked of it; a look at each for each would take more
MOST_KB = 250_000  # of resident memory, at its highest
FLAPS, WARM_UP = 200, 20
GROWTH_KB = 1024
UPSTREAM = "127.0.0.1:7000"


def memory_kb(daemon: Daemon, which: str) -> int:
    lines = Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{which}:"))
    return int(line.split()[1])


def descriptors(daemon: Daemon) -> int:
    return len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))


def cpu_s(daemon: Daemon) -> float:
    fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def must_greet(site: Site, name: str, port: int) -> None:
    with site.network.connect(name, port) as client:
        assert receive_exactly(client, 8) == b"goodbye\n"


def hosts_writes(site: Site) -> int:
    _, page = site.network.http(HEALTH_PORT, "GET", "/metrics")
    (line,) = (line for line in page.splitlines() if line.startswith(b"ngrokd_hosts_writes_total "))
    return int(line.split()[1])


def test_ten_thousand_endpoints_come_stay_and_go(site: Site) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < NEEDED_DESCRIPTORS:
        pytest.skip(f"the hard limit of open files is {hard}, and {NEEDED_DESCRIPTORS} are needed")
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    cloud = site.start_cloud()
    listed = [
        {"url": f"tcp://e{n}.ns{n % 7}:{7000 + n % 50}", "upstream": UPSTREAM} for n in range(MANY)
    ]
    cloud.replace(*listed)
    # A poll of a hundred pages at every minute: ngrok grants an account 120 requests.
    daemon = site.start_daemon({"bound_endpoints": {"poll_interval": 60}})

    daemon.wait_for("--endpoints", MANY, "--timeout", 60)

    assert daemon.status()["endpoints"] == {"open": MANY, "failed": 0, "skipped": 0}
    assert sum("before_id" in each["query"] for each in cloud.requests()) >= MANY / 100 - 1
    writes, ip = hosts_writes(site), site.network.address_of("e9999.ns3")
    must_greet(site, "e0.ns0", 7000)
    must_greet(site, "e9999.ns3", 7049)
    assert not daemon.refresh()["opened"]
    assert hosts_writes(site) == writes

    cloud.replace(*listed[:FEW])
    assert len(daemon.refresh()["closed"]) == MANY - FEW
    must_greet(site, "e0.ns0", 7000)
    cloud.replace(*listed)
    assert len(daemon.refresh()["opened"]) == MANY - FEW

    assert site.network.address_of("e9999.ns3") == ip
    must_greet(site, "e9999.ns3", 7049)
    assert hosts_writes(site) == writes + 2
    assert daemon.matching(" (WARNING|ERROR|CRITICAL) |Traceback") == []
    assert cpu_s(daemon) < CPU_S
    assert memory_kb(daemon, "VmHWM") < MOST_KB
    print(f"CPU {cpu_s(daemon)} s, at most {memory_kb(daemon, 'VmHWM')} kB")
    assert daemon.stop() == 0
    site.assert_nothing_is_left(daemon)


def test_a_daemon_whose_endpoint_flaps_stays_as_it_is(site: Site) -> None:
    site.keep(programs.peers(site.namespace, site.network, "greeter=7000"))
    cloud = site.start_cloud(f"tcp://stays.ns:7001={UPSTREAM}")
    narrow = {"subnet": "10.107.0.0/28"}  # 13 addresses: what leaks is soon gone
    daemon = site.start_daemon({"net": narrow, "forward": {"warm_connections": "off"}}).ready()
    cloud.add("tcp://flaps.ns:7002", UPSTREAM)
    daemon.refresh()
    ip, writes, held, kb = site.network.address_of("flaps.ns"), hosts_writes(site), 0, 0

    for cycle in range(FLAPS):
        if cycle == WARM_UP:
            held, kb = descriptors(daemon), memory_kb(daemon, "VmRSS")
        cloud.remove("tcp://flaps.ns:7002")
        assert daemon.refresh()["endpoints"] == 1
        cloud.add("tcp://flaps.ns:7002", UPSTREAM)
        assert daemon.refresh()["endpoints"] == 2
        assert site.network.address_of("flaps.ns") == ip

    must_greet(site, "flaps.ns", 7002)
    assert hosts_writes(site) == writes + 2 * FLAPS
    # A request may be under way, and the connection that was greeted may still be closing.
    daemon.eventually(lambda now: descriptors(daemon) <= held + 2, "descriptors are lost")
    assert memory_kb(daemon, "VmRSS") - kb < GROWTH_KB
    assert len(site.namespace.hosts.read_bytes().replace(site.hosts_before, b"").splitlines()) == 4
    assert daemon.matching(" (WARNING|ERROR|CRITICAL) |Traceback") == []
