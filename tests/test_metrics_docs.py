"""What is written about the metrics, against the page, the way Prometheus and Grafana read it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ngrokd.model import Counters, Status, Target
from tests.test_metrics import page

DOCS = Path(__file__).parent.parent / "docs"
PROMETHEUS = DOCS / "prometheus"
ALERTS = PROMETHEUS / "ngrokd-alerts.yml"
ALERT_TESTS = PROMETHEUS / "ngrokd-alerts-test.yml"
DASHBOARD = PROMETHEUS / "ngrokd-dashboard.json"

NAME = re.compile(r"\bngrokd_[a-z_]+")
ROW = re.compile(r"\| `(ngrokd_[a-z_]+)` \| (\w+) \| ([a-z`, ]*)\| ")
OF_A_HISTOGRAM = {"le"}
HOSTILE = 'a"b\\c\nd{e="f"} 1 \t\x00\x7f # HELP x \u2028 \U0001f600'


def promtool(*words: object, sent: str = "") -> str:
    """What it says; its status must be 0."""
    done = subprocess.run(
        ["promtool", *map(str, words)],
        input=sent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def written() -> dict[str, tuple[str, frozenset[str]]]:
    """Name -> type and labels, of the page's table."""
    rows = ROW.findall((DOCS / "metrics.md").read_text())
    assert len({name for name, _, _ in rows}) == len(rows)
    return {
        name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows
    }


def served() -> dict[str, tuple[str, frozenset[str]]]:
    """The same, of the program's page."""
    kinds: dict[str, str] = dict(re.findall(r"^# TYPE (\S+) (\w+)$", page(), re.MULTILINE))
    labels: dict[str, set[str]] = {name: set() for name in kinds}
    for name, inside in re.findall(r"^(ngrokd_[a-z_]+)\{(.*)\} ", page(), re.MULTILINE):
        family = name if name in kinds else re.sub("_(bucket|sum|count)$", "", name)
        labels[family] |= set(re.findall(r'(\w+)="', inside)) - OF_A_HISTOGRAM
    return {name: (kind, frozenset(labels[name])) for name, kind in kinds.items()}


def test_the_page_of_the_docs_has_every_metric_with_its_type_and_labels() -> None:
    assert written() == served()
    assert len(served()) == 18


@pytest.mark.parametrize(
    "text",
    [
        page(),
        page(Status(), {}),
        page(Status(), {Target(HOSTILE, 1): Counters(open=1)}),
    ],
    ids=["full", "at start", "hostile"],
)
def test_promtool_has_nothing_to_say_about_the_metrics(text: str) -> None:
    assert promtool("check", "metrics", sent=text) == ""


def test_the_example_configuration_is_one() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")


def test_the_alerts_are_rules_and_fire_as_their_tests_say() -> None:
    promtool("check", "rules", ALERTS)
    promtool("test", "rules", ALERT_TESTS)


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return list(group["rules"])


def test_every_alert_is_seen_to_fire_and_not_to_fire() -> None:
    seen: dict[str, set[bool]] = {}
    for test in yaml.safe_load(ALERT_TESTS.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            seen.setdefault(case["alertname"], set()).add(bool(case["exp_alerts"]))
    assert seen == {rule["alert"]: {True, False} for rule in alerts()}


def test_every_alert_says_what_it_means_and_what_mends_it_and_is_in_the_docs() -> None:
    assert all({"summary", "mend"} == rule["annotations"].keys() for rule in alerts())
    rows = re.findall(r"^\| `(Ngrokd\w+)` \|", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    assert rows == [rule["alert"] for rule in alerts()]


def expressions() -> list[str]:
    """Of the dashboard, its variables filled in."""
    queries = [
        target["expr"]
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel["targets"]
    ]
    assert queries
    return [q.replace("$__rate_interval", "5m").replace("$instance", ".+") for q in queries]


def test_every_expression_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"x:{n}", "expr": text} for n, text in enumerate(expressions())]
    assert not any("$" in text for text in expressions())
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)


def mentioned() -> Iterator[tuple[str, str]]:
    """Where each metric is named."""
    for file in (ALERTS, ALERT_TESTS, DASHBOARD, *DOCS.glob("*.md"), *DOCS.glob("manuals/*.in")):
        for name in NAME.findall(file.read_text()):
            if not name.startswith("ngrokd_sandbox"):
                yield file.name, name


def test_only_metrics_that_exist_are_named_anywhere() -> None:
    known = set(served())
    known |= {f"ngrokd_connect_seconds_{suffix}" for suffix in ("bucket", "sum", "count")}
    assert {(file, name) for file, name in mentioned() if name not in known} == set()


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {re.sub("_(bucket|sum|count)$", "", n) for n in NAME.findall(DASHBOARD.read_text())}
    assert set(served()) <= shown


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
