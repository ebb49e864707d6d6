"""Tiny base models made on the spot, with the habits of the tokenizers and chat templates that people bring.

The habits, not the texts: who writes BOS, what ends a turn, which roles a template takes, how a tokenizer splits and where it
puts blanks. Vocabularies are learnt from a few sentences; weights are random.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = (
    "list all files that end in .py and count their lines",
    "the user asks, the assistant answers: ls -la | wc -l",
    "    def f(x):\n        return x + 1\n",
    "Größe, naïve, 日本語 and 🙂 are words too\n\n",
    "[INST] and [/INST], <start_of_turn>user, <|im_end|>, <|eot_id|>, system, model",
)
_SPLIT = Regex(r"\p{N}{1,3}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+")

_CHATML = """{%- for m in messages %}
{{- '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""

_QWEN2 = (
    """{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\nYou help.<|im_end|>\n' }}{%- endif %}"""
    + _CHATML
)

_QWEN3 = """{%- set last = namespace(user=-1) %}
{%- for m in messages %}{%- if m.role == 'user' %}{%- set last.user = loop.index0 %}{%- endif %}{%- endfor %}
{%- for m in messages %}
{%- if m.role == 'assistant' %}
  {%- set thought = '' %}
  {%- set said = m.content %}
  {%- if '</think>' in said %}
    {%- set thought = said.split('</think>')[0].split('<think>')[-1].strip('\n') %}
    {%- set said = said.split('</think>')[-1].lstrip('\n') %}
  {%- endif %}
  {{- '<|im_start|>assistant\n' }}
  {%- if loop.index0 > last.user and (loop.last or thought) %}{{- '<think>\n' + thought + '\n</think>\n\n' }}{%- endif %}
  {{- said + '<|im_end|>\n' }}
{%- else %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""

_LLAMA3 = """{{- bos_token }}
{%- for m in messages %}
{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"""

_STRICT = """{%- if messages[0]['role'] == 'system' %}%SYSTEM%{%- endif %}
{{- bos_token }}
{%- for m in messages %}
{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{- raise_exception('roles must alternate user/assistant') }}{%- endif %}
%TURN%
{%- endfor %}"""

_MISTRAL = _STRICT.replace(
    "%SYSTEM%", "{%- set folded = messages[0]['content'] + '\\n\\n' %}{%- set messages = messages[1:] %}"
).replace(
    "%TURN%",
    "{%- if m['role'] == 'user' %}{{- '[INST] ' + ((folded if folded and loop.last else '') + m['content']) + '[/INST]' }}"
    "{%- else %}{{- ' ' + m['content'] + eos_token }}{%- endif %}",
)

_GEMMA = (
    _STRICT.replace("%SYSTEM%", "{{- raise_exception('System role not supported') }}").replace(
        "%TURN%",
        "{{- '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n'"
        " + m['content'] | trim + '<end_of_turn>\n' }}",
    )
    + "{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{%- endif %}"
)

_PHI = """{%- for m in messages %}{{- '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{%- else %}{{- eos_token }}{%- endif %}"""

_LLAMA2 = """{%- if messages[0]['role'] == 'system' %}
{%- set rest = messages[1:] %}{%- set folded = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}
{%- else %}{%- set rest = messages %}{%- set folded = '' %}{%- endif %}
{%- for m in rest %}
{%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{- raise_exception('roles must alternate user/assistant') }}{%- endif %}
{%- if m['role'] == 'user' %}{{- bos_token + '[INST] ' + ((folded if loop.first else '') + m['content']).strip() + ' [/INST]' }}
{%- else %}{{- ' ' + m['content'].strip() + ' ' + eos_token }}{%- endif %}
{%- endfor %}"""

_DEEPSEEK = """{{- bos_token }}
{%- for m in messages %}
{%- if m.role == 'user' %}{{- '<\uff5cUser\uff5c>' + m.content }}
{%- elif m.role == 'assistant' %}{{- '<\uff5cAssistant\uff5c>' + m.content.split('</think>')[-1] + eos_token }}
{%- else %}{{- m.content }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<\uff5cAssistant\uff5c><think>\n' }}{%- endif %}"""


@dataclass(frozen=True)
class Habits:
    """How a family writes. `kind`: its tokenizer; `ends`: eos_token_id of generation_config.json, where it lists more."""

    kind: str
    template: str | None
    special: tuple[str, ...]
    bos: str | None
    eos: str
    turn_end: str
    pad: str | None = None
    adds_bos: bool = False
    ends: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """Added tokens that are not special."""
    takes_blanks: bool = False
    """Special tokens take the blanks behind them (AddedToken.rstrip)."""
    system: bool = True
    config: str = "LlamaConfig"
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])


FAMILIES: Mapping[str, Habits] = {
    "llama3": Habits(
        kind="bytes",
        template=_LLAMA3,
        special=("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
        turn_end="<|eot_id|>",
        adds_bos=True,
    ),
    "qwen2.5": Habits(
        kind="bytes-nfc",
        template=_QWEN2,
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        bos=None,
        eos="<|im_end|>",
        turn_end="<|im_end|>",
        pad="<|endoftext|>",
        ends=("<|im_end|>", "<|endoftext|>"),
        words=("<tool_call>", "<|fim_prefix|>"),
        config="Qwen2Config",
    ),
    "qwen3": Habits(
        kind="bytes-nfc",
        template=_QWEN3,
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        bos=None,
        eos="<|im_end|>",
        turn_end="<|im_end|>",
        pad="<|endoftext|>",
        words=("<think>", "</think>", "<tool_call>"),
        config="Qwen3Config",
        extra={"head_dim": 8},
    ),
    "mistral": Habits(
        kind="pieces-first",
        template=_MISTRAL,
        special=("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
        bos="<s>",
        eos="</s>",
        turn_end="</s>",
        adds_bos=True,
        config="MistralConfig",
        extra={"sliding_window": None},
    ),
    "gemma": Habits(
        kind="pieces",
        template=_GEMMA,
        special=("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        bos="<bos>",
        eos="<eos>",
        turn_end="<end_of_turn>",
        pad="<pad>",
        adds_bos=True,
        words=("\n\n", "▁▁", "<table>"),
        system=False,
        config="GemmaConfig",
        extra={"head_dim": 8},
    ),
    "llama2": Habits(
        kind="pieces-prepended",
        template=_LLAMA2,
        special=("<unk>", "<s>", "</s>"),
        bos="<s>",
        eos="</s>",
        turn_end="</s>",
        adds_bos=True,
    ),
    "deepseek": Habits(
        kind="bytes",
        template=_DEEPSEEK,
        special=("<\uff5cbegin▁of▁sentence\uff5c>", "<\uff5cend▁of▁sentence\uff5c>"),
        bos="<\uff5cbegin▁of▁sentence\uff5c>",
        eos="<\uff5cend▁of▁sentence\uff5c>",
        turn_end="<\uff5cend▁of▁sentence\uff5c>",
        adds_bos=True,
        words=("<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>", "<think>", "</think>"),
        config="Qwen2Config",
    ),
    "phi": Habits(
        kind="pieces-prepended",
        template=_PHI,
        special=("<unk>", "<s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        bos="<s>",
        eos="<|endoftext|>",
        turn_end="<|end|>",
        pad="<|endoftext|>",
        takes_blanks=True,
        config="Phi3Config",
    ),
    "smollm2": Habits(
        kind="bytes",
        template=_CHATML,
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        bos="<|im_start|>",
        eos="<|im_end|>",
        turn_end="<|im_end|>",
        pad="<|im_end|>",
    ),
    "gpt2": Habits(
        kind="bytes",
        template=None,
        special=("<|endoftext|>",),
        bos="<|endoftext|>",
        eos="<|endoftext|>",
        turn_end="<|endoftext|>",
        system=False,
    ),
}


def make_base(family: str, directory: Path, *, weights: bool = False, seed: int = 0) -> Path:
    """A model's directory; `weights`: with a random model of the family's architecture, two layers of width 32."""
    from transformers import PreTrainedTokenizerFast

    habits = FAMILIES[family]
    names = {"bos_token": habits.bos, "eos_token": habits.eos, "pad_token": habits.pad}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(family), **{name: token for name, token in names.items() if token}
    )
    tokenizer.chat_template = habits.template
    tokenizer.save_pretrained(directory)
    if weights:
        _write_model(habits, tokenizer, directory, seed)
    return directory


def _write_model(habits: Habits, tokenizer: Any, directory: Path, seed: int) -> None:
    import torch
    import transformers

    ends: Sequence[int] = tokenizer.convert_tokens_to_ids(list(habits.ends or (habits.eos,)))
    config = getattr(transformers, habits.config)(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
        **habits.extra,
    )
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.generation_config.eos_token_id = list(ends) if len(ends) > 1 else ends[0]
    model.save_pretrained(directory)


@cache
def _tokenizer(family: str) -> Tokenizer:
    habits = FAMILIES[family]
    made = _of_bytes(habits) if habits.kind.startswith("bytes") else _of_pieces(habits)
    special = [AddedToken(t, special=True, normalized=False, rstrip=habits.takes_blanks) for t in habits.special]
    made.add_special_tokens(special)
    made.add_tokens([AddedToken(word, special=False, normalized=False) for word in habits.words])
    if habits.adds_bos:
        assert habits.bos
        made.post_processor = processors.TemplateProcessing(
            single=f"{habits.bos} $A", special_tokens=[(habits.bos, made.token_to_id(habits.bos))]
        )
    return made


def _of_bytes(habits: Habits) -> Tokenizer:
    """Byte-level BPE as GPT-2, Llama 3 and Qwen have it."""
    made = Tokenizer(models.BPE())
    if habits.kind.endswith("nfc"):
        made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_SPLIT, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    return made


def _of_pieces(habits: Habits) -> Tokenizer:
    """BPE over characters with blanks as U+2581 and bytes for what is unknown, as SentencePiece models are converted."""
    blank = normalizers.Replace(" ", "▁")
    learner = Tokenizer(models.BPE())
    learner.normalizer = blank
    learner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    learner.train_from_iterator(CORPUS[:3], trainers.BpeTrainer(vocab_size=200, show_progress=False))
    learnt = _vocabulary_and_merges(learner)
    bytes_ = {f"<0x{i:02X}>": 3 + i for i in range(256)}
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, **bytes_}
    for token in [*learnt[0], "▁"]:
        vocab.setdefault(token, len(vocab))
    made = Tokenizer(models.BPE(vocab=vocab, merges=learnt[1], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tail = [decoders.ByteFallback(), decoders.Fuse()]
    if habits.kind == "pieces-first":
        made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), *tail, decoders.Strip(" ", 1, 0)])
    elif habits.kind == "pieces-prepended":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), blank])
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), *tail, decoders.Strip(" ", 1, 0)])
    else:
        made.normalizer = blank
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), *tail])
    return made


def _vocabulary_and_merges(learner: Tokenizer) -> tuple[list[str], list[tuple[str, str]]]:
    import json

    model = json.loads(learner.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [(a, b) for a, b in model["merges"]]


def make_gpt_neo(folder: Path) -> Path:
    """A base with attention of its own and, in its mask alone, a window of 16 tokens."""
    from transformers import AutoConfig, AutoModelForCausalLM, GPTNeoConfig

    base = make_base("gpt2", folder, weights=True)
    config = GPTNeoConfig(
        vocab_size=AutoConfig.from_pretrained(base).vocab_size,
        hidden_size=32,
        num_layers=2,
        attention_types=[[["global", "local"], 1]],
        num_heads=2,
        window_size=16,
        max_position_embeddings=256,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    return base
