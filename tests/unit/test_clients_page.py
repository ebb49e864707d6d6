"""The table of clients in docs/serving.md is what their scripts check, with the versions that are pinned."""

from pathlib import Path

from tests.integration.client_environments import PINS
from tests.integration.client_scripts import CLIENTS, pins

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
YES, NO = "yes", "-"


def rows() -> list[list[str]]:
    section = PAGE.read_text().partition("## Clients\n")[2].partition("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]


def test_the_table_tells_what_is_tested() -> None:
    heads, _, *told = rows()
    columns = heads[2:]
    wanted = [
        [client.title, client.versions(), *(YES if c in client.checks() else NO for c in columns)] for client in CLIENTS
    ]
    assert told == wanted
    assert {check for client in CLIENTS for check in client.checks()} == {*columns}


def test_the_version_of_lm_eval_is_the_pinned_one() -> None:
    assert f"**lm-eval** ({pins(PINS['lm-eval'])['lm-eval']})" in PAGE.read_text()
