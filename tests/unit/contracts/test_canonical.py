"""Equal JSON has one canonical text, however it is written; other JSON has another."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from contracts.canonical import canonical, content

KEYS = st.text(max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | KEYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def anew(value: Any, draw: Any) -> str:
    """`value` as another serialiser may write it: keys in any order, blanks, escapes, whole numbers with a point."""
    if isinstance(value, dict):
        pairs = [f"{anew(k, draw)} :{anew(v, draw)}" for k, v in draw(st.permutations(list(value.items())))]
        return "{ " + " ,\n".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + "\t,".join(anew(item, draw) for item in value) + " ]"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 and draw(st.booleans()):
        return draw(st.sampled_from([f"{value}.0", f"{value}.00", f"{value}.0e0", f"{value}E0"]))
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


@given(st.data(), VALUES)
def test_content_written_anew_is_the_same(data: st.DataObject, value: Any) -> None:
    first = canonical(content(json.dumps(value).encode()))
    assert canonical(content(anew(value, data.draw).encode("utf-8"))) == first


def whole(value: Any) -> Any:
    """`value` with True and False as something that equals no number, as in JSON."""
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return ("bool", value) if isinstance(value, bool) else value


@given(VALUES, VALUES)
def test_other_content_has_another_text(one: Any, other: Any) -> None:
    texts = [canonical(content(json.dumps(value).encode())) for value in (one, other)]
    assert (texts[0] == texts[1]) == (whole(one) == whole(other))
