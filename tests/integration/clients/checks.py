"""What the scripts of the Python clients share: where the gateway is, what they ask for, and a runner that prints JSON.

A check is a function named for what it shows. The model is a tiny one that writes noise: what is asserted is what the gateway
enforces or counts, never what the model means.
"""

import asyncio
import inspect
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

URL = os.environ["NORIA_URL"]
"""Of the gateway, with /v1 at its end."""
KEY = os.environ["NORIA_KEY"]
WRONG_KEY = "noria_00000000_wrong"
MODEL = "shop"
MISSING = "nothing-of-this-name"
HELLO = "hello"
HELLO_TOKENS = len("[system] Be brief.\n[user] hello\n[assistant] ")
"""Of HELLO with the project's own prompt and template, a token a byte."""
EMBEDDER = "all-MiniLM-L6-v2"
TEXTS = ["A man eats food.", "Somebody is having a meal.", "The stock market fell."]
TOO_LONG = "x" * 110_000
"""More bytes than the model's context has tokens."""
TOO_MANY = 100
"""Answers at once, more than NORIA_SERVING_MAX_IN_FLIGHT of the test's gateway: refused with 429."""


Cups = Annotated[int, Field(ge=1, le=9)]
"""Noise may else write digits until its tokens are spent."""


class Order(BaseModel):
    """An order."""

    kind: Literal["tea", "coffee"]
    cups: Cups
    hot: bool


def place_order(kind: Literal["tea", "coffee"], cups: Cups, hot: bool) -> str:
    """Places an order and tells its number."""
    assert kind in ("tea", "coffee")
    assert isinstance(cups, int)
    assert isinstance(hot, bool)
    return f"order 7: {cups} {'hot' if hot else 'cold'} {kind}"


def closer(vectors: Sequence[Sequence[float]]) -> None:
    """The vectors of TEXTS: three of length one, of which the first two are the nearest."""
    first, second, third = vectors
    assert abs(sum(x * x for x in first) - 1) < 1e-3
    near, far = (sum(x * y for x, y in zip(first, other, strict=True)) for other in (second, third))
    assert near > far + 0.2


_CHECKS: dict[str, Callable[[], Any]] = {}


def check(function: Callable[[], Any]) -> Callable[[], Any]:
    """Makes a function, or a coroutine function, a check."""
    _CHECKS[function.__name__] = function
    return function


def raises(kind: type[BaseException], call: Callable[[], Any]) -> Any:
    """What `call` raised, which must be of `kind`."""
    try:
        value = call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}, but {value!r}")


def run() -> None:
    """Runs all checks, or those that are named as arguments; prints one JSON object: name -> "ok" or what went wrong."""
    named = sys.argv[1:]
    with asyncio.Runner() as runner:  # one loop for all: clients keep connections, which belong to a loop
        told = {name: _outcome(name, f, runner) for name, f in _CHECKS.items() if not named or name in named}
    print(json.dumps(told))


def _outcome(name: str, function: Callable[[], Any], runner: asyncio.Runner) -> str:
    began = time.monotonic()
    try:
        runner.run(function()) if inspect.iscoroutinefunction(function) else function()
    except Exception:
        return traceback.format_exc()[-4000:]
    print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
    return "ok"
