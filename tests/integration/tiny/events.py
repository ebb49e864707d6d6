"""The events of the tiny service that the chassis' tests run; its name and topics come from TINY, one a test."""

import os
from typing import ClassVar

from contracts.envelope import Event

NAME = os.environ.get("TINY", "tiny")


class Ping(Event):
    TOPIC: ClassVar[str] = f"{NAME}.ping.sent.v1"

    number: int
    do: str = "note"
    text: str = ""


class Pong(Event):
    TOPIC: ClassVar[str] = f"{NAME}.pong.sent.v1"

    number: int
    text: str = ""
