"""A profile as one HTML page that needs nothing else: inline style and SVG, no script, all data escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from services.prep.profiling import plots, sections
from services.prep.profiling.figures import REST
from services.prep.profiling.profile import Profile

STYLE = """
:root{color-scheme:light dark;
--c2:#c46a2b;--c3:#6b5ca5;--c4:#4a8f4f;--c5:#b04a6f;--paper:#fff;--ink:#1d2733;--dim:#667383;--line:#dde3ea;--bar:#2f7d8c;--card:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--paper:#12181f;--ink:#e2e8ef;--dim:#93a1b1;--line:#2a3542;--bar:#4fb3c4;--card:#1a222c;
--c2:#e0935a;--c3:#a79be0;--c4:#86c98a;--c5:#e08bb0}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1060px;margin:0 auto;padding:28px 20px 60px}h1{margin:0;font-size:26px}h2{font-size:18px;margin:38px 0 10px}
h3{font-size:14px;margin:0 0 8px;font-weight:600}.dim,.none,small{color:var(--dim)}code{font-size:12px;word-break:break-all}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr));gap:16px;align-items:start}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px 16px;min-width:0}
.figures{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}.figures .card{flex:1 1 150px}.figures b{display:block;font-size:22px}
svg{width:100%;height:auto;display:block;overflow:visible}.wide{overflow-x:auto}
details{margin-top:8px}summary{color:var(--dim);cursor:pointer;font-size:13px}caption{text-align:left;color:var(--dim);font-size:13px}
table{border-collapse:collapse;width:100%;font-size:14px}th{text-align:left;color:var(--dim);font-weight:500}
th,td{padding:6px 10px 6px 0;border-top:1px solid var(--line);vertical-align:top}
td code{white-space:nowrap}
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.45 ui-monospace,monospace}
"""

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
    title = f"{escape(project)}: dataset {profile['version'][:12]}"
    parts = (
        *(_head(title, profile), _figures(profile), _make(profile), _lengths(profile)),
        *(sections.topics(profile["topics"]), sections.preferences(profile["preferences"]), _drops(profile)),
        *(sections.repeats(profile["repeats"]), sections.leakage(profile["leakage"]), sections.placeholders(profile)),
        *(sections.pii(profile), sections.quality(profile)),
        sections.longest(profile["longest"]),
    )
    examples = "".join(_examples(split, rows) for split, rows in profile["examples"].items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>{''.join(parts)}<h2>Examples</h2>{examples}"
        "</main></body></html>\n"
    )


def _head(title: str, profile: Profile) -> str:
    return f"<h1>{title}</h1><small>version <code>{escape(profile['version'])}</code></small>"


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
