from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from services.serving.triton.backend.detokenizer import Detokenizer, scan


def from_bytes(tokens: Sequence[int]) -> str:
    """A tokenizer whose every token is one byte: the hardest for characters of several bytes."""
    return bytes(tokens).decode("utf-8", errors="replace")


def from_byte_runs(tokens: Sequence[int]) -> str:
    """SentencePiece's byte tokens as the tokenizers library decodes them: a run that is no UTF-8 is broken as a whole."""
    text, run = "", b""
    for token in [*tokens, 256]:
        if token < 128 or token == 256:
            try:
                text += run.decode()
            except UnicodeDecodeError:
                text += "\ufffd" * len(run)
            text, run = text + (chr(token) if token < 128 else ""), b""
        else:
            run += bytes([token])
    return text


def from_words(tokens: Sequence[int]) -> str:
    """A tokenizer like SentencePiece: the space before the first word of a sequence is lost."""
    return " ".join(f"w{token}" for token in tokens)


@given(st.text(), st.binary(max_size=8))
def test_deltas_join_to_the_text_and_never_hold_half_a_character(text: str, prompt: bytes) -> None:
    detokenizer = Detokenizer(from_bytes, list(b"p" + prompt + b"."))
    deltas = [detokenizer.push(byte) for byte in text.encode()]
    assert "".join([*deltas, detokenizer.flush()]) == text
    assert all(delta in text for delta in deltas)
    if "\ufffd" not in text:
        assert not any("\ufffd" in delta for delta in deltas)


@given(st.text())
def test_characters_of_byte_tokens_in_a_row_come_whole(text: str) -> None:
    detokenizer = Detokenizer(from_byte_runs, [112, 46])
    deltas = [detokenizer.push(byte) for byte in text.encode()]
    assert "".join([*deltas, detokenizer.flush()]) == text


@given(st.binary(max_size=40))
def test_what_never_becomes_a_character_comes_out_at_the_end(data: bytes) -> None:
    detokenizer = Detokenizer(from_bytes, [])
    assert "".join([*map(detokenizer.push, data), detokenizer.flush()]) == data.decode("utf-8", errors="replace")


def test_a_tokens_text_depends_on_those_before_it() -> None:
    detokenizer = Detokenizer(from_words, [1, 2])
    assert [detokenizer.push(3), detokenizer.push(4)] == [" w3", " w4"]


def test_a_stop_string_ends_the_text_before_it() -> None:
    assert scan("abc END def", ("END",)) == ("abc ", "", "END")


def test_of_two_stop_strings_the_one_that_begins_first_counts() -> None:
    assert scan("abcd", ("cd", "bc")) == ("a", "", "bc")


def test_a_tail_that_may_become_a_stop_string_waits() -> None:
    assert scan("abc\n\n", ("\n\n\n", "xyz")) == ("abc", "\n\n", None)
    assert scan("abc", ("xyz",)) == ("abc", "", None)


@given(st.text(alphabet="ab"), st.lists(st.text(alphabet="ab", min_size=1, max_size=3), max_size=3))
def test_streaming_by_character_stops_where_the_whole_text_would(text: str, stops: list[str]) -> None:
    shown, held = "", ""
    for character in text:
        news, held, stop = scan(held + character, stops)
        shown += news
        if stop:
            break
    else:
        shown += held
    first = min((at + len(stop) for stop in stops if (at := text.find(stop)) >= 0), default=None)
    ends = [stop for stop in stops if first is not None and text[:first].endswith(stop)]
    assert shown == (text if first is None else text[: first - max(map(len, ends))])
