"""The frozen Event base and its CloudEvents 1.0 Kafka binding, binary and structured mode. Opens no connection.

Source of the format: CloudEvents 1.0.2, "Kafka Protocol Binding" and "JSON Event Format"; what the SDKs make of the latter is
in contracts/structured.py.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.config import ExtraValues

from contracts.json_text import Malformed as Malformed
from contracts.json_text import load_json as load_json
from contracts.json_text import named_project as named_project
from contracts.structured import JSON as JSON
from contracts.structured import STRUCTURED as STRUCTURED
from contracts.structured import attributes_of, data_of, envelope_of, is_envelope, is_json, media_type

TYPE_PREFIX = "io.noria."
MAX_BYTES = 1_000_000

Header = tuple[str, bytes | None]
"""A Kafka header as it comes from the wire: the value may be null."""
NO_EXTENSIONS: Mapping[str, str] = MappingProxyType({})


class Event(BaseModel):
    """A frozen, versioned event. A subclass names its topic; its `key` puts related events into one partition.

    Unknown fields are ignored at every level, so that an additive revision does not break older consumers: also within
    classes that are closed where people write them, as a project file or a record. NaN and infinity are refused.
    """

    # What JsonValue lets through of them is written as it is, for `decode` to refuse, rather than as null.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, ser_json_inf_nan="constants")

    TOPIC: ClassVar[str]

    project: str

    @property
    def key(self) -> str:
        """Kafka key: events of one key keep their order."""
        return self.project

    @classmethod
    def model_validate(cls, obj: Any, *, extra: ExtraValues | None = "ignore", **options: Any) -> Self:
        """The event of a dictionary; open, see the class."""
        return super().model_validate(obj, extra=extra, **options)

    @classmethod
    def model_validate_json(
        cls, json_data: str | bytes | bytearray, *, extra: ExtraValues | None = "ignore", **options: Any
    ) -> Self:
        """The event of JSON; open, see the class."""
        return super().model_validate_json(json_data, extra=extra, **options)

    @classmethod
    def ce_type(cls) -> str:
        """The CloudEvents type: the reverse-DNS prefix and the topic."""
        return TYPE_PREFIX + cls.TOPIC

    def to_bytes(self) -> bytes:
        """The event's data as JSON: `model_dump_json` without its way through text."""
        return self.__pydantic_serializer__.to_json(self)


class Meta(NamedTuple):
    """The CloudEvents attributes of an event. `(source, id)` is its identity."""

    id: str
    source: str
    type: str
    time: datetime
    subject: str | None = None
    traceparent: str | None = None
    extensions: Mapping[str, str] = NO_EXTENSIONS


E = TypeVar("E", bound=Event)


class Received(NamedTuple, Generic[E]):
    """An event with its attributes."""

    meta: Meta
    data: E


def encode(event: Event, meta: Meta) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Key, value and headers of `event` in binary mode."""
    pairs = [(name, value.encode()) for name, value in attributes(meta).items()]
    return event.key.encode(), event.to_bytes(), pairs


def attributes(meta: Meta) -> dict[str, str]:
    """The headers of binary mode as text."""
    headers = {
        "ce_specversion": "1.0",
        "ce_id": meta.id,
        "ce_source": meta.source,
        "ce_type": meta.type,
        "ce_time": meta.time.astimezone(UTC).isoformat(),  # RFC 3339 knows no offset with seconds
        "content-type": JSON,
    }
    if meta.subject is not None:
        headers["ce_subject"] = meta.subject
    if meta.traceparent is not None:
        headers["traceparent"] = meta.traceparent
    for name, value in meta.extensions.items():
        headers[f"ce_{name}"] = value
    return headers


def decode(cls: type[E], headers: Iterable[Header], value: bytes | None) -> Received[E]:
    """The event of a Kafka message in either mode.

    Raises:
        Malformed: with the reason `no_value`, `too_large`, `bad_header`, `missing_attribute`, `unsupported`,
            `wrong_type`, `not_utf8`, `not_json`, `too_deep` or `invalid_data`.
    """
    if value is None:
        raise Malformed("no_value", "the message has no value; give the event's data as JSON")
    if len(value) > MAX_BYTES:
        raise Malformed("too_large", f"the value has {len(value)} bytes; at most {MAX_BYTES} are taken")
    text = _headers(headers)
    content = text.get("content-type", JSON)
    if content != JSON:
        content = media_type(content)
    if content == STRUCTURED or ("ce_specversion" not in text and is_json(content) and is_envelope(value)):
        return _structured(cls, text, value)
    if not is_json(content):
        raise Malformed("unsupported", f"content-type is {content[:80]!r}; give {JSON} or {STRUCTURED}")
    return Received(_meta(cls, text), _validate(cls, value))


def new_meta(event: Event, source: str, id: str, *, time: datetime | None = None, **extensions: str) -> Meta:
    """Attributes for an event that starts here.

    Raises:
        ValueError: `time` has no zone.
    """
    if time is not None and time.tzinfo is None:
        raise ValueError(f"{time!r} has no time zone; give it in UTC")
    return Meta(id=id, source=source, type=event.ce_type(), time=time or datetime.now(UTC), extensions=extensions)


def _headers(headers: Iterable[Header]) -> dict[str, str]:
    try:
        return {name.lower(): item.decode() for name, item in headers}  # pyright: ignore[reportOptionalMemberAccess]
    except (AttributeError, UnicodeDecodeError):
        return _headers_one_by_one(headers)


def _headers_one_by_one(headers: Iterable[Header]) -> dict[str, str]:
    result: dict[str, str] = {}
    for name, item in headers:
        ours = name.startswith("ce_") or name == "content-type"
        if item is None:
            if ours:
                raise Malformed("bad_header", f"header {name[:80]!r} is null; give its value as UTF-8 text")
            continue
        try:
            result[name.lower()] = item.decode()
        except UnicodeDecodeError as error:
            if ours:
                raise Malformed("bad_header", f"header {name[:80]!r} is not UTF-8") from error
    return result


_NAMES = ("specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema", "traceparent")
_KNOWN = frozenset({"content-type", "traceparent", *(f"ce_{name}" for name in _NAMES)})


def _meta(cls: type[Event], headers: Mapping[str, str]) -> Meta:
    """The attributes that stand in headers under their names in binary mode."""
    get = headers.get
    version, id, source, kind = get("ce_specversion"), get("ce_id"), get("ce_source"), get("ce_type")
    if not (version and id and source and kind):
        required = next(name for name in _NAMES[:4] if not get(f"ce_{name}"))
        dashed = sorted(name[:40] for name in headers if name.startswith("ce-"))[:10]
        hint = f"; {', '.join(dashed)} are HTTP's headers, Kafka's are ce_id and so on" if dashed else ""
        raise Malformed("missing_attribute", f"CloudEvents attribute {required!r} is missing or empty{hint}")
    if version != "1.0":
        raise Malformed("unsupported", f"specversion is {version[:20]!r}; give '1.0'")
    if kind != cls.ce_type():
        raise Malformed("wrong_type", f"type is {kind[:120]!r}; this topic takes {cls.ce_type()!r}")
    _check_length("id", id, 200)
    _check_length("source", source, 500)
    further = headers.keys() - _KNOWN
    return Meta(
        id,
        source,
        kind,
        _time(get("ce_time")),
        get("ce_subject"),
        get("traceparent") or get("ce_traceparent"),
        {name[3:]: headers[name] for name in further if name.startswith("ce_")} if further else NO_EXTENSIONS,
    )


def _check_length(name: str, value: str, limit: int) -> None:
    # No character has more than four bytes, so most need not be encoded to be counted.
    if (len(value) * 4 > limit and len(value.encode()) > limit) or "\x00" in value:
        raise Malformed("bad_header", f"attribute {name!r} is longer than {limit} bytes or holds a NUL")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATETIME: TypeAdapter[datetime] = TypeAdapter(datetime)


def _time(raw: str | None) -> datetime:
    if raw is None:
        return _EPOCH  # `time` is optional in CloudEvents; the clock would make a replay differ
    try:
        parsed = datetime.fromisoformat(raw) if raw[10:11] == "T" else _DATETIME.validate_python(raw)
    except ValueError as error:
        raise Malformed("bad_header", f"time is {raw[:60]!r}; give RFC 3339, as 2026-01-31T12:00:00Z") from error
    if not 1970 <= parsed.year <= 9000:
        raise Malformed("bad_header", f"time is {raw[:60]!r}; give a year from 1970 to 9000")
    if parsed.tzinfo is UTC:
        return parsed
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)


def _structured(cls: type[E], headers: Mapping[str, str], value: bytes) -> Received[E]:
    body = envelope_of(value)
    attributes = attributes_of(body)
    if "traceparent" in headers:
        attributes["traceparent"] = headers["traceparent"]
    return Received(_meta(cls, attributes), _validate(cls, data_of(body)))


def _validate(cls: type[E], value: bytes) -> E:
    try:
        if b"NaN" in value or b"Infinity" in value:
            load_json(value)  # refuses them where they are no text: pydantic's parser takes them
        return cls.__pydantic_validator__.validate_json(value, extra="ignore")  # model_validate_json, only quicker
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] != "json_invalid":
            where = ".".join(str(part) for part in first["loc"])
            raise Malformed("invalid_data", f"data.{where}: {first['msg']}"[:500]) from error
        load_json(value)  # says more exactly what is wrong
        raise Malformed("not_json", first["msg"][:300]) from error
