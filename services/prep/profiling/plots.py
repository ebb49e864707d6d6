"""Plots as SVG text by Vega-Lite (https://vega.github.io/vega-lite/), each with its table. Knows nothing of datasets.

Drawn by vl-convert, which holds Vega and needs no network and no browser. Colours are the page's variables. To a screen reader a
plot is one image, named by its title; the table beside it says the same in words.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from services.prep.profiling.figures import REST

WIDTH, HEIGHT, STEP = 300, 130, 22
NAME = 40
"""Characters of a name that are drawn; the table has it whole."""
NONE = '<p class="none">none</p>'
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_OPENING = re.compile(r"<svg [^>]*?width=\"([\d.]+)\" height=\"([\d.]+)\" viewBox=\"([^\"]+)\">")
CONFIG: dict[str, Any] = {
    "view": {"stroke": None},
    "font": "system-ui, sans-serif",
    "axis": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--dim)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "grid": False,
        "labelLimit": 170,
        "labelFontSize": 12,
        "titleFontWeight": "normal",
    },
    "legend": {"labelColor": "var(--ink)", "title": None, "orient": "bottom", "labelFontSize": 12, "columns": 3},
}
COLOURS = ["var(--bar)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)", "var(--dim)"]


def bars(title: str, values: Mapping[str, int]) -> str:
    """Horizontal bars with their names and counts, in the order given."""
    if not values:
        return NONE
    rows = [{"i": i, "name": _brief(name), "n": n, "rest": name == REST} for i, (name, n) in enumerate(values.items())]
    spec = {
        "data": {"values": rows},
        "width": WIDTH,
        "height": {"step": STEP},
        "encoding": {
            "y": {"field": "i", "type": "ordinal", "axis": None},
            "x": {"field": "n", "type": "quantitative", "axis": None},
        },
        "layer": [
            {"mark": {"type": "bar", "color": "var(--bar)"}, "encoding": {"opacity": _paler()}},
            _text("n", "left", 4, {"format": ",d"}, "var(--dim)"),
            _names(),
        ],
    }
    return figure(title, draw(title, spec), ("name", "rows"), list(values.items()))


def _names() -> dict[str, Any]:
    place = {"x": {"value": 0}}
    return {**_text("name", "right", -6, {}, "var(--ink)"), "encoding": {"text": {"field": "name"}, **place}}


def _paler() -> dict[str, Any]:
    return {"condition": {"test": "datum.rest", "value": 0.45}, "value": 1}


def _text(field: str, align: str, dx: int, form: Mapping[str, str], colour: str) -> dict[str, Any]:
    mark = {"type": "text", "align": align, "dx": dx, "color": colour, "fontSize": 12, "limit": 170}
    return {"mark": mark, "encoding": {"text": {"field": field, **form}}}


def histogram(title: str, width: int, counts: Sequence[int], unit: str) -> str:
    """Columns of equal width from 0 on; the last one holds all that is greater."""
    if not counts:
        return NONE
    rows = [{"from": i * width, "to": (i + 1) * width, "n": n} for i, n in enumerate(counts)]
    spec = {
        "data": {"values": rows},
        "width": WIDTH + 60,
        "height": HEIGHT,
        "mark": {"type": "bar", "color": "var(--bar)"},
        "encoding": {
            "x": {
                "field": "from",
                "bin": {"binned": True, "step": width},
                "type": "quantitative",
                "title": f"{unit}, the last column and more",
                "axis": {"tickCount": 6, "format": ",d"},
            },
            "x2": {"field": "to"},
            "y": {"field": "n", "type": "quantitative", "title": "rows", "axis": {"tickCount": 4, "format": ",d"}},
        },
    }
    table = [(_range(i, width, len(counts)), n) for i, n in enumerate(counts)]
    return figure(title, draw(title, spec), (unit, "rows"), table)


def over_time(title: str, unit: str, counts: Mapping[str, Mapping[str, int]]) -> str:
    """Stacked columns of the sources' counts by hour, day or month."""
    if not counts:
        return NONE
    rows = [
        {"i": i, "source": _brief(source), "at": at, "n": n}
        for i, (source, buckets) in enumerate(counts.items())
        for at, n in buckets.items()
    ]
    names = [_brief(source) for source in counts]
    colour = {"field": "source", "type": "nominal", "scale": {"domain": names, "range": COLOURS[: len(names)]}}
    spec = {
        "data": {"values": rows},
        "width": WIDTH + 60,
        "height": HEIGHT,
        "mark": {"type": "bar"},
        "encoding": {
            "x": {
                "field": "at",
                "type": "ordinal",
                "title": f"accepted, by {unit} (UTC)",
                "axis": {"labelOverlap": True, "labelAngle": 0, "labelSeparation": 8},
            },
            "y": {"field": "n", "type": "quantitative", "title": "rows", "axis": {"tickCount": 4, "format": ",d"}},
            "color": colour | ({"legend": None} if len(names) == 1 else {}),
            "order": {"field": "i"},
        },
    }
    times = sorted({at for buckets in counts.values() for at in buckets})
    table = [(at, *(counts[source].get(at, 0) for source in counts)) for at in times]
    return figure(title, draw(title, spec), (unit, *counts), table)


def draw(title: str, spec: Mapping[str, Any]) -> str:
    """A Vega-Lite specification as one image."""
    import vl_convert

    whole = {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", "background": None, "config": CONFIG, **spec}
    svg: str = vl_convert.vegalite_to_svg(whole)
    return _OPENING.sub(
        lambda found: (
            f'<svg viewBox="{found[3]}" style="max-width:{found[1]}px" role="img" aria-label="{escape(title)}">'
            f"<title>{escape(title)}</title>"
        ),
        svg,
        count=1,
    )


def figure(title: str, svg: str, heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A plot and its table, which is folded away from who sees the plot."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    cells = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows)
    table = f"<table><caption>{escape(title)}</caption><tr>{head}</tr>{cells}</table>"
    return f'{svg}<details><summary>as a table</summary><div class="wide">{table}</div></details>'


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else escape(str(value))


def _brief(name: str) -> str:
    plain = _CONTROL.sub(" ", name)
    return plain if len(plain) <= NAME else plain[: NAME - 1] + "…"


def _range(i: int, width: int, count: int) -> str:
    low = i * width
    if i == count - 1:
        return f"{low:,} and more"
    return f"{low:,}" if width == 1 else f"{low:,} to {low + width - 1:,}"
