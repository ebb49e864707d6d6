"""Pages hand out a cursor only where something follows, and take no cursor but their own."""

import base64
from datetime import UTC, datetime

import pytest

from services.chassis.http.application import ApiError
from services.chassis.storage.pages import decode, encode, moment, page


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


@pytest.mark.parametrize("place", [f"[{2**63}]", f"[{-(2**63) - 1}]", "[1e400]", "[" * 100_000, '["NaN"]'])
def test_a_number_that_no_database_holds_is_refused(place: str) -> None:
    with pytest.raises(ApiError):
        decode(base64.urlsafe_b64encode(place.encode()).decode(), int)


@pytest.mark.parametrize("place", ["2026-01-31T12:00:00", "now", 5, None])
def test_a_moment_has_a_zone(place: object) -> None:
    with pytest.raises(ApiError):
        decode(encode([place]), moment)
    assert decode(encode(["2026-01-31T12:00:00+00:00"]), moment) == (datetime(2026, 1, 31, 12, tzinfo=UTC),)
