"""Errors that carry secrets, as those of libraries may: no log, topic, HTTP answer, span or command line tells them."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition
from sqlalchemy import make_url

from tests.conftest import free_port
from tests.integration.tiny.harness import Harness, until
from tests.secure_broker import SecureBroker, running

KAFKA, WRONG, DATABASE, STORE = 'kfk-planted"\\', "wrong-planted", "db-planted-1", "s3-planted-2"
KEY = f"noria_0123abcd_{'planted9' * 5}abc"
PLANTED = re.compile("planted")
PAGES = ("/health/live", "/health/ready", "/metrics", "/asyncapi", "/openapi.json", "/notes", "/parked?limit=50")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    with running(tmp_path_factory.mktemp("certificates"), KAFKA) as broker:
        yield broker


def harness_on(broker: SecureBroker, home: Path, database: str, password: str = KAFKA) -> Harness:
    home.mkdir()
    harness = Harness(broker.plain, database, home)
    harness.environment |= {
        **broker.settings(password),
        "AWS_SECRET_ACCESS_KEY": STORE,
        "OTEL_TRACES_EXPORTER": "console",
        "NORIA_LOG_LEVEL": "debug",
        "NORIA_PARK_SECONDS": "1",
    }
    harness.make_topics()
    return harness


def command_lines() -> str:
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().decode(errors="replace"))
        except OSError:  # it has ended meanwhile
            continue
    return "\n".join(found)


def everything(harness: Harness, topic: str) -> list[str]:
    """All that stands in a topic, bytes of keys, values and headers as text."""
    consumer = Consumer({"bootstrap.servers": harness.kafka, "group.id": "eye"})
    count = len(consumer.list_topics(topic, 10).topics[topic].partitions)
    found: list[str] = []
    for place in (TopicPartition(topic, n, 0) for n in range(count)):
        consumer.assign([place])
        end = consumer.get_watermark_offsets(place, 10)[1]
        deadline = time.monotonic() + 20
        got = 0
        while got < end:
            assert time.monotonic() < deadline
            if (message := consumer.poll(0.2)) is not None and message.error() is None:
                found.append(f"{message.key()} {message.value()} {message.headers()}")
                got += 1
    consumer.close()
    return found


def pages(harness: Harness) -> str:
    headers = {"authorization": f"Bearer {KEY}"}
    return "\n".join(httpx.get(f"http://127.0.0.1:{harness.port}{path}", headers=headers).text for path in PAGES)


def test_what_errors_carry_is_told_nowhere(broker: SecureBroker, postgres: str, tmp_path: Path) -> None:
    database = make_url(postgres).set(password=DATABASE).render_as_string(hide_password=False)
    harness = harness_on(broker, tmp_path / "a", database).start()
    faults = [(n, do, name) for n, (do, name) in enumerate(
        (do, name) for do in ("leak", "confess")
        for name in ("NORIA_DATABASE", "AWS_SECRET_ACCESS_KEY", "NORIA_KAFKA_SASL_PASSWORD")
    )]  # fmt: skip
    harness.send(*(harness.ping_of(n, do, name, key=f"k{n}") for n, do, name in faults))
    harness.send(harness.ping_of(50, "work", "0.2"), harness.ping_of(51, "work", "leaks"), (b"p", b"no event", []))
    harness.send(harness.ping_of(52))
    until(lambda: harness.figure("jobs"), lambda jobs: jobs > 0)
    seen = [command_lines(), pages(harness)]
    harness.answers(3, 60)
    until(lambda: everything(harness, harness.dead), lambda found: len(found) >= len(faults) + 1, 60)
    seen += [pages(harness), *everything(harness, harness.dead), *everything(harness, harness.pong)]

    away = f"postgresql+psycopg://noria:{DATABASE}@127.0.0.1:{free_port()}/noria"
    homeless = harness_on(broker, tmp_path / "b", away).start(ready=False)
    distrusted = harness_on(broker, tmp_path / "c", f"sqlite:///{tmp_path / 'c.db'}", WRONG).start(ready=False)
    until(lambda: distrusted.get("/health/ready"), lambda r: r is not None and "refuses user noria" in r.text)
    until(lambda: homeless.log.read_text(), lambda log: "waiting for the database" in log)
    seen += [page.text for stand_ in (homeless, distrusted) if (page := stand_.get("/health/ready"))]
    seen.append(command_lines())
    for each in (harness, homeless, distrusted):
        each.stop()
        seen.append(each.log.read_text())

    log = harness.log.read_text()
    for proof in ("handler failed", "dead letter", "exception.stacktrace", "no access with ***", "job ended"):
        assert proof in log, f"nothing was tested: {proof!r} is not in the log"
    assert any("noria-reason" in text and "no access with ***" in text for text in seen)
    leaks = [text[max(0, found.start() - 200) : found.end() + 40] for text in seen for found in PLANTED.finditer(text)]
    assert not leaks, f"{len(leaks)} leaks, as: {leaks[:5]}"
