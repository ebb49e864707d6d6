"""Torch is loaded where it computes and nowhere else: the gateway renders prompts without it."""

import subprocess
import sys

import pytest

from tests.conftest import loaded

GATEWAY_BYTES = 200 * 2**20
"""What the gateway may hold before it answers."""
WITHOUT = ("services.serving.app", "services.trainer.app", "services.evaluator.app", "services.lm.bases")


@pytest.mark.parametrize("module", [*WITHOUT, "services.lm.learning"])
def test_torch_is_not_loaded(module: str) -> None:
    assert loaded(f"import {module}", "torch") == set()


def test_a_device_is_asked_of_torch() -> None:
    assert loaded("import services.lm.device", "torch") == {"torch"}


def test_the_gateway_stays_small() -> None:
    code = "import services.serving.app; print(open('/proc/self/status').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
    assert int(status["VmRSS"].split()[0]) * 1024 < GATEWAY_BYTES
