from io import StringIO

from aiokafka import ConsumerRecord
from rich.console import Console

from contracts.topics import BY_NAME, dead_letter_topics
from services.cli.dead_letters import dead_letter_document
from services.cli.health import render
from services.cli.verbs.lineage import tree
from services.cli.verbs.lists import counted
from services.cli.verbs.watch import document, line, matching


def message(value: bytes | None, headers: list[tuple[str, bytes]], topic: str = "t") -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord(topic, 1, 7, 1_700_000_000_000, 0, b"k", value, None, 0, 0, tuple(headers))


def printed(what: object) -> str:
    out = StringIO()
    Console(file=out, width=200).print(what)
    return out.getvalue()


def test_a_dead_letter_says_why_and_whence_and_keeps_what_came() -> None:
    notes = {"id": "abcd-1", "reason": "not_utf8", "detail": "at byte 0", "topic": "upstream", "partition": "2"}
    headers = [("ce_id", b"\xff"), *((f"noria-{k}", v.encode()) for k, v in notes.items()), ("noria-offset", b"41")]
    found = dead_letter_document(message(b"\xff\xfe", headers))
    assert (found["reason"], found["topic"], found["partition"], found["offset"]) == ("not_utf8", "upstream", 2, 41)
    assert found["bytes"] == 2
    assert found["value"] == {"base64": "//4="}
    assert found["headers"] == [{"name": "ce_id", "value": {"base64": "/w=="}}]


def test_a_dead_letter_of_somebody_else_is_shown_all_the_same() -> None:
    found = dead_letter_document(message(None, []))
    assert (found["id"], found["reason"], found["offset"], found["value"]) == ("t/1/7", "unknown", -1, None)


def test_watch_takes_a_topic_or_the_beginning_of_several() -> None:
    assert matching(None) == list(BY_NAME)
    assert matching("trainer") == [n for n in BY_NAME if n.startswith("trainer.")]
    assert matching(dead_letter_topics()[0]) == [dead_letter_topics()[0]]


def test_an_event_is_shown_with_its_attributes() -> None:
    headers = [("ce_id", b"1"), ("ce_source", b"/noria/prep"), ("ce_time", b"2026-01-31T12:00:00+00:00")]
    event = document(message(b'{"a": 1}', headers))
    assert (event["id"], event["source"], event["data"], event["key"]) == ("1", "/noria/prep", {"a": 1}, "k")
    assert line(event) == '12:00:00 t [k] {"a": 1}'
    assert document(message(b"no json", []))["data"] == "no json"


def test_lineage_is_a_tree_with_artifacts_on_one_line() -> None:
    ref = {"uri": "file:///a", "sha256": "ab" * 32, "bytes": 7}
    text = printed(tree("m@1", {"dataset": {"number": 3, "files": {"train": ref}}, "rules": ["a", "b"], "none": {}}))
    for part in ("m@1", "dataset", "number: 3", "train: 7 bytes, sha256 abababababab", "rules: a, b", "none: -"):
        assert part in text


def test_runs_count_what_was_left_out() -> None:
    assert counted({"template_refused": 2, "preference": 3}) == "3 preference, 2 template_refused"
    assert counted(None) is None


def test_status_names_what_is_wrong() -> None:
    health = {"status": "not_ready", "checks": {"kafka": {"ok": False, "detail": "away"}}, "lag": {"t": 5}}
    found = {
        "ready": False,
        "processes": [{"name": "prep", "state": "RUNNING", "pid": 1, "uptime": 3.0, "ready": False}],
        "services": {"prep": health},
        "lag": {"prep": {"t": 5}},
        "parked": {"prep": 2},
        "outbox": {},
        "dead_letters": None,
        "symptoms": [{"alert": "NoriaParkedLong", "where": "prep", "what": "waits [long]", "do": "look at it"}],
        "failures": [{"kind": "run", "id": "r1", "cause": "out_of_memory", "detail": "8 GB", "time": ""}],
    }
    text = printed(render(found))
    for part in (
        "prep",
        "kafka: away",
        "5",
        "not ready",
        "out_of_memory",
        "Kafka does not answer",
        "NoriaParkedLong",
        "waits [long]",
        "look at it",
    ):
        assert part in text
