"""A generated corpus of texts with secrets and personal data whose places are known, and of texts that only look so.

`python -m tests.unit.ingestion.pii_corpus SEED N` prints how many of each kind are found, and what is found where nothing is.
"""

import base64
import random
import string
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from services.chassis.privacy.checks import IBAN_LENGTHS
from services.chassis.privacy.find import Finding, findings

ALNUM = string.ascii_letters + string.digits
NAMES = "anna ben chloe david eva farid grace hiro irene jonas kim lucía müller nguyen olga pavel smith zoë".split()  # noqa: SIM905
CARRIERS = (
    "Please write to {} before Friday.",
    "{}",
    "Kunde: {}, bitte zurückrufen",
    '{{"note": "see {}", "n": 3}}',
    "value={}\nnext line",
    "- item one\n- {}\n- item three",
    "I think ({}) is what you asked for; thanks!",
    "The answer, {}, was given twice.",
)


class Example(NamedTuple):
    """A text, and what stands in it: a kind and where; None where nothing does."""

    text: str
    kind: str
    place: tuple[int, int] | None


def text(dice: random.Random, n: int, alphabet: str = ALNUM) -> str:
    """Random characters."""
    return "".join(dice.choices(alphabet, k=n))


def digits(dice: random.Random, n: int) -> str:
    """Random digits."""
    return text(dice, n, string.digits)


def email(dice: random.Random) -> str:
    """An address of one of several forms."""
    first, last = dice.choice(NAMES), dice.choice(NAMES)
    local = dice.choice((f"{first}.{last}", f"{first}{digits(dice, 3)}", f"{first}+shop", f"{first[0]}_{last}"))
    return f"{local}@{dice.choice(('example.com', 'mail.example.co.uk', 'uni-köln.de', 'a.b.museum', 'firma.io'))}"


def telephone(dice: random.Random) -> str:
    """A number of one of several countries, as it is written there; one in ten without groups."""
    area, exchange, line = (
        dice.choice(("212", "415", "617", "312", "206")),
        f"{dice.randint(220, 989)}",
        digits(dice, 4),
    )
    london, paris, berlin = (
        f"7{digits(dice, 3)} {digits(dice, 4)}",
        f"42 68 {digits(dice, 2)} {digits(dice, 2)}",
        digits(dice, 6),
    )
    return dice.choice((
        f"+1 {area}-{exchange}-{line}", f"({area}) {exchange}-{line}", f"{area}-{exchange}-{line}",
        f"{area}.{exchange}.{line}", f"+44 20 {london}", f"020 {london}", f"+33 1 {paris}", f"01 {paris}", f"+49 30 {berlin}",
        f"030 {berlin}", f"0171 {digits(dice, 7)}", f"+91 98{digits(dice, 3)} {digits(dice, 5)}", f"+4930{berlin}",
        f"{area}{exchange}{line}",
    ))  # fmt: skip


def card(dice: random.Random) -> str:
    """A card's number with its check digit."""
    front, length = dice.choice((("4", 16), ("51", 16), ("2221", 16), ("34", 15), ("6011", 16), ("3528", 16)))
    body = front + digits(dice, length - len(front) - 1)
    found = next(body + d for d in string.digits if luhn(body + d))
    grouped = " ".join(found[i : i + 4] for i in range(0, len(found), 4))
    return dice.choice((found, grouped, grouped.replace(" ", "-")))


def luhn(number: str) -> bool:
    """Whether the check digit is right."""
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(number))]
    return sum(d - 9 * (d > 9) for d in doubled) % 10 == 0


def iban(dice: random.Random) -> str:
    """An account number with its check digits."""
    country = dice.choice(("DE", "FR", "ES", "NL", "GB", "CH", "IT", "PL"))
    letters = {"GB": "WEST", "NL": "ABNA", "IT": "X"}.get(country, "")
    body = letters + digits(dice, IBAN_LENGTHS[country] - 4 - len(letters))
    check = 98 - int("".join(str(int(c, 36)) for c in f"{body}{country}00")) % 97
    found = f"{country}{check:02d}{body}"
    return dice.choice((found, " ".join(found[i : i + 4] for i in range(0, len(found), 4)), found.lower()))


def ip(dice: random.Random) -> str:
    """An address of either version."""
    four = ".".join(str(dice.randint(1, 254)) for _ in range(4))
    six = ":".join(f"{dice.randint(0x100, 0xFFFF):x}" for _ in range(8))
    return dice.choice((four, six, f"2001:db8::{dice.randint(1, 0xFFFF):x}:{dice.randint(1, 0xFFFF):x}"))


def api_key(dice: random.Random) -> str:
    """A key of one of many providers, alone or behind its name."""
    aws = text(dice, 16, string.ascii_uppercase + "234567")
    return dice.choice((
        f"sk-{text(dice, 48)}", f"sk-proj-{text(dice, 60)}", f"sk-ant-api03-{text(dice, 80)}", f"ghp_{text(dice, 36)}",
        f"github_pat_{text(dice, 22)}_{text(dice, 59)}", f"glpat-{text(dice, 20)}",
        f"xoxb-{digits(dice, 11)}-{text(dice, 24)}", f"AIza{text(dice, 35)}", f"sk_live_{text(dice, 24)}", f"AKIA{aws}",
        f"hf_{text(dice, 34)}", f"npm_{text(dice, 36)}", f"SG.{text(dice, 22)}.{text(dice, 43)}",
        f"dapi{text(dice, 32, '0123456789abcdef')}", f"noria_{text(dice, 8, '0123456789abcdef')}_{text(dice, 43)}",
    ))  # fmt: skip


def named_key(dice: random.Random) -> str:
    """A key of no known form behind a name that says what it is."""
    name = dice.choice(("api_key", "API-KEY", "client_secret", "aws_secret_access_key", "access_token", "secret"))
    return f"{name}{dice.choice(('=', ': ', ' = '))}{text(dice, 40)}"


def jwt(dice: random.Random) -> str:
    """A signed token."""
    parts = [base64.urlsafe_b64encode(f'{{"a":"{text(dice, 20)}"}}'.encode()).decode().rstrip("=") for _ in range(2)]
    return ".".join([*parts, text(dice, 43)])


def private_key(dice: random.Random) -> str:
    """A key in PEM."""
    kind = dice.choice(("", "RSA ", "EC ", "OPENSSH "))
    lines = "\\n".join(text(dice, 64) for _ in range(6))
    return f"-----BEGIN {kind}PRIVATE KEY-----\\n{lines}\\n-----END {kind}PRIVATE KEY-----"


def connection_string(dice: random.Random) -> str:
    """An address with a password in it."""
    user, password = dice.choice(NAMES[:5]), text(dice, 12)
    return dice.choice((
        f"postgresql://{user}:{password}@db.example.com:5432/app", f"mongodb+srv://{user}:{password}@c0.example.net/x?w=1",
        f"redis://:{password}@10.0.0.5:6379/0", f"amqp://{user}:{password}@mq:5672/%2f",
        f"DefaultEndpointsProtocol=https;AccountName={user};AccountKey={text(dice, 86)}==;EndpointSuffix=core.windows.net",
        f"Server=tcp:db;Database=app;User Id={user};Password={password};Encrypt=true",
    ))  # fmt: skip


def password(dice: random.Random) -> str:
    """A password behind its name."""
    name = dice.choice(("password", "Password", "pwd", "passwd", "DB_PASSWORD"))
    return f"{name}{dice.choice(('=', ': ', ' = '))}{text(dice, 10)}{dice.randint(0, 9)}!"


def ssn(dice: random.Random) -> str:
    """A social security number."""
    return f"{dice.randint(100, 665)}-{dice.randint(10, 99)}-{dice.randint(1000, 9999)}"


KINDS: dict[str, Callable[[random.Random], str]] = {
    "EMAIL_ADDRESS": email,
    "PHONE_NUMBER": telephone,
    "CREDIT_CARD": card,
    "IBAN_CODE": iban,
    "IP_ADDRESS": ip,
    "US_SSN": ssn,
    "API_KEY": api_key,
    "API_KEY by its name": named_key,
    "JWT": jwt,
    "PRIVATE_KEY": private_key,
    "CONNECTION_STRING": connection_string,
    "PASSWORD": password,
}


def harmless(dice: random.Random) -> str:
    """What looks like one of them and is none."""
    year, month, day, hour, second = (
        dice.randint(1970, 2030),
        dice.randint(1, 12),
        dice.randint(1, 28),
        dice.randint(0, 23),
        dice.randint(0, 59),
    )
    return dice.choice((
        f"{year}-{month:02d}-{day:02d}", f"{day:02d}.{month:02d}.{year}", f"{hour:02d}:{second:02d}:{second:02d}",
        f"{year}-{month:02d}-{day:02d}T{hour:02d}:{second:02d}:00Z", f"order {digits(dice, 10)}",
        f"invoice no. {digits(dice, 16)}", f"{digits(dice, 3)}-{digits(dice, 7)}-{digits(dice, 7)}",
        f"${dice.randint(1, 999)},{digits(dice, 3)}.{digits(dice, 2)}",
        f"{digits(dice, 1)}.{digits(dice, 3)}.{digits(dice, 3)},{digits(dice, 2)} EUR",
        f"v{dice.randint(1, 9)}.{dice.randint(0, 20)}.{dice.randint(0, 9)}", str(uuid.UUID(int=dice.getrandbits(128))),
        text(dice, 40, "0123456789abcdef"), f"ISBN 978-3-16-{digits(dice, 6)}-{digits(dice, 1)}",
        f"ts={dice.randint(1_500_000_000, 1_800_000_000)}", f"ts={dice.randint(1_500_000_000_000, 1_800_000_000_000)}",
        f"{dice.uniform(-90, 90):.6f}, {dice.uniform(-180, 180):.6f}", f"{dice.random()}",
        f"#{text(dice, 6, '0123456789abcdef')}", "std::vector<int> v; a::b(c)", "@property\ndef user(self): ...",
        "git clone git@host:team/repo", "127.0.0.1:8080 and ::1", 'secret = os.environ["SECRET"]',
        "password = getpass.getpass()", "api_key: str | None = None", "token = tokenizer.encode(text)",
        "https://example.com/a/b?c=1#d", "my password was reset", "enter your password: ********",
        f"pages {year}-{year + 10}", f"{dice.randint(1, 99)} {dice.randint(100, 999)} {dice.randint(100, 999)} inhabitants",
        f"section {dice.randint(1, 9)}.{dice.randint(1, 9)}.{dice.randint(1, 9)}",
        f"won 3-2, 1-0, {dice.randint(0, 9)}-1 and {digits(dice, 2)}:{digits(dice, 2)}", f"{digits(dice, 12)}",
        f"EAN {digits(dice, 13)}", f"x = {digits(dice, 3)} * {digits(dice, 4)}",
        "The key to success is a secret that tokens of gratitude open.", f"sha256:{text(dice, 64, '0123456789abcdef')}",
        f"MAT-{digits(dice, 8)}",
    ))  # fmt: skip


def corpus(seed: int, each: int) -> Iterator[Example]:
    """So many examples of each kind, and as many in all that hold nothing."""
    dice = random.Random(seed)
    for kind, make in KINDS.items():
        for _ in range(each):
            value, carrier = make(dice), dice.choice(CARRIERS)
            before = carrier.partition("{}")[0].replace("{{", "{")
            yield Example(carrier.format(value), kind, (len(before), len(before) + len(value)))
    for _ in range(each * len(KINDS)):
        yield Example(dice.choice(CARRIERS).format(harmless(dice)), "", None)


def found_in(example: Example, found: list[Finding]) -> bool:
    """Whether the secret part is covered: what stands behind a name's sign, else the whole."""
    assert example.place is not None
    start, end = example.place
    if example.kind in ("PASSWORD", "API_KEY by its name"):
        start = max(example.text.find(sign, start, end) for sign in "=:") + 1
    said = [i for i in range(start, end) if example.text[i] not in " ="]
    return bool(said) and all(any(f.start <= i < f.end for f in found) for i in said)


def main() -> None:
    """Prints the table."""
    seed, each = int(sys.argv[1]), int(sys.argv[2])
    examples, hits, alarms = list(corpus(seed, each)), Counter[str](), Counter[str]()
    began = time.perf_counter()
    found = [findings(example.text) for example in examples]
    took = time.perf_counter() - began
    for example, each_found in zip(examples, found, strict=True):
        if example.place is not None:
            hits[example.kind] += found_in(example, each_found)
        else:
            alarms.update(f.kind for f in each_found)
    for kind in KINDS:
        print(f"{kind:22} {hits[kind] / each:.3f}")
    harmless_count = each * len(KINDS)
    print(
        f"false alarms in {harmless_count} harmless texts: {sum(alarms.values()) / harmless_count:.4f} {dict(alarms)}"
    )
    print(
        f"{len(examples) / took:.0f} texts/s, {sum(len(e.text) for e in examples) / len(examples):.0f} characters each"
    )


if __name__ == "__main__":
    main()
