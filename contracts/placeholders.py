"""The kinds of secrets and personal data, by the names that stand in their place: <EMAIL_ADDRESS_1>. As presidio names them."""

from typing import Literal, get_args

Kind = Literal[
    "API_KEY", "CONNECTION_STRING", "CREDIT_CARD", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "JWT", "PASSWORD", "PHONE_NUMBER",
    "PRIVATE_KEY", "US_SSN",
]  # fmt: skip
HIDDEN: tuple[Kind, ...] = get_args(Kind)
"""What ingestion finds."""
HIDDEN_BY_OTHERS = (
    "AWS_KEY", "CRYPTO", "DATE_TIME", "EMAIL", "IBAN", "IP", "LOCATION", "MAC_ADDRESS", "NRP", "PERSON", "PHONE",
    "SECRET", "TOKEN",
)  # fmt: skip
"""What other redactors leave in records that come redacted."""
