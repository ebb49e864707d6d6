"""A project's system prompt as a template: a small part of Jinja whose rendering ends, cannot fail and stays small.

    TEXT := a variable | 'text' | TEXT | upper (lower, capitalize, title, trim) | TEXT or TEXT | TEXT if CONDITION else TEXT
    CONDITION := TEXT | not, and, or of conditions | TEXT == TEXT (!=, in, not in)
    TEMPLATE := text, {{ TEXT }}, {% if CONDITION %} ... {% elif %} ... {% else %} ... {% endif %}, {# comments #}, {% raw %}

Variables are texts, so there is nothing to loop over; calls, attributes, loops, macros and imports are refused when a project
is applied (docs/decisions/0039). What a variable holds is never read as a template.
Source of the tree: https://jinja.palletsprojects.com/en/stable/extensions/#module-jinja2.nodes.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from contracts.chat import all_turns
from contracts.prompt import MAX_TEXT, Prompt, values_for
from contracts.records import Record
from services.lm.errors import MissingVariable, PromptInvalid, PromptTooLong

MAX_RENDERED = 100_000
"""Characters: what a message may have."""
MAX_DEPTH = 20
MAX_NODES = 2_000
FILTERS = ("capitalize", "lower", "title", "trim", "upper")
_COMPARED = frozenset({"eq", "ne", "in", "notin"})
_RESERVED = frozenset({"self", "super", "loop", "caller", "varargs", "kwargs"})
"""Names that mean something else to Jinja, whatever a variable holds."""
_WORDS: Mapping[type[nodes.Node], str] = {
    nodes.For: "a loop",
    nodes.Call: "a call",
    nodes.Getattr: "an attribute",
    nodes.Getitem: "an index",
    nodes.Assign: "an assignment",
    nodes.Test: "a test with `is`",
    nodes.Compare: "this comparison",
    nodes.CondExpr: "an `if` without `else` within {{ }}",
    nodes.Const: "a number or constant",
}
_OFFERED = (
    "a template has {{ variable }}, {% if %}, and, or, not, in, ==, != and the filters " + ", ".join(FILTERS) + " alone"
)


def _environment() -> ImmutableSandboxedEnvironment:
    # As transformers' chat templates: a line of tags alone leaves no blank line.
    made = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True, cache_size=0
    )
    made.globals.clear()
    made.tests.clear()
    made.filters = {name: made.filters[name] for name in FILTERS}
    return made


ENVIRONMENT = _environment()


def check_prompt(prompt: Prompt) -> None:
    """Whether the prompt is one that can be rendered, whatever values its variables get.

    Raises:
        PromptInvalid: with the key at fault, and the line of the template.
    """
    if not prompt.variables:
        return
    try:
        _compiled(prompt.system or "", frozenset(prompt.variables))
    except RecursionError:
        raise PromptInvalid(("system",), f"is nested too deep; at most {MAX_DEPTH} levels are taken") from None
    except TemplateSyntaxError as error:
        raise PromptInvalid(("system",), error.message or "is no template", error.lineno) from error


def render_prompt(prompt: Prompt, given: Mapping[str, str]) -> Prompt:
    """The prompt with its system prompt as text, each variable as `given`, else its default; a literal one as it is.

    A template that comes to nothing is no system prompt.

    Raises:
        MissingVariable: a variable without a default is not given.
        PromptTooLong: the text has more than MAX_RENDERED characters, or a value more than contracts.prompt.MAX_TEXT.
    """
    if not prompt.variables:
        return prompt
    values = values_for(prompt, given)
    if missing := [name for name, value in values.items() if value is None]:
        raise MissingVariable(missing)
    for name, value in values.items():
        if value is not None and len(value) > MAX_TEXT:
            raise PromptTooLong(f"the variable {name!r} has {len(value)} characters; at most {MAX_TEXT} are taken")
    template = _compiled(prompt.system or "", frozenset(prompt.variables))
    pieces: list[str] = []
    size = 0
    for piece in template.generate(values):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_RENDERED:
            raise PromptTooLong(f"the system prompt has more than {MAX_RENDERED} characters with these variables")
    return prompt.model_copy(update={"system": "".join(pieces) or None, "variables": {}})


def record_prompt(prompt: Prompt, record: Record, tags: Mapping[str, str]) -> Prompt:
    """The prompt before a record's conversation: its variables are the record's `tags` of the same names, else the defaults.

    Raises:
        MissingVariable, PromptTooLong: as `render_prompt`.
    """
    turns, _ = all_turns(record)
    alone = not turns or turns[0].role == "system"
    return prompt.model_copy(update={"variables": {}}) if alone else render_prompt(prompt, tags)


def example_prompt(prompt: Prompt) -> Prompt:
    """The prompt as it may look: a variable without a default has its own name as value."""
    return render_prompt(prompt, {name: name for name in prompt.required})


@lru_cache(256)
def _compiled(source: str, declared: frozenset[str]) -> Template:
    """The template, checked.

    Raises:
        PromptInvalid, TemplateSyntaxError, RecursionError: it is none that is taken.
    """
    tree = ENVIRONMENT.parse(source)
    if sum(1 for _ in _all(tree)) > MAX_NODES:
        raise PromptInvalid(("system",), f"has more than {MAX_NODES} parts; shorten it")
    _check_body(tree.body, 0)
    _check_names({node.name: node.lineno for node in tree.find_all(nodes.Name)}, declared)
    return ENVIRONMENT.from_string(tree)


def _check_names(used: Mapping[str, int], declared: frozenset[str]) -> None:
    """Whether the names that a template uses, with a line of each, are those that are declared."""
    if taken := sorted(declared & _RESERVED):
        raise PromptInvalid(("variables", taken[0]), "is a name of Jinja's own; take another")
    if unknown := sorted(used.keys() - declared):
        line, names = used[unknown[0]], ", ".join(sorted(declared))
        said = f"{unknown[0]!r} is no variable; declare it under prompt.variables, which has {names}"
        raise PromptInvalid(("system",), said, line)
    if unused := sorted(declared - used.keys()):
        raise PromptInvalid(("variables", unused[0]), "is declared, but prompt.system does not use it; take it out")


def _all(node: nodes.Node) -> Iterator[nodes.Node]:
    waiting = [node]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += part.iter_child_nodes()


def _check_body(body: list[nodes.Node], depth: int) -> None:
    for node in body:
        match node:
            case nodes.Output():
                for part in node.nodes:
                    if not isinstance(part, nodes.TemplateData):
                        _check_text(part, depth + 1)
            case nodes.If():
                _check_deep(node, depth)
                _check_condition(node.test, depth + 1)
                for branch in (node.body, node.elif_, node.else_):
                    _check_body(list(branch), depth + 1)
            case _:
                raise _refused(node)


def _check_text(node: nodes.Node, depth: int) -> None:
    """Whether the node is a text, whatever the variables hold."""
    _check_deep(node, depth)
    match node:
        case nodes.Name(ctx="load"):
            pass
        case nodes.Const(value=str()):
            pass
        case nodes.Filter(name=name, node=nodes.Node() as inner, args=[], kwargs=[], dyn_args=None, dyn_kwargs=None):
            if name not in FILTERS:
                raise _refused(node)
            _check_text(inner, depth + 1)
        case nodes.Or(left=left, right=right):
            _check_text(left, depth + 1)
            _check_text(right, depth + 1)
        case nodes.CondExpr(test=test, expr1=yes, expr2=nodes.Node() as no):
            _check_condition(test, depth + 1)
            _check_text(yes, depth + 1)
            _check_text(no, depth + 1)
        case _:
            raise _refused(node)


def _check_condition(node: nodes.Node, depth: int) -> None:
    _check_deep(node, depth)
    match node:
        case nodes.Not(node=inner):
            _check_condition(inner, depth + 1)
        case nodes.And(left=left, right=right) | nodes.Or(left=left, right=right):
            _check_condition(left, depth + 1)
            _check_condition(right, depth + 1)
        case nodes.Compare(expr=expr, ops=ops):
            for part in (expr, *(each.expr for each in ops)):
                _check_text(part, depth + 1)
            if any(each.op not in _COMPARED for each in ops):
                raise _refused(node)
        case _:
            _check_text(node, depth)


def _check_deep(node: nodes.Node, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise PromptInvalid(("system",), f"is nested deeper than {MAX_DEPTH} levels", node.lineno)


def _refused(node: nodes.Node) -> PromptInvalid:
    named = f"the filter {node.name!r}, or what it is given," if isinstance(node, nodes.Filter) else None
    what = named or _WORDS.get(type(node), type(node).__name__.lower())
    return PromptInvalid(("system",), f"{what} is not offered here: {_OFFERED}", node.lineno)
