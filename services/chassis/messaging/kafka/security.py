"""How clients prove themselves to Kafka: settings into the arguments of aiokafka and FastStream. Opens no connection.

Names are Kafka's own (security.protocol, sasl.mechanism; https://kafka.apache.org/documentation/#security).
"""

from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext, SSLError
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import AuthenticationFailedError, KafkaError, SaslAuthenticationFailed
from aiokafka.helpers import create_ssl_context
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from services.chassis.errors import SettingRefused
from services.chassis.observability import redaction
from services.chassis.settings import Settings

SASL = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
PROBE_MS = 5000


@dataclass(frozen=True, slots=True)
class Security:
    """What a client shows to Kafka and asks of it; by default nothing."""

    protocol: str = "PLAINTEXT"
    context: SSLContext | None = None
    mechanism: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def arguments(self) -> dict[str, Any]:
        """The arguments of an aiokafka client."""
        plain = {"security_protocol": self.protocol, "ssl_context": self.context}
        if self.mechanism is None:
            return plain
        sasl = {"sasl_plain_username": self.username, "sasl_plain_password": self.password}
        return {**plain, "sasl_mechanism": self.mechanism, **sasl}

    def faststream(self) -> BaseSecurity:
        """The same for FastStream's broker."""
        if self.mechanism is None:
            return BaseSecurity(self.context)
        secure = self.context is not None
        return SASL[self.mechanism](self.username or "", self.password or "", self.context, secure)


def security(settings: Settings) -> Security:
    """What the settings say, with the files they name read.

    Raises:
        SettingRefused: they do not fit together, or a file cannot be used.
    """
    protocol = settings.kafka_security_protocol
    context = _context(settings) if protocol.endswith("SSL") else None
    if context is None:
        _refuse_useless(settings, protocol, "kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile")
    if protocol.startswith("SASL_"):
        return Security(
            protocol, context, settings.kafka_sasl_mechanism, settings.kafka_sasl_username, _credentials(settings)
        )
    names = ("mechanism", "username", "password", "password_file")
    _refuse_useless(settings, protocol, *(f"kafka_sasl_{name}" for name in names))
    return Security(protocol, context)


def _refuse_useless(settings: Settings, protocol: str, *names: str) -> None:
    """A setting that has no effect is most likely a protocol forgotten: better no connection than an open one."""
    if given := [f"NORIA_{name.upper()}" for name in names if getattr(settings, name) is not None]:
        raise SettingRefused(f"{', '.join(given)}: of no effect with NORIA_KAFKA_SECURITY_PROTOCOL={protocol}")


def _credentials(settings: Settings) -> str:
    """The password, once everything that SASL needs is there."""
    needed = ("kafka_sasl_mechanism", "kafka_sasl_username")
    missing = [f"NORIA_{name.upper()}" for name in needed if getattr(settings, name) is None]
    if missing:
        raise SettingRefused(
            f"NORIA_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} needs {', '.join(missing)}"
        )
    given, file = settings.kafka_sasl_password, settings.kafka_sasl_password_file
    if (given is None) == (file is None):
        raise SettingRefused("set either NORIA_KAFKA_SASL_PASSWORD or NORIA_KAFKA_SASL_PASSWORD_FILE")
    password = given.get_secret_value() if given is not None else _read(file)
    if not password:
        raise SettingRefused(f"NORIA_KAFKA_SASL_PASSWORD_FILE={file}: the file is empty")
    redaction.learn(password)
    return password


def _read(file: Path | None) -> str:
    try:
        return file.read_text().rstrip("\r\n") if file else ""
    except (OSError, UnicodeDecodeError) as error:
        raise SettingRefused(f"NORIA_KAFKA_SASL_PASSWORD_FILE={file} cannot be read: {_reason(error)}") from error


def _context(settings: Settings) -> SSLContext:
    """TLS that checks the broker's certificate and name; with a certificate of our own where one is set."""
    cafile, certfile, keyfile = settings.kafka_ssl_cafile, settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile
    if keyfile is not None and certfile is None:
        raise SettingRefused("NORIA_KAFKA_SSL_KEYFILE needs NORIA_KAFKA_SSL_CERTFILE")
    for name, file in (("CAFILE", cafile), ("CERTFILE", certfile), ("KEYFILE", keyfile)):
        _check_readable(f"NORIA_KAFKA_SSL_{name}", file)
    try:
        context = create_ssl_context(cafile=cafile)
    except (SSLError, OSError) as error:
        raise SettingRefused(f"NORIA_KAFKA_SSL_CAFILE={cafile} holds no PEM certificate: {_reason(error)}") from error
    try:
        if certfile is not None:
            context.load_cert_chain(certfile, keyfile, password="")
    except (SSLError, OSError, ValueError) as error:
        files = f"NORIA_KAFKA_SSL_CERTFILE={certfile}, NORIA_KAFKA_SSL_KEYFILE={keyfile}"
        raise SettingRefused(f"{files}: not a PEM certificate and its unencrypted PEM key: {_reason(error)}") from error
    return context


def _check_readable(name: str, file: Path | None) -> None:
    try:
        if file is not None:
            file.read_bytes()
    except OSError as error:
        raise SettingRefused(f"{name}={file} cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


async def refusal(bootstrap: str, how: Security) -> str | None:
    """Why Kafka and this client do not trust each other; None where that is not what keeps them apart.

    aiokafka's clients log this cause and raise that no broker could be reached.
    """
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            connection = await create_conn(host, int(port), request_timeout_ms=PROBE_MS, **how.arguments())
        except (AuthenticationFailedError, SaslAuthenticationFailed) as error:
            return f"Kafka at {address} refuses user {how.username}: {_reason(error)}"
        except SSLError as error:
            return f"TLS with Kafka at {address} fails: {_reason(error)}"
        except KafkaError as error:
            if how.mechanism is not None:
                return f"Kafka at {address} refuses {how.protocol} with {how.mechanism}: {error}"
        except (TimeoutError, OSError, ValueError):
            continue
        else:
            connection.close()
            return None
    return None
