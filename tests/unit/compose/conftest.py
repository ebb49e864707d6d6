import shutil

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A skipped test is easily overlooked: says what was not checked."""
    if shutil.which("promtool") is None:
        terminalreporter.write_line("promtool is not installed: the cases of compose/prometheus did not run")
