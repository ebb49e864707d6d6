# ruff: noqa: RUF001 - full-width signs are part of what is tested
import unicodedata

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from services.lm.scoring.metrics import ON_ANSWERS, bleu, chrf, exact_match, rouge_l
from services.lm.scoring.words import words

ENGLISH = [
    ("tar -xvf a.tar", "tar xf b.tar"),
    ("The cat sat on the mat, didn't it?", "A cat sat on the mat; it did."),
    ("find . -name '*.py' | xargs wc -l", "find . -name '*.py' -exec wc -l {} +"),
    ("don't pay 1,000.50 euros", "do not pay 1,000.50 euros"),
]
UNSPACED = {  # a reference, the same with one character wrong, and sacrebleu's tokenizer for it
    "zh": ("要列出当前目录中的所有文件，请使用这个命令。", "要列出当前目录中的所有文档，请使用这个命令。", "zh"),
    "ja": (
        "現在のディレクトリのファイルを一覧表示してください",
        "現在のディレクトリのファイルを一覧表元してください",
        "char",
    ),
    "th": ("แสดงรายการไฟล์ทั้งหมดในไดเรกทอรีปัจจุบัน", "แสดงรายการไฟล์ทั้งหมดในไดเรกทอรีปัจจุบัม", "char"),
}


def test_white_space_and_unicode_form_do_not_matter_to_exact_match():
    assert exact_match(" tar  -xf a.tar\n", "tar -xf a.tar") == 100
    assert exact_match(unicodedata.normalize("NFD", "café à"), "café à") == 100
    assert exact_match("tar -xf A.tar", "tar -xf a.tar") == 0
    assert exact_match("tar -xf a.tar.", "tar -xf a.tar") == 0


@pytest.mark.parametrize("name", ["chrf", "bleu", "rouge_l"])
def test_equal_texts_get_the_full_score_and_strangers_none(name: str):
    text = "find . -name foo -type f -delete now"
    assert ON_ANSWERS[name](text, text) == pytest.approx(100)
    assert ON_ANSWERS[name]("wholly unlike quux", text) < 20
    assert ON_ANSWERS[name]("", text) == 0


@pytest.mark.parametrize(("answer", "reference"), ENGLISH)
def test_on_english_bleu_and_chrf_are_sacrebleus_and_rouge_l_the_libraries_own(answer: str, reference: str):
    assert bleu(answer, reference) == BLEU(effective_order=True).sentence_score(answer, [reference]).score
    assert chrf(answer, reference) == CHRF().sentence_score(answer, [reference]).score
    expected = RougeScorer(["rougeL"]).score(reference, answer)["rougeL"].fmeasure
    assert rouge_l(answer, reference) == pytest.approx(100 * expected)


@pytest.mark.parametrize("language", UNSPACED)
def test_one_wrong_character_is_near_the_full_score_where_words_are_not_spaced(language: str):
    reference, answer, tokenizer = UNSPACED[language]
    expected = BLEU(effective_order=True, tokenize=tokenizer).sentence_score(answer, [reference]).score
    assert bleu(answer, reference) == pytest.approx(expected)
    assert expected > 85
    assert rouge_l(answer, reference) == pytest.approx(100 * (1 - 1 / len(words(reference))))
    assert rouge_l(answer, reference) > 90
    assert chrf(answer, reference) > 70
    for metric in ON_ANSWERS.values():
        assert metric(reference, reference) == pytest.approx(100)
    assert BLEU(effective_order=True).sentence_score(answer, [reference]).score < 60  # by words there are hardly any


def test_commands_among_characters_stay_words():
    assert words("使用 tar -xf 解压") == ["使", "用", "tar", "xf", "解", "压"]
    zh = BLEU(effective_order=True, tokenize="zh")
    answer, reference = "使用 tar -xf a.tar 解压文件", "用 tar -xvf a.tar 解压文件"
    assert bleu(answer, reference) == pytest.approx(zh.sentence_score(answer, [reference]).score)


def test_marks_belong_to_their_letters():
    assert words("हिन्दी में") == ["हिन्दी", "में"]
    assert words("привет, мир") == ["привет", "мир"]
    assert rouge_l(unicodedata.normalize("NFD", "été là"), "été là") == 100


def test_chrf_is_that_of_its_paper_by_hand():
    # One letter of two, order 1 and 2 only: chr P = R = 1/2 for order 1, 0 for order 2 -> F2 of means = 0.25.
    assert chrf("ab", "ac") == pytest.approx(25)


def test_rouge_l_is_the_f_measure_by_hand():
    # LCS of "a b c d" and "a c e" is "a c": P 2/4, R 2/3, F 4/7.
    assert rouge_l("a b c d", "a c e") == pytest.approx(100 * 4 / 7)


def test_rouge_l_of_bare_signs_compares_the_whole():
    assert rouge_l("..", "..") == 100
    assert rouge_l("!", "..") == 0


def test_bleu_of_a_short_text_uses_the_orders_it_has():
    assert bleu("ls", "ls") == pytest.approx(100)
