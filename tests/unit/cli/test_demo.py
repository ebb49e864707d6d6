import json
import time
from pathlib import Path

import pytest

from compose.local.settings import StackSettings
from contracts.envelope import decode
from contracts.events.upstream import RecordSubmittedV1
from services.cli.demo import ask, correct, produce, report, screen
from services.cli.demo.board import Board, DemoFailed, Stage
from services.cli.demo.wait import Watch
from services.cli.errors import Refused, Unreachable

RECORD = {
    "record_id": "eg-1",
    "tags": {"tool": "tar"},
    "record": {"messages": [{"role": "user", "content": "é"}, {"role": "assistant", "content": "b"}]},
}


def test_records_are_events_that_ingestion_reads_and_twice_the_same() -> None:
    value, headers = produce.event("p", RECORD)
    received = decode(RecordSubmittedV1, headers, value)
    assert (received.data.project, received.data.record_id, received.data.tags) == ("p", "eg-1", {"tool": "tar"})
    assert produce.event("p", dict(reversed(RECORD.items()))) == (value, headers)
    value, headers = produce.event("p", {**RECORD, "tags": {}})
    assert decode(RecordSubmittedV1, headers, value).meta.id != received.meta.id


def test_a_script_that_fails_is_told(tmp_path: Path) -> None:
    script = tmp_path / "records.py"
    script.write_text("raise SystemExit('no data here')")
    with pytest.raises(DemoFailed, match="no data here"):
        produce.example_records(script)


def test_a_stage_keeps_its_time_and_fate() -> None:
    board = Board()
    seen: list[str] = []
    board.changed = lambda stage: seen.append(f"{stage.title} {stage.state}")
    board.plan("one", "two", "one")
    with board.stage("one") as stage:
        stage.say("half", 0.5)
    with pytest.raises(DemoFailed), board.stage("two"):
        raise DemoFailed("no")
    with board.stage("one"), board.stage("three"):
        pass
    assert [(s.title, s.state) for s in board.stages] == [
        ("one", "done"),
        ("two", "failed"),
        ("one", "done"),
        ("three", "done"),
    ]
    assert seen[:4] == ["one running", "one done", "two running", "two failed"]


def test_the_board_can_be_drawn_in_every_state() -> None:
    board = Board([Stage("waiting"), Stage("running", "running", "[1/2]", 0.5, time.monotonic())])
    board.stages.append(Stage("over", "done", "well", None, 1.0, 3.5))
    assert screen.table(board).row_count == 3
    assert screen.line(board.stages[2]) == "[   2.5 s] over: done well"


def test_a_curve_shows_the_newest_values() -> None:
    assert screen.curve([]) == ""
    assert screen.curve([1.0]) == "▁"
    assert screen.curve([9.0, 0.0, 0.5, 1.0], width=3) == "▁▄█"
    assert [screen.meter(s, 4) for s in (-1, 0.5, 2)] == ["╌╌╌╌", "━━╌╌", "━━━━"]


def metric(value: float, low: float, high: float, *, higher: bool = True) -> dict[str, object]:
    return {"value": value, "low": low, "high": high, "n": 9, "higher_is_better": higher}


@pytest.mark.parametrize(
    ("base", "tuned", "verdict"),
    [
        (metric(18, 16, 20), metric(46, 41, 51), "better"),
        (metric(4, 3, 5, higher=False), metric(1, 0.5, 1.5, higher=False), "better"),
        (metric(46, 41, 51), metric(18, 16, 20), "worse"),
        (metric(18, 16, 20), metric(22, 20, 24), "undecided"),
    ],
)
def test_intervals_that_overlap_decide_nothing(base: dict[str, object], tuned: dict[str, object], verdict: str) -> None:
    assert verdict in report.verdict(base, tuned)
    model = {"name": "p", "version": 1, "metrics": {"m": tuned}, "base_metrics": {"m": base}}
    assert report.comparison(model).row_count == 1


def test_every_correction_of_the_demo_is_a_new_record() -> None:
    assert len({correct.new_question(n) for n in range(50)}) == 50


def test_one_question_a_tool_is_asked() -> None:
    def row(tool: str, text: str, *roles: str) -> dict[str, str]:
        turns = [{"role": role, "content": text} for role in roles or ("user", "assistant")]
        return {"record": json.dumps({"messages": turns}), "tags": json.dumps({"tool": tool})}

    rows = [row("tar", "a"), row("tar", "b"), row("ls", "c", "user"), row("cp", "d")]
    assert list(ask.one_a_tool(rows)) == [("a", "a"), ("d", "d")]


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    monkeypatch.setattr("services.cli.demo.wait.PAUSE", 0.001)
    return Watch(StackSettings(home=tmp_path), time.monotonic() + 60)


def test_a_wait_outlives_a_service_that_is_away_or_not_so_far(watch: Watch) -> None:
    answers = iter([Unreachable("unreachable", "away"), Refused(404, "unknown_project", "?"), None, "there"])

    def check() -> str | None:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert watch.wait("it", check, 5) == "there"


def test_a_wait_ends_at_its_deadline_and_at_what_will_not_change(watch: Watch) -> None:
    with pytest.raises(DemoFailed, match="the dataset did not come in time"):
        watch.wait("the dataset", lambda: None, 0.01)

    def refused() -> None:
        raise Refused(422, "invalid", "never")

    with pytest.raises(Refused, match="never"):
        watch.wait("it", refused, 5)
    watch.until = time.monotonic()
    with pytest.raises(DemoFailed):
        watch.wait("it", lambda: None, 60)
