"""Names that mean something else outside are asked for sparingly, and told once."""

from __future__ import annotations

import pytest

from ngrokd.messages import JobDone, JobKind
from ngrokd.model import Address, EndpointState, EndpointStatus, Target
from ngrokd.process.workers import Job
from ngrokd.upkeep import shadows
from ngrokd.upkeep.shadows import MOST_AT_ONCE, TRIES, Shadows, elsewhere_only

HOSTS = "/etc/hosts"
SUBNET = "10.107.0.0/16"


def published(name: str, ip: str = "10.107.0.2", is_published: bool = True) -> EndpointStatus:
    return EndpointStatus(
        id="ep_1",
        url=f"http://{name}",
        state=EndpointState.OPEN,
        target=Target(name, 80),
        ip=ip,
        listener=Address(ip, 80),
        published=is_published,
    )


class Asked:
    """What a `Shadows` asked for, to be answered by the test."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, ...]] = []
        self.shadows = Shadows(self.submit)

    def submit(self, kind: JobKind, job: Job) -> None:
        assert kind is JobKind.SHADOWS
        self.jobs.append(job.args[0])  # type: ignore[attr-defined]

    def look(self, *names: str, hosts_file: str = HOSTS) -> None:
        self.shadows.look_at([published(name) for name in names], hosts_file, SUBNET)

    def answer(self, found: dict[str, tuple[str, ...]]) -> None:
        self.shadows.handle(JobDone(JobKind.SHADOWS, found))


def test_a_name_with_an_address_elsewhere_is_told_once_and_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = Asked()
    asked.look("db.example.com", "api.ns")
    assert asked.jobs == [("db.example.com", "api.ns")]
    assert asked.shadows.names == {}
    asked.answer({"db.example.com": ("93.184.216.34",), "api.ns": ()})
    for _ in range(3):
        asked.look("db.example.com", "api.ns")
    assert asked.shadows.names == {"db.example.com": ("93.184.216.34",)}
    assert len(asked.jobs) == 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("db.example.com (93.184.216.34) also resolves outside")
    assert "bound_endpoints.selectors" in line


def test_one_that_goes_and_comes_is_neither_asked_nor_told_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = Asked()
    asked.look("db.example.com")
    asked.answer({"db.example.com": ("93.184.216.34",)})
    asked.look()
    assert asked.shadows.names == {}
    asked.look("db.example.com")
    assert asked.shadows.names and len(asked.jobs) == 1 and len(caplog.records) == 1


def test_many_are_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    asked = Asked()
    names = [f"n{n}.example.com" for n in range(9)]
    asked.look(*names)
    asked.answer(dict.fromkeys(names, ("93.184.216.34",)))
    (line,) = [record.getMessage() for record in caplog.records]
    assert "n2.example.com" in line and "n3" not in line and "and 6 more also resolve" in line


def test_silence_is_no_fault_and_is_not_asked_about_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = Asked()
    for _ in range(TRIES + 3):
        asked.look("db.example.com")
        if len(asked.jobs) <= TRIES:
            asked.answer({})
    assert asked.jobs == [("db.example.com",)] * TRIES
    assert not caplog.records


def test_no_more_than_a_few_are_asked_for_at_a_time_and_one_job_runs() -> None:
    asked = Asked()
    names = [f"n{n}.example.com" for n in range(MOST_AT_ONCE + 5)]
    asked.look(*names)
    asked.look(*names)
    assert asked.jobs == [tuple(names[:MOST_AT_ONCE])]
    asked.answer(dict.fromkeys(names[:MOST_AT_ONCE], ()))
    asked.look(*names)
    assert asked.jobs[1] == tuple(names[MOST_AT_ONCE:])


@pytest.mark.parametrize("name", ["single", "printer.local", "x.onion", "a.test", "x.invalid"])
def test_what_no_name_server_can_know_is_not_asked_for(name: str) -> None:
    asked = Asked()
    asked.look(name)
    assert asked.jobs == []


def test_names_that_are_not_published_or_in_another_file_shadow_nothing() -> None:
    asked = Asked()
    asked.shadows.look_at([published("db.example.com", is_published=False)], HOSTS, SUBNET)
    asked.look("db.example.com", hosts_file="/srv/dnsmasq/hosts")
    assert asked.jobs == []


def test_a_name_that_went_while_it_was_asked_for_is_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = Asked()
    asked.look("db.example.com")
    asked.look()
    asked.answer({"db.example.com": ("93.184.216.34",)})
    assert not caplog.records and asked.shadows.names == {}


def test_what_is_remembered_of_names_that_have_gone_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shadows, "MOST_KEPT", 2)
    asked = Asked()
    for name in ("a.ns", "b.ns", "c.ns"):
        asked.look(name)
        asked.answer({name: ()})
    asked.look("d.ns")
    asked.answer({"d.ns": ()})
    asked.look("a.ns")
    assert asked.jobs[-1] == ("a.ns",)


@pytest.mark.parametrize(
    ("address", "counts"),
    [
        ("93.184.216.34", True),
        ("192.168.7.9", True),  # of the company's own name server
        ("2001:db8::1", True),
        ("10.107.0.2", False),  # our own section, read by a resolver of this machine
        ("10.107.44.9", False),
        ("192.168.7.1", False),  # where network mode listens
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("::1", False),
    ],
)
def test_an_answer_of_our_own_making_says_nothing(address: str, counts: bool) -> None:
    assert bool(elsewhere_only([address], SUBNET, "192.168.7.1")) is counts


def test_a_bug_in_the_job_is_told_whole_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    asked = Asked()
    asked.look("db.example.com")
    asked.shadows.handle(JobDone(JobKind.SHADOWS, error=ZeroDivisionError("none")))
    (record,) = caplog.records
    assert record.exc_info and record.exc_info[0] is ZeroDivisionError
    assert asked.shadows.names == {}
    asked.look("db.example.com")
    assert len(asked.jobs) == 2
