"""A dataset's records as what dpo, kto and orpo learn from, and the rows of sft that are mixed in. No tensors."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rapidfuzz.distance import Levenshtein

from contracts.project import Prompt, Train
from contracts.records import Preference, PromptCompletion, Record, UnpairedPreference
from services.lm.errors import TextRefused
from services.lm.learning import Encoded, Row, clip, encode_records, record_rows
from services.lm.prompt_template import record_prompt
from services.lm.tokens import TextTokenizer
from services.trainer.domain.units import Unit, learn, pair, verdict


@dataclass(slots=True)
class Preferred:
    """Units of preferences, the rows of sft beside them, and what was left out, cut or too close to be a preference."""

    units: list[Unit] = field(default_factory=list[Unit])
    rows: list[Row] = field(default_factory=list[Row])
    left_out: Counter[str] = field(default_factory=Counter[str])
    cut: int = 0
    too_close: int = 0


def encode(
    records: Sequence[Record],
    tags: Sequence[Mapping[str, str]],
    tokenizer: TextTokenizer,
    prompt: Prompt,
    recipe: Train,
) -> Preferred:
    """What the only stage of `recipe` learns from. None of the records fails: what cannot be learnt is counted by reason.

    Reasons beside those of encode_records: `answer_in_parts`, an answer of several turns that this base's template does not
    write as one text.
    """
    kto = recipe.methods == ("kto",)
    found, others = Preferred(), list[tuple[Record, Mapping[str, str]]]()
    for record, values in zip(records, tags, strict=True):
        if not isinstance(record, Preference | UnpairedPreference) or not (
            isinstance(record, Preference) or (kto and not record.steps)
        ):
            others.append((record, values))
            continue
        try:
            answers = _answers(record, tokenizer, record_prompt(prompt, record, values), recipe)
        except TextRefused as error:
            answers = error.reason
        if isinstance(answers, str):
            found.left_out[answers] += 1
        else:
            found.cut += sum(whole for _, whole in answers)
            _take(found, record, [row for row, _ in answers], kto, recipe.preference.min_distance)
    supervised = encode_records(
        (record for record, _ in others), tokenizer, prompt, recipe.learn, recipe.max_length, (t for _, t in others)
    )
    _add(found, supervised)
    return found


def _answers(
    record: Preference | UnpairedPreference, tokenizer: TextTokenizer, prompt: Prompt, recipe: Train
) -> list[tuple[Row, bool]] | str:
    """The row of each answer and whether it was cut; the reason where one of them cannot be learnt."""
    told = (record.chosen, record.rejected) if isinstance(record, Preference) else (record.completion,)
    rows: list[tuple[Row, bool]] = []
    for answer in told:
        asked = PromptCompletion(
            prompt=record.prompt,
            completion=answer,
            tools=record.tools,
            chat_template_kwargs=record.chat_template_kwargs,
        )
        whole = record_rows(asked, tokenizer, prompt, recipe.learn, recipe.max_length)
        if len(whole) != 1:
            return "answer_in_parts" if whole else "no_completion"
        row = clip(whole[0], recipe.max_length)
        if not row.learnt:
            return "answer_cut_off"
        rows.append((row, len(whole[0].ids) > recipe.max_length))
    return rows


def _take(found: Preferred, record: Record, rows: list[Row], kto: bool, min_distance: float) -> None:
    if isinstance(record, UnpairedPreference):
        found.units.append(verdict(rows[0], record.label))
        return
    chosen, rejected = rows
    if distance(chosen, rejected) < min_distance or chosen == rejected:
        found.too_close += 1
        found.rows.append(chosen)
    else:
        found.units += [verdict(chosen, True), verdict(rejected, False)] if kto else [pair(chosen, rejected)]


def distance(chosen: Row, rejected: Row) -> float:
    """Edits (Levenshtein) between the answers' tokens by the longer one's number of tokens: 0 equal, 1 nothing in common."""
    return Levenshtein.normalized_distance(_learnt(chosen), _learnt(rejected))


def _learnt(row: Row) -> list[int]:
    return [token for start, end in row.learnt for token in row.ids[start:end]]


def _add(found: Preferred, supervised: Encoded) -> None:
    found.rows += supervised.rows
    found.left_out += supervised.left_out
    found.cut += supervised.cut


def replayed(rows: Sequence[Row], preferences: int, share: float, seed: int) -> list[Unit]:
    """So many of `rows`, chosen by the seed, that they are `share` of all; fewer where there are fewer."""
    wanted = min(len(rows), round(preferences * share / (1 - share)))
    chosen = random.Random(f"{seed}/replay").sample(range(len(rows)), wanted)  # noqa: S311 - a choice, no secret
    return [learn(rows[i]) for i in sorted(chosen)]


def why_not(method: str, found: Preferred) -> str | None:
    """Why a method cannot learn from what was found, with the counts and what to do; None where it can."""
    left = ", ".join(f"{n} {reason}" for reason, n in sorted(found.left_out.items()))
    beside = f"{found.too_close} pairs too close to each other, {len(found.rows)} rows of sft" + (
        left and f"; left out: {left}"
    )
    if method != "kto":
        if found.units:
            return None
        return (
            f"{method} learns from pairs of a chosen and a rejected answer, and the training split has none that can be used "
            f"({beside}); send preferences, lower train.preference.min_distance, or set train.method: sft"
        )
    wanted, unwanted = balance(found.units)
    if wanted and unwanted:
        return None
    return (
        f"kto learns from desirable and undesirable answers, and the training split has {wanted} desirable and {unwanted} "
        f"undesirable ({beside}); send answers with the other label, or preferences, or set train.method: sft"
    )


def balance(units: Iterable[Unit]) -> tuple[int, int]:
    """How many answers are desirable and how many are not."""
    labels = Counter(unit.desirable for unit in units)
    return labels[True], labels[False]


HIGHEST = 4 / 3
"""So many times the undesirable answers' weight the desirable ones' may have: Ethayarajh et al. 2024, equation 8."""


def kto_weights(desirable: int, undesirable: int) -> tuple[float, float]:
    """Weights that bring desirable : undesirable into 1:1 to 4:3 by raising the side that is short; 1 where it lies there."""
    ratio = desirable / undesirable
    if ratio < 1:
        return 1 / ratio, 1.0
    return 1.0, max(1.0, ratio / HIGHEST)


def length_ratio(units: Sequence[Unit]) -> float | None:
    """Tokens of the chosen or desirable answers by those of the others, as means; None where one side is empty."""
    wanted = [u.rows[0].targets for u in units if len(u.rows) == 2 or u.desirable is True]
    others = [u.rows[-1].targets for u in units if len(u.rows) == 2 or u.desirable is False]
    if not wanted or not others:
        return None
    return (sum(wanted) / len(wanted)) / (sum(others) / len(others))
