"""Reads one YAML document within bounds and remembers the line of every key. Knows nothing of projects.

Aliases are refused, so that a small file cannot stand for a large one; size, depth and number of nodes are bounded.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_NODES = 20_000
MAX_DIGITS = 100
"""Characters of a number: YAML 1.1 reads 1:1:1... to the base of 60, whose figures grow for seconds."""
COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")

Path = tuple[str | int, ...]


class YamlRefused(ValueError):
    """The text is no YAML document that is taken; `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """A document's value and the line of each of its parts by path; the path of a whole document is ().

    `literal` has the lines of the `|` behind which a text stands line by line.
    """

    value: Any
    lines: dict[Path, int] = field(default_factory=dict[Path, int])
    literal: dict[Path, int] = field(default_factory=dict[Path, int])

    def line(self, path: Path) -> int:
        """The line of `path`, or of the nearest part around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def load(raw: bytes) -> Document:
    """The only YAML document of `raw`.

    Raises:
        YamlRefused: not UTF-8, not YAML, too large, too deep, with aliases, custom tags or a key twice.
    """
    text = _text(raw)
    try:
        _bound(yaml.parse(text, Loader=yaml.SafeLoader))
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.problem, error.context) if part)
        raise YamlRefused(mark.line + 1 if mark else 1, f"this is not YAML: {said}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, max(error.position, 0)) + 1
        raise YamlRefused(line, f"the character {error.character!r} is not allowed") from error
    if node is None:
        raise YamlRefused(1, "the file is empty")
    found = Document(None)
    return replace(found, value=_value(node, (), found))


def _text(raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        raise YamlRefused(1, f"the file has {len(raw)} bytes; at most {MAX_BYTES} are taken")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise YamlRefused(line, f"byte {error.start} is not UTF-8; save the file as UTF-8") from error


def _bound(events: Iterator[yaml.Event]) -> None:
    depth = nodes = documents = 0
    for event in events:
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent):
            raise YamlRefused(line, f"the alias *{event.anchor} is not taken; write the value out")
        documents += isinstance(event, yaml.DocumentStartEvent)
        nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if documents > 1:
            raise YamlRefused(line, "a second document begins here; give one a file")
        if depth > MAX_DEPTH:
            raise YamlRefused(line, f"nested deeper than {MAX_DEPTH} levels")
        if nodes > MAX_NODES:
            raise YamlRefused(line, f"more than {MAX_NODES} values")


def _value(node: Node, path: Path, found: Document) -> Any:
    line = node.start_mark.line + 1
    found.lines.setdefault(path, line)
    if not isinstance(node, ScalarNode) and node.tag not in COLLECTIONS:
        raise YamlRefused(line, f"the tag {node.tag[:80]} is not taken")
    if isinstance(node, MappingNode):
        return _mapping(node, path, found)
    if isinstance(node, SequenceNode):
        return [_value(item, (*path, i), found) for i, item in enumerate(node.value)]
    assert isinstance(node, ScalarNode)  # noqa: S101 - PyYAML composes no other nodes
    if node.style == "|":
        found.literal[path] = line
    return _scalar(node)


def _mapping(node: MappingNode, path: Path, found: Document) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, ScalarNode):
            raise YamlRefused(line, "a key must be plain text")
        key = _text_of(key_node)
        if key in result:
            raise YamlRefused(
                line, f"{_dotted((*path, key))} stands here a second time (first: line {found.lines[(*path, key)]})"
            )
        found.lines[(*path, key)] = line
        result[key] = _value(value_node, (*path, key), found)
    return result


def _text_of(node: ScalarNode) -> str:
    text = str(node.value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line = node.start_mark.line + 1
        raise YamlRefused(line, "half of a surrogate pair is no character; write it as UTF-8") from error
    return text


def _scalar(node: ScalarNode) -> Any:
    line = node.start_mark.line + 1
    if not node.tag.startswith("tag:yaml.org,2002:"):
        raise YamlRefused(line, f"the tag {node.tag[:80]} is not taken")
    if len(_text_of(node)) > MAX_DIGITS and node.tag in NUMBERS:
        raise YamlRefused(line, f"the number {node.value[:20]}... has more than {MAX_DIGITS} characters")
    try:
        value = SafeConstructor().construct_object(node)
    except (yaml.MarkedYAMLError, ValueError, OverflowError, LookupError, AttributeError, TypeError) as error:
        # PyYAML raises the last three on a value that does not fit its tag, as in `!!bool x` or `!!timestamp x`
        raise YamlRefused(line, f"{node.value[:60]!r} cannot be read as a value") from error
    if isinstance(value, float) and not math.isfinite(value):
        raise YamlRefused(line, f"{node.value!r} is no finite number")
    return value


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
