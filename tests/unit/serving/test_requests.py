"""What the gateway understands, and how it refuses the rest."""

import pytest

from services.serving.domain.errors import Invalid, error_body
from services.serving.domain.requests import parse_chat, parse_completion
from tests.unit.serving.builders import chat


def test_a_chat_request_keeps_what_it_set() -> None:
    asked = chat(',"temperature":0.5,"top_p":0.9,"stop":"\\n","seed":3,"user":"u","stream":true,"max_tokens":7')
    assert (asked.temperature, asked.top_p, asked.stop, asked.seed, asked.user) == (0.5, 0.9, ("\n",), 3, "u")
    assert asked.stream
    assert asked.parameters == {"temperature": 0.5, "top_p": 0.9, "stop": ["\n"], "seed": 3, "max_tokens": 7}


def test_max_completion_tokens_is_the_newer_word() -> None:
    assert chat(',"max_completion_tokens":5,"max_tokens":9').max_tokens == 5


def test_text_parts_are_joined_and_developer_is_system() -> None:
    asked = chat(
        "",
        '[{"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},'
        '{"role":"assistant","content":null},{"role":"user","content":"c"}]',
    )
    assert asked.messages == (
        {"role": "system", "content": "ab"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "c"},
    )


@pytest.mark.parametrize(
    "extra",
    [
        ',"metadata":{"a":"b"}',
        ',"store":true,"service_tier":"auto"',
        ',"n":1',
        ',"n":null,"tools":null,"tool_choice":null',
        ',"tools":[],"logit_bias":{},"response_format":{"type":"text"}',
        ',"parallel_tool_calls":true,"stream_options":null,"unheard_of":[1]',
        ',"logprobs":false',
    ],
)
def test_harmless_parameters_are_survived(extra: str) -> None:
    assert chat(extra).messages


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        (',"n":2', "n"),
        (',"tools":[{"type":"function"}]', "tools"),
        (',"response_format":{"type":"json_object"}', "response_format"),
        (',"logprobs":true', "logprobs"),
        (',"temperature":2.5', "temperature"),
        (',"temperature":"hot"', "temperature"),
        (',"top_p":-0.1', "top_p"),
        (',"max_tokens":0', "max_tokens"),
        (',"max_tokens":1.5', "max_tokens"),
        (',"seed":1e300', "seed"),
        (',"stop":["a","b","c","d","e"]', "stop"),
        (',"stop":[""]', "stop.0"),
        (',"stream":"perhaps"', "stream"),
        (',"presence_penalty":3', "presence_penalty"),
    ],
)
def test_impossible_parameters_are_refused_by_name(extra: str, param: str) -> None:
    with pytest.raises(Invalid) as refused:
        chat(extra)
    body = error_body(refused.value)["error"]
    assert (body["param"], body["type"]) == (param, "invalid_request_error")
    assert param in body["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"model":"a","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
        b'{"model":"a","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"a","messages":[{"role":"user","content":"a\\u0000b"}]}',
        b'{"model":"a","messages":' + b"[" * 100_000,
        b'{"model":"a"}',
        b'{"messages":[{"role":"user","content":"x"}]}',
        b'{"model":"a","messages":[]}',
        b'{"model":"a","messages":[{"role":"robot","content":"x"}]}',
        b'{"model":"a","messages":[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]}',
        b'{"model":"a","messages":[' + b",".join([b'{"role":"user","content":"x"}'] * 1001) + b"]}",
    ],
)
def test_bodies_that_are_no_request_are_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        parse_chat(body)


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    assert chat("", '[{"role":"user","content":"\\\\u0000"}]').messages == ({"role": "user", "content": "\\u0000"},)


def test_one_prompt_is_taken_as_text_or_in_a_list() -> None:
    assert parse_completion(b'{"model":"a","prompt":"x"}').prompt == "x"
    assert parse_completion(b'{"model":"a","prompt":["x"]}').prompt == "x"


@pytest.mark.parametrize("prompt", [b'["x","y"]', b"[1,2]", b"[[1]]", b'""', b"null", b"3"])
def test_other_prompts_are_refused(prompt: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        parse_completion(b'{"model":"a","prompt":' + prompt + b"}")
    assert refused.value.param == "prompt"
