"""The whole loop on real parts, with fewer records and steps: records in, a tuned model out, a correction back in.

The records come from a producer, and the model-ready event goes to a subscriber, that know only docs/events.md and the
schemas: another Kafka client, no import of contracts/.
"""

import json
import sqlite3
import uuid
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml
from confluent_kafka import Consumer
from openai import NotFoundError, OpenAI

from tests.e2e.conftest import (
    PROJECT,
    RECORDS,
    ROOT,
    SERVICES,
    Stack,
    cloud_event,
    example_records,
    produce,
    small_project,
    wait_for,
)


def test_status_shows_every_part_ready(loop: Stack) -> None:
    status = loop.json("status")
    names = {process["name"] for process in status["processes"]}
    assert names >= {"kafka", "triton", "ingestion", "prep", "trainer", "evaluator", "registry", "serving", "feedback"}
    assert all(process["state"] == "RUNNING" for process in status["processes"]), status
    assert status["ready"] is True


def test_dataset_has_its_counts_and_files(loop: Stack) -> None:
    (dataset,) = loop.json("datasets")["items"]
    assert sum(dataset["counts"].values()) + sum(dataset["drops"].values()) == RECORDS
    assert all(dataset["counts"][split] > 0 for split in ("train", "validation", "held_out"))
    assert len(dataset["version"]) == 64


def test_lineage_names_what_the_model_was_made_of(loop: Stack) -> None:
    lineage = loop.json("lineage", f"{PROJECT}@1")
    (dataset,) = loop.json("datasets")["items"]
    (run,) = loop.json("runs")["items"]
    text = json.dumps(lineage)
    for digest in (dataset["version"], dataset["project_revision"], run["run_id"]):
        assert digest in text


def test_tuned_model_is_better_than_its_base(loop: Stack) -> None:
    (model,) = loop.json("models")["items"]
    assert model["stage"] == "production"
    evaluation = httpx.get(f"{loop.url('evaluator')}/v1/evaluations").json()["items"][0]
    # Some 18 answers after 16 steps: too few for the intervals of chrF to be apart on every machine, as the demo's are.
    for metric in ("chrf", "rouge_l"):
        assert evaluation["differences"][metric]["value"] > 0, evaluation
    assert evaluation["metrics"]["loss"]["high"] < evaluation["base_metrics"]["loss"]["low"]


def test_model_ready_event_is_enough_for_a_foreign_subscriber(loop: Stack) -> None:
    consumer = Consumer(
        {"bootstrap.servers": loop.kafka, "group.id": str(uuid.uuid4()), "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["registry.model.promoted.v1"])
    try:
        message = wait_for("model-ready", lambda: consumer.poll(1.0), 30)
    finally:
        consumer.close()
    body = json.loads(message.value())
    schema = json.loads((ROOT / "contracts" / "schemas" / "registry.model.promoted.v1.json").read_text())
    jsonschema.validate(body, schema)
    assert dict(message.headers())["ce_type"] == b"io.noria.registry.model.promoted.v1"
    for reference in body["files"].values():
        path = Path(reference["uri"].removeprefix("file://"))
        assert path.stat().st_size == reference["bytes"]


def test_one_trace_from_the_dataset_to_the_promotion(loop: Stack) -> None:
    topics = (
        "prep.dataset.frozen.v1",
        "trainer.model.trained.v1",
        "evaluator.model.scored.v1",
        "registry.model.promoted.v1",
    )
    consumer = Consumer(
        {"bootstrap.servers": loop.kafka, "group.id": str(uuid.uuid4()), "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(list(topics))
    traces: dict[str, str] = {}

    def all_of_them() -> bool:
        message: Any = consumer.poll(1.0)
        if message is not None and message.error() is None:
            traces.setdefault(message.topic(), dict(message.headers())["traceparent"].decode().split("-")[1])
        return traces.keys() == set(topics)

    try:
        wait_for("an event of each topic", all_of_them, 30)
    finally:
        consumer.close()
    assert len(set(traces.values())) == 1, traces


def client(stack: Stack) -> OpenAI:
    return OpenAI(base_url=f"{stack.url('serving')}/v1", api_key="none", max_retries=0)


def ask(stack: Stack, model: str, text: str) -> Any:
    return client(stack).chat.completions.create(model=model, messages=[{"role": "user", "content": text}])


def test_gateway_answers_with_the_tuned_adapter(loop: Stack) -> None:
    question = "tar: list the files in an archive"
    tuned = ask(loop, PROJECT, question)
    base = ask(loop, f"{PROJECT}@base", question)
    assert tuned.choices[0].message.content.startswith("tar")
    assert tuned.choices[0].message.content != base.choices[0].message.content
    assert tuned.usage.completion_tokens > 0
    chunks = list(
        client(loop).chat.completions.create(
            model=f"{PROJECT}@1",
            messages=[{"role": "user", "content": question}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == tuned.choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == tuned.usage.completion_tokens
    with pytest.raises(NotFoundError):
        ask(loop, "nobody", "hello")


def test_correction_comes_back_as_a_record_of_the_next_dataset(loop: Stack) -> None:
    answer = ask(loop, PROJECT, "cowsay: let a cow say good morning")
    given = loop.json("feedback", answer.id, "--thumb", "down", "--correction", "cowsay good morning")
    assert given
    pending = f"{loop.url('prep')}/v1/projects/{PROJECT}/pending"

    def came_back() -> Any:
        records = httpx.get(pending).json()["records"]
        return [r for r in records if r["tags"].get("request_id") == answer.id]

    (record,) = wait_for("the correction", came_back, 60)
    assert record["split"] in ("train", "validation", "held_out")


def test_malformed_messages_are_dead_letters_and_stop_nothing(loop: Stack) -> None:
    good = {"project": PROJECT, "record_id": "after-poison", "record": {"prompt": "ls: all", "completion": "ls -a"}}
    poison: list[tuple[bytes, dict[str, bytes | None]]] = [
        (b"{}", {}),
        (b"{}", {"ce_id": None, "ce_type": b"\xff\xfe"}),
        (b"not json", cloud_event()),
        (b"\xff\xfe", cloud_event()),
        (b"[" * 5000, cloud_event()),
        (b'"' + b"x" * 900_000 + b'"', cloud_event()),
        (b"{}", {**cloud_event(), "ce_type": b"io.noria.other.v1"}),
    ]
    unknown = json.dumps({**good, "project": "nobody"}).encode()
    wrong = json.dumps({**good, "record_id": "wrong", "record": {"question": "?"}}).encode()
    values = [value for value, _ in poison] + [unknown, wrong, json.dumps(good).encode()]
    produce(loop.kafka, values, [header for _, header in poison] + [cloud_event() for _ in range(3)])
    pending = f"{loop.url('prep')}/v1/projects/{PROJECT}/pending"
    wait_for(
        "the good record behind the poison",
        lambda: [r for r in httpx.get(pending).json()["records"] if r["record_id"] == "after-poison"],
        90,
    )
    letters = wait_for(
        "dead letters",
        lambda: (lambda found: found if len(found) >= len(poison) else None)(loop.json("dlq", "list")["items"]),
        60,
    )
    assert {"missing_attribute", "bad_header", "not_json", "not_utf8", "wrong_type"} <= {x["reason"] for x in letters}
    assert all(x["topic"] == "upstream.record.submitted.v1" and x["offset"] >= 0 for x in letters)
    counts = httpx.get(f"{loop.url('ingestion')}/v1/projects/{PROJECT}/records/counts").json()
    assert counts["refused_by_reason"] == {"unknown_format": 1}


def test_ingest_command_says_line_and_reason(loop: Stack, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    good = {"record": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}}
    path.write_text(json.dumps(good) + "\nnot json\n" + json.dumps({"record": {"x": 1}}) + "\n")
    result = loop.json("ingest", PROJECT, str(path))
    assert len(result["accepted"]) == 1
    assert [refusal["line"] for refusal in result["refused"]] == [2, 3]


def test_bad_project_file_names_line_and_key(loop: Stack, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("project: p\nbase: b\ntrain:\n  learning_rat: 1\n")
    done = loop.run("apply", str(path))
    assert done.returncode != 0
    assert "line 4" in done.stderr + done.stdout
    assert "learning_rate" in done.stderr + done.stdout


def test_a_new_prompt_is_a_candidate_on_the_same_weights_and_trains_nothing(loop: Stack, tmp_path: Path) -> None:
    project = yaml.safe_load(small_project(tmp_path).read_text())
    project["prompt"] = {
        "system": "You are a {{ what }} assistant. Answer with one command only.",
        "variables": {"what": "shell"},
    }
    path = tmp_path / "prompted.yaml"
    path.write_text(yaml.safe_dump(project))
    runs = len(loop.json("runs")["items"])
    loop.json("apply", str(path))

    def judged() -> Any:
        newest = loop.json("models")["items"][0]
        return newest if newest["version"] == 2 and newest["evaluation"]["status"] == "done" else None

    candidate = wait_for("the candidate's evaluation", judged, 240)
    assert (candidate["weights_of"], candidate["prompt_version"], candidate["champion"]["version"]) == (1, 2, 1)
    assert len(loop.json("runs")["items"]) == runs
    given: Any = {"id": PROJECT, "version": "2", "variables": {"what": "tar"}}
    answer = client(loop).responses.create(
        model=f"{PROJECT}@1", input="tar: list the files in an archive", prompt=given
    )
    assert answer.output_text
    with pytest.raises(NotFoundError, match="there are 1, 2"):
        client(loop).responses.create(model=PROJECT, input="x", prompt={"id": PROJECT, "version": "7"})


def test_preference_tuning_goes_on_from_the_version_in_production(loop: Stack, tmp_path: Path) -> None:
    project = yaml.safe_load(small_project(tmp_path).read_text())
    del project["train"]["epochs"], project["train"]["learning_rate"]  # of sft
    project["train"] |= {"method": "dpo", "max_steps": 2}
    path, pairs = tmp_path / "dpo.yaml", tmp_path / "pairs.jsonl"
    path.write_text(yaml.safe_dump(project))
    right = [record["record"]["messages"] for record in example_records()[:40]]
    lines = [{"prompt": [asked], "chosen": [said], "rejected": [other[1]]} for (asked, said), other in pairwise(right)]
    pairs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (before,) = (model for model in loop.json("models")["items"] if model["stage"] == "production")
    loop.json("apply", str(path))
    assert not loop.json("ingest", PROJECT, str(pairs))["refused"]
    known = {run["run_id"] for run in loop.json("runs")["items"]}
    waiting = f"{loop.url('prep')}/v1/projects/{PROJECT}/pending"
    wait_for("the pairs at prep", lambda: httpx.get(waiting).json()["changed"] >= len(lines), 60)
    loop.json("datasets", "freeze", PROJECT)

    def trained() -> Any:
        new = [run for run in loop.json("runs")["items"] if run["run_id"] not in known and run["status"] == "done"]
        return new and new[0]

    (reference,) = wait_for("the run", trained, 180)["references"]
    assert (reference["method"], reference["of"]) == ("dpo", "champion")
    assert reference["model"] == {"name": PROJECT, "version": before["version"]}

    def judged() -> Any:
        newest = loop.json("models")["items"][0]
        return newest if newest["version"] > 2 and newest["evaluation"]["status"] == "done" else None

    assert wait_for("its evaluation", judged, 240)["champion"]["version"] == before["version"]


def test_state_of_every_service_is_what_the_log_tells(loop: Stack) -> None:
    """After everything above, and after a person moved a version to and fro."""
    promoted = httpx.post(
        f"{loop.url('registry')}/v1/models/{PROJECT}/1/promote", json={"by": "ada", "reason": "again"}
    )
    assert promoted.status_code == 200, promoted.text
    differing: dict[str, Any] = {}
    for service in SERVICES:
        done = loop.run("replay", service, "--json")
        if done.returncode != 0:
            differing[service] = done.stdout[:3000] + done.stderr[-1000:]
    assert not differing, "\n".join(f"{service}: {said}" for service, said in differing.items())
    database = sqlite3.connect(loop.home / "state" / "registry.db")
    with database:
        database.execute("UPDATE model_version SET stage = 'archived' WHERE name = ? AND version = 1", (PROJECT,))
    done = loop.run("replay", "registry", "--json")
    with database:
        database.execute("UPDATE model_version SET stage = 'production' WHERE name = ? AND version = 1", (PROJECT,))
    database.close()
    assert done.returncode == 1
    (difference,) = json.loads(done.stdout)["differences"]
    assert difference == {
        "table": "model_version",
        "key": f"{PROJECT}/1",
        "column": "stage",
        "live": "archived",
        "rebuilt": "production",
    }
