"""Strategies for every contract class, made from its fields: types, bounds, patterns. Lists no field."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, timedelta
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel, JsonValue, Tag
from pydantic.fields import FieldInfo

from contracts.evaluation import RIGHT
from contracts.project import ProjectSpec

Strategy = st.SearchStrategy[Any]
TEXT = st.text(max_size=30)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
DURATIONS = st.timedeltas(min_value=timedelta(0)) | st.integers(0, 10**9).map(lambda n: timedelta(seconds=n))
SHA256 = r"^[0-9a-f]{64}$"
WORDS = {"ge": "min_value", "le": "max_value", "gt": "min_value", "lt": "max_value"}


def classes(annotation: Any) -> Iterator[type[BaseModel]]:
    """The model classes that a type can hold, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for info in annotation.model_fields.values():
            yield from classes(info.annotation)
    for part in get_args(annotation):
        yield from classes(part)


@cache
def instances(model: type[BaseModel], with_class: type[BaseModel] | None = None) -> Strategy:
    """Valid instances of a class, with any of the optional fields left out; `with_class`: one of these is in it."""
    infos = model.model_fields
    fields = {name: of(info.annotation, tuple(info.metadata), with_class) for name, info in infos.items()}
    needed = {n: each for n, each in fields.items() if infos[n].is_required() or holds(infos[n].annotation, with_class)}
    rest = {name: each for name, each in fields.items() if name not in needed}
    made = st.fixed_dictionaries(needed, optional=rest)
    if issubclass(model, ProjectSpec):
        return made.map(consistent).map(model.model_validate)
    return made.filter(lambda given: is_valid(model, given)).map(lambda given: model(**given))


def holds(annotation: Any, wanted: type[BaseModel] | None) -> bool:
    """Whether a type can hold instances of a class."""
    return wanted is not None and wanted in set(classes(annotation))


def is_valid(model: type[BaseModel], given: Mapping[str, Any]) -> bool:
    """Whether the fields fit together, as Prep's shares must."""
    try:
        model(**given)
    except ValueError:
        return False
    return True


def consistent(given: dict[str, Any]) -> dict[str, Any]:
    """The project with a gate that asks for a metric which is measured, and with stages and a metric of
    one answer that there are."""
    spec = {name: part.model_dump() if isinstance(part, BaseModel) else part for name, part in given.items()}
    suite = spec.get("evaluate", {}).get("suite") or ("chrf",)
    rules = spec.get("gate", {}).get("require", ())
    metric = next((name for name in suite if name != "exact_match"), None)  # whose thresholds have a rule of their own
    kept = tuple(re.sub(r"^[a-z_0-9]+", metric, rule) for rule in rules) if metric else ()
    margin = next(iter(spec.get("gate", {}).get("margins", {}).values()), None)
    used = margin is not None and any("champion" in rule for rule in kept)
    gate = spec.get("gate", {}) | {"require": kept, "margins": {metric: margin} if used else {}}
    if stages := spec.get("train", {}).get("stages"):
        spec["train"] = spec["train"] | {"stages": ("sft", "dpo", "orpo")[: len(stages)]}
    right = re.sub(r"^[a-z_0-9]+", "chrf", spec.get("evaluate", {}).get("right", RIGHT))
    return spec | {"gate": gate, "evaluate": spec.get("evaluate", {}) | {"suite": suite, "right": right}}


def of(kind: Any, bounds: tuple[Any, ...] = (), with_class: type[BaseModel] | None = None) -> Strategy:
    """Values of a type within bounds (annotated_types and pydantic's)."""
    if kind in (Any, JsonValue):
        return JSON_VALUES
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return of(inner[0], (*inner[1:], *bounds), with_class)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, UnionType):
        known = [branch for branch in inner if Tag("other") not in getattr(branch, "__metadata__", ())]
        branches = [branch for branch in known if holds(branch, with_class)] or known
        return st.one_of([of(branch, bounds, with_class) for branch in branches])
    limits = dict(limits_of(bounds))
    if origin in (tuple, dict) and holds(kind, with_class):
        limits |= {"min_length": 1}
    if origin is tuple:
        return st.lists(of(inner[0], (), with_class), **sizes(limits, 3)).map(tuple)
    if origin is dict:
        return st.dictionaries(of(inner[0]), of(inner[1], (), with_class), **sizes(limits, 3))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return instances(kind, with_class)
    return PLAIN[kind](limits)


def limits_of(bounds: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """(name, value) of what bounds a value; a FieldInfo or StringConstraints holds several."""
    for bound in bounds:
        if isinstance(bound, FieldInfo):
            yield from limits_of(tuple(bound.metadata))
        for name in ("ge", "le", "gt", "lt", "min_length", "max_length", "pattern"):
            if getattr(bound, name, None) is not None:
                yield name, getattr(bound, name)


def sizes(limits: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Bounds of a length, small ones."""
    least = limits.get("min_length", 0)
    return {"min_size": least, "max_size": max(least, min(limits.get("max_length", most), most))}


def integers(limits: Mapping[str, Any]) -> Strategy:
    """Whole numbers; unbounded ones beyond every machine word."""
    low, high = limits.get("ge", -(2**70)), limits.get("le", limits.get("lt", 2**70 + 1) - 1)
    return st.integers(low, high)


def floats(limits: Mapping[str, Any]) -> Strategy:
    """Finite numbers within bounds, the odd ones too."""
    given: dict[str, Any] = {WORDS[name]: float(value) for name, value in limits.items() if name in WORDS}
    open_ends: dict[str, Any] = {f"exclude_{WORDS[n].split('_')[0]}": True for n in limits if n in ("gt", "lt")}
    return st.floats(**given, **open_ends, allow_nan=False, allow_infinity=False)


def texts(limits: Mapping[str, Any]) -> Strategy:
    """Texts of a pattern, else any."""
    if "pattern" not in limits:
        return st.text(**sizes(limits, 30))
    if limits["pattern"] == SHA256:  # from_regex would draw each of its characters
        return st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")
    fitting = st.from_regex(limits["pattern"], fullmatch=True)
    return fitting.filter(lambda text: len(text) <= limits.get("max_length", 10**6) and text == text.rstrip("\n"))


PLAIN: dict[Any, Callable[[Mapping[str, Any]], Strategy]] = {
    NoneType: lambda _: st.none(),
    None: lambda _: st.none(),
    bool: lambda _: st.booleans(),
    int: integers,
    float: floats,
    str: texts,
    timedelta: lambda _: DURATIONS,
    AwareDatetime: lambda _: st.datetimes(timezones=st.just(UTC)),
}
