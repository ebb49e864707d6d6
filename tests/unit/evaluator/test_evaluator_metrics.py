import pytest
from rouge_score.rouge_scorer import RougeScorer

from services.evaluator.domain.metrics import ON_ANSWERS, bleu, chrf, exact_match, rouge_l


def test_white_space_does_not_matter_to_exact_match():
    assert exact_match(" tar  -xf a.tar\n", "tar -xf a.tar") == 1.0
    assert exact_match("tar -xf A.tar", "tar -xf a.tar") == 0.0


@pytest.mark.parametrize("name", ["chrf", "bleu", "rouge_l"])
def test_equal_texts_get_the_full_score_and_strangers_none(name: str):
    text = "find . -name foo -type f -delete now"
    assert ON_ANSWERS[name](text, text) == pytest.approx(100)
    assert ON_ANSWERS[name]("wholly unlike quux", text) < 20
    assert ON_ANSWERS[name]("", text) == 0


def test_chrf_is_that_of_its_paper_by_hand():
    # One letter of two, order 1 and 2 only: chr P = R = 1/2 for order 1, 0 for order 2 -> F2 of means = 0.25.
    assert chrf("ab", "ac") == pytest.approx(25)


def test_rouge_l_is_the_f_measure_by_hand():
    # LCS of "a b c d" and "a c e" is "a c": P 2/4, R 2/3, F 4/7.
    assert rouge_l("a b c d", "a c e") == pytest.approx(100 * 4 / 7)


@pytest.mark.parametrize(("answer", "reference"), [("tar -xvf a.tar", "tar xf b.tar"), ("Ls -LA /tmp", "ls /tmp | wc")])
def test_on_ascii_rouge_l_is_the_libraries_own(answer: str, reference: str):
    expected = RougeScorer(["rougeL"]).score(reference, answer)["rougeL"].fmeasure
    assert rouge_l(answer, reference) == pytest.approx(100 * expected)


def test_rouge_l_knows_other_scripts_and_bare_signs():
    assert rouge_l("привет мир", "привет мир") == pytest.approx(100)
    assert rouge_l("..", "..") == 100
    assert rouge_l("!", "..") == 0


def test_bleu_of_a_short_text_uses_the_orders_it_has():
    assert bleu("ls", "ls") == pytest.approx(100)
