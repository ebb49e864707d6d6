"""Says which pieces of which prompts the next pass reads; how many tokens they may have says pieces.py."""

from collections.abc import Callable, Sequence

from services.serving.triton.backend.decoder import Piece
from services.serving.triton.backend.kv_cache import Prompt
from services.serving.triton.backend.pieces import blocks
from services.serving.triton.backend.rows import Reading, Request


def next_pieces(
    reading: Sequence[Reading], most: int, begin: Callable[[Request], Prompt], *, oldest: bool
) -> list[tuple[Reading, Piece]]:
    """Pieces of together at most `most` tokens (0: none), but at least one block, of the oldest prompts or the shortest rests.

    `begin` gives what is known of a prompt's beginning. It is asked just before the first piece: a prompt that came at the
    same time may have been read meanwhile.
    """
    found: list[tuple[Reading, Piece]] = []
    for each in reading if oldest else sorted(reading, key=lambda each: each.rest):
        if most <= 0:
            break
        request = each.row.request
        if not each.prompt.read:
            each.prompt = begin(request)
        part = blocks(each.prompt.read, most, each.prompt.length)
        piece = Piece(request.prompt, request.adapter, each.prompt, part, each.row.scored)
        most -= piece.stop - piece.start
        if found and most < 0:
            break
        found.append((each, piece))
    return found
