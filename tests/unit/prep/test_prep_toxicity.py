"""The step toxicity on labelled sentences: what it is made to find, and look-alikes of a shell's and a kitchen's language."""

from pathlib import Path

import pytest

from contracts.preparation import Prep
from contracts.steps import Toxicity
from services.chassis.errors import JobFailed
from services.prep import worker
from services.prep.domain import toxicity
from tests.unit.prep.builders import Events
from tests.unit.prep.frames import freeze
from tests.unit.prep.test_prep_steps import accepted

TOXIC = (
    "You are a stupid idiot and nobody likes you.", "Shut the fuck up, you moron.", "What a pathetic loser, go to hell.",
    "This is bullshit and so are you, asshole.", "You dumb bitch, get out of here.", "He is a disgusting piece of shit.",
    "Fuck off and die.", "Those people are filthy scum, all of them are stupid.", "Your mother is a whore.", "Kiss my ass, jerk.",
)  # fmt: skip
BENIGN = (
    "Kill the process that listens on port 8080.", "How do I reap a zombie process?", "git blame shows who wrote the line.",
    "Abort the child when its parent dies.", "Execute the command and dump core.", "Nuke the build folder and start over.",
    "Beat the eggs until stiff, then cut the chicken breast.", "Shoot me an e-mail about the deadline.", "Detach the screen.",
    "The gang of four wrote about patterns.", "Hang up the phone and strip the wire.", "Destroy the droplet by its id.",
    "The attack surface of a naked pointer.", "Inject the dependency, mock the client.", "The patient died of lung cancer.",
    "Drop the table if it exists.", "Why does my thread starve?", "Flush the cache and purge the queue.", "Bash is a shell.",
    "List all files, hidden ones too.",
)  # fmt: skip


def test_toxic_records_go_and_look_alikes_stay() -> None:
    records = [accepted(f"bad{i}", "hello", text) for i, text in enumerate(TOXIC)]
    records += [accepted(f"good{i}", text, "ls") for i, text in enumerate(BENIGN)]
    prep = Prep.model_validate({"held_out": 0, "validation": 0, "steps": [{"step": "toxicity"}]})
    found = freeze(records, prep)
    gone = {drop.record_id for drop in found.drops}
    assert {drop.reason for drop in found.drops} == {"toxic"}
    assert not {name for name in gone if name.startswith("good")}
    assert len(gone) >= 9
    strict = freeze(records, prep.model_copy(update={"steps": (Toxicity(step="toxicity", above=1),)}))
    assert len(strict.drops) < len(gone)


def test_a_toxic_sentence_is_found_within_a_long_text_and_pieces_lose_nothing() -> None:
    long = "The list of the files is shown with their names and sizes, so that you have what you want to see. " * 20
    [clean, toxic] = toxicity.scores([(long, "x"), (f"{long}{TOXIC[1]} {long}", "x")])
    assert clean < 0.5 < 0.8 < toxic
    assert " ".join(toxicity.cut(long)) == long.strip()
    assert max(map(len, toxicity.cut(long))) <= toxicity.PIECE
    assert toxicity.scores([("", ""), ("?", "")])[0] == 0
    assert toxicity.cut("x" * 1000) == ["x" * 1000]


def test_a_freeze_without_the_classifier_fails_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = Events().defined(steps=[{"step": "toxicity"}]).spec
    worker.check_classifier(spec)
    monkeypatch.setattr(toxicity, "PACKAGE", "package_that_is_not_there")
    with pytest.raises(JobFailed, match=r"pip install 'noria\[toxicity\]'") as failed:
        worker.check_classifier(spec)
    assert failed.value.code == "no_classifier"
