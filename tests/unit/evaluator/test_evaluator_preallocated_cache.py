import torch
from transformers.cache_utils import DynamicCache

from services.evaluator.compute.preallocated_cache import PreallocatedLayer, preallocated


def states(tokens: int, rows: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 2, tokens, 3), torch.randn(rows, 2, tokens, 3)


def test_keys_and_values_are_those_that_are_copied_anew():
    torch.manual_seed(0)
    plain, roomy = DynamicCache(), DynamicCache()
    first = states(5)
    for cache in (plain, roomy):
        cache.update(*first, 0)
    roomy = preallocated(roomy, 3)
    assert isinstance(roomy.layers[0], PreallocatedLayer)
    rows = 4
    for step in range(9):  # more than the room, with rows that leave and tokens that are cut off in between
        if step in (2, 6):
            stay = torch.tensor([0, *range(2, rows)])
            rows -= 1
            for cache in (plain, roomy):
                cache.batch_select_indices(stay)
        if step == 4:
            for cache in (plain, roomy):
                cache.crop(-2)
        new = states(1 + step % 2, rows)
        for expected, found in zip(plain.update(*new, 0), roomy.update(*new, 0), strict=True):
            assert torch.equal(expected, found)
        assert plain.get_seq_length() == roomy.get_seq_length()


def test_a_token_within_the_room_moves_nothing():
    cache = DynamicCache()
    cache.update(*states(5), 0)
    roomy = preallocated(cache, 8)
    places = set[int]()
    for _ in range(8):
        keys, _values = roomy.update(*states(1), 0)
        places.add(keys.data_ptr())
    assert len(places) == 1
