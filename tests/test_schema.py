"""What `ngrokctl --json` prints is as docs/ngrokctl.schema.json says: name by name, type by type.

tests/integration/test_transcript.py asks every command of a real daemon.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ngrokd.control import report
from ngrokd.control.arguments import Arguments
from ngrokd.control.completion.grammar import program
from ngrokd.model import EndpointState, InterfaceMode, State, Status
from tests.schemas import definitions, faults
from tests.test_report import COUNTERS, NOW, STATUS

COMMANDS = {command.name for command in program(Arguments().parser).commands}
FULL: dict[str, Any] = {
    **report.status_json(STATUS, report.Traffic(COUNTERS), "0.1.0", 7, NOW),
    **report.verdict_json(report.Verdict(healthy=True, ready=True)),
}


def test_every_command_that_prints_json_has_its_schema() -> None:
    # Events are many objects, and stand in docs/events.md with a test of their own.
    others = {"endpoint", "page"}  # of a list, and a health page
    assert {name.split(" ")[0] for name in definitions()} - others == COMMANDS - {"events"}


# Nobody is shown a status before the registration has been looked at.
AT_START = Status(registration="unregistered")


@pytest.mark.parametrize("status", [STATUS, AT_START], ids=["full", "at start"])
def test_status_list_and_the_health_page_are_as_the_schema_says(status: Status) -> None:
    traffic = report.Traffic(COUNTERS if status is STATUS else {})
    verdict = report.verdict(status, forwarding=True, reconciling=True)
    told = report.status_json(status, traffic, "0.1.0", 7, NOW)
    assert faults({**told, **report.verdict_json(verdict)}, "status") == []
    assert faults({"endpoints": report.endpoints_json(status, traffic.counters)}, "list") == []
    assert faults(report.hosts_lines_json(status), "list --hosts") == []
    page = report.health_json(status, traffic.counters, verdict, NOW)
    assert faults(page, "page /status") == []


def test_the_words_of_the_schema_are_those_of_the_program() -> None:
    status, endpoint = definitions()["status"]["properties"], definitions()["endpoint"]
    assert status["state"]["enum"] == [state.value for state in State]
    modes = [mode.value for mode in InterfaceMode]
    assert status["interface"]["properties"]["mode"]["enum"] == [*modes, None]
    states = [state.value for state in EndpointState]
    assert endpoint["properties"]["state"]["enum"] == states
    assert list(status["endpoints"]["properties"]) == states


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("pid",), "7", "status.pid: '7' is no integer"),
        (("pid",), True, "status.pid: True is no integer"),
        (("state",), "merry", "status.state: 'merry' is none of"),
        (("new",), 1, "status.new is not in the schema"),
        (("certificate", "not_after"), "soon", "status.certificate.not_after: 'soon' is no time"),
        (("connections", "failures"), {"stalled": "1"}, "failures.stalled: '1' is no integer"),
        (("problems",), [1], "status.problems[0]: 1 is no string"),
    ],
)
def test_another_type_word_or_name_is_noticed(
    path: tuple[str, ...], value: object, told: str
) -> None:
    changed = copy.deepcopy(FULL)
    place = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    (fault,) = faults(changed, "status")
    assert told in fault


def test_a_missing_member_is_noticed() -> None:
    assert faults({"answers": True}, "ping") == ["ping.ms is missing"]
