"""Languages are told, kept and counted by one function."""

# ruff: noqa: RUF001 - letters of other scripts

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.languages import LANGUAGES
from contracts.preparation import Prep
from services.prep.domain import languages
from services.prep.domain.rows import Accepted
from services.prep.profiling.profile import profile
from tests.unit.prep.frames import Frozen, freeze
from tests.unit.prep.frozen import write

SAID = {
    "en": "How do you list the files of a folder, with their sizes and names?",
    "de": "Wie zeige ich die Dateien mit dem Namen und der Größe an?",
    "fr": "Comment afficher la liste des fichiers d'un dossier ?",
    "es": "¿Cómo se muestran los archivos de una carpeta con su tamaño?",
    "it": "Come si elencano i file di una cartella con le loro dimensioni?",
    "pt": "Como posso mostrar os ficheiros de uma pasta com os seus tamanhos?",
    "nl": "Hoe laat ik de bestanden in een map met hun grootte zien?",
    "pl": "Jak wyświetlić pliki w folderze wraz z ich rozmiarem?",
    "sv": "Hur visar jag filerna i en mapp tillsammans med deras storlek?",
    "tr": "Bir klasördeki dosyaları boyutlarıyla birlikte nasıl listelerim?",
    "ru": "Как показать файлы в папке вместе с их размером?",
    "el": "Πώς εμφανίζω τα αρχεία ενός φακέλου με το μέγεθός τους;",
    "ar": "كيف أعرض ملفات المجلد مع أحجامها؟",
    "hi": "मैं किसी फ़ोल्डर की फ़ाइलें उनके आकार के साथ कैसे देखूँ?",
    "ja": "フォルダの中のファイルをサイズと一緒に表示するには?",
    "ko": "폴더에 있는 파일을 크기와 함께 어떻게 보여 주나요?",
    "zh": "如何列出文件夹中的所有文件及其大小?",
}


@pytest.mark.parametrize("code", SAID)
def test_a_sentence_is_told(code: str) -> None:
    assert languages.known(languages.guess(SAID[code], "")) == code
    assert languages.known(languages.guess("", SAID[code])) == code


@pytest.mark.parametrize("text", ["", "123 + 456 = 579", "ls -la | grep x", "...", "\n\x00\n"])
def test_what_is_in_no_language_is_unknown(text: str) -> None:
    assert languages.known(languages.guess(text, "")) == "unknown"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300), st.text(max_size=300))
def test_every_text_has_a_language_or_none(prompt: str, completion: str) -> None:
    guessed = languages.guess(prompt, completion)
    code, confidence = guessed.split(" ")
    assert code in LANGUAGES
    assert 0 <= float(confidence) <= 1.001
    assert guessed == languages.guess(prompt + "", completion[: languages.START])


def kept(*keep: str, **options: float) -> Frozen:
    said = {**SAID, "command": "ls -la | grep x", "en2": SAID["en"] + " Thanks.", "de2": SAID["de"] + " Danke."}
    records = [
        Accepted(name, 1, "prompt_completion", json.dumps({"prompt": text, "completion": text}), "{}", None)
        for name, text in said.items()
    ]
    language = {"keep": keep, **options}
    return freeze(records, Prep.model_validate({"held_out": 0, "validation": 0, "steps": [], "language": language}))


def test_a_project_keeps_the_languages_that_it_names() -> None:
    found = kept("en", "es")
    assert {row.record_id for row in found.rows} == {"en", "en2", "es"}
    expected = {f"language_{code}": 1 for code in SAID if code not in ("en", "es")}
    assert found.drops_by_reason() == {**expected, "language_de": 2, "language_unknown": 1}
    assert {row.record_id for row in kept("unknown", "de").rows} == {"command", "de", "de2"}


def test_what_is_told_with_less_confidence_than_wanted_is_unknown() -> None:
    guessed = languages.guess(SAID["nl"], SAID["nl"])
    confidence = float(guessed.split()[1])
    assert confidence < 0.999
    below, above = (kept("nl", min_confidence=confidence + by) for by in (-0.001, 0.001))
    assert [len(found.rows) for found in (below, above)] == [1, 0]
    assert above.drops_by_reason()["language_unknown"] > below.drops_by_reason()["language_unknown"]


@pytest.mark.parametrize("keep", [[], ["english"], ["EN"]])
def test_a_language_that_is_never_told_is_refused(keep: list[str]) -> None:
    with pytest.raises(ValidationError, match=r"keep"):
        Prep.model_validate({"language": {"keep": keep}})


def test_the_profile_counts_the_same_languages(tmp_path: Path) -> None:
    rows = [{"record_id": code, "record": {"prompt": text, "completion": text}} for code, text in SAID.items()]
    files = write(tmp_path, {"train": rows, "validation": [], "held_out": []})
    found = profile(files, "v", lambda texts: [0] * len(texts), "x", 100)["languages"]
    assert found["detected_by"] == "fastText lid.176"
    assert found["found"] == dict.fromkeys(sorted(SAID), 1)
