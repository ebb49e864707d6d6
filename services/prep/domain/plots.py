"""Small plots as inline SVG text. Knows nothing of datasets; colours come from the page's style sheet."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 460, 150
BAR, GAP, LABEL = 18, 6, 170
REST = "(others)"
"""The name of what is left over: it is no value of its own and is drawn paler."""


def bars(values: Mapping[str, int]) -> str:
    """Horizontal bars with their names and counts, in the order given."""
    if not values:
        return '<p class="none">none</p>'
    greatest = max(values.values()) or 1
    room = WIDTH - LABEL - 60
    parts = [_bar(i, name, n, n / greatest * room) for i, (name, n) in enumerate(values.items())]
    height = len(values) * (BAR + GAP)
    return f'<svg viewBox="0 0 {WIDTH} {height}" style="max-width:{WIDTH}px" role="img">{"".join(parts)}</svg>'


def _bar(i: int, name: str, n: int, length: float) -> str:
    y = i * (BAR + GAP)
    shown = name if len(name) <= 24 else name[:23] + "…"
    kind = "bar rest" if name == REST else "bar"
    return (
        f'<text x="{LABEL - 8}" y="{y + 13}" text-anchor="end">{escape(shown)}</text>'
        f'<rect class="{kind}" x="{LABEL}" y="{y}" width="{max(length, 1):.1f}" height="{BAR}" rx="2">'
        f"<title>{escape(name)}: {n:,}</title></rect>"
        f'<text class="dim" x="{LABEL + length + 6:.1f}" y="{y + 13}">{n:,}</text>'
    )


def histogram(width: int, counts: Sequence[int], unit: str) -> str:
    """Columns of equal width from 0 on; the last one holds all that is greater."""
    if not counts:
        return '<p class="none">none</p>'
    greatest = max(counts) or 1
    column = (WIDTH - 50) / len(counts)
    floor = HEIGHT - 26
    parts = [
        f'<rect class="bar" x="{45 + i * column:.1f}" y="{floor - n / greatest * (floor - 12):.1f}" '
        f'width="{max(column - 1, 0.5):.1f}" height="{n / greatest * (floor - 12):.1f}">'
        f"<title>{_range(i, width, len(counts))} {escape(unit)}: {n:,}</title></rect>"
        for i, n in enumerate(counts)
    ]
    ends = (
        f'<line class="axis" x1="45" y1="{floor}" x2="{WIDTH - 5}" y2="{floor}"/>'
        f'<text class="dim" x="38" y="16" text-anchor="end">{greatest:,}</text>'
        f'<text class="dim" x="38" y="{floor}" text-anchor="end">0</text>'
        f'<text class="dim" x="45" y="{HEIGHT - 10}">0</text>'
        f'<text class="dim" x="{WIDTH - 5}" y="{HEIGHT - 10}" text-anchor="end">'
        f"{(len(counts) - 1) * width:,}+ {escape(unit)}</text>"
    )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" style="max-width:{WIDTH}px" role="img">{"".join(parts)}{ends}</svg>'


def _range(i: int, width: int, count: int) -> str:
    low = i * width
    if i == count - 1:
        return f"{low:,} and more"
    return f"{low:,}" if width == 1 else f"{low:,} to {low + width - 1:,}"
