"""A real broker with two more listeners: SASL_SSL with SCRAM, and SSL that wants a certificate of its clients."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,  # pyright: ignore[reportPrivateImportUsage]
    ScramMechanism,  # pyright: ignore[reportPrivateImportUsage]
    UserScramCredentialUpsertion,  # pyright: ignore[reportPrivateImportUsage]
)
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from tests.broker import Broker
from tests.conftest import free_port

USER = "noria"
PROPERTIES = """
listeners=PLAINTEXT://{plain},CONTROLLER://127.0.0.1:{controller},SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{mutual}
advertised.listeners=PLAINTEXT://{plain},SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{mutual}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.ssl.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
"""


@dataclass(frozen=True)
class SecureBroker:
    """Addresses of the listeners, and what a client needs; `plain` is for the test's own eyes."""

    plain: str
    sasl: str
    mutual: str
    files: Path

    def settings(self, password: str, authority: str = "ca") -> dict[str, str]:
        """The environment of a service that speaks SASL_SSL."""
        return {
            "NORIA_KAFKA_BOOTSTRAP": self.sasl,
            "NORIA_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "NORIA_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "NORIA_KAFKA_SASL_USERNAME": USER,
            "NORIA_KAFKA_SASL_PASSWORD": password,
            "NORIA_KAFKA_SSL_CAFILE": str(self.files / f"{authority}.pem"),
        }

    def mutual_settings(self) -> dict[str, str]:
        """The environment of a service that shows a certificate."""
        return {
            "NORIA_KAFKA_BOOTSTRAP": self.mutual,
            "NORIA_KAFKA_SECURITY_PROTOCOL": "SSL",
            "NORIA_KAFKA_SSL_CAFILE": str(self.files / "ca.pem"),
            "NORIA_KAFKA_SSL_CERTFILE": str(self.files / "client.pem"),
        }


@contextmanager
def running(files: Path, password: str) -> Generator[SecureBroker]:
    """A started broker whose user `noria` has this password, removed at the end."""
    _certificates(files)
    sasl, mutual = free_port(), free_port()
    broker = Broker()
    settings = broker.settings
    ports = {"plain": broker.bootstrap, "controller": settings.kafka_controller_port, "sasl": sasl, "mutual": mutual}
    broker.properties = PROPERTIES.format(**ports, keystore=files / "server.pem", authority=files / "ca.pem")
    try:
        broker.start()
        _add_user(broker.bootstrap, password)
        yield SecureBroker(broker.bootstrap, f"127.0.0.1:{sasl}", f"127.0.0.1:{mutual}", files)
    finally:
        broker.stop()


def _certificates(files: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(files / "ca.pem")
    stranger.cert_pem.write_to_path(files / "stranger.pem")
    for name, identity in (("server", "127.0.0.1"), ("client", "client.test")):
        leaf = authority.issue_cert(identity)
        key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
        pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # Kafka reads no other form
        chain = b"".join(part.bytes() for part in leaf.cert_chain_pems)
        (files / f"{name}.pem").write_bytes(pkcs8 + chain)


def _add_user(bootstrap: str, password: str) -> None:
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    user = UserScramCredentialUpsertion(USER, info, password.encode())
    admin = AdminClient({"bootstrap.servers": bootstrap})  # held: its end would end the request
    for done in admin.alter_user_scram_credentials([user]).values():
        done.result(30)
