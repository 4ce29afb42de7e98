"""The pure parts of the benchmark: medians, ratios, verdicts and the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import hostfigures
from tests.bench.__main__ import parse
from tests.bench.counters import cpu_seconds
from tests.bench.figures import FIGURES, Figure, Goal, Row, median, rows
from tests.bench.hostfigures import HostFigure
from tests.bench.table import render
from tests.bench.workloads import WORKLOADS

FAST = Figure("speed", "Gbit/s", "bulk", "speed", True, (Goal(factor=1.25),))
LEAN = Figure("memory", "KB", "idle", "kb", False, (Goal(limit=40.0), Goal(1.0, named="haproxy")))


def speeds(*values: float) -> list[dict[str, float]]:
    return [{"speed": value} for value in values]


def row_of(figure: Figure, **found: list[dict[str, float]]) -> Row:
    (row,) = rows({figure.workload: found}, [figure])
    return row


def test_a_round_that_lacks_a_number_does_not_count() -> None:
    assert median([{"a": 1.0}, {}, {"a": 3.0}], "a") == 2.0
    assert median([{}], "a") is None
    assert median(None, "a") is None


def test_the_ratio_is_to_the_better_peer() -> None:
    row = row_of(FAST, ngrokd=speeds(6), haproxy=speeds(3), stunnel=speeds(4))
    assert (row.ours, row.peers, row.ratio) == (6, (3, 4), 1.5)
    assert row.reached is True


def test_the_better_peer_of_a_cost_is_the_cheaper_one() -> None:
    figure = Figure("cpu", "s", "bulk", "speed", goals=(Goal(factor=0.75),))
    row = row_of(figure, ngrokd=speeds(3), haproxy=speeds(3.5), stunnel=speeds(6))
    assert row.ratio == pytest.approx(3 / 3.5)
    assert row.reached is False


def test_a_slow_hour_of_the_machine_does_not_change_the_ratio() -> None:
    row = row_of(FAST, ngrokd=speeds(9, 3, 6), haproxy=speeds(6, 2, 4), stunnel=speeds(1, 1, 1))
    assert row.ratio == 1.5


def test_a_row_with_two_goals_reaches_both_or_none() -> None:
    def row(ours: float) -> Row:
        return row_of(LEAN, ngrokd=[{"kb": ours}], haproxy=[{"kb": 30.0}], stunnel=[{"kb": 20.0}])

    assert [row(ours).reached for ours in (25.0, 35.0, 45.0)] == [True, False, False]


def test_without_a_peer_its_goal_is_left_open() -> None:
    row = row_of(FAST, ngrokd=speeds(6))
    assert (row.ratio, row.reached) == (None, None)


def test_only_what_was_measured_is_in_the_table() -> None:
    text = render({"one-up": {"ngrokd": [{"gbit_s": 5.0}], "haproxy": [{"gbit_s": 4.0}]}}, "native")
    assert "one stream up" in text and "16 streams" not in text
    assert "1.25  >= 1.25 x: ok" in text


def test_every_figure_belongs_to_a_workload() -> None:
    assert {figure.workload for figure in FIGURES} == {workload.name for workload in WORKLOADS}


def test_an_unknown_workload_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--only", "one-up,nonsense"])
    assert "no workload nonsense" in capsys.readouterr().err


def test_cpu_time_of_a_process_grows_with_its_work() -> None:
    pid = int(Path("/proc/self").resolve().name)
    before = cpu_seconds(pid)
    assert sum(range(300_000)) > 0
    assert cpu_seconds(pid) > before


# The host side


def measured(**by_size: list[float]) -> dict[int, list[dict[str, float]]]:
    return {int(size[1:]): [{"s": value} for value in values] for size, values in by_size.items()}


STARTING = HostFigure("start", "s", "s", {2000: 1.2, 8000: 5.0}, linear=True)


def test_each_number_of_endpoints_has_its_own_goal_held_against_the_median() -> None:
    found = measured(_2000=[0.5, 1.1, 9.0], _8000=[4.0, 5.1, 5.2])
    assert hostfigures.verdicts(STARTING, found)[:2] == [
        ("2,000: <= 1.2 s", True),
        ("8,000: <= 5 s", False),
    ]


def test_four_times_the_endpoints_may_take_four_times_as_long_and_no_longer() -> None:
    assert hostfigures.growth(measured(_2000=[1.0], _4000=[9.0], _8000=[4.0]), "s") == 1.0
    assert hostfigures.verdicts(STARTING, measured(_2000=[1.0], _8000=[4.2]))[-1][1]
    assert not hostfigures.verdicts(STARTING, measured(_2000=[1.0], _8000=[4.9]))[-1][1]
    assert hostfigures.growth(measured(_8000=[4.2]), "s") is None


def test_the_table_of_the_host_side_has_a_column_for_each_number_of_endpoints() -> None:
    text = hostfigures.render({2000: [{"new_s": 0.5}], 8000: [{"new_s": 2.0, "rss_mb": 95.0}]})
    assert "2,000" in text and "8,000" in text
    assert "0.50     2.00     1.00  2,000: <= 1.2 s: ok; 8,000: <= 5 s: ok; linear: ok" in text
    assert "-     95.0        -  8,000: <= 90 MB: missed" in text
