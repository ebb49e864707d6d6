"""Submits the example's records as an upstream system would: CloudEvents straight to Kafka, no service in between."""

import json
import logging
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contracts.envelope import JSON
from services.cli.addresses import kafka_client
from services.cli.demo.board import DemoFailed

TOPIC = "upstream.record.submitted.v1"
SOURCE = "urn:example:shell-help"
TIME = "2026-01-31T12:00:00Z"
"""When the examples were written down, so to speak: the same event is the same bytes at every run."""


def example_records(script: Path) -> list[dict[str, Any]]:
    """The records that the example's own script prints.

    Raises:
        DemoFailed: the script failed.
    """
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DemoFailed(f"{script} failed: {done.stderr.strip()[-800:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def event(project: str, record: dict[str, Any]) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Value and headers of a record's event. Its id follows from its content: sent twice, it counts once."""
    value = json.dumps({"project": project, **record}, ensure_ascii=False, sort_keys=True)
    headers = {
        "ce_specversion": "1.0",
        "ce_id": str(uuid.uuid5(uuid.NAMESPACE_URL, value)),
        "ce_source": SOURCE,
        "ce_type": f"io.noria.{TOPIC}",
        "ce_time": TIME,
        "content-type": JSON,
    }
    return value.encode(), [(name, text.encode()) for name, text in headers.items()]


async def produce(project: str, records: Sequence[dict[str, Any]]) -> int:
    """Sends the records' events and waits until Kafka has confirmed all of them. How many they were."""
    from aiokafka import AIOKafkaProducer

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    producer = AIOKafkaProducer(**kafka_client(), acks="all", enable_idempotence=True)
    await producer.start()
    try:
        sent: list[Any] = []
        for record in records:
            value, headers = event(project, record)
            sent.append(await producer.send(TOPIC, value, key=project.encode(), headers=headers))
        for confirmation in sent:
            await confirmation
    finally:
        await producer.stop()
    return len(sent)
