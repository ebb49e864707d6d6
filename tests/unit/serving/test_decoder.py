"""What the bundled backend cannot serve it refuses, and says what can."""

from pathlib import Path

import pytest

from services.serving.triton.backend import decoder
from tests.lm_bases import make_gpt_neo


def test_a_model_that_attends_by_code_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(decoder.ModelUnsuitable, match=r"code of its own .* vLLM"):
        decoder.load(make_gpt_neo(tmp_path / "base"), {})
