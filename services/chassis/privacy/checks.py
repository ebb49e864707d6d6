"""Whether what looks like a card, an account, an address or a telephone number is one: check digits and numbering plans."""

import ipaddress
import math
import re
from collections import Counter
from typing import Any

_IIN = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})$|5[1-5]\d{14}$|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}$|3[47]\d{13}$"
    r"|(?:5018|5020|5038|5[678]\d\d|6304|6390|6759|676[1-3])\d{8,15}$|(?:1800|2131)\d{11}$"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}$|3(?:0[0-5]|[68]\d)\d{11}$|35(?:2[89]|[3-8]\d)\d{12}$|62\d{14,17}$"
)
"""Issuers and lengths (ISO/IEC 7812): Visa, Mastercard, American Express, Maestro, Discover, Diners, JCB, UnionPay."""
_IBANS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 FO18 "
    "FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 "
    "LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 "
    "ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
)
IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in _IBANS.split()}
"""Characters of an account number by country (SWIFT's IBAN registry)."""
REGIONS = ("GB", "DE", "FR", "IT", "IN", "AU", "BR", "JP")
"""Whose national numbers are looked for where a number begins with 0; those of North America are told by their groups."""
_NORTH_AMERICA = re.compile(r"(?:\([2-9]\d\d\) ?|[2-9]\d\d[ ./-])[2-9]\d\d[ ./-]\d{4}(?: ?x\d{1,6})?")
_GROUPED = re.compile(r"\d[) ./-]+\d")


def is_card(found: str) -> bool:
    """Whether the digits are a card's: an issuer's length and Luhn's check digit (ISO/IEC 7812-1)."""
    digits = re.sub(r"[ -]", "", found)
    if not _IIN.match(digits):
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(each - 9 if each > 9 else each for each in doubled) % 10 == 0


def iban_length(found: str) -> int:
    """How many characters of the text are an account number by its country and check digits (ISO 13616, mod 97); 0 for none."""
    wanted = IBAN_LENGTHS.get(found[:2].upper(), 0)
    places = [place for place, char in enumerate(found, 1) if char != " "]
    if not wanted or len(places) < wanted:
        return 0
    kept = places[wanted - 1]
    plain = found[:kept].replace(" ", "").upper()
    number = "".join(str(int(char, 36)) for char in plain[4:] + plain[:4])
    return kept if int(number) % 97 == 1 else 0


def is_address(found: str) -> bool:
    """Whether it is an IP address of a machine that somebody may have; this machine itself is nobody's."""
    try:
        address = ipaddress.ip_address(found.partition("%")[0])
    except ValueError:
        return False
    if address.version == 6 and (len(found) < 8 or not any(char.isdigit() for char in found)):
        return False  # a::b is C++
    return not (address.is_loopback or address.is_unspecified or found.startswith(("255.", "0.")))


def is_telephone(found: str) -> bool:
    """Whether it is a number that some country gives out; without a country code it has to be written in groups."""
    plain = found.lstrip("( ")
    if plain.startswith(("+", "00")):
        return _is_valid(found if plain.startswith("+") else "+" + plain.lstrip("0"), None)
    if _NORTH_AMERICA.fullmatch(found):
        return _is_valid(found, "US")
    if not plain.startswith("0") or plain.startswith("0.") or not _GROUPED.search(found) or found.count(".") == 2:
        return False
    return any(_is_valid(found, region) for region in REGIONS)


def _is_valid(found: str, region: str | None) -> bool:
    library = _phonenumbers()
    try:
        return library.is_valid_number(library.parse(found, region))
    except library.NumberParseException:
        return False


def _phonenumbers() -> Any:
    """The library, loaded when the first project asks."""
    import phonenumbers

    return phonenumbers


def is_ssn(found: str) -> bool:
    """Whether it is a social security number of the USA that may have been given out."""
    area, group, serial = found.split("-")
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def is_random(found: str, bits: float) -> bool:
    """Whether a text has letters, digits and so many bits of entropy a character: a key has, a word has not."""
    if not (any(c.isdigit() for c in found) and any(c.isalpha() for c in found)):
        return False
    shares = [n / len(found) for n in Counter(found).values()]
    return -sum(share * math.log2(share) for share in shares) >= bits
