"""Pydantic's errors as lines that name the dotted path in the file, what was expected and what was found."""

import difflib
import typing
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

from pydantic import BaseModel, ValidationError

LONGEST = 200
"""Characters of a wrong value that an error shows."""


class SettingError(ValueError):
    """Mistakes below a section, found by the section's own validator."""

    def __init__(self, found: Sequence[tuple[str, str]]) -> None:
        """Take the dotted path within the section and the text of each mistake."""
        super().__init__("; ".join(map(line_of, found)))
        self.found = found


def line_of(explained: tuple[str, str]) -> str:
    """Return a path and a text as one line; the text alone if the path is empty."""
    path, text = explained
    return f"{path}: {text}" if path else text


def explain(error: ValidationError, tree: Any, root: type[BaseModel]) -> list[tuple[str, str]]:
    """Return the dotted path and the text of each mistake in a plain tree that is no valid `root`."""
    return [found for each in error.errors() for found in _explain(dict(each), tree, root)]


def explained(error: ValidationError, tree: Any, root: type[BaseModel]) -> str:
    """Return all mistakes in a plain tree that is no valid `root` as one line."""
    return "; ".join(map(line_of, explain(error, tree, root)))


def _explain(error: dict[str, Any], tree: Any, root: type[BaseModel]) -> list[tuple[str, str]]:
    location = _without_tags(error["loc"], tree)
    path = ".".join(str(part) for part in location)
    if error["type"] in ("value_error", "assertion_error"):
        cause = error["ctx"]["error"]
        if isinstance(cause, SettingError):
            return [(".".join(filter(None, (path, within))), text) for within, text in cause.found]
        return [(path, str(cause))]
    if error["type"] == "union_tag_invalid":
        return [(f"{path}.kind", _unknown_kind(error["ctx"]["expected_tags"], error["ctx"]["tag"]))]
    return [(path, _text(error, location, tree, root))]


def _text(error: dict[str, Any], location: list[int | str], tree: Any, root: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        known = known_keys(location[:-1], tree, root)
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key; {hint}"
    if error["type"] == "missing":
        return "required key is missing"
    if error["type"] == "union_tag_not_found":
        return f"expected a `kind`; found {shown(error['input'])}"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}; found {shown(error['input'])}"


def _unknown_kind(expected: str, found: str) -> str:
    near = difflib.get_close_matches(found, [tag.strip("'") for tag in expected.split(", ")], n=1, cutoff=0.5)
    return f"expected one of {expected}; found '{found}'" + (f"; did you mean '{near[0]}'?" if near else "")


def shown(value: Any) -> str:
    """Return a wrong value as an error shows it."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _without_tags(location: tuple[Any, ...], tree: Any) -> list[int | str]:
    """Return `location` without the union tags that pydantic puts between the keys of the file."""
    path: list[int | str] = []
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if (isinstance(tree, Mapping) and part in tree) or (
            isinstance(tree, Sequence) and not isinstance(tree, str) and isinstance(part, int) and part < len(tree)
        ):
            tree = tree[part]
        elif not last or not isinstance(tree, Mapping | Sequence) or isinstance(tree, str):
            continue  # nothing is below a plain value
        elif isinstance(tree, Mapping) and tree.get("kind") == part:
            continue
        path.append(part)
    return path


def common_keys(location: Sequence[str], tree: Any, root: type[BaseModel]) -> set[str]:
    """Return the keys that all kinds of the section at `location` know."""
    members = _sections(location, tree, root, with_kind=False)
    return set.intersection(*(set(_keys(member)) for member in members)) if members else set()


def known_keys(location: Sequence[Any], tree: Any, root: type[BaseModel]) -> list[str]:
    """Return the keys that the section at `location` knows."""
    return sorted({key for model in _sections(location, tree, root) for key in _keys(model)})


def _keys(model: type[BaseModel]) -> list[str]:
    """Return the names of the fields as files have them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _sections(
    location: Sequence[Any], tree: Any, root: type[BaseModel], *, with_kind: bool = True
) -> list[type[BaseModel]]:
    """Return the section class of the `kind` at `location`, or without `with_kind` all classes of the union there."""
    models: list[type[BaseModel]] = [root]
    for depth, part in enumerate(location):
        tree = tree[part]
        fields = [m.model_fields[part].annotation for m in models if str(part) in m.model_fields] or models
        models = [member for field in fields for member in _members(field)]
        if depth == len(location) - 1 and not with_kind:
            break
        kind = tree.get("kind") if isinstance(tree, Mapping) else None
        chosen = [m for m in models if "kind" in m.model_fields and m.model_fields["kind"].default == kind]
        models = chosen or models
    return models


def _members(annotation: Any) -> list[type[BaseModel]]:
    """Return the section classes inside an annotation: members of a union, values of a dict, an optional section."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in typing.get_args(annotation) if a is not NoneType for m in _members(a)]
