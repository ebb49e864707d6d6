"""Secrets are taken out of text by what is known of them and by their shape; other text stays as it is."""

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from services.chassis.observability.redaction import learn, learn_environment, redact
from services.chassis.storage.database import open_sqlite, reading


def test_known_secrets_in_each_form() -> None:
    learn('known"secret')
    assert redact('a known"secret b') == "a *** b"
    assert redact(r'{"a": "known\"secret"}') == '{"a": "***"}'


def test_the_environment_is_known_by_its_names_and_urls() -> None:
    learn_environment(
        {"AWS_SECRET_ACCESS_KEY": "s3-planted", "X_DATABASE": "postgresql://u:p%40ss-word@h/d", "NORIA_HOME": "/home/x"}
    )
    assert redact("s3-planted, p@ss-word, p%40ss-word, /home/x") == "***, ***, ***, /home/x"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("postgresql+psycopg://noria:other@db:5432/x", "postgresql+psycopg://noria:***@db:5432/x"),
        ("Authorization: Bearer abcdefgh12345678", "Authorization: Bearer ***"),
        (f"noria_0123abcd_{'x_-9' * 10}abc is refused", "noria_0123abcd_*** is refused"),
        ("noria_prep_consumed_total 3", "noria_prep_consumed_total 3"),
        ("http://127.0.0.1:8080/v1 user@host", "http://127.0.0.1:8080/v1 user@host"),
    ],
)
def test_secrets_by_their_shape(before: str, after: str) -> None:
    assert redact(before) == after


def test_errors_of_the_database_tell_no_values(tmp_path: Path) -> None:
    engine = open_sqlite(f"sqlite:///{tmp_path / 'x.db'}", "FULL")
    with reading(engine) as connection, pytest.raises(OperationalError) as refused:
        connection.execute(text("SELECT nothing FROM nowhere WHERE x = :x"), {"x": "planted-value"})
    assert "planted-value" not in str(refused.value)
