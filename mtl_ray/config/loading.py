"""Read an experiment file, apply overrides and turn pydantic's errors into one clear line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mtl_ray.config.custom import MODEL_ALONE, TRUST, Trust, is_trusted
from mtl_ray.config.experiment import Experiment
from mtl_ray.config.explain import LONGEST, common_keys, explained, shown
from mtl_ray.config.yaml_text import read_yaml
from mtl_ray.errors import InputError, first_line


def load(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file and apply overrides.

    Args:
        path: YAML file.
        overrides: each `dotted.path=value`, with the value in YAML.

    Raises:
        InputError: a missing or malformed file, an unknown key, or an invalid value; the message names the dotted path.

    Example:
        >>> load("jobs/synthetic.yaml", ["training.epochs=3"]).training.epochs
        3
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
            f"{path}: expected a mapping with sections name, data, features, tasks, ...; found {shown(tree)}"
        )
    return parse(_apply(tree, _split(overrides), "--set"), str(path))


def override(experiment: Experiment, changes: Mapping[str, Any], where: str = "override:") -> Experiment:
    """Return a copy of an experiment with other values at some dotted paths.

    Args:
        experiment: what is changed; it stays as it is.
        changes: values by dotted path; a `features.NAME` or `tasks.NAME` whose value is None is removed.
        where: begins the message of an error.

    Raises:
        InputError: the changed settings are not a valid experiment.

    Example:
        >>> experiment = load("jobs/synthetic.yaml")
        >>> list(override(experiment, {"tasks.rating": None, "main": "click"}).tasks)
        ['click', 'purchase']
    """
    tree = _apply(experiment.model_dump(mode="json", exclude_unset=True), changes, where)
    return parse(tree, where.removesuffix(":"), trust=is_trusted(experiment))


def parse(tree: Mapping[str, Any], where: str, *, trust: Trust = True, model_alone: bool = False) -> Experiment:
    """Make an experiment of a plain tree.

    Args:
        tree: the settings.
        where: their place, for errors.
        trust: the `custom` classes that are imported: all by default, since the settings are the caller's own; False,
            or the names of some, for a file that comes from elsewhere.
        model_alone: whether those that no model is built from may be missing.

    Raises:
        InputError: the settings are not valid; the message begins with `where`.

    Example:
        >>> ids = {"user_id": {"kind": "id", "entity": "user"}, "item_id": {"kind": "id", "entity": "item"}}
        >>> tree = {"name": "shop", "data": {"source": "synthetic"}, "features": ids, "tasks": {"click": "binary"}}
        >>> parse(tree, "shop.yaml").data.split.kind
        'random'
    """
    try:
        return Experiment.model_validate(tree, context={TRUST: trust, MODEL_ALONE: model_alone})
    except ValidationError as error:
        raise InputError(f"{where}: {explained(error, tree, Experiment)}") from None


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
            for key in node.keys() - common_keys(parents, tree, Experiment):
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
