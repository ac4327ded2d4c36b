"""Read YAML that says one thing: no key twice, no text that grows when it is read, dates as they are written."""

from collections.abc import Hashable
from typing import Any

import yaml

MAX_DEPTH = 50
"""Sections within sections; an experiment has fewer than ten."""
MAX_VALUES = 100_000
"""Values of a file, those that an alias repeats included."""
MAX_DIGITS = 100
"""Characters of a number."""

_TAG = "tag:yaml.org,2002:"


def read_yaml(text: str | bytes) -> Any:
    """Return the value of a YAML text: plain dicts, lists, texts, numbers and booleans.

    A date without quotes stays the text that it is.

    Raises:
        yaml.YAMLError: not valid YAML, a key that is there twice, or too large a text; the message names the line.
    """
    _refuse_large(text)
    return yaml.load(text, _Loader)


class _Refused(yaml.YAMLError):
    def __init__(self, mark: yaml.Mark, message: str) -> None:
        super().__init__(f"line {mark.line + 1}: {message}")


def _refuse_large(text: str | bytes) -> None:
    """Count values as if each alias were written out, without writing it out."""
    sizes: dict[str, int] = {}
    within: list[tuple[str | None, int]] = []  # anchor of each open section, and the values before it
    total = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == name for name, _ in within):
                raise _Refused(event.start_mark, f"`*{anchor}` stands within `&{anchor}`; write its value out")
            total += sizes.get(anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            sizes |= {anchor: 1} if anchor else {}
        elif isinstance(event, yaml.CollectionStartEvent):
            within.append((anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = within.pop()
            sizes |= {anchor: total - before} if anchor else {}
        if len(within) > MAX_DEPTH:
            raise _Refused(event.start_mark, f"expected at most {MAX_DEPTH} sections within each other, found more")
        if total > MAX_VALUES:
            raise _Refused(event.start_mark, f"expected at most {MAX_VALUES:,} values, found more (with aliases)")


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the class above
        first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[Hashable, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == f"{_TAG}merge":
                continue
            name, line = self.construct_object(key), key.start_mark.line + 1
            if name in lines:
                raise _Refused(
                    key.start_mark,
                    f"expected each key once, found `{key.value}` again, first in line {lines[name]}; remove one",
                )
            lines[name] = line
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        is_number = node.tag in (f"{_TAG}int", f"{_TAG}float")
        if is_number and len(node.value) > MAX_DIGITS:
            raise _Refused(node.start_mark, f"expected a number of at most {MAX_DIGITS} characters, found more")
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            kind = node.tag.removeprefix(_TAG)
            raise _Refused(node.start_mark, f"expected a value of the type {kind}, found what is none") from error
