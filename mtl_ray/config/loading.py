"""Read an experiment file, apply overrides and turn pydantic's errors into one clear line."""

import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from mtl_ray.config.experiment import Experiment
from mtl_ray.config.yaml_text import read_yaml
from mtl_ray.errors import InputError, first_line, refuse_credentials


def load(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read `path` (YAML) and apply `overrides`, each `dotted.path=value` with the value in YAML.

    Raises:
        InputError: a missing or malformed file, an unknown key, or an invalid value; the message names the dotted path.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such experiment file; expected a YAML file such as jobs/synthetic.yaml")
    try:
        tree = read_yaml(path.read_bytes())
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise InputError(f"{path}: expected a file that can be read, found {first_line(error)}") from None
    if not isinstance(tree, dict):
        raise InputError(
            f"{path}: expected a mapping with sections name, data, features, tasks, ...; found {_shown(tree)}"
        )
    return parse(_apply(tree, _split(overrides), "--set"), str(path))


def override(experiment: Experiment, changes: Mapping[str, Any], where: str = "override:") -> Experiment:
    """Return a copy of `experiment` with the values at the dotted paths of `changes` replaced.

    A `features.NAME` or `tasks.NAME` whose value is None is removed. Errors begin with `where`.

    Raises:
        InputError: the changed settings are not a valid experiment.
    """
    tree = _apply(experiment.model_dump(mode="json", exclude_unset=True), changes, where)
    return parse(tree, where.removesuffix(":"))


def parse(tree: Mapping[str, Any], where: str) -> Experiment:
    """Make an experiment of a plain tree. Raises InputError, which begins with `where`, if it is not valid."""
    for path, text in _texts(tree):
        refuse_credentials(text, f"{where}: {path}")
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        raise InputError(f"{where}: {'; '.join(_explain(dict(e), tree) for e in error.errors())}") from None


def _texts(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts in a plain tree with their dotted paths."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, Mapping | Sequence):
        for key, child in node.items() if isinstance(node, Mapping) else enumerate(node):
            yield from _texts(child, f"{path}.{key}" if path else str(key))


def _split(overrides: Sequence[str]) -> dict[str, Any]:
    changes = {}
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise InputError(f"--set {text}: expected dotted.path=value")
        try:
            changes[path] = read_yaml(value)
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise InputError(f"--set {text[:LONGEST]}: the value is not valid YAML: {reason}") from None
    return changes


LONGEST = 200
"""Characters of a wrong value that an error shows."""

REMOVABLE = ("features", "tasks")
"""Sections whose entries can be removed by the value null."""


def _apply(original: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a copy with the changes. A new `kind` keeps only the keys that all kinds of its union know."""
    tree: dict[str, Any] = _copy(original)
    for path, value in changes.items():
        *parents, leaf = path.split(".")
        node: dict[str, Any] = tree
        for depth, key in enumerate(parents):
            child: Any = node.get(key)
            if child is None:
                child = {}
            elif isinstance(child, str):
                child = {"kind": child}
            elif not isinstance(child, dict):
                raise InputError(f"{where} {path}: {'.'.join(parents[: depth + 1])} is a value, not a section")
            node[key] = child
            node = child
        if leaf == "kind" and node.get("kind") != value:
            for key in node.keys() - _common_keys(parents, tree):
                del node[key]
        if value is not None or len(parents) != 1 or parents[0] not in REMOVABLE:
            node[leaf] = value
        elif leaf in node:
            del node[leaf]
        else:
            raise InputError(f"{where} {path}: nothing to remove; {parents[0]} has {', '.join(node) or 'no entry'}")
    return tree


def _copy(node: Any) -> Any:
    return {k: _copy(v) for k, v in node.items()} if isinstance(node, Mapping) else node


def _explain(error: dict[str, Any], tree: Any) -> str:
    location = _without_tags(error["loc"], tree)
    path = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        known = _known_keys(location[:-1], tree)
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(known)}"
        return f"{path}: unknown key; {hint}"
    if error["type"] in ("value_error", "assertion_error"):
        message = str(error["ctx"]["error"])
        return f"{path}: {message}" if path else message
    if error["type"] == "missing":
        return f"{path}: required key is missing"
    if error["type"] == "union_tag_invalid":
        expected, found = error["ctx"]["expected_tags"], error["ctx"]["tag"]
        near = difflib.get_close_matches(found, [tag.strip("'") for tag in expected.split(", ")], n=1, cutoff=0.5)
        return f"{path}.kind: expected one of {expected}; found '{found}'" + (
            f"; did you mean '{near[0]}'?" if near else ""
        )
    if error["type"] == "union_tag_not_found":
        return f"{path}: expected a `kind`; found {_shown(error['input'])}"
    return f"{path}: {error['msg'][0].lower()}{error['msg'][1:]}; found {_shown(error['input'])}"


def _shown(value: Any) -> str:
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
        elif not last or (isinstance(tree, Mapping) and tree.get("kind") == part):
            continue
        path.append(part)
    return path


def _common_keys(location: Sequence[str], tree: Any) -> set[str]:
    """Return the keys that all kinds of the section at `location` know."""
    members = _sections(location, tree, with_kind=False)
    return set.intersection(*(set(member.model_fields) for member in members)) if members else set()


def _known_keys(location: Sequence[Any], tree: Any) -> list[str]:
    """Return the keys that the section at `location` knows."""
    return sorted({key for model in _sections(location, tree) for key in model.model_fields})


def _sections(location: Sequence[Any], tree: Any, *, with_kind: bool = True) -> list[type[BaseModel]]:
    """Return the section class of the `kind` at `location`, or without `with_kind` all classes of the union there."""
    models: list[type[BaseModel]] = [Experiment]
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
