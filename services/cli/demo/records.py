"""The way in: the project is applied, records are submitted, accepted, and frozen to a dataset. Trains nothing."""

from pathlib import Path
from typing import Any

from services.cli import alerts, api, kafka
from services.cli.demo import produce
from services.cli.demo.board import Board, DemoFailed, Stage
from services.cli.demo.turn import newest
from services.cli.demo.wait import Watch
from services.cli.output import text
from services.cli.project_file import parse

Json = dict[str, Any]


def apply(board: Board, watch: Watch, file: Path) -> Json:
    """Applies the project file and waits until ingestion and prep know the project; its specification as JSON."""
    with board.stage("project") as stage:
        spec = parse(file.read_bytes()).model_dump(mode="json")
        answer = api.post("registry", "/v1/projects", spec)
        name = spec["project"]
        watch.wait("the project at ingestion", lambda: counts(name), 60)
        watch.wait("the project at prep", lambda: pending(name), 60)
        state = "changed" if answer["changed"] else "unchanged"
        stage.say(f"{name} {state}, revision {answer['revision'][:12]}, base {spec['base']}")
        return spec


def counts(project: str) -> Json:
    """What ingestion accepted and refused of a project."""
    return api.get("ingestion", f"/v1/projects/{project}/records/counts")


def pending(project: str) -> Json:
    """What prep keeps for the next dataset."""
    return api.get("prep", f"/v1/projects/{project}/pending")


def submit(board: Board, watch: Watch, project: str, script: Path) -> None:
    """Sends the example's records to Kafka and waits until ingestion and prep have taken them."""
    with board.stage("records") as stage:
        records = produce.example_records(script)
        sent = kafka.run(produce.produce(project, records))

        def taken() -> Json | None:
            waiting, found = kafka.run(kafka.lag("ingestion.main", produce.TOPIC)), counts(project)
            why = f" ({text(found['refused_by_reason'])})" if found["refused"] else ""
            stage.say(
                f"{sent} sent to {produce.TOPIC}: {found['accepted']} accepted, {found['refused']} refused{why}",
                1 - min(waiting / max(sent, 1), 1),
            )
            return found if waiting == 0 and found["accepted"] + found["refused"] else None

        watch.wait("the records' acceptance", taken, 180)
        watch.wait("the accepted records at prep", prep_has_all, 120)


def prep_has_all() -> bool | None:
    """True once ingestion has published all that it accepted and prep has taken it."""
    with api.client("ingestion") as http:
        metrics = alerts.read(http.get("/metrics").text, "ingestion")
        published = metrics["outbox_waiting"] == {"": 0.0}
    return True if published and kafka.run(kafka.lag("prep.main", "ingestion.record.accepted.v1")) == 0 else None


def freeze(board: Board, watch: Watch, spec: Json) -> Json:
    """The dataset of what is there: by the project's policy where it will act, on demand where it will not."""
    project, policy = spec["project"], spec["prep"]["freeze"]
    with board.stage("dataset") as stage:
        last, new = newest("prep", "/v1/datasets", project), pending(project)["changed"]
        known = last["number"] if last else 0
        if last and new < policy["records"]:
            answer = api.post("prep", f"/v1/projects/{project}/freeze")
            if answer.get("unchanged"):
                _say(stage, last, "unchanged: ")
                return last
        else:
            stage.say(f"{new} records wait; the policy freezes after {policy['quiet']} of quiet")

        found = watch.wait("the dataset", lambda: _frozen(watch, project, known), 240)
        _say(stage, found, "unchanged: " if found["number"] == known else "")
        return found


def _frozen(watch: Watch, project: str, known: int) -> Json | None:
    """The dataset after `known`, or `known` itself where the freeze found that its content is the same."""
    found, waiting = newest("prep", "/v1/datasets", project), pending(project)
    if waiting.get("failure"):
        raise DemoFailed(f"the dataset could not be frozen: {text(waiting['failure'])}; {watch.log('prep')}")
    unchanged = waiting["changed"] == 0 and waiting.get("job") is None
    return found if found and (found["number"] > known or unchanged) else None


def _say(stage: Stage, dataset: Json, prefix: str = "") -> None:
    drops = f"; dropped {text(dataset['drops'])}" if dataset["drops"] else ""
    rows = text(dataset["counts"])
    stage.say(f"{prefix}#{dataset['number']} {dataset['version'][:12]} ({dataset['cause']}): {rows}{drops}")
