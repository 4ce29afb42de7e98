"""On a Mac: the service with launchd, the names, and the setup guide line by line.

The Mac is one whose commands are interpreted (tests/macos/): what only a real one shows stands in
docs/macos.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import overlaid
from tests.integration.overlaid import survey
from tests.integration.programs import Program
from tests.integration.site import KEY, NGROKD, clean_environment
from tests.macos.resolver import QUERY
from tests.macos.wholemac import WholeMac

pytestmark = [pytest.mark.root, pytest.mark.long]

LABEL = "com.ngrok.ngrokd"
JOB = f"system/{LABEL}"
PLIST = f"/Library/LaunchDaemons/{LABEL}.plist"
CONFIG = "/etc/ngrokd/config.yml"
SOCK = "/var/run/ngrokd.sock"
LOG = "/var/log/ngrokd.log"
API = "http://127.0.0.1:4040"
HOSTS = "127.0.0.1\tlocalhost\n255.255.255.255\tbroadcasthost\n::1\tlocalhost\n"

# The two here-documents of the guide.
GUIDE_CONFIG = """
api:
  url: https://api.ngrok.com
  key: ""  # Set via socket or edit here

ingressEndpoint: "kubernetes-binding-ingress.ngrok.io:443"

server:
  socket_path: /var/run/ngrokd.sock
  client_cert: /etc/ngrokd/tls.crt
  client_key: /etc/ngrokd/tls.key

bound_endpoints:
  poll_interval: 30

net:
  interface_name: ngrokd0  # Will become utunX on macOS
  subnet: 10.107.0.0/16
"""
GUIDE_PLIST = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" 
  "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
    <key>Label</key>
    <string>com.ngrok.ngrokd</string>
    
    <key>ProgramArguments</key>
    <array>
        <string>/usr/local/bin/ngrokd</string>
        <string>--config=/etc/ngrokd/config.yml</string>
    </array>
    
    <key>RunAtLoad</key>
    <true/>
    
    <key>KeepAlive</key>
    <true/>
    
    <key>StandardErrorPath</key>
    <string>/var/log/ngrokd.log</string>
    
    <key>StandardOutPath</key>
    <string>/var/log/ngrokd.log</string>
    
    <key>UserName</key>
    <string>root</string>
</dict>
</plist>
"""  # noqa: W291, W293 - as it is printed there


@pytest.fixture
def mac(tmp_path: Path) -> Iterator[WholeMac]:
    """A Mac as it is bought."""
    reason = overlaid.why_not()
    if reason:
        pytest.skip(reason)
    with WholeMac(tmp_path) as mac:
        yield mac


def start_cloud(mac: WholeMac) -> Program:
    """The stand-in cloud, as far away as ngrok's."""
    argv = [NGROKD, "sandbox", "--dir", "/srv/cloud", "--port", 4040, "--ingress-port", 4443]
    cloud = Program(mac.machine, argv, clean_environment())  # type: ignore[arg-type]
    cloud.expect("url:")
    return cloud


def point_to_cloud(mac: WholeMac) -> None:
    """What a customer's config.yml has of ngrok becomes the stand-in's."""
    ca_file = mac.sh("ls /srv/cloud/*/intermediate.crt /srv/cloud/intermediate.crt 2>&-; :").strip()
    mac.sh(
        f"sed -i -e 's|url: https://api.ngrok.com|url: {API}|' -e '/^ *ca_file:/d' "
        f"-e 's|^ingressEndpoint: .*|ingressEndpoint: \"\"|' "
        f"-e 's|^server:|server:\\n  ca_file: {ca_file}|' {CONFIG}"
    )


def pid(mac: WholeMac) -> int:
    """That launchd has; 0: it has none."""
    done = mac.run("launchctl", "print", JOB)
    found = re.search(r"^\tpid = ([0-9]+)$", done.stdout, re.MULTILINE)
    return int(found[1]) if found else 0


def aliases(mac: WholeMac) -> list[str]:
    """Of lo0, besides the address that it has by itself."""
    found = re.findall(r"inet (127\.[0-9.]+)", mac.do("ifconfig", "lo0"))
    return [ip for ip in found if ip != "127.0.0.1"]


def ask(mac: WholeMac, command: str, *args: str) -> object:
    """With the guide's pipe: echo, nc and jq."""
    request = json.dumps({"command": command, "args": list(args)})
    answer = json.loads(mac.sh(f"echo '{request}' | nc -U {SOCK} | jq"))
    assert answer["success"], answer
    return answer["data"]


def wait(mac: WholeMac, *words: object) -> None:
    """Until the daemon says that it is so."""
    mac.do("ngrokctl", "wait", "--timeout", 30, *words)


def wait_for_another(mac: WholeMac, old: int) -> int:
    """The pid once launchd has started another one that answers."""
    asked = "new=$(ngrokctl status --json 2>&- | jq -r .pid)"
    script = f'until {asked}; test -n "$new" && test "$new" != {old}; do sleep 0.1; done'
    mac.do("timeout", 40, "sh", "-c", script)
    return pid(mac)


def test_the_service_is_installed_started_stopped_and_taken_out_again(mac: WholeMac) -> None:
    before = survey(mac.machine)
    shown = mac.do("ngrokd", "install", "--dry-run")
    assert f"would write {PLIST} (mode 0644)" in shown
    assert f"would run launchctl enable {JOB}" in shown
    assert mac.commands() == []
    mac.do("ngrokd", "install")
    assert "nothing to do" in mac.do("ngrokd", "install")
    assert "is not running" in mac.do("ngrokd", "stop")
    cloud = start_cloud(mac)
    point_to_cloud(mac)

    started = mac.do("ngrokd", "start")
    assert f"ngrokd started (pid {pid(mac)})" in started
    assert mac.sh("cat /var/run/ngrokd.pid") == f"{pid(mac)}\n"
    assert f"runs already (pid {pid(mac)})" in mac.do("ngrokd", "start")
    mac.do("ngrokctl", "set-api-key", KEY)
    wait(mac, "--endpoints", 3)
    _names_are_found_and_nothing_is_flushed_without_need(mac)

    first = pid(mac)
    mac.do("ngrokd", "reload")
    assert pid(mac) == first
    mac.do("ngrokd", "restart")
    assert pid(mac) not in (0, first)
    _a_crash_is_mended_by_launchd(mac)

    assert "stopped by launchctl bootout" in mac.do("ngrokd", "uninstall")
    assert mac.run("launchctl", "print", JOB).returncode == 113
    assert mac.do("cat", "/private/etc/hosts") == HOSTS
    assert aliases(mac) == []
    assert "was not installed" in mac.do("ngrokd", "uninstall")
    told = mac.do("ngrokd", "uninstall", "--purge")
    assert "removed folder /private/etc/ngrokd" in told and "stays" not in told
    assert {p for p in overlaid.changes(mac.machine, before) if "ngrokd" in p} == set()
    cloud.process.kill()


def _names_are_found_and_nothing_is_flushed_without_need(mac: WholeMac) -> None:
    flushes = ["dscacheutil -flushcache", "killall -HUP mDNSResponder"]
    assert sorted(aliases(mac)) == ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
    assert "ip_address: 127.0.0.4" in mac.do(*QUERY, "hello.sandbox")
    assert "hello" in mac.do("curl", "-sSf", "http://hello.sandbox/")
    assert mac.sh("ls -l /etc | head -c 1") == "l"
    assert "hello.sandbox" in mac.do("cat", "/private/etc/hosts")
    assert mac.sh("ls -A /etc/ngrokd | grep -c '^hosts.ngrokd.bak$'") == "1\n"
    done = mac.commands("dscacheutil -f"), mac.commands("killall")
    assert [*done[0][:1], *done[1][:1]] == flushes
    assert "interface       lo0 has all 3 addresses" in mac.do("ngrokctl", "doctor")
    for _ in range(3):
        mac.do("ngrokctl", "refresh")
    assert (mac.commands("dscacheutil -f"), mac.commands("killall")) == done


def _a_crash_is_mended_by_launchd(mac: WholeMac) -> None:
    killed = pid(mac)
    wait(mac, "--endpoints", 3)
    mac.do("kill", "-KILL", killed)
    assert wait_for_another(mac, killed) not in (0, killed)
    wait(mac, "--endpoints", 3)
    assert mac.do("cat", "/etc/hosts").count("BEGIN ngrokd") == 1


def test_the_job_of_the_guide_is_loaded_listed_stopped_started_and_unloaded(mac: WholeMac) -> None:
    """"Running as LaunchDaemon (Production)", in its order."""
    cloud = start_cloud(mac)
    mac.sh(f"mkdir -p /etc/ngrokd && tee {CONFIG} << 'EOF'{GUIDE_CONFIG}EOF")
    mac.sh(f"tee {PLIST} << 'EOF'\n{GUIDE_PLIST}EOF")
    point_to_cloud(mac)

    mac.do("launchctl", "load", PLIST)
    listed = mac.sh("launchctl list | grep ngrokd")
    assert re.fullmatch(rf"[0-9]+\t0\t{LABEL}\n", listed)
    first = wait_for_another(mac, 0)
    assert mac.sh("cat /var/run/ngrokd.pid") == f"{first}\n", "it must not fork away from launchd"
    assert mac.sh(f"ps -o user= -p {first}").strip() == "root"
    ask(mac, "set-api-key", KEY)
    wait(mac, "--endpoints", 3)
    assert mac.sh(f"tail {LOG} | grep -c INFO") != "0\n"

    # With KeepAlive launchd starts again what `stop` ended: that is what the guide's plist says.
    mac.do("launchctl", "stop", LABEL)
    second = wait_for_another(mac, first)
    mac.do("launchctl", "start", LABEL)
    assert pid(mac) == second, "one that runs is not started again"

    mac.sh(f"sed -i 's/poll_interval: 30/poll_interval: 20/' {CONFIG}")
    mac.do("launchctl", "unload", PLIST)
    assert pid(mac) == 0
    assert mac.do("cat", "/etc/hosts") == HOSTS and aliases(mac) == []
    mac.do("launchctl", "load", PLIST)
    wait_for_another(mac, second)
    wait(mac, "--endpoints", 3)
    assert "poll_interval" in mac.sh("ngrokctl config show | grep '20 .*line'")

    # And `ngrokd stop` is for that job, too: it was not installed by `ngrokd install`.
    assert "ngrokd stopped" in mac.do("ngrokd", "stop")
    assert mac.run("launchctl", "list", LABEL).returncode == 113
    cloud.process.kill()


def test_a_job_with_the_foreground_in_its_arguments_does_as_well(mac: WholeMac) -> None:
    mac.do("ngrokd", "install")
    argument = "<string>--config=/etc/ngrokd/config.yml</string>"
    mac.sh(f"sed -i 's|{argument}|{argument}<string>--foreground</string>|' {PLIST}")
    mac.do("ngrokd", "start")
    assert mac.sh("cat /var/run/ngrokd.pid") == f"{pid(mac)}\n"
    assert "ngrokd stopped" in mac.do("ngrokd", "stop")
    assert pid(mac) == 0 and mac.run("launchctl", "print", JOB).returncode == 113
    # launchd follows a link, and starts again what is ended behind its back
    mac.sh(f"mkdir /opt/job && mv {PLIST} /opt/job/ && ln -s /opt/job/{LABEL}.plist {PLIST}")
    mac.do("launchctl", "bootstrap", "system", PLIST)
    wait_for_another(mac, 0)
    assert "ngrokd stopped" in mac.do("ngrokd", "stop")
    assert pid(mac) == 0 and mac.run("launchctl", "print", JOB).returncode == 113
    mac.sh(f"mv /opt/job/{LABEL}.plist {PLIST}")
    assert "stays as you changed it" in mac.run("ngrokd", "uninstall").stdout


def test_a_daemon_that_cannot_start_under_launchd_is_told_with_its_last_words(
    mac: WholeMac,
) -> None:
    mac.do("ngrokd", "install")
    mac.sh("mkdir /var/run/ngrokd.pid")  # found out only by a start
    failed = mac.run("ngrokd", "start")
    assert failed.returncode == 1
    assert "launchd has started ngrokd, which ended with exit status 1" in failed.stderr
    assert "/var/run/ngrokd.pid cannot be the pid file" in failed.stderr
    mac.sh("rmdir /var/run/ngrokd.pid")

    mac.sh(f"chmod 666 {PLIST}")
    mac.do("ngrokd", "stop")
    refused = mac.run("ngrokd", "start")
    assert refused.returncode == 1
    assert "122: Path had bad ownership/permissions" in refused.stderr
    assert mac.run("setpriv", "--reuid=12345", "--clear-groups", "ngrokd", "start").returncode == 1


def test_a_mac_of_before_domains_has_the_job_loaded_and_unloaded(tmp_path: Path) -> None:
    reason = overlaid.why_not()
    if reason:
        pytest.skip(reason)
    with WholeMac(tmp_path, is_old=True) as mac:
        mac.do("ngrokd", "install")
        mac.do("ngrokd", "start")
        assert LABEL in mac.do("launchctl", "list")
        mac.do("ngrokd", "stop")
        assert LABEL not in mac.do("launchctl", "list")
        mac.do("ngrokd", "uninstall", "--purge", "--force")
        assert mac.commands("launchctl load") == [f"launchctl load -w {PLIST}"]
