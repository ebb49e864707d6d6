"""A comparison as one HTML page that needs nothing else: inline style, no script, all data escaped, tables with captions."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from contracts.evaluation import SHOWN
from services.chassis.page import document

Json = Mapping[str, Any]
LONG = 4_000
"""Characters of a text that are shown."""


def page(found: Json) -> str:
    """The page of what `GET /v1/comparisons/{project}` tells."""
    a, b = found["a"]["model"], found["b"]["model"]
    title = f"{b} against {a}"
    advice = f" {escape(found['advice'])}." if found["advice"] else ""
    head = (
        f'<h1>{escape(title)}</h1><p class="card"><b>{escape(found["verdict"])}</b></p>'
        f'<p class="dim">{escape(found["rows"]["words"])}.{advice} Differences are {escape(b)} minus {escape(a)}, paired by row; '
        "intervals are of 95%. Nothing here decides: the gate's reasons are told by <code>noria explain</code>.</p>"
    )
    parts = (head, _metrics(found), _slices(found), _regressions(found), _differences(found))
    return document(title, "".join(parts))


def _metrics(found: Json) -> str:
    a, b = found["a"]["model"], found["b"]["model"]
    heads = ("metric", f"{a} [95%]", f"{b} [95%]", "difference [95%]", "rows", "p by Holm", "finding")
    rows = [
        (
            m["metric"],
            _metric(m["a"]),
            _metric(m["b"]),
            _signed(m["difference"]),
            m["difference"]["n"],
            _p(m["adjusted"]),
            m["finding"],
        )
        for m in found["metrics"]
    ]
    note = f"p is two-sided, by sign flips, adjusted over the metrics; a finding needs {SHOWN:g}. A lower loss is the better one."
    return f'<h2>Metrics</h2>{_table("Each metric of both versions", heads, rows)}<p class="dim">{note}</p>'


def _slices(found: Json) -> str:
    parts, b = found["slices"], found["b"]["model"]
    shown = [d for d in parts["worst"] if d["adjusted"] <= SHOWN]
    if not parts["all"]:
        return '<h2>Parts of the rows</h2><p class="none">No part of the rows is large enough to be compared.</p>'
    said = (
        f"{escape(b)} is shown to be worse on {len(shown)} of {parts['tests']} differences."
        if shown
        else f"{escape(b)} is not shown to be worse on any part."
    )
    note = (
        f"{parts['parts']} parts by tag and by the question's length, {parts['tests']} tests for the worse, p by Holm over all; "
        f"intervals are of each part alone. {parts['left_out']} smaller parts are not compared."
    )
    first = _table("The ten worst parts", _part_heads(found), _part_rows(parts["worst"][:10]))
    every = _table("All parts", _part_heads(found), _part_rows(parts["all"]))
    return (
        f'<h2>Parts of the rows</h2><p>{said}</p>{first}<p class="dim">{note}</p>'
        f"<details><summary>all parts</summary>{every}</details>"
    )


def _part_heads(found: Json) -> tuple[str, ...]:
    return ("part", "metric", "rows", found["a"]["model"], found["b"]["model"], "difference [95%]", "p", "p by Holm")


def _part_rows(parts: Iterable[Json]) -> list[tuple[Any, ...]]:
    return [
        (
            f"{d['tag']} = {d['value']}" if d["tag"] else f"question of {d['value']}",
            d["metric"],
            d["difference"]["n"],
            f"{d['champion']:.4g}",
            f"{d['candidate']:.4g}",
            _signed(d["difference"]),
            _p(d["p"]),
            _p(d["adjusted"]),
        )
        for d in parts
    ]


def _regressions(found: Json) -> str:
    cases, a, b = found["regressions"], found["a"]["model"], found["b"]["model"]
    if not cases["cases"]:
        return '<h2>Regression cases</h2><p class="none">No held-out question has a correction by a person yet.</p>'
    heads = ("became", "cases")
    rows = (
        (f"right by both (kept by {b})", cases["kept"]),
        (f"right by {b} alone (fixed)", cases["fixed"]),
        (f"right by {a} alone (lost)", cases["regressed"]),
        ("right by neither", cases["wrong"]),
    )
    note = (
        f"{cases['cases']} held-out questions that people corrected; no version learnt them. Right is {cases['right']}."
    )
    lost = f" Lost: {', '.join(cases['records'])}." if cases["records"] else ""
    return (
        f'<h2>Regression cases</h2>{_table("What became of them", heads, rows)}<p class="dim">{escape(note + lost)}</p>'
    )


def _differences(found: Json) -> str:
    rows, by, a, b = found["differences"], found["by"], found["a"]["model"], found["b"]["model"]
    if not rows:
        return '<h2>Answers</h2><p class="none">No answer of the two differs by a metric.</p>'
    heads = ("record", "question", "should be", a, b, f"{by}, {a}", f"{by}, {b}", "difference")
    cells = "".join(
        f'<tr><th scope="row"><code>{escape(row["record_id"])}</code></th>'
        + "".join(f"<td><pre>{escape(_cut(t))}</pre></td>" for t in (row["prompt"], row["reference"]))
        + "".join(f"<td><pre>{escape(_cut(row[side]['answer']))}</pre></td>" for side in "ab")
        + f"<td>{row['a']['value']:.4g}</td><td>{row['b']['value']:.4g}</td><td>{row['difference']:+.4g}</td></tr>"
        for row in rows
    )
    caption = f"The {len(rows)} answers that differ most by {by}, either way"
    table = f"<table><caption>{escape(caption)}</caption>{_heads(heads)}{cells}</table>"
    return f'<h2>Answers</h2><p class="dim">{found["differing"]} answers are not the same.</p><div class="wide">{table}</div>'


def _table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    body = "".join(
        f'<tr><th scope="row">{escape(str(first))}</th>{"".join(f"<td>{escape(str(cell))}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return f'<div class="wide"><table><caption>{escape(caption)}</caption>{_heads(heads)}{body}</table></div>'


def _heads(names: Iterable[str]) -> str:
    return "<tr>" + "".join(f'<th scope="col">{escape(name)}</th>' for name in names) + "</tr>"


def _metric(value: Json) -> str:
    return f"{value['value']:.4g} [{value['low']:.4g}, {value['high']:.4g}]"


def _signed(value: Json) -> str:
    return f"{value['value']:+.4g} [{value['low']:.4g}, {value['high']:.4g}]"


def _p(value: float) -> str:
    return f"{value:.2g}"


def _cut(text: str | None) -> str:
    given = text or ""
    return given if len(given) <= LONG else given[:LONG] + "…"
