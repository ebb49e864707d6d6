"""Where the services and Kafka listen, by the stack's settings, with a wrong setting told as one. Opens no connection."""

import os
from typing import TYPE_CHECKING, Any

from services.cli.errors import Usage

if TYPE_CHECKING:
    from compose.local.settings import StackSettings
    from services.chassis.messaging.kafka.security import Security
    from services.chassis.settings import Settings


def settings() -> "StackSettings":
    """The stack's settings.

    Raises:
        Usage: one of them has no possible value.
    """
    from pydantic import ValidationError

    from compose.local.settings import StackSettings

    try:
        return StackSettings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = f"NORIA_{'_'.join(map(str, first['loc'])).upper()}"
        raise Usage("bad_setting", f"{name} is {first['input']!r}; {first['msg']}") from error


def kafka_bootstrap() -> str:
    """Kafka's bootstrap servers, 'host:port' with commas between. Raises as `settings`."""
    return os.environ.get("NORIA_KAFKA_BOOTSTRAP") or settings().kafka_bootstrap


def kafka_client() -> dict[str, Any]:
    """The arguments of every aiokafka client of the console: where Kafka is and how to prove oneself. Raises Usage."""
    return {"bootstrap_servers": kafka_bootstrap(), **kafka_security().arguments()}


def kafka_security() -> "Security":
    """How the console proves itself to Kafka.

    Raises:
        Usage: a setting has no possible value, or the settings do not fit together.
    """
    from services.chassis.errors import SettingRefused
    from services.chassis.messaging.kafka.security import security

    try:
        return security(chassis_settings("console"))
    except SettingRefused as error:
        raise Usage("bad_setting", str(error)) from error


def chassis_settings(service: str) -> "Settings":
    """What every service can be told, as this service is told it here.

    Raises:
        Usage: a setting has no possible value.
    """
    from pydantic import ValidationError

    from services.chassis.settings import service_settings

    try:
        return service_settings(service)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Usage("bad_setting", f"NORIA_{'_'.join(map(str, first['loc'])).upper()}: {first['msg']}") from error
