"""The languages that prep tells apart, by the codes of fastText's classifier lid.176 (ISO 639 where there is one)."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, WithJsonSchema

CONFIDENCE = 0.4
"""From this probability on the likeliest language counts (docs/decisions/0038-languages.md)."""
UNKNOWN = "unknown"
"""No language is probable enough."""
Code = Literal[
    "af", "als", "am", "an", "ar", "arz", "as", "ast", "av", "az", "azb", "ba", "bar", "bcl", "be", "bg", "bh", "bn",
    "bo", "bpy", "br", "bs", "bxr", "ca", "cbk", "ce", "ceb", "ckb", "co", "cs", "cv", "cy", "da", "de", "diq", "dsb",
    "dty", "dv", "el", "eml", "en", "eo", "es", "et", "eu", "fa", "fi", "fr", "frr", "fy", "ga", "gd", "gl", "gn",
    "gom", "gu", "gv", "he", "hi", "hif", "hr", "hsb", "ht", "hu", "hy", "ia", "id", "ie", "ilo", "io", "is", "it",
    "ja", "jbo", "jv", "ka", "kk", "km", "kn", "ko", "krc", "ku", "kv", "kw", "ky", "la", "lb", "lez", "li", "lmo",
    "lo", "lrc", "lt", "lv", "mai", "mg", "mhr", "min", "mk", "ml", "mn", "mr", "mrj", "ms", "mt", "mwl", "my", "myv",
    "mzn", "nah", "nap", "nds", "ne", "new", "nl", "nn", "no", "oc", "or", "os", "pa", "pam", "pfl", "pl", "pms", "pnb",
    "ps", "pt", "qu", "rm", "ro", "ru", "rue", "sa", "sah", "sc", "scn", "sco", "sd", "sh", "si", "sk", "sl", "so",
    "sq", "sr", "su", "sv", "sw", "ta", "te", "tg", "th", "tk", "tl", "tr", "tt", "tyv", "ug", "uk", "ur", "uz", "vec",
    "vep", "vi", "vls", "vo", "wa", "war", "wuu", "xal", "xmf", "yi", "yo", "yue", "zh", "unknown",
]  # fmt: skip
LANGUAGES: frozenset[str] = frozenset(get_args(Code))
"""All codes, `unknown` among them."""


def _told(code: Any) -> Any:
    if code not in LANGUAGES:
        raise ValueError(f"no language {str(code)[:40]!r} is told; give ISO 639 codes such as en, or {UNKNOWN}")
    return code


LanguageCode = Annotated[
    Code, BeforeValidator(_told), WithJsonSchema({"type": "string", "pattern": "^([a-z]{2,3}|unknown)$"})
]
