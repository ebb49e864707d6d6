"""Secrets and personal data in records, found as the door finds them, and the step that drops such.

Measured recall and false alarms: docs/data.md, "Policy at the door".
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from contracts.placeholders import HIDDEN, Kind
from services.chassis.privacy.redaction import Redactor
from services.prep.domain.arrow import compute
from services.prep.domain.frame import Bools, Dropped, Frame, Step


def kinds_in(value: Any) -> list[Kind]:
    """The kinds that a JSON value's texts hold, sorted."""
    redactor = Redactor()
    redactor.value(value)
    return [kind for kind in HIDDEN if redactor.kinds[kind]]


def told(record: str) -> str:
    """The kinds of a record's JSON text with a space between."""
    return " ".join(kinds_in(json.loads(record)))


def step(kinds: Sequence[str]) -> Step:
    """The reasons `pii_KIND`, of several kinds the first; without kinds, all of them."""
    wanted = [kind for kind in HIDDEN if not kinds or kind in kinds]

    def found(frame: Frame, left: Bools) -> Iterable[Dropped]:
        first = np.full(len(frame), len(wanted))
        for rows, texts in frame.texts("pii"):
            different = compute.dictionary_encode(texts)
            places = [_first(text.split(), wanted) for text in different.dictionary.to_pylist()]
            first[rows] = np.array(places, np.int64)[np.asarray(different.indices)]
        for place, kind in enumerate(wanted):
            dropped = np.flatnonzero(left & (first == place))
            yield Dropped(f"pii_{kind}", dropped, np.full(len(dropped), -1))

    return found


def _first(there: Sequence[str], wanted: Sequence[str]) -> int:
    return next((place for place, kind in enumerate(wanted) if kind in there), len(wanted))
