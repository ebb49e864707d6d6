"""Sections of the page: topics, preferences, repeats, leakage, redactions, outliers. Parts of a profile in, escaped HTML out."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from services.prep.domain.quality import RULES
from services.prep.profiling import plots

Part = Mapping[str, Any]


def card(title: str, content: str) -> str:
    """A box with a heading."""
    return f'<div class="card"><h3>{escape(title)}</h3>{content}</div>'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are HTML already."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def topics(found: Part) -> str:
    """Clusters with their typical words and an example, and what lies far from all."""
    if "missing" in found:
        return f'<h2>Topics</h2><p class="none">None: {escape(found["missing"])}.</p>'
    note = (
        f"<p><small>Clusters of {found['sampled']:,} sampled prompts (the first {found['tokens_a_text']} tokens of each, "
        f"by {escape(found['embedded_by'])}), with the words that are typical of each.</small></p>"
    )
    sizes = {", ".join(topic["words"][:3]) or f"topic {i}": topic["n"] for i, topic in enumerate(found["found"], 1)}
    title = f"Topics in {found['sampled']:,} sampled rows"
    rows = [
        (escape(", ".join(topic["words"])), f"{topic['n']:,}", _id(topic["example"]), _pre(topic["example"]))
        for topic in found["found"]
    ]
    far = [(f"{row['distance']:.3f}", _id(row), _pre(row)) for row in found["outliers"]]
    return (
        f"<h2>Topics</h2>{note}{card(title, plots.bars(title, sizes))}"
        f"{table(('words', 'rows', 'record', 'nearest to the middle'), rows)}"
        f"<h3>Far from every topic</h3>{table(('distance (1 - cosine)', 'record', 'prompt'), far)}"
    )


def preferences(found: Part) -> str:
    """Label balance, and how much longer chosen answers are than rejected ones."""
    cards: list[str] = []
    if found["labels"]:
        title = "Labels of sampled rows"
        cards.append(card(title, plots.bars(title, found["labels"])))
    if found["pairs"]:
        title = "Chosen for a rejected of 100 characters"
        bins = found["percent"]["histogram"]
        share = f"<p>The chosen one is the longer one in {found['chosen_longer']:,} of {found['pairs']:,} sampled pairs.</p>"
        cards.append(card(title, plots.histogram(title, bins["width"], bins["counts"], "characters") + share))
    return f'<h2>Preferences</h2><div class="grid">{"".join(cards)}</div>' if cards else ""


def repeats(found: Part) -> str:
    """The largest clusters of records that repeat one."""
    if not found["clusters"]:
        return ""
    said = f"<p>{found['records']:,} records that were left out repeat {found['clusters']:,} that may be kept.</p>"
    rows = [
        (
            f"{cluster['size']:,}",
            escape(", ".join(f"{n:,} {reason}" for reason, n in cluster["reasons"].items())),
            f"{_id(cluster['kept'])}{_pre(cluster['kept'])}",
            "".join(f"{_id(other)}{_pre(other)}" for other in cluster["others"]),
        )
        for cluster in found["largest"]
    ]
    return (
        f"<h2>Repeats</h2>{said}{table(('records', 'left out as', 'the one they repeat', 'some that repeat it'), rows)}"
    )


def leakage(found: Part) -> str:
    """What of the other splits, and of the evaluation sets that steps name, stands in the training's."""
    parts = {name: part for name, part in found.items() if name not in ("trained", "against")}
    parts |= found.get("against", {})
    rows = [
        (
            escape(name.replace("_", "-") if name in found else name),
            f"{part['compared']:,} of {part['sampled']:,}",
            f"{part['sharing']:,}",
            f"{part['overlapping']:,}",
            f"{100 * part['mean_share']:.1f} %",
            "<br>".join(
                f"{_id(each)} {100 * each['share']:.0f} %, as {escape(each['trained'])}" for each in part["examples"]
            )
            or "-",
        )
        for name, part in parts.items()
    ]
    gram = next((part["ngram"] for part in parts.values()), 0)
    heads = ("split or dataset", "rows compared", "with one in training", "mostly in training", "mean", "the most")
    note = (
        f"<p><small>Word {gram}-grams of sampled rows against those of {found['trained']:,} sampled training rows; "
        "shorter texts tell nothing.</small></p>"
    )
    return f"<h2>Overlap with training</h2>{note}{table(heads, rows)}"


def placeholders(profile: Part) -> str:
    """The places that redaction left in sampled texts."""
    if not profile["placeholders"]:
        return ""
    title = f"Redacted places, rows of {profile['sampled']:,} sampled"
    return f'<h2>Redacted</h2><div class="grid">{card(title, plots.bars(title, profile["placeholders"]))}</div>'


def pii(profile: Part) -> str:
    """Secrets and personal data in sampled rows."""
    found = profile.get("pii", {"found": {}})
    if not found["found"]:
        return ""
    title = f"Rows that hold them, of {found['sampled']:,} sampled"
    content = card(title, plots.bars(title, found["found"]))
    return f'<h2>Secrets and personal data</h2><div class="grid">{content}</div>'


def quality(profile: Part) -> str:
    """The rules of quality that completions of sampled rows break; made for the web, they say little of short answers."""
    found = profile.get("quality", {"found": {}})
    if not found["found"]:
        return ""
    title = f"Rows that break them, of {found['sampled']:,} sampled"
    said = "What the step <code>quality</code> would leave out by each rule; they were made for pages of the web."
    rows = [
        (f"<code>{escape(name)}</code>", f"{n:,}", f"{100 * n / found['sampled']:.0f} %", escape(_meaning(name)))
        for name, n in found["found"].items()
    ]
    plot = card(title, plots.bars(title, found["found"]))
    told = table(("rule", "rows", "share", "a completion of"), rows)
    return f'<h2>Quality</h2><p><small>{said}</small></p><div class="grid">{plot}</div>{told}'


def _meaning(rule: str) -> str:
    """What the rule's function says of itself, without its source."""
    said = (RULES[rule].__doc__ or "") if rule in RULES else ""
    return said.partition(": ")[2].rstrip(".")


def longest(rows: Sequence[Part]) -> str:
    """The longest of the sampled rows."""
    if not rows:
        return ""
    found = [(f"{row['characters']:,}", _id(row), _pre(row)) for row in rows]
    return f"<h2>Longest sampled rows</h2>{table(('characters', 'record', 'prompt'), found)}"


def _id(row: Part) -> str:
    return f"<code>{escape(row['record_id'])}</code>"


def _pre(row: Part) -> str:
    return f"<pre>{escape(row['text'])}</pre>"
