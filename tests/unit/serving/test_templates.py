"""Chat templates run with bounds: one that loops, bursts or hangs is refused, and delays no other."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.lm.template import ChatTemplate
from services.serving.domain.errors import ApiFault, Invalid
from services.serving.domain.sampling import prompt_text
from services.serving.templates import OutOfBounds, Templates
from tests.unit.serving.builders import CHATML, VOCABULARY, chat, target, template

POWER = "{% if messages[-1]['content'] == 'hi' %}{{ 9 ** (9 ** 9) }}{% endif %}"
"""Holds Python's lock for hours."""
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{{ '' }}{% endfor %}{% endfor %}"
BURST = "{{ 'x' * 1000000000 }}"
HOSTILE = {"power": POWER, "loop": LOOP, "burst": BURST}


def hostile(source: str) -> ChatTemplate:
    return ChatTemplate(source, {}, VOCABULARY)  # not compiled here: that runs it


@pytest.fixture
def templates() -> Iterator[Templates]:
    made = Templates(1.0)
    yield made
    made.end()


@asynccontextmanager
async def longest_pause() -> AsyncGenerator[list[float]]:
    """How long the event loop stood still at most."""
    pauses = [0.0]

    async def watch() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            pauses[0] = max(pauses[0], time.monotonic() - before)

    watching = asyncio.create_task(watch())
    try:
        yield pauses
    finally:
        watching.cancel()


def test_a_template_gives_the_same_text_in_its_process(templates: Templates) -> None:
    asked, at = chat(), target()
    assert asyncio.run(templates.prompt_text(asked, at)) == prompt_text(asked, at)
    refusing = target(template=template("{{ raise_exception('no') }}"))
    with pytest.raises(Invalid, match="refuses these messages: no"):
        asyncio.run(templates.prompt_text(asked, refusing))


def test_hostile_templates_are_refused_and_delay_no_other(templates: Templates) -> None:
    good = target()
    bad = [target(template=hostile(source)) for source in HOSTILE.values()]

    async def run() -> tuple[list[object], float, float]:
        await templates.prompt_text(chat(), good)  # its process is there
        async with longest_pause() as pauses:
            attacks = [asyncio.create_task(templates.prompt_text(chat(), at)) for at in bad for _ in range(2)]
            slowest = 0.0
            while not all(attack.done() for attack in attacks):
                began = time.monotonic()
                await templates.prompt_text(chat(), good)
                slowest = max(slowest, time.monotonic() - began)
            return await asyncio.gather(*attacks, return_exceptions=True), slowest, pauses[0]

    found, slowest, pause = asyncio.run(run())
    assert [type(fault) for fault in found] == [Invalid] * 6
    assert [isinstance(fault, ApiFault) and "longer than 1 s" in fault.message for fault in found[:4]] == [True] * 4
    print(f"slowest beside them {slowest:.3f} s, longest pause {pause:.3f} s")
    assert slowest < 1.0
    assert pause < 0.5


def test_a_version_whose_template_hangs_has_none(templates: Templates, tmp_path: Path) -> None:
    for name, source in (("bad", POWER.replace("== 'hi'", "!= ''")), ("one", CHATML), ("other", CHATML)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "chat_template.jinja").write_text(source)
    with pytest.raises(OutOfBounds, match="longer than 1 s"):
        templates.read(tmp_path / "bad")
    one = templates.read(tmp_path / "one")
    assert one is not None
    assert one is templates.read(tmp_path / "other")
    assert templates.read(tmp_path) is None


def test_a_template_that_somebody_waits_for_keeps_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.serving.templates.PROCESSES", 1)
    made = Templates(20.0)
    slow = target(
        template=template(CHATML + "{% for a in range(3000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}")
    )

    async def both() -> tuple[str, str]:
        await made.prompt_text(chat(), slow)  # its process runs
        waited_for = asyncio.create_task(made.prompt_text(chat(), slow))
        await asyncio.sleep(0)
        return (await made.prompt_text(chat(), target())).text, (await waited_for).text

    try:
        text = prompt_text(chat(), target()).text
        assert asyncio.run(both()) == (text, text)
    finally:
        made.end()
