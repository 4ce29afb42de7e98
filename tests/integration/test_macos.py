"""The whole daemon on an interpreted macOS: the guide's words, what a kill leaves, what is refused.

The Mac's addresses are this namespace's, too, so that listeners and clients are real; whether an
address may be listened on says the Mac.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.netns import receive_exactly
from tests.integration.programs import Program, peers
from tests.integration.site import KEY, Daemon, Site, clean_environment
from tests.macos.mac import Mac
from tests.macos.remote import Served

pytestmark = [pytest.mark.root, pytest.mark.long]

ROOT = Path(__file__).parent.parent.parent
UTUN = {"net": {"interface_name": "utun"}}
API = "http://my-api.ngrok.app"
FAILED = "Failed to create utun interface, falling back to loopback aliases"


class Life(Daemon):
    """`ngrokd --foreground`, on that Mac."""

    def __init__(self, site: Site, served_at: Path) -> None:
        argv = [sys.executable, "-m", "tests.macos.daemon", served_at, site.config, "run"]
        Program.__init__(self, site.namespace, argv, environment())
        self._namespace, self._network = site.namespace, site.network
        self.socket_path = site.socket_path


class House:
    """A site, and a Mac that outlives its daemons."""

    def __init__(self, site: Site, mac: Served, served_at: Path) -> None:
        self.site, self.mac, self._served_at = site, mac, served_at

    def start(self, overrides: object = None) -> Life:
        """With the guide's configuration, changed by `overrides`."""
        self.site.write_config(overrides)  # type: ignore[arg-type]
        life = Life(self.site, self._served_at)
        self.site.keep(life)
        return life

    def clean_up(self) -> list[str]:
        """`ngrokd cleanup`; what it tells."""
        argv = [sys.executable, "-m", "tests.macos.daemon", self._served_at, self.site.config]
        done = self.site.run(*argv, "cleanup", env=environment())
        return str(done.stdout).splitlines()

    def curl(self, url: str) -> str:
        """What it answers; raises CalledProcessError."""
        return str(self.site.run("curl", "-sS", "--fail", "--max-time", "20", url).stdout)


def environment() -> dict[str, str]:
    """Ours, with the tests to be found."""
    return {**clean_environment(), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def house(site: Site, tmp_path: Path) -> Iterator[House]:
    www = tmp_path / "www"
    www.mkdir()
    (www / "health").write_text("Success!\n")
    served_at = tmp_path / "mac"
    route = ["local", "10.107.0.0/16", "dev", "lo"]
    site.run("ip", "route", "add", *route)
    server = [sys.executable, "-m", "http.server", "8000", "--bind", "127.0.0.1"]
    upstream = Program(site.namespace, [*server, "--directory", www], clean_environment())
    site.keep(upstream)
    upstream.listens(site.network, 8000)
    site.keep(peers(site.namespace, site.network, "greeter=7000"))
    site.start_cloud(f"{API}=127.0.0.1:8000", "tcp://two.ns:7000=127.0.0.1:7000")
    with Served(Mac(), served_at) as mac:
        yield House(site, mac, served_at)
        assert mac.broken == [], "something that macOS does not know"
    site.run("ip", "route", "del", *route)


def test_by_default_names_lead_to_aliases_of_lo0_and_all_goes_with_a_stop(house: House) -> None:
    mac, site = house.mac, house.site
    mac.do("ifconfig", "lo0", "alias", "127.0.0.2", "255.255.255.255")
    life = house.start().ready()
    assert house.curl(f"{API}/health") == "Success!\n"
    with site.network.connect("two.ns", 7000) as client:
        assert receive_exactly(client, 8) == b"goodbye\n"
    assert mac.lo0() == ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    assert {each["ip"] for each in life.endpoints().values()} == {"127.0.0.3", "127.0.0.4"}
    status = life.status()
    assert status["interface"] == {
        "name": "lo0", "subnet": "127.0.0.0/8", "mode": "loopback", "notes": []
    }  # fmt: skip
    assert status["state"] == "ready" and status["problems"] == []
    told = life.matching("loopback aliases")
    assert len(told) == 1 and "INFO" in told[0] and "10.107.0.0/16" in told[0]

    site.cloud.remove(API)
    life.refresh()
    assert len(mac.lo0()) == 2
    assert life.stop() == 0
    assert mac.lo0() == ["127.0.0.2"], "somebody else's stays"
    assert not (site.state / "aliases.json").exists()
    site.assert_nothing_is_left(life)


def test_what_a_kill_leaves_is_taken_over_by_the_next_life_or_cleaned_up(house: House) -> None:
    mac, site = house.mac, house.site
    house.start().ready().send(signal.SIGKILL)
    mac.do("ifconfig", "lo0", "alias", "127.0.0.9", "255.255.255.255")
    assert mac.lo0() == ["127.0.0.2", "127.0.0.3", "127.0.0.9"]
    life = house.start().ready()
    life.expect("2 aliases of lo0 are left by an earlier run: taken over")
    assert house.curl(f"{API}/health") == "Success!\n"
    life.send(signal.SIGKILL)
    life.wait()

    told = house.clean_up()
    assert told[:3] == [
        "/etc/hosts: ngrokd's section is removed",
        "lo0: the address 127.0.0.2 is removed",
        "lo0: the address 127.0.0.3 is removed",
    ]
    assert mac.lo0() == ["127.0.0.9"]
    assert house.clean_up() == []
    site.assert_nothing_is_left(life)


def test_after_a_boot_everything_is_made_anew(house: House) -> None:
    life = house.start().ready()
    life.send(signal.SIGKILL)
    life.wait()
    with house.mac._lock:
        house.mac.mac.kernel.boot()
    life = house.start().ready()
    assert house.curl(f"{API}/health") == "Success!\n"
    assert house.mac.lo0() == ["127.0.0.2", "127.0.0.3"]
    assert life.matching("taken over") == []
    assert life.stop() == 0
    assert house.mac.lo0() == []


def test_the_guides_example_session(house: House) -> None:
    """Line by line; where macOS itself prints something else than the guide, a comment says so."""
    mac, site = house.mac, house.site
    with mac._lock:
        for _ in range(2):
            mac.mac.kernel.make_utun(0)  # of other programs, so that ours is utun3
    # 1. Start daemon with sudo (each address is told with `--verbose`: there may be thousands)
    life = house.start({**UTUN, "api": {"key": ""}, "server": {"log_level": "debug"}})
    life.expect(
        r"Creating virtual network interface \(macOS utun\)"
        r' name="utun" subnet="10\.107\.0\.0/16"'
    )
    life.expect('Created utun interface interface="utun3"')
    life.expect('Configured utun interface interface="utun3" gateway="10.107.0.1"')
    life.expect('Added route for subnet subnet="10.107.0.0/16" interface="utun3"')
    # 2. Check interface
    shown = mac.do("ifconfig", "utun3").splitlines()
    assert shown[0] == "utun3: flags=8051<UP,POINTOPOINT,RUNNING,MULTICAST> mtu 1500"
    assert shown[1].strip() == "inet 10.107.0.1 --> 10.107.0.2 netmask 0xffff0000"
    # `netstat -rn | grep 10.107`: macOS leaves the zeros out, and names the interface as gateway
    table = [line.split() for line in mac.do("netstat", "-rn", "-f", "inet").splitlines()]
    assert ["10.107/16", "utun3", "USc", "utun3"] in table
    # 3. Set API key
    line = f'{{"command":"set-api-key","args":["{KEY}"]}}'
    script = f"echo '{line}' | nc -N -U {site.socket_path}"
    assert '"success": true' in site.run("sh", "-c", script).stdout
    # 4. Wait for discovery
    life.expect('Allocated IP hostname="my-api.ngrok.app" ip="10.107.0.3"')
    life.expect('Added IP to utun interface ip="10.107.0.3" interface="utun3"')
    life.ready()
    # 5. Verify IPs added: macOS prints the far end of each, which is the address itself
    inets = [each.strip() for each in mac.do("ifconfig", "utun3").splitlines() if "inet" in each]
    assert inets == [
        "inet 10.107.0.1 --> 10.107.0.2 netmask 0xffff0000",
        "inet 10.107.0.3 --> 10.107.0.3 netmask 0xffff0000",
        "inet 10.107.0.4 --> 10.107.0.4 netmask 0xffff0000",
    ]
    # 6. Test connection
    assert house.curl(f"{API}/health") == "Success!\n"

    assert life.status()["interface"]["name"] == "utun3"
    assert life.stop() == 0
    assert mac.utuns() == set() and mac.lo0() == []
    site.assert_nothing_is_left(life)


def test_a_killed_daemons_utun_is_gone_and_the_next_one_has_its_own(house: House) -> None:
    life = house.start(UTUN).ready()
    assert house.mac.utuns() == {"utun1"}
    life.send(signal.SIGKILL)
    life.wait()
    life = house.start(UTUN).ready()
    assert house.mac.utuns() == {"utun1"}
    assert house.curl(f"{API}/health") == "Success!\n"
    life.send(signal.SIGKILL)
    life.wait()
    (told, *_) = house.clean_up()
    assert "ngrokd's section is removed" in told
    house.site.assert_nothing_is_left(life)


def test_where_no_utun_can_be_aliases_serve_and_the_guides_messages_say_so(house: House) -> None:
    with house.mac._lock:
        house.mac.mac.kernel.utun_refused = "Operation not permitted"
    life = house.start(UTUN).ready()
    line = life.expect(f"{FAILED}: .*operation not permitted. Mend: run ngrokd as root")
    assert "WARNING" in line
    life.expect(r"Using loopback aliases \(fallback mode\)")
    assert house.curl(f"{API}/health") == "Success!\n"
    assert house.mac.lo0() == ["127.0.0.2", "127.0.0.3"]
    (note,) = life.status()["interface"]["notes"]
    assert "operation not permitted" in note
    assert life.stop() == 0
    assert house.mac.lo0() == []


def test_what_others_take_from_lo0_is_there_again_after_a_poll(house: House) -> None:
    life = house.start().ready()
    house.mac.do("ifconfig", "lo0", "-alias", "127.0.0.2")
    life.refresh()
    assert house.mac.lo0() == ["127.0.0.2", "127.0.0.3"]
    life.expect("1 addresses of lo0 were removed by another program: added again")
    assert house.curl(f"{API}/health") == "Success!\n"


def test_without_root_nothing_listens_and_the_reason_is_macoss(house: House) -> None:
    with house.mac._lock:
        house.mac.mac.kernel.root = False
    life = house.start()
    life.expect("WARNING endpoint two.ns:7000 failed: ")
    reasons = {each["reason"] for each in life.endpoints().values()}
    assert all("ioctl (SIOCAIFADDR): permission denied" in reason for reason in reasons)
    assert not house.site.has_section()
    with pytest.raises(subprocess.CalledProcessError):
        house.curl(f"{API}/health")
