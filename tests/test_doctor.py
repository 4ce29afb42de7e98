"""What `ngrokctl doctor` makes of what it sees: each check's grades, and what mends it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.cloud.certificate import Validity
from ngrokd.cloud.distrust import Finding as Look
from ngrokd.cloud.distrust import Verdict
from ngrokd.cloud.ingressaddress import IngressAddress
from ngrokd.doctor import cloud, daemon, finding, host, mending, proctables, settings
from ngrokd.doctor.cloud import ApiFacts, CertificateFacts, IngressFacts, Reply, Welcome
from ngrokd.doctor.daemon import Asked
from ngrokd.doctor.finding import Finding, Grade
from ngrokd.doctor.host import HostsFacts, InterfaceFacts, Limits
from ngrokd.doctor.mending import Typed
from ngrokd.doctor.settings import ConfigFacts, FileFacts, Files, LogFacts
from ngrokd.model import Address

NOW = 1_700_000_000.0
DAY_S = 86400
OK, WARNING, FAILED, SKIPPED = Grade.OK, Grade.WARNING, Grade.FAILED, Grade.SKIPPED


def endpoint(name: str, ip: str, **more: object) -> dict[str, object]:
    return {
        "hostname": name,
        "ip": ip,
        "port": 80,
        "listen_interface": "virtual",
        "listen_address": f"{ip}:80",
        "local_listener": True,
        "published": True,
        "state": "open",
        "reason": "",
        **more,
    }


STATUS: dict[str, object] = {
    "version": "1.0",
    "pid": 7,
    "state": "ready",
    "problems": [],
    "interface": {"name": "ngrokd0", "subnet": "10.107.0.0/16", "mode": "dummy", "notes": []},
}
WELL = Asked(
    "/run/ngrokd.sock", STATUS, (endpoint("a.ns", "10.107.0.2"), endpoint("b.ns", "10.107.0.3"))
)
DEAD = Asked("/run/ngrokd.sock", why="Connection refused", log="/var/log/ngrokd.log")
CLOSED = Asked("/run/ngrokd.sock", why="Permission denied", is_forbidden=True)
NAMES = {"a.ns": "10.107.0.2", "b.ns": "10.107.0.3"}
HOSTS = HostsFacts("/etc/hosts", names=NAMES)
INTERFACE = InterfaceFacts("ngrokd0", "10.107.0.0/16", True, frozenset(NAMES.values()))
ALIASED = InterfaceFacts("ngrokd0", "10.107.0.0/16", aliases=frozenset(NAMES.values()))
LO0 = {"name": "lo0", "mode": "loopback", "subnet": "127.0.0.0/8", "notes": []}


def saying(asked: Asked = WELL, **changes: object) -> Asked:
    return replace(asked, status={**STATUS, **changes})


# Daemon


@pytest.mark.parametrize(
    ("asked", "grade", "mend"),
    [
        (WELL, OK, ""),
        (DEAD, FAILED, "ngrokd start"),
        (CLOSED, SKIPPED, "sudo"),
        (saying(state="waiting_for_api_key"), FAILED, "set-api-key"),
        (saying(state="registering"), WARNING, "ngrokctl status"),
        (saying(state="degraded", problems=["the moon is full"]), WARNING, "each line"),
    ],
)
def test_a_daemon_is_judged_by_what_it_answers(asked: Asked, grade: Grade, mend: str) -> None:
    (found,) = daemon.of_daemon(asked)
    assert found.grade is grade and mend in found.mend and bool(mend) is bool(found.mend)


def test_a_dead_daemon_is_told_with_its_log_and_a_degraded_one_with_its_problems() -> None:
    assert "/var/log/ngrokd.log" in daemon.of_daemon(DEAD)[0].text
    told = daemon.of_daemon(saying(state="degraded", problems=["the moon is full"]))[0].text
    assert told.splitlines()[1:] == ["the moon is full"]


def test_a_daemon_that_lives_and_is_silent_is_restarted_and_nothing_of_it_cleaned_up() -> None:
    stuck = Asked("/sock", why="it did not answer within 10 s", is_stuck=True, log="/log")
    (found,) = daemon.of_daemon(stuck)
    assert (found.grade, found.mend) == (FAILED, "ngrokd restart")
    assert "ended" not in found.text
    there = host.of_interface(stuck, InterfaceFacts("ngrokd0", "10.107.0.0/16", is_there=True))
    names = host.of_hosts(stuck, HostsFacts("/etc/hosts", True, {"a.ns": "10.107.0.2"}))
    assert (there.grade, names.grade) == (SKIPPED, SKIPPED)


def test_an_answer_that_makes_no_sense_is_no_traceback() -> None:
    odd = Asked("/sock", {}, ({"listen_address": "127.0.0.1:²"}, {"listen_address": "x:999999"}))
    assert host.listeners(odd) == frozenset()


def test_fewer_descriptors_than_the_daemon_itself_needs_are_told() -> None:
    found = host.of_limits(Asked("/sock"), host.Limits(64, None, 128))
    assert found.grade is FAILED and "ulimit -n" in found.mend


def test_another_version_of_the_daemon_is_told() -> None:
    assert daemon.of_versions(WELL, "1.0", "3.11", "OpenSSL").grade is OK
    assert daemon.of_versions(WELL, "1.1", "3.11", "OpenSSL").mend == "ngrokd restart"
    assert daemon.of_versions(DEAD, "1.1", "3.11", "OpenSSL").grade is OK


def test_failed_endpoints_are_told_by_their_reasons() -> None:
    assert daemon.of_failures(WELL).text == "2 open"
    assert daemon.of_failures(DEAD).grade is SKIPPED
    bad = [endpoint("c.ns", "", state="failed", reason=f"in use by {n}") for n in range(7)]
    found = daemon.of_failures(replace(WELL, endpoints=(*WELL.endpoints, *bad)))
    assert found.grade is FAILED
    assert found.text.splitlines()[0] == "2 open, 7 failed"
    assert found.text.splitlines()[-1] == "and 2 more"


# Settings


@pytest.mark.parametrize(
    ("facts", "grade", "words"),
    [
        (ConfigFacts("/c.yml"), OK, "valid"),
        (ConfigFacts("/c.yml", is_there=False), WARNING, "defaults"),
        (ConfigFacts("/c.yml", is_readable=False), SKIPPED, "may not be read"),
        (ConfigFacts("/c.yml", faults=("/c.yml:3: net.x: no",)), FAILED, "/c.yml:3"),
        (ConfigFacts("/c.yml", advice=("api.key: every user",)), WARNING, "every user"),
    ],
)
def test_a_configuration_is_judged(facts: ConfigFacts, grade: Grade, words: str) -> None:
    found = settings.of_config(facts)
    assert found.grade is grade and words in found.text
    assert bool(found.mend) is (grade is not OK)


FILES = Files(
    FileFacts("/s", 0o700), (FileFacts("/s/tls.key", 0o600),), FileFacts("/sock", 0o660)
)


@pytest.mark.parametrize(
    ("files", "grade", "mend"),
    [
        (FILES, OK, ""),
        (replace(FILES, secrets=(FileFacts("/s/api_key"),)), OK, ""),
        (replace(FILES, secrets=(FileFacts("/s/tls.key", 0o640),)), FAILED, "chmod 600 /s/tls.key"),
        (replace(FILES, folder=FileFacts("/s", 0o777)), FAILED, "chmod go-w /s"),
        (replace(FILES, folder=FileFacts("/s", 0o755)), OK, ""),
        (replace(FILES, socket=FileFacts("/sock", 0o666)), WARNING, "chmod 660 /sock"),
        (replace(FILES, folder=FileFacts("/s", 0o700, uid=1000)), WARNING, "chown root /s"),
        (replace(FILES, folder=FileFacts("/s", fault="no", is_closed=True)), SKIPPED, "sudo"),
        (
            replace(FILES, secrets=(FileFacts("/s/k", fault="a loop"),)),
            FAILED,
            "move it away: /s/k",
        ),
    ],
)
def test_what_others_could_read_or_replace_is_told(files: Files, grade: Grade, mend: str) -> None:
    (found,) = settings.of_files(files)
    assert (found.grade, found.mend) == (grade, mend) or (grade is SKIPPED and mend in found.mend)


@pytest.mark.parametrize(
    ("facts", "grade"),
    [
        (LogFacts("/var/log/x"), OK),
        (LogFacts("/var/log/x", "its file system is full", "make room"), FAILED),
        (LogFacts("/var/log/x", "not writable", is_known=False), SKIPPED),
    ],
)
def test_a_log_is_judged(facts: LogFacts, grade: Grade) -> None:
    assert settings.of_log(facts).grade is grade


# Host


@pytest.mark.parametrize(
    ("asked", "seen", "grade", "words"),
    [
        (WELL, INTERFACE, OK, "all 2 addresses"),
        (WELL, replace(INTERFACE, ips=frozenset(["10.107.0.2"])), FAILED, "lacks 1 of 2"),
        (WELL, replace(INTERFACE, is_there=False), FAILED, "gone"),
        (DEAD, INTERFACE, WARNING, "left by a daemon"),
        (DEAD, replace(INTERFACE, is_there=False), SKIPPED, "no daemon"),
        (CLOSED, INTERFACE, SKIPPED, "no daemon tells"),
        (WELL, replace(INTERFACE, fault="no netlink"), SKIPPED, "no netlink"),
        (
            saying(interface={"mode": "loopback", "subnet": "127.107.0.0/16", "notes": ["taken"]}),
            INTERFACE,
            WARNING,
            "taken",
        ),
        (
            saying(interface={"mode": "loopback", "subnet": "127.107.0.0/16", "notes": []}),
            INTERFACE,
            OK,
            "needs no interface",
        ),
        (
            saying(interface=LO0),
            replace(ALIASED, aliases=frozenset(["10.107.0.2"])),
            FAILED,
            "lo0 lacks 1 of 2",
        ),
        (saying(interface=LO0), ALIASED, OK, "lo0 has all 2 addresses"),
        (saying(interface={**LO0, "notes": ["no utun"]}), ALIASED, WARNING, "no utun"),
        (
            saying(interface={**LO0, "notes": ["no utun"]}),
            replace(ALIASED, aliases=frozenset()),
            FAILED,
            "lo0 lacks 2 of 2",
        ),
    ],
)
def test_an_interface_is_judged_by_the_addresses_that_it_should_have(
    asked: Asked, seen: InterfaceFacts, grade: Grade, words: str
) -> None:
    found = host.of_interface(asked, seen)
    assert found.grade is grade and words in found.text


def test_what_listens_elsewhere_needs_no_address_of_ours() -> None:
    elsewhere = endpoint("c.ns", "192.168.7.1", listen_interface="eth0")
    asked = replace(WELL, endpoints=(*WELL.endpoints, elsewhere))
    assert host.of_interface(asked, INTERFACE).grade is OK


def test_a_conflict_hides_one_of_two_unless_the_loopback_range_serves() -> None:
    clash = replace(INTERFACE, conflict="interface docker0 has the address 10.107.1.1/24")
    loopback = saying(interface={"mode": "loopback"})
    assert host.of_subnet(WELL, INTERFACE).grade is OK
    assert host.of_subnet(WELL, clash).grade is FAILED
    assert "net.subnet" in host.of_subnet(WELL, clash).mend
    assert host.of_subnet(loopback, clash).grade is WARNING
    assert host.of_subnet(WELL, replace(clash, fault="no netlink")).grade is SKIPPED


@pytest.mark.parametrize(
    ("asked", "seen", "grade", "words"),
    [
        (WELL, HOSTS, OK, "all 2 names"),
        (WELL, replace(HOSTS, names={"a.ns": "10.107.0.2"}), FAILED, "lacks b.ns"),
        (WELL, replace(HOSTS, names={**NAMES, "b.ns": "10.107.0.9"}), FAILED, "other addresses"),
        (WELL, replace(HOSTS, names={**NAMES, "old.ns": "10.107.0.9"}), FAILED, "still has old.ns"),
        (WELL, replace(HOSTS, fault="/etc/hosts: BEGIN without END"), FAILED, "without END"),
        (DEAD, HOSTS, WARNING, "2 names of a daemon that is dead"),
        (DEAD, replace(HOSTS, names={}), SKIPPED, "no daemon"),
        (CLOSED, HOSTS, SKIPPED, "no daemon tells"),
    ],
)
def test_a_hosts_file_must_hold_exactly_what_is_published(
    asked: Asked, seen: HostsFacts, grade: Grade, words: str
) -> None:
    found = host.of_hosts(asked, seen)
    assert found.grade is grade and words in found.text
    assert bool(found.mend) is (grade in (FAILED, WARNING))


def test_where_the_daemon_may_not_write_the_lines_to_add_are_told() -> None:
    hosts = {"lines": ["# BEGIN x", "10.107.0.2\ta.ns"], "more_lines": 3, "problem": "read-only"}
    found = host.of_hosts(saying(hosts=hosts), replace(HOSTS, names={}))
    assert (found.grade, found.text) == (FAILED, "read-only")
    assert found.lines == (
        "# BEGIN x",
        "10.107.0.2\ta.ns",
        "... 3 more: ngrokctl list --hosts",
    )
    assert "add these lines" in found.mend
    for width in (None, 40):
        assert "\n# BEGIN x\n10.107.0.2\ta.ns\n... 3 more" in finding.page([found], width)
    checks = finding.as_json([found])["checks"]
    assert isinstance(checks, list)
    assert checks[0]["mend"] == "\n".join([found.mend, *found.lines])


def test_where_an_older_section_stands_the_lines_belong_in_its_place() -> None:
    hosts: dict[str, object] = {"lines": ["# BEGIN x"], "problem": "read-only", "replace": True}
    found = host.of_hosts(saying(hosts=hosts), HOSTS)
    assert "in place of the older ones" in found.mend and "add" not in found.mend
    found = host.of_hosts(saying(hosts={**hosts, "lines": []}), HOSTS)
    assert found.grade is FAILED and "remove the older ones" in found.mend


def test_a_program_that_takes_our_names_away_is_told_in_the_daemons_words() -> None:
    asked = saying(hosts={"lines": [], "problem": "another program rewrites it"})
    lost = host.of_hosts(asked, replace(HOSTS, names={}))
    assert (lost.grade, lost.text) == (FAILED, "another program rewrites it")
    assert host.of_hosts(asked, HOSTS).grade is WARNING


def test_names_of_every_interface_lead_to_loopback() -> None:
    asked = replace(WELL, endpoints=(endpoint("c.ns", "0.0.0.0", published=True),))
    assert host.published(asked) == {"c.ns": "127.0.0.1"}


@pytest.mark.parametrize(
    ("answers", "grade", "words"),
    [
        ({"a.ns": ("10.107.0.2",)}, OK, "a.ns"),
        ({"a.ns": ("10.107.0.2", "::1")}, OK, "a.ns"),
        ({"a.ns": ("93.184.216.34",)}, FAILED, "says 93.184.216.34"),
        ({"a.ns": ()}, FAILED, "says nothing"),
        ({"a.ns": None}, SKIPPED, "getent"),
        ({}, SKIPPED, "no name"),
    ],
)
def test_a_resolver_must_say_what_the_file_says(
    answers: dict[str, Optional[tuple[str, ...]]], grade: Grade, words: str
) -> None:
    found = host.of_resolver(HOSTS, answers)
    assert found.grade is grade and words in found.text
    assert grade is not FAILED or "nsswitch.conf" in found.mend


def test_a_name_that_the_file_lacks_is_no_fault_of_the_resolver() -> None:
    found = host.of_resolver(HOSTS, {"c.ns": ()})
    assert (found.grade, found.mend) == (FAILED, "ngrokctl refresh")
    assert found.text == "`getent hosts c.ns` says nothing, and /etc/hosts lacks that name"


def test_a_file_of_another_machine_says_nothing_of_this_resolver() -> None:
    assert host.of_resolver(replace(HOSTS, is_the_resolvers=False), {}).grade is SKIPPED


HERE, THERE = Address("10.107.0.2", 80), Address("10.107.0.3", 80)


@pytest.mark.parametrize(
    ("asked", "waiting", "grade", "words"),
    [
        (WELL, {HERE: 0, THERE: 0, Address("0.0.0.0", 22): 99}, OK, "all 2"),
        (WELL, {HERE: 0}, FAILED, "10.107.0.3:80"),
        (WELL, {HERE: 0, THERE: 4000}, WARNING, "10.107.0.3:80"),
        (WELL, None, SKIPPED, "kernel"),
        (DEAD, {}, SKIPPED, "no daemon"),
    ],
)
def test_listeners_are_judged_by_what_the_kernel_tells(
    asked: Asked, waiting: Optional[dict[Address, int]], grade: Grade, words: str
) -> None:
    found = host.of_listeners(asked, waiting)
    assert found.grade is grade and words in found.text


def test_descriptors_that_run_out_are_told_with_the_setting() -> None:
    beyond = endpoint("c.ns", "", state="failed", reason="the descriptor limit allows 3")
    full = replace(WELL, endpoints=(beyond,))
    assert host.of_limits(WELL, Limits(None)).grade is SKIPPED
    assert host.of_limits(WELL, Limits(1024)).grade is OK
    assert host.of_limits(WELL, Limits(1024, 100)).grade is OK
    assert host.of_limits(WELL, Limits(1024, 1000)).grade is WARNING
    assert host.of_limits(full, Limits(1024, 100)).grade is FAILED
    assert "limit allows 3" in host.of_limits(full, Limits(1024, 100)).text
    assert "LimitNOFILE" in host.of_limits(WELL, Limits(1024, 1000)).mend


def test_the_kernels_table_of_sockets_is_read() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
        "   0: 02006B0A:0050 00000000:0000 0A 00000000:00000010 00:00000000 00000000     0\n"
        "   1: 0100007F:1F90 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0\n"
    )
    assert proctables.listening(table) == {Address("10.107.0.2", 80): 16}
    with pytest.raises(ValueError, match="not the kernel's"):
        proctables.listening("head\nthree words only\n")
    for wrong in ("-02006B0:0050", "02006B0A02006B0A:0050", "02006B0A"):
        with pytest.raises(ValueError, match=r"."):
            proctables.listening(table.replace("02006B0A:0050", wrong))


def test_limits_of_a_process_are_read() -> None:
    line = "Max open files            1024                 524288               files     \n"
    assert proctables.open_files(f"Limit\n{line}") == 1024
    assert proctables.open_files(line.replace("1024", "unlimited")) is None
    assert proctables.open_files("") is None


def test_our_section_is_read_and_nothing_beside_it() -> None:
    theirs = b"1.1.1.1 x\n# BEGIN m (a)\n2.2.2.2\ty\n# END m (a)\n"
    content = theirs + b"# BEGIN m\r\n3.3.3.3\tZ\r\n# END m\n4.4.4.4 q"
    assert proctables.section(content, "m") == {"z": "3.3.3.3"}
    assert proctables.section(content, "none") == {}


@given(st.text(), st.binary())
def test_any_text_is_a_table_or_none(text: str, content: bytes) -> None:
    proctables.open_files(text)
    proctables.section(content, "m")
    try:
        proctables.listening(text)
    except ValueError as exc:
        assert str(exc)


# Cloud


@pytest.mark.parametrize(
    ("facts", "grades"),
    [
        (ApiFacts("https://api", Reply.TAKEN), [OK, OK]),
        (ApiFacts("https://api", Reply.REFUSED, "no such key"), [OK, FAILED]),
        (ApiFacts("https://api", Reply.UNWELL, "503"), [WARNING]),
        (ApiFacts("https://api", Reply.NONE, "refused"), [FAILED]),
        (ApiFacts("https://api", why="no API key is set"), [FAILED]),
        (ApiFacts("https://api", why="may not be read", is_unreadable=True), [SKIPPED]),
    ],
)
def test_an_api_and_a_key_are_judged_apart(facts: ApiFacts, grades: list[Grade]) -> None:
    assert [found.grade for found in cloud.of_api(facts)] == grades


@pytest.mark.parametrize(
    ("skew_s", "grade", "words"),
    [
        (None, SKIPPED, ""),
        (0.7, OK, ""),
        (-29.0, OK, ""),
        (90.0, WARNING, "90 s ahead"),
        (-90.0, WARNING, "90 s behind"),
        (4000.0, FAILED, "ahead"),
    ],
)
def test_a_clock_is_judged_against_the_apis(
    skew_s: Optional[float], grade: Grade, words: str
) -> None:
    found = cloud.of_clock(ApiFacts("https://api", Reply.TAKEN, skew_s=skew_s))
    assert found.grade is grade and words in found.text


def until(days: float) -> CertificateFacts:
    return CertificateFacts("/s/tls.crt", validity=Validity(NOW - DAY_S, NOW + days * DAY_S))


@pytest.mark.parametrize(
    ("facts", "grade", "mend"),
    [
        (until(80), OK, ""),
        (until(6), WARNING, "rotate-cert"),
        (until(-1), FAILED, "rotate-cert"),
        (CertificateFacts("/s/tls.crt", validity=Validity(NOW + 9, NOW + 99)), FAILED, "date"),
        (CertificateFacts("/s/tls.crt", is_there=False), FAILED, "set-api-key"),
        (CertificateFacts("/s/tls.crt", fault="the key is another's"), FAILED, "rotate-cert"),
        (CertificateFacts("/s/tls.crt", is_readable=False), SKIPPED, "sudo"),
    ],
)
def test_a_certificate_is_judged(facts: CertificateFacts, grade: Grade, mend: str) -> None:
    found = cloud.of_certificate(facts, NOW)
    assert found.grade is grade and mend in found.mend


AT = IngressAddress("ingress.example", 443)
TRUSTED = IngressFacts(AT, Look(Verdict.TRUSTED), welcome=Welcome.ACCEPTED)


@pytest.mark.parametrize(
    ("facts", "grades", "mend"),
    [
        (TRUSTED, [OK, OK], ""),
        (replace(TRUSTED, welcome=Welcome.REFUSED, said="closes"), [OK, FAILED], "rotate-cert"),
        (replace(TRUSTED, welcome=Welcome.UNKNOWN), [OK, SKIPPED], ""),
        (IngressFacts(AT, why="no such host", is_unresolved=True), [FAILED], "ingressEndpoint"),
        (IngressFacts(AT, why="without a certificate"), [SKIPPED], ""),
        (IngressFacts(AT, Look(Verdict.UNTRUSTED, "unknown CA")), [FAILED], "ngrokctl trust"),
        (
            IngressFacts(AT, Look(Verdict.UNTRUSTED, "unknown CA"), knows_ngroks=True),
            [FAILED],
            "as it says",
        ),
        (IngressFacts(AT, Look(Verdict.WRONG_NAME, "mismatch")), [FAILED], "as it says"),
        (IngressFacts(AT, Look(Verdict.UNREACHABLE, "timed out")), [FAILED], "as it says"),
        (IngressFacts(AT, Look(Verdict.UNKNOWN, "too many open files")), [SKIPPED], ""),
    ],
)
def test_an_ingress_is_judged_step_by_step(
    facts: IngressFacts, grades: list[Grade], mend: str
) -> None:
    found = cloud.of_ingress(facts)
    assert [each.grade for each in found] == grades
    assert found[-1].mend == mend or (mend and mend in found[-1].mend)


# All together


FINDINGS = [
    finding.ok("daemon", "ngrokd 1.0"),
    finding.warning("hosts file", "old names\nof\x1b[31m others", "rm it"),
    finding.failed("log", "full", "make room\nor not"),
    finding.skipped("resolver", "no getent"),
]


def test_a_page_has_a_line_for_each_check_and_the_mend_below_it() -> None:
    assert finding.page(FINDINGS, None) == """\
ok       daemon      ngrokd 1.0
warning  hosts file  old names
    of\\x1b[31m others
    mend: rm it
failed   log         full
    mend: make room
    or not
skipped  resolver    no getent

1 check failed, 1 warning, 1 not looked at."""
    assert finding.page(FINDINGS[:1], None).endswith("\n\nNothing failed.")


def test_long_lines_are_wrapped_at_the_terminals_width_and_at_no_other() -> None:
    long = [finding.failed("ingress", "one two three four five six seven eight nine", "mend it")]
    assert finding.page(long, 40).splitlines()[:4] == [
        "failed  ingress  one two three four five",
        "    six seven eight nine",
        "    mend: mend it",
        "",
    ]
    assert finding.page(long, None).splitlines()[0].endswith("eight nine")


@pytest.mark.parametrize("width", [None, 40])
def test_colour_is_for_the_grades_and_changes_no_line(width: Optional[int]) -> None:
    text = "one two three four five six seven eight nine"
    findings = [*FINDINGS, finding.failed("ingress", text, "mend it")]
    painted = finding.page(findings, width, colour=True)
    assert re.sub(r"\x1b\[\d*m", "", painted) == finding.page(findings, width)
    codes = [re.match(r"\x1b\[(\d+)m(\w+)\x1b\[0m ", line) for line in painted.splitlines()]
    assert [each.groups() for each in codes if each] == [
        ("32", "ok"),
        ("33", "warning"),
        ("31", "failed"),
        ("2", "skipped"),
        ("31", "failed"),
    ]


def test_the_json_has_every_word_of_the_schema() -> None:
    data = finding.as_json(FINDINGS)
    assert {key: data[key] for key in ("ok", "failed", "warnings", "skipped")} == {
        "ok": False,
        "failed": 1,
        "warnings": 1,
        "skipped": 1,
    }
    checks = data["checks"]
    assert isinstance(checks, list)
    assert checks[0] == {"check": "daemon", "grade": "ok", "text": "ngrokd 1.0", "mend": ""}
    assert finding.as_json(FINDINGS[:2])["ok"] is True


def test_what_failed_or_warns_always_says_what_mends_it() -> None:
    every: list[Finding] = [
        *daemon.of_daemon(DEAD),
        host.of_interface(DEAD, INTERFACE),
        host.of_hosts(DEAD, HOSTS),
        *cloud.of_api(ApiFacts("https://api", Reply.NONE, "refused")),
    ]
    assert all(each.mend for each in every if each.grade in (FAILED, WARNING))


def test_a_mend_that_stands_in_the_text_is_not_announced_once_more() -> None:
    told = finding.page(
        [finding.failed("hosts file", "it cannot be written. Mend: run as root", "as it says")], 80
    )
    assert "mend: as it says" not in told and "Mend: run as root" in told
    told = finding.page([finding.failed("ingress", "it is of another name", "as it says")], 80)
    assert "mend: as it says" in told


def test_the_commands_of_mends_reach_the_daemon_that_was_looked_at() -> None:
    typed = Typed("/opt/ngrokctl --socket '/run/my sock' doctor", "/run/my sock", "/etc/my.yml")
    found = [
        finding.skipped("log", "closed", daemon.NEEDS_ROOT),
        finding.failed("hosts file", "lacks a.ns", "ngrokctl refresh"),
        finding.failed("daemon", "dead", "ngrokd start"),
        finding.failed("configuration", "wrong", "ngrokd check-config /etc/my.yml"),
        finding.ok("daemon", "`ngrokctl status` is text"),
    ]
    assert [each.mend for each in mending.as_typed(found, typed)] == [
        "sudo /opt/ngrokctl --socket '/run/my sock' doctor",
        "ngrokctl --socket '/run/my sock' refresh",
        "ngrokd start --config /etc/my.yml",
        "ngrokd check-config /etc/my.yml",
        "",
    ]
    assert mending.as_typed(found[1:], Typed("ngrokctl doctor")) == found[1:]
