"""The tiny service on a real broker over SASL_SSL and mutual TLS; what it says while the two do not trust each other."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.tiny.harness import Harness, until
from tests.secure_broker import SecureBroker, running

PASSWORD = "planted-kafka-password"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    with running(tmp_path_factory.mktemp("certificates"), PASSWORD) as broker:
        yield broker


def harness_on(broker: SecureBroker, home: Path, settings: dict[str, str]) -> Harness:
    """A tiny service that speaks to Kafka as `settings` say, while the test reads and writes in the open."""
    harness = Harness(broker.plain, f"sqlite:///{home / 'state.db'}", home)
    harness.environment.update(settings)
    harness.make_topics()
    return harness


def kafka_detail(harness: Harness) -> str:
    found = harness.get("/health/ready")
    return "" if found is None else found.json()["checks"]["kafka"]["detail"]


@pytest.mark.parametrize("way", ["sasl", "mutual"])
def test_events_in_answers_and_dead_letters_out(broker: SecureBroker, tmp_path: Path, way: str) -> None:
    settings = broker.settings(PASSWORD) if way == "sasl" else broker.mutual_settings()
    harness = harness_on(broker, tmp_path, settings).start()
    harness.send(*(harness.ping_of(n) for n in range(20)), (b"p", b"no event", []))
    assert sorted(number for number, _ in harness.answers(20).values()) == list(range(20))
    assert len(harness.read(harness.dead, lambda found: len(found) >= 1)) == 1
    harness.stop()


@pytest.mark.parametrize(
    ("password", "authority", "told"),
    [("wrong-kafka-password", "ca", "refuses user noria"), (PASSWORD, "stranger", "certificate verify failed")],
)
def test_distrust_is_told_and_waited_out(
    broker: SecureBroker, tmp_path: Path, password: str, authority: str, told: str
) -> None:
    harness = harness_on(broker, tmp_path, broker.settings(password, authority)).start(ready=False)
    detail = until(lambda: kafka_detail(harness), lambda detail: told in detail)
    assert detail.startswith("waiting for kafka: ")
    lines = [json.loads(line) for line in harness.log.read_text().splitlines() if line.startswith("{")]
    assert any(told in str(line.get("detail")) for line in lines)
    until(lambda: harness.log.read_text().count('"waited_seconds": 10'), lambda count: count > 0, 40)
    assert harness.log.stat().st_size < 10_000, "the distrust floods the log"
    assert password not in harness.log.read_text() + detail
    harness.stop()


def test_impossible_settings_end_the_start(broker: SecureBroker, tmp_path: Path) -> None:
    settings = {**broker.settings(PASSWORD), "NORIA_KAFKA_SASL_USERNAME": ""}
    harness = harness_on(broker, tmp_path, settings).start(ready=False)
    assert harness.process is not None
    assert harness.process.wait(20) == 1
    log = harness.log.read_text()
    assert "needs NORIA_KAFKA_SASL_USERNAME" in log
    assert "Traceback" not in log


def noria(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli.app", *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_console_reads_over_it_and_says_what_is_wrong(broker: SecureBroker, tmp_path: Path) -> None:
    settings = {**broker.settings(PASSWORD), "NORIA_HOME": str(tmp_path)}
    done = noria(settings, "dlq", "list", "--json")
    assert done.returncode == 0, done.stderr
    status = noria(settings, "status", "--json")
    assert json.loads(status.stdout)["dead_letters"] is not None
    wrong = noria({**settings, "NORIA_KAFKA_SASL_PASSWORD": "wrong-kafka-password"}, "dlq", "list")
    assert wrong.returncode == 1
    assert "refuses user noria" in wrong.stderr
    half = noria({**settings, "NORIA_KAFKA_SASL_MECHANISM": ""}, "dlq", "list")
    assert "needs NORIA_KAFKA_SASL_MECHANISM" in half.stderr
    assert "kafka-password" not in wrong.stderr + half.stderr + wrong.stdout + half.stdout
