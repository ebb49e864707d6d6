"""Templates of system prompts: what is taken renders whatever its variables hold; all else is refused when it is applied."""

import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.prompt import MAX_TEXT, Prompt
from contracts.records import Conversation, Message, PlainText
from services.lm.errors import MissingVariable, PromptInvalid, PromptTooLong
from services.lm.prompt_template import (
    FILTERS,
    MAX_RENDERED,
    check_prompt,
    example_prompt,
    record_prompt,
    render_prompt,
)


def template(source: str, **variables: str | None) -> Prompt:
    return Prompt(system=source, variables=variables)


def rendered(source: str, values: dict[str, str] | None = None, **variables: str | None) -> str | None:
    prompt = template(source, **variables)
    check_prompt(prompt)
    return render_prompt(prompt, values or {}).system


def test_without_variables_a_text_is_literal() -> None:
    prompt = Prompt(system="Write {{ name }} and {% raw")
    check_prompt(prompt)
    assert render_prompt(prompt, {"name": "x"}) is prompt


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Hi {{ a }}, {{ b }}.", "Hi x, ."),
        ("{{ a|upper }}{{ ' B '|trim|lower }}{{ b }}", "Xb"),
        ("{{ b or a or 'nobody' }}", "x"),
        ("{{ 'yes' if a == 'x' and not b else 'no' }}", "yes"),
        ("{% if b %}\n  B\n{% elif 'x' in a %}\n  X{{ b }}\n{% else %}\n  -\n{% endif %}\nend", "  X\nend"),
        ("{# a remark #}{% raw %}{{ a }}{% endraw %}{{ a }}{{ b }}", "{{ a }}x"),
    ],
)
def test_it_renders(source: str, text: str) -> None:
    assert rendered(source, a="x", b="") == text


def test_a_request_s_value_stands_in_the_place_of_the_default_and_is_no_template() -> None:
    assert rendered("{{ a }}", {"a": "{{ b }}{% for"}, a="x") == "{{ b }}{% for"


def test_a_template_that_comes_to_nothing_is_no_system_prompt() -> None:
    assert rendered("{% if a %}Be {{ a }}.{% endif %}", a="") is None


def test_examples_and_tools_stay() -> None:
    raw: Any = {"system": "{{ a }}", "variables": {"a": "x"}, "examples": [{"user": "q", "assistant": "a"}]}
    found = render_prompt(Prompt.model_validate(raw), {})
    assert (found.system, found.variables, len(found.examples)) == ("x", {}, 1)


def test_a_variable_without_default_must_be_given() -> None:
    with pytest.raises(MissingVariable, match="variables a, b") as missing:
        render_prompt(template("{{ a }}{{ b }}", a=None, b=None), {})
    assert (missing.value.names, missing.value.reason) == (("a", "b"), "missing_variable")
    assert example_prompt(template("{{ a }} {{ b }}", a=None, b="x")).system == "a x"


REFUSED = {
    "{{ a.b }}": "an attribute",
    "{{ a['b'] }}": "an index",
    "{{ a() }}": "a call",
    "{{ ''.__class__.__mro__ }}{{ a }}": "an attribute",
    "{% for x in a %}{{ x }}{% endfor %}": "a loop",
    "{% set x = a %}{{ x }}": "an assignment",
    "{% macro m() %}{% endmacro %}{{ a }}": "macro",
    "{% include 'x' %}{{ a }}": "include",
    "{% import 'x' as y %}{{ a }}": "import",
    "{% extends 'x' %}{{ a }}": "extends",
    "{% block x %}{{ a }}{% endblock %}": "block",
    "{% filter upper %}{{ a }}{% endfilter %}": "filterblock",
    "{% with x = a %}{{ x }}{% endwith %}": "with",
    "{{ a|length }}": "the filter 'length'",
    "{{ a|trim('x') }}": "the filter 'trim'",
    "{{ a is defined }}": "a test",
    "{{ a ~ a }}": "concat",
    "{{ a * 9 }}": "mul",
    "{{ 9 ** 9 ** 9 }}{{ a }}": "pow",
    "{{ [a] }}": "list",
    "{{ {'a': a} }}": "dict",
    "{{ 5 }}{{ a }}": "a number",
    "{{ a < 'b' }}": "this comparison",
    "{{ 'x' if a }}": "without `else`",
    "{{ a": "unexpected end",
    "{% if a %}": "line 1",
    "\n\n{% endif %}{{ a }}": "line 3",
    "{% do a %}": "unknown tag",
    "{{ self }}{{ a }}": "'self' is no variable",
    "{{ " + "(" * 9_000 + "a" + ")" * 9_000 + " }}": "nested too deep",
    "{{ " + "not " * 4_000 + "a }}": "nested too deep",
    "{% if a %}" * 30 + "{% endif %}" * 30: "deeper than 20",
    "{{ a" + "|upper" * 3_000 + " }}": "2000|deep",
    "{{ a }}" * 2_500: "more than 2000 parts",
}


@pytest.mark.parametrize("source", REFUSED, ids=lambda source: source[:30])
def test_more_of_jinja_is_refused_by_name(source: str) -> None:
    with pytest.raises(PromptInvalid, match=REFUSED[source]) as refused:
        check_prompt(template(source, a="x"))
    assert refused.value.key == ("system",)


def test_what_is_declared_is_used_and_what_is_used_is_declared() -> None:
    with pytest.raises(PromptInvalid, match=r"prompt.system: line 2: 'b' is no variable.*which has a"):
        check_prompt(template("{{ a }}\n{{ b }}", a="x"))
    with pytest.raises(PromptInvalid, match="does not use it") as unused:
        check_prompt(template("{{ a }}", a="x", c="y"))
    assert unused.value.key == ("variables", "c")
    with pytest.raises(PromptInvalid, match="Jinja's own"):
        check_prompt(template("{{ self }}", self="x"))


def test_what_it_may_become_is_bounded() -> None:
    with pytest.raises(PromptTooLong, match=f"more than {MAX_RENDERED}"):
        rendered("{{ a }}" * 6, a="x" * MAX_TEXT)
    with pytest.raises(PromptTooLong, match="the variable 'a' has 20001"):
        rendered("{{ a }}", {"a": "x" * (MAX_TEXT + 1)}, a="")


COSTLY = {
    "outputs": "{{ a }}" * 900,
    "filters": "{% if " + " == ".join(["a|upper|lower"] * 400) + " %}{% endif %}",
    "branches": "".join("{% if a == b %}x{% endif %}" for _ in range(250)),
    "elifs": "{% if a == 'x' %}" + "{% elif a == b %}" * 250 + "{% endif %}",
    "within": "".join("{% if b in a %}x{% endif %}" for _ in range(250)),
}


@pytest.mark.parametrize("source", COSTLY.values(), ids=COSTLY.keys())
def test_the_costliest_templates_take_little_time(source: str) -> None:
    """CPU time, with values that differ late; far less than a chat template may take."""
    prompt = template(source + "{% if b %}{% endif %}", a="x" * (MAX_TEXT - 1) + "y", b="x" * MAX_TEXT)
    began = time.process_time()
    check_prompt(prompt)
    with suppress(PromptTooLong):
        render_prompt(prompt, {})
    assert time.process_time() - began < 2


TEXTS = st.recursive(
    st.sampled_from(["a", "b", "'t'", "''"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(FILTERS)).map(lambda p: f"({p[0]})|{p[1]}"),
        st.tuples(inner, inner).map(lambda p: f"({p[0]} or {p[1]})"),
        st.tuples(inner, inner, st.sampled_from(["==", "!=", "in", "not in"]), inner).map(
            lambda p: f"({p[0]} if {p[1]} {p[2]} {p[3]} else {p[0]})"
        ),
    ),
    max_leaves=4,
)
BODIES = st.recursive(
    st.one_of(TEXTS.map(lambda text: "{{ " + text + " }}"), st.text("xy \n", max_size=5)),
    lambda inner: st.tuples(TEXTS, inner, inner).map(
        lambda p: "{% if not " + p[0] + " %}" + p[1] + "{% else %}" + p[2] + "{% endif %}"
    ),
    max_leaves=4,
)


@settings(deadline=None, max_examples=150)
@given(source=BODIES, a=st.text(max_size=40), b=st.text(max_size=40))
def test_what_is_taken_renders_whatever_the_variables_hold(source: str, a: str, b: str) -> None:
    prompt = template(source + "{{ a }}{{ b }}", a=None, b=None)
    check_prompt(prompt)
    assert (render_prompt(prompt, {"a": a, "b": b}).system or "").endswith(a + b)


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet=st.sampled_from("{}%#ab|.()[]'\" \n-+*=<>~_ifendorset"), max_size=60))
def test_any_other_text_is_refused_or_renders(source: str) -> None:
    prompt = template(source, a="x", b="y")
    try:
        check_prompt(prompt)
    except PromptInvalid:
        return
    render_prompt(prompt, {"a": "{{", "b": "%}"})


ASKED = Message(role="user", content="q")


def test_a_record_s_tags_are_its_variables() -> None:
    prompt = template("For {{ team }}.", team=None)
    assert record_prompt(prompt, Conversation(messages=(ASKED,)), {"team": "sales", "x": "y"}).system == "For sales."
    with pytest.raises(MissingVariable):
        record_prompt(prompt, Conversation(messages=(ASKED,)), {"x": "y"})


@pytest.mark.parametrize(
    "record", [PlainText(text="t"), Conversation(messages=(Message(role="system", content="Mine."), ASKED))]
)
def test_a_record_before_which_no_prompt_stands_needs_no_variable(record: Any) -> None:
    assert record_prompt(template("{{ team }}", team=None), record, {}).variables == {}
