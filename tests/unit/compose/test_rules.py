"""The alert rules name metrics that exist, and each has its paragraph; promtool, where it is installed, runs their cases."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.chassis.observability.metrics import Metrics
from services.registry.collection_metrics import collection_gauges
from services.registry.metrics import registry_metrics
from services.serving.metrics import gateway_metrics
from services.serving.settings import ServingSettings

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "compose" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
NAMES = [rule["alert"] for rule in ALERTS]
CASES = ("rules_test.yaml", "rules_days_test.yaml")
PROMTOOL = shutil.which("promtool")
OF_ANY = re.compile(r"noria_\[a-z\]\+_([a-z0-9_]+)")
OF_SERVING = re.compile(r"noria_serving_([a-z0-9_]+)")
OF_REGISTRY = re.compile(r"noria_registry_([a-z0-9_]+)")
RECORDED = re.compile(r"noria:[a-z0-9_:]+")


def exposed(metrics: Metrics) -> set[str]:
    """The bare names of the metrics in a service's answer to GET /metrics."""
    lines = metrics.text().decode().splitlines()
    return {line.split()[2].removeprefix(metrics.prefix) for line in lines if line.startswith("# TYPE")}


def test_every_metric_in_the_rules_is_one_that_services_show() -> None:
    of_any = exposed(Metrics("any"))
    serving = Metrics("serving")
    gateway_metrics(serving, ServingSettings())
    of_serving = exposed(serving)
    registry = Metrics("registry")
    collection_gauges(registry)
    registry_metrics(registry)
    of_registry = exposed(registry)
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    used: set[str] = set()
    for rule in RULES:
        assert set(OF_ANY.findall(rule["expr"])) <= of_any, rule
        assert set(OF_SERVING.findall(rule["expr"])) <= of_serving, rule
        assert set(OF_REGISTRY.findall(rule["expr"])) <= of_registry, rule
        assert set(RECORDED.findall(rule["expr"])) <= recorded, rule
        used |= set(RECORDED.findall(rule["expr"]))
    assert used == recorded, "a recorded metric that no alert reads"


def test_every_alert_has_its_paragraph_and_every_paragraph_its_alert() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text()
    parts = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    paragraphs = {part.split("\n", 1)[0].strip(): part for part in parts}
    assert set(paragraphs) == set(NAMES)
    for name, paragraph in paragraphs.items():
        for word in ("**Means**", "**See**", "**Do**", "**Don't**"):
            assert word.lower() in paragraph.lower(), (name, word)
    for link in re.findall(r"\]\(#([a-z]+)\)", text):
        assert link in {name.lower() for name in NAMES}


@pytest.mark.parametrize("rule", ALERTS, ids=NAMES)
def test_alert_says_how_bad_what_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    notes = rule["annotations"]
    assert notes["summary"]
    assert notes["description"]
    assert notes["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
    assert "for" in rule


def test_every_alert_has_a_case_that_fires_and_one_that_is_silent() -> None:
    cases = {case["name"] for file in CASES for case in yaml.safe_load((FOLDER / file).read_text())["tests"]}
    assert cases >= {f"{name} {what}" for name in NAMES for what in ("fires", "is silent")}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus): no alert's case was run")
@pytest.mark.parametrize("words", [("check", "rules", "rules.yaml"), *(("test", "rules", file) for file in CASES)])
def test_promtool_takes_the_rules_and_their_cases(words: tuple[str, ...]) -> None:
    done = subprocess.run([str(PROMTOOL), *words], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
