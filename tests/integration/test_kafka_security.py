"""The tiny service on a real broker over SASL_SSL and mutual TLS; what it says while the two do not trust each other."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.tiny.stand import Stand, until
from tests.secure_broker import SecureBroker, running

PASSWORD = "planted-kafka-password"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    with running(tmp_path_factory.mktemp("certificates"), PASSWORD) as broker:
        yield broker


def stand_on(broker: SecureBroker, home: Path, settings: dict[str, str]) -> Stand:
    """A tiny service that speaks to Kafka as `settings` say, while the test reads and writes in the open."""
    stand = Stand(broker.plain, f"sqlite:///{home / 'state.db'}", home)
    stand.environment.update(settings)
    stand.make_topics()
    return stand


def kafka_detail(stand: Stand) -> str:
    found = stand.get("/health/ready")
    return "" if found is None else found.json()["checks"]["kafka"]["detail"]


@pytest.mark.parametrize("way", ["sasl", "mutual"])
def test_events_in_answers_and_dead_letters_out(broker: SecureBroker, tmp_path: Path, way: str) -> None:
    settings = broker.settings(PASSWORD) if way == "sasl" else broker.mutual_settings()
    stand = stand_on(broker, tmp_path, settings).start()
    stand.send(*(stand.ping_of(n) for n in range(20)), (b"p", b"no event", []))
    assert sorted(number for number, _ in stand.answers(20).values()) == list(range(20))
    assert len(stand.read(stand.dead, lambda found: len(found) >= 1)) == 1
    stand.stop()


@pytest.mark.parametrize(
    ("password", "authority", "told"),
    [("wrong-kafka-password", "ca", "refuses user noria"), (PASSWORD, "stranger", "certificate verify failed")],
)
def test_distrust_is_told_and_waited_out(
    broker: SecureBroker, tmp_path: Path, password: str, authority: str, told: str
) -> None:
    stand = stand_on(broker, tmp_path, broker.settings(password, authority)).start(ready=False)
    detail = until(lambda: kafka_detail(stand), lambda detail: told in detail)
    assert detail.startswith("waiting for kafka: ")
    lines = [json.loads(line) for line in stand.log.read_text().splitlines() if line.startswith("{")]
    assert any(told in str(line.get("detail")) for line in lines)
    until(lambda: stand.log.read_text().count('"waited_seconds": 10'), lambda count: count > 0, 40)
    assert stand.log.stat().st_size < 10_000, "the distrust floods the log"
    assert password not in stand.log.read_text() + detail
    stand.stop()


def test_impossible_settings_end_the_start(broker: SecureBroker, tmp_path: Path) -> None:
    settings = {**broker.settings(PASSWORD), "NORIA_KAFKA_SASL_USERNAME": ""}
    stand = stand_on(broker, tmp_path, settings).start(ready=False)
    assert stand.process is not None
    assert stand.process.wait(20) == 1
    log = stand.log.read_text()
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
