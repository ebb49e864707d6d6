import pytest

from contracts.project import ProjectSpec
from contracts.types import Metric
from services.registry.domain.gate import failing, needs_champion, parse


def figures(**values: float) -> dict[str, Metric]:
    return {name: Metric(value=v, low=v, high=v, n=9, higher_is_better=name != "loss") for name, v in values.items()}


@pytest.mark.parametrize(
    ("rule", "own", "champion", "holds"),
    [
        ("chrf > champion", 46.0, 18.0, True),
        ("chrf > champion", 18.0, 18.0, False),
        ("chrf >= champion", 18.0, 18.0, True),
        ("chrf > champion", 17.0, 18.0, False),
        ("loss < champion", 1.1, 1.8, True),
        ("loss < champion", 1.8, 1.8, False),
        ("loss <= champion", 1.8, 1.8, True),
        ("loss > champion", 1.1, 1.8, False),
        ("chrf > -1.5", 0.0, 0.0, True),
        ("loss<1.25", 1.2, 0.0, True),
        ("loss < 1.25", 1.25, 0.0, False),
    ],
)
def test_a_rule_is_read_from_left_to_right(rule: str, own: float, champion: float, holds: bool):
    metric = rule.split("<")[0].split(">")[0].strip()
    assert (failing([rule], figures(**{metric: own}), figures(**{metric: champion})) == ()) is holds


def test_no_gate_meets_a_figure_that_is_no_number():
    with pytest.raises(ValueError, match="finite"):
        figures(chrf=float("nan"))


def test_every_rule_that_fails_is_named_with_its_figures():
    require = ("chrf > champion", "loss < 1.5", "exact_match >= 10")
    found = failing(require, figures(chrf=17.25, loss=1.1, exact_match=0.0), figures(chrf=18.5))
    assert found == ("chrf > champion: 17.25 is not > 18.5", "exact_match >= 10: 0 is not >= 10")


@pytest.mark.parametrize(
    ("written", "meant"), [("0.1", "10"), ("1", "100"), ("0", "0"), ("12.5", "12.5"), ("1.01", "1.01")]
)
def test_a_threshold_of_exact_match_from_before_percent_means_what_it_meant(written: str, meant: str):
    assert str(parse(f"exact_match >= {written}")) == f"exact_match >= {meant}"
    assert str(parse(f"chrf >= {written}")) == f"chrf >= {float(written):g}"


def test_figures_that_are_missing_never_pass():
    assert failing(["bleu > 1"], {}, {}) == ("bleu > 1: bleu was not measured",)
    assert "no champion's chrf" in failing(["chrf > champion"], figures(chrf=1), None)[0]


def test_every_rule_that_a_project_may_hold_parses():
    spec = ProjectSpec.model_validate(
        {"project": "p", "base": "b", "gate": {"require": ["chrf>champion", "loss <  -0.5", "rouge_l >= 20"]}}
    )
    assert [str(parse(rule)) for rule in spec.gate.require] == ["chrf > champion", "loss < -0.5", "rouge_l >= 20"]
    assert needs_champion(spec.gate.require)
    assert not needs_champion(spec.gate.require[1:])
    with pytest.raises(ValueError, match="no gate rule"):
        parse("chrf is champion")
