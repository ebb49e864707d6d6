"""Pages hand out a cursor only where something follows, and take no cursor but their own."""

import pytest

from services.chassis.http import ApiError
from services.chassis.pages import decode, encode, page


def test_page_and_its_cursor() -> None:
    rows = [3, 2, 1]
    shown = page(rows, 2, lambda row: [row])
    assert shown["items"] == [3, 2]
    assert decode(shown["next"], int) == (2,)
    assert page(rows, 3, lambda row: [row]) == {"items": rows, "next": None}
    assert page([], 3, lambda row: [row]) == {"items": [], "next": None}
    assert decode(None) is None


@pytest.mark.parametrize(
    "cursor", ["!", "é", encode([1])[:-1] + "_", encode(["x"]), encode([1, 2]), "bm90IGpzb24", "eyJhIjoxfQ"]
)
def test_foreign_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ApiError) as caught:
        decode(cursor, int)
    assert (caught.value.status, caught.value.code) == (400, "invalid_cursor")
