"""A text from the file of a person, or the event of a system, to what is learnt, evaluated and asked: unchanged all the way.

The services' real handlers, stores and files; between them the bytes that Kafka would carry.
"""

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from contracts.chat import conversation
from contracts.envelope import Event, Meta, decode, encode, new_meta
from contracts.events.ingestion import RecordAcceptedV1
from contracts.events.registry import ProjectDefinedV1
from contracts.events.upstream import RecordSubmittedV1
from contracts.preparation import Prep
from contracts.project import ProjectSpec, Prompt
from services import ingestion, prep
from services.chassis.storage.database import open_engine, reading, writing
from services.chassis.storage.migration import migrate
from services.cli.record_files import batches
from services.ingestion import handlers as ingestion_handlers
from services.ingestion import record_reader
from services.ingestion.settings import IngestionSettings
from services.ingestion.store import SqlStore as IngestionStore
from services.prep import handlers as prep_handlers
from services.prep.domain.rows import Accepted
from services.prep.segments import FIELDS, tail
from services.prep.settings import PrepSettings
from services.prep.store import SqlStore as PrepStore
from tests.unit.prep.frames import written

PROJECT = "p"
PROMPT = Prompt(system=" Keep\r\nthis. ")
SPEC = ProjectSpec(project=PROJECT, base="b", prompt=PROMPT, prep=Prep(held_out=0.5, validation=0))
TEXTS = (
    "    for x in y:\n        pass\n",  # leading blanks of code, a newline at the end
    "cafe\u0301 and caf\u00e9",  # both forms of Unicode
    "one\r\ntwo\rthree\n\n",  # line ends
    "\u3000全角の空白\u3000",
    "a\u2028b\u00a0\x0b\u0000",  # what some readers take for a line's end, and NUL
    "\ufeffﬁ ½ Å Ω",  # a byte order mark, and signs that NFKC would rewrite
    "it 's a test , is n't it ?",  # what a clean-up of tokenizers would join
)


def turns(number: int, text: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": f"{text}{number}"},
            {"role": "assistant", "content": f"first {text}"},
            {"role": "user", "content": f"word{number} thing{number} {text}"},
            {"role": "assistant", "content": text},
        ]
    }


RECORDS = {f"r{number}": turns(number, text) for number, text in enumerate(TEXTS)}


@contextmanager
def transaction(engine: Engine, store: Callable[[Session], Any]) -> Generator[Any]:
    with writing(engine) as connection, Session(connection) as session:
        yield store(session)
        session.flush()


@pytest.fixture
def engines(database_url: str, tmp_path: Path) -> Iterator[dict[str, Engine]]:
    """Ingestion keeps no content, so that SQLite does; prep's is tried on both databases."""
    given = {
        "ingestion": IngestionSettings(home=tmp_path, database=f"sqlite:///{tmp_path / 'ingestion.db'}"),
        "prep": PrepSettings(home=tmp_path, database=database_url),
    }
    opened = {name: open_engine(settings) for name, settings in given.items()}
    for name, package in (("ingestion", ingestion), ("prep", prep)):
        migrate(opened[name], name, Path(str(package.__file__)).parent / "migrations")
    yield opened
    for engine in opened.values():
        engine.dispose()


def by_wire(event: Event) -> Any:
    """The event as its consumer has it."""
    _, value, headers = encode(event, new_meta(event, "urn:test", "1"))
    return decode(type(event), headers, value).data


def from_file(tmp_path: Path) -> list[RecordSubmittedV1]:
    """What `noria ingest` reads of a file and ingestion of its body."""
    lines = [json.dumps({"record_id": name, "record": record}) for name, record in RECORDS.items()]
    (tmp_path / "records.jsonl").write_text("\n".join(lines), encoding="utf-8")
    body = tmp_path / "body"
    body.write_bytes(b"\n".join(batch.body for batch in batches(tmp_path / "records.jsonl")))
    return [event for batch in record_reader.of_jsonl(body, PROJECT) for _, event in batch.taken]


def from_system(_: Path) -> list[RecordSubmittedV1]:
    return [RecordSubmittedV1(project=PROJECT, record_id=name, record=record) for name, record in RECORDS.items()]


@pytest.mark.parametrize("source", [from_file, from_system])
def test_texts_come_out_as_they_went_in(
    engines: dict[str, Engine], tmp_path: Path, source: Callable[[Path], list[RecordSubmittedV1]]
) -> None:
    events = accept(engines, source(tmp_path))
    assert [event.record.model_dump(mode="json") for event in events] == list(RECORDS.values())
    splits = freeze(engines["prep"], events, tmp_path)
    assert learnt(splits["train"]) | learnt(splits["held_out"]) == sent()
    assert {**evaluated(splits["held_out"]), **evaluated(splits["train"])} == {
        name: expected(record) for name, record in RECORDS.items()
    }


def accept(engines: dict[str, Engine], submitted: list[RecordSubmittedV1]) -> list[RecordAcceptedV1]:
    meta = Meta("1", "urn:test", "", datetime(2026, 1, 31, tzinfo=UTC))
    defined = ProjectDefinedV1(project=PROJECT, revision="0" * 64, spec=SPEC)
    with transaction(engines["ingestion"], IngestionStore) as store:
        list(ingestion_handlers.on_project_defined(defined, meta, store))
        found = [e for event in submitted for e in ingestion_handlers.on_record_submitted(by_wire(event), meta, store)]
        store.flush()
    return [by_wire(event) for event in found]


def freeze(engine: Engine, events: list[RecordAcceptedV1], tmp_path: Path) -> dict[str, Path]:
    meta = Meta("1", "urn:test", "", datetime(2026, 1, 31, tzinfo=UTC))
    with transaction(engine, PrepStore) as store:
        for event in events:
            prep_handlers.on_record_accepted(event, meta, store)
        store.flush()
    with reading(engine) as connection:
        records = [Accepted(*row[: len(FIELDS)]) for rows in tail(connection, PROJECT) for row in rows]
    frozen, files, _ = written(records, SPEC.prep, tmp_path)
    assert len(frozen.rows) == len(RECORDS)
    return dict(files)


def learnt(path: Path) -> set[str]:
    """What the trainer reads of a split, as JSON."""
    from services.trainer.compute import rows

    return {json.dumps(record.model_dump(mode="json")) for record in rows.read(path)[0]}


def sent() -> set[str]:
    return {json.dumps(record) for record in RECORDS.values()}


def evaluated(path: Path) -> dict[str, tuple[list[dict[str, str]], str]]:
    """What the evaluator shows a model and measures its answer against."""
    from services.evaluator.compute.rows import read

    examples, skipped, _ = read(path, PROMPT)
    assert not skipped
    return {x.record_id: ([dict(m) for m in x.messages], x.reference) for x in examples}


def expected(record: dict[str, Any]) -> tuple[list[dict[str, str]], str]:
    *before, last = record["messages"]
    return [{"role": "system", "content": str(PROMPT.system)}, *before], last["content"]


def test_serving_asks_with_the_same_texts() -> None:
    from services.lm.control_tokens import ControlVocabulary
    from services.lm.template import compile_template
    from services.serving.domain.sampling import with_project_prompt

    source = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
    )
    template = compile_template(source, {}, ControlVocabulary())
    for record in RECORDS.values():
        *before, _ = record["messages"]
        shown, _ = expected(record)
        asked = with_project_prompt(PROMPT, tuple(before))
        assert list(asked) == shown
        assert template.render(asked).text == "".join(f"[{m['role']}]{m['content']}" for m in shown) + "[a]"


def test_what_is_shown_in_training_is_what_serving_shows() -> None:
    from contracts.records import parse_record
    from services.serving.domain.sampling import with_project_prompt

    for record in RECORDS.values():
        messages, completion = conversation(PROMPT, parse_record(record)[1])
        assert messages == list(with_project_prompt(PROMPT, tuple(record["messages"][:-1])))
        assert completion == record["messages"][-1]["content"]
