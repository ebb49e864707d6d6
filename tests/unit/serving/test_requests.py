"""What the gateway understands, and how it refuses the rest."""

import json

import pytest

from services.serving.domain.asked import Asked
from services.serving.domain.choices import parts
from services.serving.domain.errors import Invalid, error_body
from services.serving.domain.requests import parse_chat, parse_completion
from services.serving.domain.sampling import sampling_parameters
from services.serving.triton.backend.sampling_parameters import parse
from tests.unit.serving.builders import chat, target


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
        ',"parallel_tool_calls":true,"stream_options":null,"prompt_cache_key":"k","safety_identifier":"s"',
        ',"logit_bias":null,"tool_choice":"auto","echo":false,"best_of":1',
        ',"logprobs":false',
    ],
)
def test_harmless_parameters_are_survived(extra: str) -> None:
    assert chat(extra).messages


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        (',"tools":[{"type":"function"}]', "tools.0.function"),
        (',"tools":[{"type":"web_search"}]', "tools.0.type"),
        (',"tools":[{"type":"function","function":{"name":"a b"}}]', "tools.0.function.name"),
        (',"tool_choice":"perhaps"', "tool_choice"),
        (',"reasoning_effort":"low"', "reasoning_effort"),
        (',"unheard_of":null', "unheard_of"),
        (',"top_k":-2', "top_k"),
        (',"min_p":2', "min_p"),
        (',"repetition_penalty":0', "repetition_penalty"),
        (',"stop_token_ids":[-1]', "stop_token_ids.0"),
        (',"metadata":{"a":1}', "metadata.a"),
        (',"n":0', "n"),
        (',"n":129', "n"),
        (',"top_logprobs":3', "top_logprobs"),
        (',"logprobs":true,"top_logprobs":21', "top_logprobs"),
        (',"logit_bias":{"5":101}', "logit_bias.5"),
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
    ("wrong", "right"), [("tempature", "temperature"), ("top-p", "top_p"), ("tool_choise", "tool_choice")]
)
def test_a_misspelt_parameter_is_refused_with_what_was_meant(wrong: str, right: str) -> None:
    with pytest.raises(Invalid, match=f"{wrong}; did you mean '{right}'") as refused:
        chat(f',"{wrong}":1')
    assert refused.value.code == "unknown_parameter"


@pytest.mark.parametrize(
    ("extra", "param", "right"),
    [
        (',"stream":true,"stream_options":{"include_usge":true}', "stream_options.include_usge", "include_usage"),
        (
            ',"response_format":{"type":"json_schema","json_schema":{"name":"x","shema":{}}}',
            "response_format.json_schema.shema",
            "schema",
        ),
        (
            ',"tools":[{"type":"function","function":{"name":"f","paramters":{}}}]',
            "tools.0.function.paramters",
            "parameters",
        ),
        (',"structured_outputs":{"regx":"a"}', "structured_outputs.regx", "regex"),
    ],
)
def test_so_is_one_inside_of_another(extra: str, param: str, right: str) -> None:
    with pytest.raises(Invalid, match=f"{param}; did you mean '{right}'") as refused:
        chat(extra)
    assert (refused.value.code, refused.value.param) == ("unknown_parameter", param)


def test_so_is_one_in_a_message() -> None:
    with pytest.raises(Invalid, match=r"messages\.0.contnt; did you mean 'content'") as refused:
        chat("", '[{"role":"user","contnt":"x"}]')
    assert (refused.value.code, refused.value.param) == ("unknown_parameter", "messages.0.contnt")
    with pytest.raises(Invalid, match=r"messages\.0.function_call: "):
        chat("", '[{"role":"assistant","function_call":{"name":"f","arguments":"{}"}}]')


def test_what_clients_keep_of_an_answer_comes_back_with_it() -> None:
    """OpenAI's (plain and parsed), LiteLLM's and DeepSeek's messages, and those of the project's own records."""
    more = {"refusal": None, "annotations": [], "audio": None, "function_call": None, "parsed": {"a": 1}, "weight": 1}
    more |= {"reasoning_content": "hm", "reasoning": "hm", "thinking_blocks": [], "provider_specific_fields": {}}
    asked = chat("", json.dumps([{"role": "assistant", "content": "x", **more}, {"role": "user", "content": "y"}]))
    assert asked.messages == ({"role": "assistant", "content": "x"}, {"role": "user", "content": "y"})
    described = {"type": "json_schema", "json_schema": {"name": "x", "description": "d", "schema": {}, "strict": True}}
    assert chat(f',"response_format":{json.dumps(described)}').structured == {"json": {}}


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        (',"temperature":"0.5"', "temperature"),
        (',"temperature":true', "temperature"),
        (',"stream":"yes"', "stream"),
        (',"stream":1', "stream"),
        (',"n":true', "n"),
        (',"n":"2"', "n"),
        (',"seed":"3"', "seed"),
        (',"stop_token_ids":[true]', "stop_token_ids.0"),
        (',"logit_bias":{"5":"1"}', "logit_bias.5"),
        (',"stream_options":{"include_usage":"yes"}', "stream_options.include_usage"),
        (
            ',"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{},"strict":"yes"}}',
            "response_format.json_schema.strict",
        ),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(extra: str, param: str) -> None:
    with pytest.raises(Invalid, match=f"^{param}: ") as refused:
        chat(extra)
    assert refused.value.param == param


def test_a_whole_number_is_a_number() -> None:
    asked = chat(',"temperature":1,"top_p":1,"logit_bias":{"5":1}')
    assert (asked.temperature, asked.top_p, asked.logit_bias) == (1, 1, {"5": 1})


def test_a_completions_logprobs_are_a_number() -> None:
    with pytest.raises(Invalid, match=r"^logprobs: "):
        completion('"prompt":"x","logprobs":true')


def test_a_completion_takes_no_tools() -> None:
    with pytest.raises(Invalid, match="Unrecognized request argument: tools"):
        parse_completion(b'{"model":"a","prompt":"x","tools":[]}')


EXTRAS = {
    "top_k": 5,
    "min_p": 0.1,
    "repetition_penalty": 1.2,
    "min_tokens": 2,
    "ignore_eos": True,
    "stop_token_ids": [3],
    "skip_special_tokens": False,
    "include_stop_str_in_output": True,
}


def test_vllms_parameters_reach_the_backend_which_knows_them() -> None:
    asked = chat("," + json.dumps(EXTRAS)[1:-1])
    sent = sampling_parameters(asked, target())
    assert {name: sent[name] for name in EXTRAS} == EXTRAS
    read = parse(json.dumps(sent))
    assert (read.top_k, read.min_p, read.min_tokens, read.stop_token_ids) == (5, 0.1, 2, (3,))
    assert asked.parameters == EXTRAS


def test_more_tokens_than_the_model_holds_are_as_many_as_it_holds() -> None:
    sent = sampling_parameters(chat(',"max_tokens":1000000,"min_tokens":999999'), target(model_length=128))
    assert (sent["max_tokens"], sent["min_tokens"]) == (128, 128)


@pytest.mark.parametrize("count", [2**31, 2**70])
def test_a_number_of_tokens_has_no_upper_bound(count: int) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        assert sampling_parameters(chat(f',"{name}":{count}'), target())["max_tokens"] == target().model_length
    assert completion(f'"prompt":"x","max_tokens":{count}')[0].max_tokens == 2**31 - 1


def test_no_tokens_are_an_echo_or_nothing() -> None:
    (asked,) = completion('"prompt":"x","max_tokens":0,"echo":true')
    assert (asked.max_tokens, asked.parameters["max_tokens"]) == (0, 0)
    assert sampling_parameters(asked, target())["max_tokens"] == 1
    with pytest.raises(Invalid, match="give echo") as refused:
        completion('"prompt":"x","max_tokens":0')
    assert refused.value.param == "max_tokens"


TOOLS = ',"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{}},"strict":true}}]'
CALLED = '{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":%s}}]}'
ASKED = '{"role":"user","content":"q"}'


def test_tools_are_offered_unless_none_may_be_called() -> None:
    asked = chat(TOOLS)
    assert [(tool["function"]["name"], tool["function"]["description"]) for tool in asked.tools] == [("f", "")]
    assert asked.parameters["tools"][0]["function"]["name"] == "f"
    assert chat(TOOLS + ',"tool_choice":"none"').tools == ()
    assert (asked.parallel, chat(TOOLS + ',"parallel_tool_calls":false').parallel) == (True, False)


def test_allowed_tools_are_the_only_ones_on_offer() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("f", "g", "h")]

    def allow(mode: str, *names: str) -> Asked:
        some = [{"type": "function", "function": {"name": name}} for name in names]
        choice = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": some}}
        return chat(f',"tools":{json.dumps(tools)},"tool_choice":{json.dumps(choice)}')

    asked = allow("auto", "f", "h")
    assert ([tool["function"]["name"] for tool in asked.tools], asked.forced) == (["f", "h"], ())
    assert len(asked.parameters["tools"]) == 3
    asked = allow("required", "g")
    assert ([tool["function"]["name"] for tool in asked.tools], asked.forced) == (["g"], ("g",))
    for wrong in (("auto",), ("none", "f"), ("auto", "k")):
        with pytest.raises(Invalid, match="tool_choice: ") as refused:
            allow(*wrong)
        assert refused.value.param == "tool_choice"


def test_calls_and_their_results_stay_in_the_history() -> None:
    turns = f'[{ASKED},{CALLED % json.dumps("")},{{"role":"tool","tool_call_id":"c1","content":"r"}}]'
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert chat("", turns).messages == (
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "r", "tool_call_id": "c1"},
    )


@pytest.mark.parametrize("broken", ['{"a": ', "[1]"], ids=["no JSON", "no object"])
def test_a_broken_call_may_be_sent_back(broken: str) -> None:
    """As OpenAI's Agents SDK does with a call that met `max_tokens`: the model shall write a better one."""
    messages = list(chat("", f"[{ASKED},{CALLED % json.dumps(broken)}]").messages or ())
    assert messages[1]["tool_calls"][0]["function"]["arguments"] == broken


@pytest.mark.parametrize(
    ("turns", "param"),
    [
        (f"[{ASKED},{(CALLED % json.dumps('{}')).replace('assistant', 'user')}]", "messages.1"),
        (f'[{ASKED},{{"role":"tool","tool_call_id":"c1","content":"r"}}]', "messages.1.tool_call_id"),
    ],
    ids=["a user's", "never called"],
)
def test_impossible_histories_are_refused(turns: str, param: str) -> None:
    with pytest.raises(Invalid) as refused:
        chat("", turns)
    assert refused.value.param == param


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


def completion(extra: str) -> list[Asked]:
    return parts(parse_completion(('{"model":"a",' + extra + "}").encode()))


def test_prompts_are_texts_or_token_ids_one_or_several() -> None:
    for given in ('"x"', '["x"]'):
        (one,) = completion(f'"prompt":{given}')
        assert (one.prompt, one.token_ids) == ("x", ())
    (one,) = completion('"prompt":[1,2]')
    assert (one.prompt, one.token_ids) == ("", (1, 2))
    both = completion('"prompt":["x",[3]],"n":2,"seed":5')
    assert [(p.prompt, p.token_ids) for p in both] == [("x", ()), ("x", ()), ("", (3,)), ("", (3,))]
    assert [(p.index, p.seed, p.again) for p in both] == [(0, 5, False), (1, 6, True), (2, 5, False), (3, 6, True)]


def test_no_more_choices_than_are_given_at_once() -> None:
    with pytest.raises(Invalid, match="at most 128 choices"):
        completion('"prompt":["a","b"],"n":65')


@pytest.mark.parametrize(
    ("extra", "expected"),
    [("", None), (',"logprobs":true', 0), (',"logprobs":true,"top_logprobs":3', 3), (',"logprobs":false', None)],
)
def test_logprobs_of_a_chat_are_asked_for_by_two_parameters(extra: str, expected: int | None) -> None:
    asked = chat(extra)
    assert (asked.logprobs, sampling_parameters(asked, target()).get("logprobs")) == (expected, expected)


def test_biases_reach_the_backend() -> None:
    sent = sampling_parameters(chat(',"logit_bias":{"5":-100,"7":2.5}'), target())
    assert parse(json.dumps(sent)).logit_bias == ((5, -100), (7, 2.5))


@pytest.mark.parametrize("prompt", [b'""', b"null", b"3", b"[]", b"[[]]", b"[1.5]", b"[-1]", b'[{"a":1}]'])
def test_other_prompts_are_refused(prompt: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        parse_completion(b'{"model":"a","prompt":' + prompt + b"}")
    assert str(refused.value.param).startswith("prompt")
