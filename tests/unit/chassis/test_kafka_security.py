"""Settings of Kafka's security become arguments of the clients, or are refused by name before anything connects."""

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from services.chassis.errors import SettingRefused
from services.chassis.messaging.kafka.security import security
from services.chassis.settings import Settings

PASSWORD = "pass-word-of-the-test"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    authority = trustme.CA()
    leaf = authority.issue_cert("client")
    paths = {"ca": tmp_path / "ca.pem", "cert": tmp_path / "cert.pem", "key": tmp_path / "key.pem"}
    authority.cert_pem.write_to_path(paths["ca"])
    leaf.cert_chain_pems[0].write_to_path(paths["cert"])
    leaf.private_key_pem.write_to_path(paths["key"])
    return paths


SASL: dict[str, Any] = {
    "kafka_sasl_mechanism": "SCRAM-SHA-512",
    "kafka_sasl_username": "noria",
    "kafka_sasl_password": PASSWORD,
}


def test_nothing_set_is_plaintext() -> None:
    assert security(Settings()).arguments() == {"security_protocol": "PLAINTEXT", "ssl_context": None}


def test_sasl_over_tls(files: dict[str, Path]) -> None:
    found = security(Settings(kafka_security_protocol="SASL_SSL", kafka_ssl_cafile=files["ca"], **SASL))
    arguments = found.arguments()
    context = arguments.pop("ssl_context")
    assert arguments == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "noria",
        "sasl_plain_password": PASSWORD,
    }
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert PASSWORD not in repr(found)


def test_password_from_a_file_without_its_line_end(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    settings = Settings(
        kafka_security_protocol="SASL_PLAINTEXT",
        kafka_sasl_mechanism="PLAIN",
        kafka_sasl_username="noria",
        kafka_sasl_password_file=file,
    )
    assert security(settings).password == PASSWORD


def test_certificate_of_the_client(files: dict[str, Path]) -> None:
    own: dict[str, Any] = {"kafka_ssl_certfile": files["cert"], "kafka_ssl_keyfile": files["key"]}
    assert security(Settings(kafka_security_protocol="SSL", kafka_ssl_cafile=files["ca"], **own)).context


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"kafka_security_protocol": "SASL_SSL"}, ["KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME"]),
        ({"kafka_security_protocol": "SASL_SSL", **SASL, "kafka_sasl_username": None}, ["KAFKA_SASL_USERNAME"]),
        ({"kafka_security_protocol": "SASL_SSL", **SASL, "kafka_sasl_password": None}, ["KAFKA_SASL_PASSWORD_FILE"]),
        ({"kafka_security_protocol": "SASL_SSL", **SASL, "kafka_sasl_password_file": "x"}, ["either"]),
        (SASL, ["KAFKA_SASL_USERNAME", "PLAINTEXT"]),
        ({"kafka_security_protocol": "SSL", **SASL}, ["KAFKA_SASL_USERNAME", "=SSL"]),
        ({"kafka_ssl_cafile": "ca.pem"}, ["KAFKA_SSL_CAFILE", "PLAINTEXT"]),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_cafile": "/no/ca.pem"}, ["/no/ca.pem", "No such file"]),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_cafile": __file__}, ["KAFKA_SSL_CAFILE", "PEM"]),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_keyfile": __file__}, ["KAFKA_SSL_CERTFILE"]),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_certfile": __file__}, ["KAFKA_SSL_CERTFILE", "PEM"]),
    ],
)
def test_impossible_combinations_are_refused_by_name(given: dict[str, Any], names: list[str]) -> None:
    with pytest.raises(SettingRefused) as refused:
        security(Settings(**given))
    assert all(name in str(refused.value) for name in names), refused.value
    assert PASSWORD not in str(refused.value)


def test_password_reaches_a_child_and_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(kafka_security_protocol="SASL_SSL", database="postgresql://u:secret-db@h/d", **SASL)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings().kafka_sasl_password == settings.kafka_sasl_password
    assert PASSWORD not in repr(settings) + settings.model_dump_json()
    assert "secret-db" not in repr(settings)


def test_a_refused_value_is_not_told() -> None:
    wrong: dict[str, Any] = {**SASL, "kafka_sasl_mechanism": PASSWORD}
    with pytest.raises(ValueError, match="kafka_sasl_mechanism") as refused:
        Settings(**wrong)
    assert PASSWORD not in str(refused.value)
