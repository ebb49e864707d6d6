"""Waits until a project's name answers at the gateway, and says what answers there. Changes nothing."""

import time
from collections.abc import Callable
from typing import Any

from services.cli import api
from services.cli.errors import Refused, Unreachable

POLL_SECONDS = 0.25
NOT_HERE = ("base_unavailable", "teacher_not_allowed", "teacher_key_missing")
"""The gateway's codes for a base that is not to be had and a teacher that is not set up: waiting does not help."""


def wait_for_answer(project: str, seconds: float, told: Callable[[str], None]) -> dict[str, Any]:
    """{"model", "seconds", "url"} of what answers to the project's name, or {"why"} where nothing does within `seconds`.

    `told` hears why it is waited for, whenever that is something else.
    """
    began, last = time.monotonic(), ""
    while True:
        try:
            card = api.get("serving", f"/v1/models/{project}")
        except Unreachable as error:
            return {"why": str(error)}
        except Refused as error:
            why = "the gateway has not heard of the project yet" if error.status == 404 else str(error)
            final = error.code in NOT_HERE or error.status in (401, 403)
        else:
            if card["ready"]:
                taken = round(time.monotonic() - began, 1)
                return {"model": card["root"], "seconds": taken, "url": f"{api.settings().url('serving')}/v1"}
            why, final = f"{card['root']} is being loaded", False
        if final:
            return {"why": why}
        if time.monotonic() - began >= seconds:
            return {"why": f"not within {seconds:g} s: {why}"}
        if why != last:
            told(why)
            last = why
        time.sleep(POLL_SECONDS)
