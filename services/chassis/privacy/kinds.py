"""The kinds of secrets and personal data that are found, as a table of what they look like.

Sources: the providers' own pages on the form of their keys, gitleaks' rules (config/gitleaks.toml, v8), RFC 7468 (PEM), RFC
7519 (JWT), RFC 3986 (user information in URLs), presidio's names of kinds. Names of people, addresses of houses and dates of
birth have no form: they are not found.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from contracts import placeholders
from services.chassis.privacy import checks


class Kind(NamedTuple):
    """A kind: of what something has to stand in a text, in lower case, before it is searched; its pattern; a check.

    Where the pattern has a group, that is what is replaced. `check` gives how many characters of it count; 0 for none.
    """

    name: placeholders.Kind
    needs: tuple[str, ...]
    pattern: re.Pattern[str]
    check: Callable[[str], int | bool] | None = None


_KEYS = (
    r"sk-[A-Za-z0-9_-]{20,200}",  # OpenAI, Anthropic
    r"gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{22,251}",
    r"gl(?:pat|dt|rt|cbt|ptt)-[A-Za-z0-9_-]{20,200}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,250}|xapp-\d-[A-Za-z0-9-]{10,250}",  # Slack
    r"AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,1000}|GOCSPX-[A-Za-z0-9_-]{28}",  # Google
    r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,200}|whsec_[A-Za-z0-9+/=]{20,100}",  # Stripe
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}",  # AWS
    r"hf_[A-Za-z0-9]{30,100}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,500}|rubygems_[a-f0-9]{48}",
    r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}|key-[a-f0-9]{32}|SK[a-f0-9]{32}",  # SendGrid, Mailgun, Twilio
    r"dop_v1_[a-f0-9]{64}|dapi[a-f0-9]{32}|shpat_[a-fA-F0-9]{32}|glsa_[A-Za-z0-9]{32}_[a-fA-F0-9]{8}|hvs\.[A-Za-z0-9_-]{24,200}",
    r"noria_[0-9a-f]{8}_[A-Za-z0-9_-]{20,100}",
)
_KEY_WORDS = (
    "sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "xox", "xapp-",
    "aiza", "ya29.", "gocspx-", "sk_", "rk_", "pk_", "whsec_", "akia", "asia", "abia", "acca", "hf_", "npm_", "pypi-",
    "rubygems_", "sg.", "key-", "sk", "dop_v1_", "dapi", "shpat_", "glsa_", "hvs.", "noria_",
)  # fmt: skip
_NAMED = (
    r"(?:api|access|secret|auth|private|account|shared|encryption)[_ -]?(?:access[_ -]?)?key"
    r"|client[_-]?secret|secret|(?:access|auth|refresh|bearer|api|session)[_-]?token"
)
_VALUE = r"""["']?\s{0,3}(?:[:=]|=>|:=)\s{0,3}["']?"""

KINDS: tuple[Kind, ...] = (
    Kind(
        "PRIVATE_KEY",
        ("private key",),
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:[^\"'<>]{0,20000}?-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|[A-Za-z0-9+/=\s\\:,.-]*)"
        ),
    ),
    Kind("JWT", ("eyj",), re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?")),
    Kind(
        "CONNECTION_STRING",
        ("://", "key=", "password=", "pwd="),
        re.compile(
            r"\b[A-Za-z][A-Za-z0-9+.-]{1,30}://[^\s:/@\"'<>]{0,200}:[^\s/@\"'<>]{1,300}@[^\s\"'<>]{1,500}"
            r"|(?:DefaultEndpointsProtocol|Endpoint)=[^\s\"'<>]{1,300}Key=[A-Za-z0-9+/=]{20,200}[^\s\"'<>]{0,200}"
            r"|\b(?i:server|data source|host|dsn)=[^\"'<>\n]{1,300};\s?(?i:password|pwd)=[^;\"'<>\s]{1,200}[^\s\"'<>]{0,300}"
        ),
    ),
    Kind("API_KEY", _KEY_WORDS, re.compile(rf"(?<![A-Za-z0-9_-])(?:{'|'.join(_KEYS)})(?![A-Za-z0-9])")),
    Kind("API_KEY", ("bearer ",), re.compile(r"\b[Bb]earer ([A-Za-z0-9._~+/-]{20,2000}=*)")),
    Kind(
        "API_KEY",
        ("key", "token", "secret"),
        re.compile(rf"(?i)(?<![a-z])(?:{_NAMED}){_VALUE}([A-Za-z0-9_.~+/=-]{{16,200}})"),
        lambda found: checks.is_random(found, 3.0),
    ),
    Kind(
        "PASSWORD",
        ("pass", "pwd", "contraseña"),
        re.compile(
            rf"(?i)(?<![a-z])(?:password|passwd|passphrase|pwd|passwort|contraseña){_VALUE}([^\s\"',;<>(){{}}\[\]]{{6,200}})"
        ),
        lambda found: checks.is_random(found, 2.0),
    ),
    Kind(
        "EMAIL_ADDRESS",
        ("@",),
        re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w@])"),
    ),
    Kind(
        "IBAN_CODE",
        (),
        re.compile(r"(?<![A-Za-z0-9])(?i:[a-z]{2})\d{2}(?: ?[A-Za-z0-9]){11,30}"),
        checks.iban_length,
    ),
    Kind("CREDIT_CARD", (), re.compile(r"(?<![\w.-])\d(?:[ -]?\d){11,18}(?![\w-])"), checks.is_card),
    Kind("US_SSN", ("-",), re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"), checks.is_ssn),
    Kind("IP_ADDRESS", (".",), re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)"), checks.is_address),
    Kind(
        "IP_ADDRESS",
        (":",),
        re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:.])"),
        checks.is_address,
    ),
    Kind(
        "PHONE_NUMBER",
        (),
        re.compile(r"(?<![\w.+/-])(?:\+ ?|\()?\d(?:[ ()./-]{0,2}\d){6,15}(?: ?x\d{1,6})?(?![\w-]|[./]\d)"),
        checks.is_telephone,
    ),
)
"""Of two that overlap the earlier one counts: a connection string holds a password and what looks like a mail address."""
