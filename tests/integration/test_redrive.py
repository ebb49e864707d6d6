"""`noria dlq redrive` and `discard` on a real broker: once, audited, whoever is killed; the letters stay as they are."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.cli import kafka as topics
from services.cli.app import run
from services.cli.dead_letter_reader import AUDIT
from tests.integration.tiny.harness import Harness, header, until

PROGRAM = """
import os, signal, sys
import contracts.topics
from aiokafka import AIOKafkaProducer
contracts.topics.dead_letter_topics = lambda: (sys.argv[1],)

async def dies(self):
    os.kill(os.getpid(), signal.SIGKILL)

AIOKafkaProducer.commit_transaction = dies
from services.cli.app import run
run(["dlq", "redrive", "--topic", sys.argv[2], "--yes"])
"""


@pytest.fixture
def harness(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harness]:
    harness = Harness(kafka, f"sqlite:///{tmp_path / 'state.db'}", tmp_path)
    harness.make_topics()
    monkeypatch.setenv("NORIA_KAFKA_BOOTSTRAP", kafka)
    monkeypatch.setenv("NORIA_HOME", str(tmp_path))
    monkeypatch.setattr("contracts.topics.dead_letter_topics", lambda: (harness.dead,))
    yield harness.start()
    harness.stop()


@pytest.fixture
def noria(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str, status: int = 0) -> Any:
        assert run(["dlq", *arguments, "--json"]) == status
        return json.loads(capsys.readouterr().out)

    return call


def audited(harness: Harness, letter: str, count: int) -> list[Any]:
    def of_letter(found: list[Any]) -> list[Any]:
        return [json.loads(m.value()) for m in found if (m.key() or b"").decode() == letter]

    return of_letter(harness.read(AUDIT, lambda found: len(of_letter(found)) >= count))


def test_mended_handler_takes_a_redriven_message_once_through_a_kill_and_a_second_redrive(
    harness: Harness, noria: Any, tmp_path: Path
) -> None:
    mended = tmp_path / "mended"
    harness.send(harness.ping_of(1, "fragile", str(mended)), harness.ping_of(2))
    (before,) = harness.read(harness.dead, lambda found: len(found) == 1)
    (letter,) = noria("list")["items"]
    assert letter["reason"] == "handler_failed"
    mended.touch()

    killed = subprocess.run([sys.executable, "-c", PROGRAM, harness.dead, harness.ping], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [x["id"] for x in noria("list")["items"]] == [letter["id"]]
    assert harness.notes() == [2]

    would = noria("redrive", "--topic", harness.ping, "--dry-run")
    assert [x["outcome"] for x in would["items"]] == ["would be redriven"]
    done = noria("redrive", letter["id"][:13], "--because", "mended")
    assert [x["outcome"] for x in done["items"]] == ["redriven"]
    until(harness.notes, lambda found: found == [2, 1])
    assert noria("redrive", letter["id"])["items"] == []
    assert noria("discard", "--topic", harness.ping)["items"] == []

    harness.send(harness.ping_of(3))
    until(harness.notes, lambda found: found == [2, 1, 3])
    assert harness.figure("consumed_total") == 4
    (said,) = audited(harness, letter["id"], 1)
    assert (said["action"], said["reason"], said["topic"], said["project"]) == ("redriven", "mended", harness.ping, "p")
    assert noria("list")["items"] == []
    (shown,) = noria("list", "--all")["items"]
    assert shown["settled"]["action"] == "redriven"
    (after,) = harness.read(harness.dead, lambda found: len(found) == 1)
    assert (after.value(), after.headers(), after.offset()) == (before.value(), before.headers(), before.offset())
    until(lambda: harness.figure("lag"), lambda lag: lag == 0)


def test_redriven_message_that_is_still_malformed_is_a_new_letter(harness: Harness, noria: Any) -> None:
    _, _, headers = harness.ping_of(1)
    harness.send((b"k", b"\xff\x00", [*headers, ("x", b"\xfe"), ("y", None)]))
    harness.read(harness.dead, lambda found: len(found) == 1)
    (letter,) = noria("list", "--reason", "not_utf8")["items"]
    noria("redrive", letter["id"])
    first, second = harness.read(harness.dead, lambda found: len(found) == 2)
    original = [*headers, ("x", b"\xfe"), ("y", None)]
    assert first.value() == second.value() == b"\xff\x00"
    assert first.key() == second.key() == b"k"
    found: Any = second.headers()
    assert found[: len(original) + 1] == [*original, ("noria-redrive", letter["id"].encode())]
    assert header(first, "noria-partition") == header(second, "noria-partition")
    (new,) = noria("list")["items"]
    assert new["id"] != letter["id"]


def test_discarded_letter_is_listed_no_more_and_sends_nothing(harness: Harness, noria: Any) -> None:
    harness.send((None, None, []), harness.ping_of(2, "dead"))
    harness.read(harness.dead, lambda found: len(found) == 2)
    ids = {x["reason"]: x["id"] for x in noria("list")["items"]}
    refused = noria("redrive", ids["no_value"], status=1)
    assert "neither key nor value; discard it" in refused["items"][0]["outcome"]
    done = noria("discard", "--topic", harness.ping, "--because", "noise")
    assert {x["outcome"] for x in done["items"]} == {"discarded"}
    assert noria("list")["items"] == []
    assert noria("redrive", ids["not_wanted"])["items"] == []
    assert noria("discard", "--topic", harness.ping)["items"] == []
    assert len(harness.read(harness.dead, lambda found: len(found) == 2)) == 2


def test_letters_are_not_settled_without_saying_which(harness: Harness, noria: Any) -> None:
    assert noria("redrive", status=2)["error"]["code"] == "which"


def test_a_list_reads_only_what_came_since_the_last_one(
    harness: Harness, noria: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    whole = topics.read_on

    async def counted(reader: Any, place: Any, begin: int, end: int) -> Any:
        async for messages in whole(reader, place, begin, end):
            read.append(len(messages)) if place.topic == harness.dead else None
            yield messages

    monkeypatch.setattr(topics, "read_on", counted)
    harness.send(*(harness.ping_of(n, "dead") for n in range(5)))
    harness.read(harness.dead, lambda found: len(found) == 5)
    first = noria("list", "--limit", "2")
    assert (len(first["items"]), first["total"], sum(read)) == (2, 5, 5)
    rest = noria("list", "--after", first["next"])
    assert (len(rest["items"]), rest["next"], sum(read)) == (3, None, 5)
    assert {x["id"] for x in first["items"]}.isdisjoint(x["id"] for x in rest["items"])
    harness.send(harness.ping_of(9, "dead"))
    harness.read(harness.dead, lambda found: len(found) == 6)
    assert (noria("list")["total"], sum(read)) == (6, 6)
    assert noria("list", "--after", "nonsense", status=2)["error"]["code"] == "invalid_cursor"
