"""How many secrets and personal data are found in texts, and how often where there are none (decision 33).

python -m tests.bench.bench_pii

Values of others: the package Faker makes 300 of each kind for the ten countries whose telephone numbers are looked for, each in
five sentences; it is fetched for this run. A third of its telephone numbers are in no numbering plan, and of its IBANs the Indian
ones are British and a digit short, so both are told of those that are valid besides. Values and harmless texts of our own:
tests/unit/ingestion/pii_corpus.py. Seconds of one core; prints JSON, shares from 0 to 1.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import import_module
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import phonenumbers

from services.chassis.privacy.checks import IBAN_LENGTHS
from services.chassis.privacy.find import findings
from tests.unit.ingestion import pii_corpus

PACKAGES = ("faker==40.54.0", "tzdata")
LOCALES = "en_US en_CA en_GB de_DE fr_FR it_IT en_IN en_AU pt_BR ja_JP".split()  # noqa: SIM905
REGIONS = tuple(locale[-2:] for locale in LOCALES)
EACH, HARMLESS, OWN = 300, 1800, 200
SEED = 11
CARRIERS = (
    "Please write to {} before Friday.",
    "{}",
    "Kunde: {}, bitte zurückrufen",
    "I think ({}) is what you asked for; thanks!",
    "The answer, {}, was given twice.",
)
SECRETS = ("API_KEY", "API_KEY by its name", "JWT", "PRIVATE_KEY", "CONNECTION_STRING", "PASSWORD")


def faked() -> dict[str, list[str]]:
    """Values of each kind, the countries in turns.

    Raises:
        subprocess.CalledProcessError: the package cannot be had.
    """
    with tempfile.TemporaryDirectory() as folder:
        uv = Path(sys.executable).parent / "uv"
        subprocess.run([uv, "pip", "install", "--quiet", "--no-deps", "--target", folder, *PACKAGES], check=True)
        sys.path.insert(0, folder)
        faker: Any = import_module("faker")
        faker.Faker.seed(SEED)
        countries = [faker.Faker(locale) for locale in LOCALES]
        makers: Mapping[str, Any] = {
            "EMAIL_ADDRESS": lambda fake: fake.email(),
            "PHONE_NUMBER": lambda fake: fake.phone_number(),
            "CREDIT_CARD": lambda fake: fake.credit_card_number(),
            "IBAN_CODE": lambda fake: fake.iban(),
            "IP_ADDRESS": lambda fake: fake.random_element((fake.ipv4, fake.ipv6))(),
        }
        made = {kind: [make(fake) for fake in islice(cycle(countries), EACH)] for kind, make in makers.items()}
        return made | {"US_SSN": [countries[0].ssn() for _ in range(EACH)]}


def _is_valid(number: str, region: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


def found(kind: str, values: Iterable[str]) -> float:
    """The share of texts in which the whole value is covered by findings of that kind."""
    hits = [_covers(kind, value, carrier) for value in values for carrier in CARRIERS]
    return round(sum(hits) / len(hits), 4)


def _covers(kind: str, value: str, carrier: str) -> bool:
    start = carrier.index("{}")
    told = [each for each in findings(carrier.format(value)) if each.kind == kind]
    places = [start + i for i, character in enumerate(value) if character.isalnum()]
    return all(any(each.start <= place < each.end for each in told) for place in places)


def own(dice: random.Random) -> dict[str, float]:
    """The share of secrets of our own forms that are found."""
    examples = [example for example in pii_corpus.corpus(dice.randrange(1 << 30), OWN) if example.kind in SECRETS]
    hits = Counter(e.kind for e in examples if pii_corpus.found_in(e, list(findings(e.text))))
    return {kind: hits[kind] / OWN for kind in SECRETS}


def main() -> None:
    dice = random.Random(SEED)
    harmless = [dice.choice(CARRIERS).format(pii_corpus.harmless(dice)) for _ in range(HARMLESS)]
    values = faked()
    valid = [v for v, region in zip(values["PHONE_NUMBER"], cycle(REGIONS), strict=False) if _is_valid(v, region)]
    one_block = [value for value in valid if value.isdigit()]
    ibans = [value for value in values["IBAN_CODE"] if len(value) == IBAN_LENGTHS.get(value[:2])]
    list(findings("+49 30 1234567"))  # phonenumbers is loaded with the first number
    texts = [carrier.format(value) for made in values.values() for value in made for carrier in CARRIERS] + harmless
    began = time.process_time()
    alarms = [[each.kind for each in findings(text)] for text in texts][-HARMLESS:]
    seconds = time.process_time() - began
    table = {
        "found": {kind: found(kind, made) for kind, made in values.items()},
        "found_of_valid": {"PHONE_NUMBER": found("PHONE_NUMBER", valid), "IBAN_CODE": found("IBAN_CODE", ibans)},
        "valid": {"PHONE_NUMBER": len(valid), "in_one_block": len(one_block), "IBAN_CODE": len(ibans)},
        "secrets_found": own(dice),
        "harmless": HARMLESS,
        "false_alarms": {"texts": sum(map(bool, alarms)), "by_kind": dict(Counter(kind for some in alarms for kind in some))},
        "texts_a_cpu_second": round(len(texts) / seconds),
    }  # fmt: skip
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
