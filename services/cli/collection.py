"""Which artifacts anybody still names: every service's rows, and every event that Kafka holds. Deletes nothing.

A reference moves from a service's rows to Kafka and from there to other services' rows, never back; so rows are read before
Kafka and once more after it, and none is missed that moves meanwhile.
"""

from collections.abc import Iterator

from contracts.topics import TOPICS, dead_letter_topic
from services.chassis.retention.references import digests
from services.chassis.retention.sweep import packed
from services.cli import api, kafka

PAGE = 1000


def event_topics() -> list[str]:
    """The topics whose events name artifacts, by their schemas, and their dead-letter topics."""
    naming = [t for t in TOPICS if "ArtifactRef" in t.event.model_json_schema().get("$defs", {})]
    dead = [dead_letter_topic(t.name, group) for t in naming for group in t.consumers if group != "downstream"]
    return [*(topic.name for topic in naming), *dead]


def named() -> set[bytes]:
    """The digests that are named anywhere, 32 bytes each.

    Raises:
        Unreachable: a service or Kafka does not answer: then nobody can tell what it names.
        Refused: a service does not let this key read.
    """
    found = rows()
    kafka.run(_add_events(found))
    return found | rows()


def rows() -> set[bytes]:
    """The digests that rows of services name. Raises as `named`."""
    from compose.local.settings import SERVICES

    found: set[bytes] = set()
    for service in SERVICES:
        for page in _pages(service):
            found |= packed(page)
    return found


def _pages(service: str) -> Iterator[list[str]]:
    after: str | None = None
    while True:
        page = api.get(service, "/v1/artifacts/held", limit=PAGE, after=after)
        yield page["items"]
        after = page["next"]
        if after is None:
            return


async def _add_events(found: set[bytes]) -> None:
    """Adds what the events that Kafka holds name."""
    async with kafka.consumer(committed=False) as reader:
        places = await kafka.partitions(event_topics())
        first, last = await kafka.bounds(reader, places)
        for place in places:
            async for messages in kafka.read_on(reader, place, first[place], last[place]):
                for message in messages:
                    found |= packed(digests((message.value or b"").decode("latin-1")))
