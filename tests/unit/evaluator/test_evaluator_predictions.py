from services.evaluator.domain.predictions import Entry, Example, differences, figures, metrics, missing

SUITE = ("loss", "exact_match", "chrf")


def example(record_id: str, reference: str, ask: str | None = "list files") -> Example:
    return Example(record_id, ({"role": "user", "content": ask},) if ask else (), reference)


def test_the_key_tells_prompts_and_references_apart():
    keys = {
        example("a", "ls").key,
        example("a", "ls -l").key,
        example("a", "ls", "list").key,
        example("a", "ls", None).key,
    }
    assert len(keys) == 4
    assert example("a", "ls").key == example("b", "ls").key


def test_only_what_the_sheet_lacks_is_asked():
    rows = [example("a", "ls"), example("b", "pwd"), example("c", "id"), example("d", "a text", None)]
    sheet = {rows[0].key: Entry("ls", 0.5), rows[1].key: Entry("pwd", None), rows[3].key: Entry(None, 1.0)}
    assert missing(rows, sheet, SUITE) == [1, 2]
    assert missing(rows, sheet, ("chrf",)) == [2]
    assert missing(rows, {}, ("loss",)) == [0, 1, 2, 3]


def test_figures_follow_the_examples_and_leave_out_answers_to_plain_text():
    rows = [example("a", "ls"), example("b", "pwd"), example("d", "a text", None)]
    sheet = {rows[0].key: Entry("ls\n", 0.5), rows[1].key: Entry("cd", 1.5), rows[2].key: Entry(None, 4.0)}
    found = figures(rows, sheet, ("loss", "exact_match"))
    assert found == {"loss": [0.5, 1.5, 4.0], "exact_match": [1.0, 0.0, None]}
    scored = metrics(found)
    assert (scored["loss"].value, scored["loss"].n, scored["loss"].higher_is_better) == (2.0, 3, False)
    assert (scored["exact_match"].value, scored["exact_match"].n) == (0.5, 2)


def test_a_metric_without_a_value_is_left_out():
    assert metrics({"chrf": [None, None], "loss": [1.0, 1.0]}).keys() == {"loss"}


def test_differences_are_candidate_minus_champion_by_example():
    found = differences({"loss": [1.0, 2.0], "chrf": [None, 9.0]}, {"loss": [2.0, 4.0], "chrf": [1.0, 6.0]})
    assert found["loss"].value == -1.5
    assert (found["chrf"].value, found["chrf"].n) == (3.0, 1)
