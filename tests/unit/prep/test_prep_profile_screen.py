"""The profile's page as Chromium draws it, light and dark, without a network: paper, bars and text are there in their colours."""

import shutil
import subprocess
from pathlib import Path
from typing import cast

import pytest
from PIL import Image

from services.prep.domain.rows import SPLITS
from services.prep.profiling.figures import words
from services.prep.profiling.page import page
from services.prep.profiling.profile import profile
from tests.unit.prep.frozen import write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1100,1700"),
)
SCHEMES = {"light": (1, "#ffffff", "#2f7d8c", "#1d2733"), "dark": (0, "#12181f", "#4fb3c4", "#e2e8ef")}
"""Blink's number of a colour scheme; the colours of paper, bars and ink."""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not here (Debian's package chromium)")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_is_drawn(tmp_path: Path, scheme: str) -> None:
    rows = [
        {
            "record_id": f"r{i}",
            "tags": {"tool": f"t{i % 4}"},
            "record": {"prompt": "word " * (i % 9), "completion": "x"},
        }
        for i in range(90)
    ]
    files = write(tmp_path, {split: rows[i::3] for i, split in enumerate(SPLITS)})
    html, shot = tmp_path / "page.html", tmp_path / "shot.png"
    html.write_text(page("p", profile(files, "a" * 64, words, "white-space words", 1000)))
    number, *wanted = SCHEMES[scheme]
    own = (f"--user-data-dir={tmp_path / 'profile'}", f"--blink-settings=preferredColorScheme={number}")
    subprocess.run([str(CHROMIUM), *OPTIONS, *own, f"--screenshot={shot}", html.as_uri()], check=True, timeout=60)
    with Image.open(shot) as image:
        counted = cast(list[tuple[int, tuple[int, int, int]]], image.convert("RGB").getcolors(1 << 24))
        found = {f"#{r:02x}{g:02x}{b:02x}": n for n, (r, g, b) in counted}
    paper, bars, ink = (found.get(colour, 0) for colour in wanted)
    assert paper > 500_000
    assert bars > 20_000
    assert ink > 500
