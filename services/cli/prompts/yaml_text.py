"""A prompt as the YAML of a project file, and what differs between two. Knows no registry."""

from collections.abc import Mapping
from difflib import unified_diff
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, lists under their key, keys in the order given, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def to_yaml(value: Any) -> str:
    """A JSON value as YAML that `services.cli.yaml_lines.load` reads as the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def section(prompt: Mapping[str, Any]) -> str:
    """The section `prompt:` of a project file."""
    return to_yaml({"prompt": {key: value for key, value in prompt.items() if value is not None}})


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[str]]:
    """By key of the prompt, the lines of a unified diff of its YAML; keys that are the same in both are left out."""
    return {key: lines for key in dict.fromkeys((*before, *after)) if (lines := _diff(before.get(key), after.get(key)))}


def _diff(before: Any, after: Any) -> list[str]:
    """Without the two lines that name files."""
    if before == after:
        return []
    return [line.rstrip("\n") for line in unified_diff(_lines(before), _lines(after), n=3)][2:]


def _lines(value: Any) -> list[str]:
    if value is None:
        return []
    text = value if isinstance(value, str) else to_yaml(value)
    return text.splitlines()
