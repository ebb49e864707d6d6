"""Bounds on what metrics tell apart."""

from hypothesis import given
from hypothesis import strategies as st

from services.chassis.observability.metrics import OTHER, SECONDS, Bounded, buckets


@given(st.lists(st.text(max_size=3)), st.integers(0, 5))
def test_a_label_has_so_many_values_and_other(values: list[str], limit: int) -> None:
    bounded = Bounded(limit)
    shown = [bounded(value) for value in values]
    assert len(set(shown) - {OTHER}) <= limit
    assert all(out in (value, OTHER) for value, out in zip(values, shown, strict=True))
    assert [bounded(value) for value in values] == shown, "a value keeps its label"


def test_buckets_reach_the_longest_time() -> None:
    assert buckets(10.0) == buckets(1.0) == SECONDS
    assert buckets(120.0)[-3:] == (30.0, 60.0, 120.0)
    assert buckets(100.0)[-3:] == (30.0, 60.0, 100.0)
    assert list(buckets(9000.0)) == sorted(set(buckets(9000.0)))
