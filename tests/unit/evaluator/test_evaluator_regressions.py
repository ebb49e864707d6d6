"""Regression cases: which rows are cases, and what becomes of each."""

from contracts.events.feedback import ExampleReleasedV1
from contracts.types import RecordId
from services.evaluator.domain.regressions import Answered, is_correction, regressions
from services.ingestion.domain.signals import of_example
from tests.unit.registry.builders import example as golden

EXACT = "exact_match >= 100"
CORRECTED = {"origin": "feedback", "source": "corrections"}


def case(id: RecordId, candidate: str | None, champion: str | None, **changes: object) -> Answered:
    row = Answered(id, f"user: {id}", CORRECTED, "tar -czf a", candidate, champion)
    return row._replace(**changes)


def test_each_case_is_kept_fixed_regressed_or_wrong():
    right, wrong = " tar  -czf a\n", "tar -xzf a"
    rows = [
        case("kept", right, right),
        case("fixed", right, wrong),
        case("lost", wrong, right),
        case("wrong", wrong, "tar"),
        case("wrong-2", wrong, wrong),
        case("text", None, None),
        case("other", wrong, right, tags={"origin": "feedback", "source": "approved"}),
        case("plain", wrong, right, tags={"tool": "tar"}),
    ]
    found = regressions(rows, EXACT)
    assert (found.cases, found.kept, found.fixed, found.regressed, found.wrong) == (5, 1, 1, 1, 2)
    assert (found.records, found.right) == (("lost",), EXACT)


def test_several_corrections_of_one_question_are_one_case_that_any_of_them_settles():
    rows = [
        case("a", "tar c", "tar -czf a", prompt="user: pack"),
        case("b", "tar c", "tar -czf a", prompt="user: pack", reference="tar c"),
    ]
    found = regressions(rows, EXACT)
    assert (found.cases, found.kept, found.regressed) == (1, 1, 0)


def test_what_is_right_is_said_by_a_metric_and_its_least_value():
    near = "tar -czf b"
    assert regressions([case("a", near, "tar -czf a")], EXACT).regressed == 1
    assert regressions([case("a", near, "tar -czf a")], "chrf >= 60").kept == 1
    assert regressions([case("a", "echo", "tar -czf a")], "chrf >= 60").regressed == 1


def test_records_are_bounded_and_counts_are_not():
    found = regressions([case(f"r{n}", "no", "tar -czf a") for n in range(50)], EXACT)
    assert (found.regressed, len(found.records)) == (50, 20)


def test_what_ingestion_makes_of_a_correction_is_a_case():
    released = ExampleReleasedV1.model_validate(golden("feedback.example.released.v1"))
    for source, is_case in (("corrections", True), ("approved", False), ("teacher", False)):
        submitted = of_example(released.model_copy(update={"source": source}))
        assert is_correction(submitted.tags) is is_case
    assert is_correction({"origin": "feedback", "request_id": "r"}), "from before examples had a source"
    assert not is_correction({"source": "corrections"})
