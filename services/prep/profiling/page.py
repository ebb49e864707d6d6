"""A profile as one HTML page that needs nothing else: inline style and SVG, no script, all data escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from services.chassis.page import document
from services.prep.profiling import plots, sections
from services.prep.profiling.figures import REST
from services.prep.profiling.profile import Profile

MEANING = {
    "empty": "a completion of white space alone",
    "too_short": "completion below min_chars, white space around it not counted",
    "too_long": "prompt and completion above max_chars together",
    "duplicate": "same content as another record but for Unicode form, line ends and white space around",
    "near_held_out": "prompt nearly repeats a held-out one",
    "near_validation": "prompt nearly repeats a validation one",
    "near_train": "nearly repeats another record of the training split",
}


def page(project: str, profile: Profile) -> str:
    """The page of a project's dataset."""
    title = f"{project}: dataset {profile['version'][:12]}"
    parts = (
        *(_head(title, profile), _figures(profile), _make(profile), _lengths(profile)),
        *(sections.topics(profile["topics"]), sections.preferences(profile["preferences"]), _drops(profile)),
        *(sections.repeats(profile["repeats"]), sections.leakage(profile["leakage"]), sections.placeholders(profile)),
        *(sections.pii(profile), sections.quality(profile)),
        sections.longest(profile["longest"]),
    )
    examples = "".join(_examples(split, rows) for split, rows in profile["examples"].items())
    return document(title, "".join(parts) + f"<h2>Examples</h2>{examples}")


def _head(title: str, profile: Profile) -> str:
    return f"<h1>{escape(title)}</h1><small>version <code>{escape(profile['version'])}</code></small>"


def _figures(profile: Profile) -> str:
    dropped = profile["records"] - profile["rows"]
    tokens = profile["tokens"]
    figures = {
        "records": profile["records"],
        **{split.replace("_", "-"): n for split, n in profile["counts"].items()},
        "dropped": dropped,
        "distinct prompts": profile["prompts"]["distinct"],
        f"{tokens['unit']}" + _sampled(tokens, profile): tokens["prompt"]["sum"] + tokens["completion"]["sum"],
    }
    cards = (f'<div class="card"><b>{n:,}</b><small>{escape(name)}</small></div>' for name, n in figures.items())
    return f'<div class="figures">{"".join(cards)}</div>'


def _sampled(part: Mapping[str, Any], profile: Profile) -> str:
    return "" if part["sampled"] == profile["rows"] else f" in {part['sampled']:,} sampled rows"


def _make(profile: Profile) -> str:
    languages = profile["languages"]
    cards = [
        _bars("Splits", profile["counts"]),
        _bars("Kinds" + _sampled(profile, profile), profile["kinds"]),
        _bars("Languages" + _sampled(languages, profile) + ", an estimate", languages["found"]),
        *(_tag(name, values) for name, values in list(profile["tags"].items())[:6]),
        *_sources(profile["sources"]),
    ]
    return f'<h2>What is in it</h2><div class="grid">{"".join(cards)}</div>'


def _bars(title: str, values: Mapping[str, int]) -> str:
    return sections.card(title, plots.bars(title, values))


def _tag(name: str, values: Mapping[str, int]) -> str:
    if len(values) > 1 and max((n for value, n in values.items() if value != REST), default=0) == 1:
        return sections.card(f"Tag {name}", '<p class="none">another value with each row</p>')
    return _bars(f"Tag {name}", values)


def _sources(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    title = "Accepted over time" + (f", by tag {found['tag']}" if found["tag"] else "")
    return [sections.card(title, plots.over_time(title, found["unit"], found["counts"]))]


def _lengths(profile: Profile) -> str:
    unit = profile["tokens"]["unit"]
    kinds = [("characters", profile["characters"]), (unit, profile["tokens"])]
    cards = [
        _length(f"{part.title()}, {name}" + _sampled({**profile, **found}, profile), found[part], name)
        for name, found in kinds
        for part in ("prompt", "completion")
    ]
    return f'<h2>Lengths</h2><div class="grid">{"".join(cards)}</div>'


def _length(title: str, spread: Mapping[str, Any], unit: str) -> str:
    plot = plots.histogram(title, spread["histogram"]["width"], spread["histogram"]["counts"], unit.split(" ")[0])
    if not spread["n"]:
        return sections.card(title, plot)
    names = ("least", "p5", "p50", "mean", "p95", "p99", "greatest")
    heads = "".join(f"<th>{name}</th>" for name in names)
    cells = "".join(f"<td>{spread[name]:,}</td>" for name in names)
    return sections.card(title, f'{plot}<div class="wide"><table><tr>{heads}</tr><tr>{cells}</tr></table></div>')


def _drops(profile: Profile) -> str:
    if not profile["drops"]:
        return '<h2>Left out</h2><p class="none">No record was left out.</p>'
    rows = "".join(
        f"<tr><td>{escape(reason)}</td><td>{found['n']:,}</td><td>{escape(MEANING.get(reason, ''))}</td>"
        f"<td>{'<br>'.join(_repeated(drop) for drop in found['examples'])}</td></tr>"
        for reason, found in profile["drops"].items()
    )
    heads = "<tr><th>reason</th><th>records</th><th>meaning</th><th>for example</th></tr>"
    return f'<h2>Left out</h2><div class="wide"><table>{heads}{rows}</table></div>'


def _repeated(drop: Mapping[str, Any]) -> str:
    other = drop["because_of"]
    return f"<code>{escape(drop['record_id'])}</code>" + (f" (see <code>{escape(other)}</code>)" if other else "")


def _examples(split: str, rows: Sequence[Mapping[str, str]]) -> str:
    cells = "".join(
        f"<tr><td><code>{escape(row['record_id'])}</code></td><td><pre>{escape(row['prompt'])}</pre></td>"
        f"<td><pre>{escape(row['completion'])}</pre></td></tr>"
        for row in rows
    )
    heads = "<tr><th>record</th><th>prompt</th><th>completion</th></tr>"
    content = f'<div class="wide"><table>{heads}{cells}</table></div>' if rows else '<p class="none">none</p>'
    return f"<h3>{escape(split.replace('_', '-'))}</h3>{content}<br>"
