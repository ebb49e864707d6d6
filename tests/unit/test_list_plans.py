"""Lists and loops of every service read by an index and sort nothing, however long history is, on SQLite and PostgreSQL."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.records import PlainText
from contracts.types import ModelRef
from services.chassis.jobs.failures import Failure, RetryPolicy
from services.chassis.jobs.job import Job
from services.chassis.jobs.queue import JobQueue
from services.chassis.messaging import outbox, parking, refused, relay
from services.chassis.observability import age_metrics
from services.chassis.retention.pruning import horizons, prune
from services.chassis.settings import Settings
from services.chassis.storage.tables import OPEN_JOB
from services.evaluator.store import SqlStore as Evaluator
from services.evaluator.store import horizons as of_evaluator
from services.feedback.domain.examples import Example
from services.feedback.examples_store import Place
from services.feedback.store import SqlStore as Feedback
from services.feedback.store import horizons as of_feedback
from services.ingestion.store import SqlStore as Ingestion
from services.prep.annotations import of_datasets, tagged
from services.prep.store import SqlStore as Prep
from services.prep.tables import DatasetRow
from services.registry.store import SqlStore as Registry
from services.serving.store import SqlStore as Serving
from services.trainer.store import SqlStore as Trainer
from tests.unit.plans import Step, opened

NOW = datetime(2026, 1, 31, tzinfo=UTC)
DAY = timedelta(days=1)
A_ROW_A_PROJECT = ("model",)
SMALL = (
    "progress",
    "sqlite_",
    "json_each",
    "lease",
    "fair_share",
    "found",
    "change_counter",
    "parked",
    "anon_",
    "shard",
    "wanted",
)
"""Tables of a few rows a project or fewer, what a query made of such, and what is parked; they may be read whole."""
FEW = (
    "signal.request_id =",
    "signal.status =",
    "FROM parked",
    "FROM progress",
    "status <> 'removed'",
    OPEN_JOB,
    "FROM job JOIN fair_share",
)
"""What selects few rows, whatever history holds, so that they may be sorted: signals of one request, what waits, is parked or
served, the next job of each project."""
PARTIAL = ("model_version_production", "model_version_open", "deployment_live", "job_open", "outbox_status")
"""Indexes that hold what is in force or waits alone, and the outbox's, where nothing else is; these may be read whole."""


def bad(steps: Sequence[Step]) -> list[Step]:
    """The steps that read a whole table or index that grows, or sort what grows."""

    def grows(step: Step) -> bool:
        small = step.table in A_ROW_A_PROJECT or step.table.startswith(SMALL)
        return not small and step.index not in PARTIAL

    return [step for step in steps if grows(step)]


EXAMPLE = Example(
    example_id="e",
    project="p",
    source="corrections",
    request_id="r1",
    signal_id="s",
    model=ModelRef(name="p", version=1),
    user="u",
    record=PlainText(text="x"),
    tags={},
    question="q",
    good="g",
    bad="b",
    said_at=NOW,
)


def ask_feedback(store: Any) -> None:
    store.newest(None, (NOW, "s"), 10)
    store.newest("r1", None, 10)
    store.waiting_for("r1")
    store.waiting_since(NOW, 10)
    store.waiting_with_request(10)
    for project in (None, "p"):
        store.examples.held(project, None, 10)
        store.examples.held(project, (NOW, "e"), 10)
    store.last_of("p", "c")
    store.examples.due(NOW)
    store.examples.disputed("p", "q")
    store.examples.of_request("r1")
    store.examples.seen(EXAMPLE)
    store.examples.opine("a", (), Place("p", "q", "u", NOW))
    for rule in of_feedback(30 * DAY, 90 * DAY):
        prune(store.session.connection(), rule, NOW)


def ask_prep(store: Any) -> None:
    for project in (None, "p"):
        store.datasets(project, None, 10)
        store.datasets(project, (NOW, "p", 3), 10)
        store.datasets(project, None, 10, tagged("t"))
        of_datasets(store.session, [DatasetRow.model_construct(project="p", number=1)])
        store.failures(project)
    store.newest("p")
    store.positions = lambda _: {"0": 5}  # with no shard there is nothing to ask for
    store.latest("p", {}, 10)
    store.latest("p", {"0": 3}, 10)
    store.changed("p", {"0": 3}, 100)
    store.has_records("p")
    del store.positions
    store.unfrozen()


def ask_trainer(store: Any) -> None:
    for project in (None, "p"):
        store.runs(project, 10)
        store.runs(project, 10, (NOW, "r"))


def ask_evaluator(store: Any) -> None:
    for project in (None, "p"):
        store.evaluations(project, 10)
        store.evaluations(project, 10, (NOW, "e"))
    store.evaluation("e")
    store.champion("p")
    store.use_predictions(["m"], NOW)
    for rule in of_evaluator(90 * DAY):
        prune(store.session.connection(), rule, NOW)


def ask_registry(store: Any) -> None:
    for project in (None, "p"):
        store.versions(project, 10)
        store.versions(project, 10, (NOW, "r"))
    store.version("p", 1)
    store.of_run("r")
    store.production("p")
    store.newest("p")
    store.in_stage("p", "candidate", 10)
    store.promotions("p")
    store.promotion_of("p", 1)
    store.was_deployed("p", 1)
    store.champion("p")
    store.history("p", 10, 3)
    store.history_of("p", 1, 10)
    store.revisions("p", 10)
    store.project_names(10, "a")
    store.open_candidates()
    store.undeployed()
    store.projects.next_sequence("p", NOW)


def ask_serving(store: Any) -> None:
    for projects in (None, ["p", "q"]):
        store.deployments(projects, 10)
        store.deployments(projects, 10, (NOW, "p", 1))
    store.live_versions()
    store.needed()
    store.retire("p", 1, "retired")
    store.set_status(ModelRef(name="p", version=1), 1, "deployed", "", NOW)
    store.newest_promotion(ModelRef(name="p", version=1))
    store.change_number()


def ask_ingestion(store: Any) -> None:
    store.overdue(NOW, NOW)
    store.counts("p")
    store.current("p", "r")


def ask_jobs(store: Any) -> None:
    queue, connection = JobQueue(store.session), store.session.connection()
    queue.enqueue("k", "j", {}, project="p")
    assert queue.any_free("k", NOW, 20)
    job = queue.lease("k", "o", NOW, 20)
    assert isinstance(job, Job)
    assert queue.heartbeat(job, NOW, 20, {"step": 1}, {"step": 1})
    queue.gives_way(job, NOW)
    queue.held(job)
    assert queue.reclaim(lambda _: True, NOW, RetryPolicy()) == ["j"]
    queue.counts()
    age_metrics.job_ages(connection, NOW, 20.0)
    queue.never_leased("k", "p")
    queue.cancel_project("k", "p")
    queue.retry_now("j")
    assert queue.cancel_queued("j", Failure("cancelled", ""))
    queue.ended(["j"])
    queue.drop_checkpoints(NOW)
    queue.restart("j")


def ask_relay(store: Any) -> None:
    connection = store.session.connection()
    relay.pending(connection, 10, ("t",))
    relay.settle(connection, [1, 2], [(3, "too large")])
    assert relay.count(connection) == relay.Backlog(0, 0.0, 0)
    assert not relay.anything(connection)
    refused.listing(connection, None, 5, 10)
    refused.listing(connection, "t", 5, 10)
    outbox.put(connection, [("t", None, None, "[]")] * 2, NOW)
    for action in ("retried", "discarded"):
        relay.settle(connection, [], [(row.id, "too large") for row in relay.pending(connection, 10, ())])
        one, _ = refused.listing(connection, None, 0, 10)
        assert refused.resolve(connection, [one["number"]], action, "s", "ada", "")


def ask_chassis(store: Any) -> None:
    connection = store.session.connection()
    for rule in horizons(Settings()):
        prune(connection, rule, NOW)
    parking.due(connection, "g", NOW, 10, 60.0)
    parking.listing(connection, "g", 0, 10)
    parking.occupied(connection, "g", [b"k"])
    store.projects.current("p")
    store.projects.at("p", "r")
    store.projects.names()


ASKED = {
    "evaluator": (Evaluator, ask_evaluator),
    "feedback": (Feedback, ask_feedback),
    "ingestion": (Ingestion, ask_ingestion),
    "prep": (Prep, ask_prep),
    "registry": (Registry, ask_registry),
    "serving": (Serving, ask_serving),
    "trainer": (Trainer, ask_trainer),
}


@pytest.mark.parametrize("service", ASKED)
def test_a_service_asks_by_an_index(service: str, database_url: str) -> None:
    store, ask = ASKED[service]
    with opened(database_url, service, store, FEW) as (opened_store, steps, asked):
        ask(opened_store)
        ask_chassis(opened_store)
        ask_jobs(opened_store)
        ask_relay(opened_store)
        assert asked
        assert bad(steps) == []


def test_what_reads_a_whole_table_or_sorts_is_found(database_url: str) -> None:
    with opened(database_url, "feedback", Feedback, FEW) as (store, steps, _):
        store.session.connection().exec_driver_sql("SELECT * FROM signal ORDER BY record_id")
        assert {step.what for step in bad(steps)} == {"whole", "sort"}
        store.session.connection().exec_driver_sql("SELECT * FROM signal WHERE record_id = 'r'")
        assert {"whole", "index"} & {step.what for step in bad(steps)[2:]}
    with opened(database_url, "feedback", Feedback, FEW) as (store, steps, _):
        for statement in ("SELECT count(*) FROM signal", "SELECT request_id FROM signal ORDER BY request_id"):
            steps.clear()
            store.session.connection().exec_driver_sql(statement)
            assert {"whole", "index"} & {step.what for step in bad(steps)}
        steps.clear()
        store.session.connection().exec_driver_sql("SELECT request_id FROM signal ORDER BY request_id LIMIT 10")
        assert bad(steps) == []
