"""Grafana's dashboards: every panel asks for metrics that services show, of topics that there are, in PromQL."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from contracts.topics import BY_NAME
from services.chassis.observability.metrics import Metrics
from services.registry.collection_metrics import collection_gauges
from services.registry.metrics import registry_metrics
from services.serving.metrics import gateway_metrics
from services.serving.settings import ServingSettings
from tests.unit.compose.test_rules import OF_ANY, PROMTOOL, RECORDED, RULES

FOLDER = Path(__file__).parents[3] / "compose" / "grafana" / "dashboards"
DASHBOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
PANELS = [(name, panel) for name, board in DASHBOARDS.items() for panel in board["panels"]]
EXPRESSIONS = [(f"{name}: {panel['title']}", t["expr"]) for name, panel in PANELS for t in panel["targets"]]
NAMED = re.compile(r"\bnoria_[a-z]+_[a-z0-9_]+")
TOPIC = re.compile(r'topic="([^"]+)"')


def series(metrics: Metrics) -> set[str]:
    """Names of all series that the metrics are read as: a histogram's are three."""
    kinds = [line.split()[2:4] for line in metrics.text().decode().splitlines() if line.startswith("# TYPE")]
    return {
        name + end for name, kind in kinds for end in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }


def shown() -> set[str]:
    """All series of all services."""
    found: set[str] = set()
    for service in ("ingestion", "prep", "trainer", "evaluator", "registry", "serving", "feedback"):
        metrics = Metrics(service)
        if service == "serving":
            gateway_metrics(metrics, ServingSettings())
        if service == "registry":
            collection_gauges(metrics)
            registry_metrics(metrics)
        found |= series(metrics)
    return found


def test_there_is_one_for_each_part() -> None:
    assert DASHBOARDS.keys() == {"wheel", "gateway", "kafka", "jobs"}
    assert len({board["uid"] for board in DASHBOARDS.values()}) == len(DASHBOARDS)


@pytest.mark.parametrize(("where", "expr"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_a_panel_names_only_what_is_there(where: str, expr: str) -> None:
    known = shown()
    any_service = {name.split("_", 2)[2] for name in known}
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    named, of_any, made = set(NAMED.findall(expr)), set(OF_ANY.findall(expr)), set(RECORDED.findall(expr))
    assert named | of_any | made, f"{where} names no metric"
    assert named <= known
    assert of_any <= any_service
    assert made <= recorded
    assert set(TOPIC.findall(expr)) <= BY_NAME.keys()


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=[f"{n}: {p['title']}" for n, p in PANELS])
def test_a_panel_says_what_it_shows_and_takes_its_own_place(name: str, panel: dict[str, Any]) -> None:
    assert panel["description"]
    assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
    mine = panel["gridPos"]
    assert mine["x"] + mine["w"] <= 24
    for other in (p["gridPos"] for n, p in PANELS if n == name and p is not panel):
        apart = mine["x"] + mine["w"] <= other["x"] or other["x"] + other["w"] <= mine["x"]
        assert apart or mine["y"] + mine["h"] <= other["y"] or other["y"] + other["h"] <= mine["y"]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus): no query was parsed")
def test_promtool_reads_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"q{n}", "expr": expr.replace("$__range", "1h"), "labels": {"panel": where.replace("{", "")}}
        for n, (where, expr) in enumerate(EXPRESSIONS)
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run([str(PROMTOOL), "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
