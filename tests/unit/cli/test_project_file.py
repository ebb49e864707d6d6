import pytest

from services.cli.project_file import parse
from services.cli.yaml_file import FileInvalid

GOOD = b"""\
project: shell-copilot
base: smollm2-135m-instruct
prompt: {system: "One command."}
prep:
  held_out: 0.15
  freeze: {records: 500, quiet: 20s}
train:
  adapter: {kind: lora, r: 16}
  learning_rate: 1.0e-3
evaluate: {suite: [loss, chrf], held_out: yes}
gate: {require: ["chrf > champion"]}
"""


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(FileInvalid) as caught:
        parse(text if isinstance(text, bytes) else text.encode())
    return [str(problem) for problem in caught.value.problems]


def test_a_good_file_is_a_project() -> None:
    spec = parse(GOOD)
    assert (spec.project, spec.train.learning_rate, spec.prep.freeze.quiet.total_seconds()) == (
        "shell-copilot",
        1e-3,
        20,
    )
    assert parse(b"\xef\xbb\xbf" + GOOD) == spec, "a byte order mark is no fault"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (b"learning_rate", b"learning_rat", "line 9: train.learning_rat is not known; did you mean learning_rate?"),
        (
            b"prompt:",
            b"learning_rate: 3\nprompt:",
            "line 3: learning_rate is not known; did you mean train.learning_rate?",
        ),
        (b"0.15", b"1.5", "line 5: prep.held_out is 1.5; it should be less than or equal to 0.9"),
        (b"0.15", b"0.9\n  validation: 0.2", "line 4: held_out + validation leave nothing to train on"),
        (b"20s", b"soon", "line 6: prep.freeze.quiet is 'soon'; give a duration as 20s, 5m, 1.5h or 2d"),
        (b"kind: lora", b"kind: prefix", "line 8: train.adapter.kind is 'prefix'; it should be 'lora' or 'none'"),
        (b"r: 16", b"r: yes", "line 8: train.adapter.r is true; it should be a number"),
        (b"r: 16", b"target_modules: 3", "line 8: train.adapter.target_modules is 3; it should be 'all-linear' or"),
        (b"{kind: lora, r: 16}", b"lora", "line 8: train.adapter is 'lora'; it should hold keys: kind, r, alpha"),
        (b"shell-copilot", b"Shell Copilot", "line 1: project is 'Shell Copilot'; give lower-case letters"),
        (b"base: smollm2-135m-instruct\n", b"", "line 1: base is missing; add it"),
        (b"chrf > champion", b"chrf is best", "line 11: gate.require.0 is 'chrf is best'; give METRIC"),
        (b"chrf > champion", b"bleu > 3", "line 1: gate.require names 'bleu', which evaluate.suite does not measure"),
        (
            b"chrf > champion",
            b"exact_match >= 0.1",
            "line 11: gate.require.0 is 'exact_match >= 0.1'; exact_match is in percent, 0 to 100, as chrf, bleu and rouge_l "
            "are; give 'exact_match >= 10'",
        ),
        (
            b"held_out: yes",
            b"right: loss >= 2",
            "line 10: evaluate.right is 'loss >= 2'; 'loss' is no metric of one answer",
        ),
        (
            b"held_out: yes",
            b"right: chrfx >= 80",
            "line 10: evaluate.right is 'chrfx >= 80'; 'chrfx' is no metric of one",
        ),
        (b"held_out: yes", b"right: equal", "line 10: evaluate.right is 'equal'; give METRIC >= NUMBER, as in"),
        (
            b'chrf > champion"]',
            b'loss < 9"], regressions: -1',
            "line 11: gate.regressions is -1; it should be greater than or",
        ),
        (b"1.0e-3", b".nan", "line 9: '.nan' is no finite number"),
        (b"1.0e-3", b"-1", "line 9: train.learning_rate is -1; it should be greater than 0"),
        (b"base:", b"project: b\nbase:", "line 2: project stands here a second time (first: line 1)"),
        (b"  held_out: 0.15", b"\theld_out: 1", "line 5: this is not YAML"),
        (b"500, quiet", b"500, : quiet", "line 6: "),
    ],
)
def test_a_fault_is_named_with_its_line_and_what_would_be_right(old: bytes, new: bytes, expected: str) -> None:
    assert old in GOOD
    assert problems(GOOD.replace(old, new, 1))[0].startswith(expected)


TEMPLATE = GOOD.replace(b'prompt: {system: "One command."}', b"prompt:\n  variables: {shell: zsh}\n  system: %s")


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (b"|\n    One command.\n\n    {{ os }}", "line 8: prompt.system: 'os' is no variable"),
        (b"|-\n    {{ shell }}\n    {% for a in b %}", "line 7: prompt.system: "),
        (b"'{{ shell | safe }}'", "line 5: prompt.system: the filter 'safe'"),
        (b">\n    {{ shell }}\n\n    {{ os }}", "line 5: prompt.system: line 2 of the text: 'os' is no variable"),
        (b"'One command.'", "line 4: prompt.variables.shell: is declared, but prompt.system does not use it"),
    ],
)
def test_a_fault_of_a_template_is_named_with_its_line_of_the_file(system: bytes, expected: str) -> None:
    assert problems(TEMPLATE % system)[0].startswith(expected)


def test_all_faults_are_told_at_once_in_the_order_of_lines() -> None:
    text = GOOD.replace(b"held_out: 0.15", b"held: 0.15").replace(b"r: 16", b"r: 0").replace(b"project:", b"projekt:")
    assert [p.split(":")[0] for p in problems(text)] == ["line 1", "line 1", "line 5", "line 8"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "line 1: the file is empty"),
        (b"- a\n- b\n", "line 1: a project file is a mapping"),
        (b"project: a\nbase: \xff\n", "line 2: byte 17 is not UTF-8"),
        (b"a: &x 1\nb: *x\n", "line 2: the alias *x is not taken"),
        (b"a: 1\n---\nb: 2\n", "line 2: a second document"),
        (b"a: !!python/object:os.system {}\n", "line 1: "),
        (b"a: !mine 3\n", "line 1: the tag !mine is not taken"),
        (b"? [a]\n: 3\n", "line 1: a key must be plain text"),
        (b"project: a\x00b\n", "line 1: the character"),
        (b"[" * 5000, "line 1: nested deeper than 20 levels"),
        (b"a: " + b"9" * 5000, "line 1: "),
        (b"a: [" + b"1," * 30_000 + b"]", "line 1: more than 20000 values"),
        (b"#" * 300_000, "line 1: the file has 300000 bytes"),
        (b"when: 2024-99-99\n", "line 1: '2024-99-99' cannot be read"),
    ],
)
def test_hostile_files_are_refused_at_once(text: bytes, expected: str) -> None:
    assert problems(text)[0].startswith(expected)
