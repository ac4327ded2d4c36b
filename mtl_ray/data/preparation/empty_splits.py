"""The refusal of a data set without the validation or test rows that were asked for."""

from collections.abc import Mapping
from typing import Any

from mtl_ray.config import Experiment
from mtl_ray.config.data import ColdSplitConfig, PredefinedSplitConfig, RandomSplitConfig, TimeSplitConfig
from mtl_ray.errors import InputError


def refuse_empty_splits(experiment: Experiment, num_rows: Mapping[str, int]) -> None:
    """Raise InputError if no row is left for validation or test, and the settings of the split ask for some.

    Args:
        experiment: `data.split` says what is asked for.
        num_rows: rows by split.
    """
    for split, settings in _asked(experiment).items():
        if not num_rows[split]:
            found = ", ".join(f"{rows:,} {name}" for name, rows in num_rows.items())
            raise InputError(
                f"data.split: expected {split} rows ({settings}), found none ({found}); change the setting, or give "
                "more rows"
            )


def _asked(experiment: Experiment) -> dict[str, str]:
    """Return the parts that must have rows, each with the setting that asks for it."""
    split = experiment.data.split
    asked: dict[str, dict[str, Any]] = {}
    match split:
        case RandomSplitConfig():
            asked = {name: {name: getattr(split, name)} for name in ("valid", "test")}
        case TimeSplitConfig():
            if split.test_from is None:
                asked = {name: {name: getattr(split, name)} for name in ("valid", "test")}
            else:
                first = None if split.valid_from == split.test_from else split.valid_from
                asked = {"valid": {"valid_from": first}, "test": {"test_from": split.test_from}}
        case ColdSplitConfig():
            asked = {
                name: {f"{name}_{entity}": getattr(split, f"{name}_{entity}") for entity in ("users", "items")}
                for name in ("valid", "test")
            }
        case PredefinedSplitConfig():
            given = split.model_fields_set  # the default names need not be in a log
            asked = {name: {name: list(getattr(split, name)) if name in given else []} for name in ("valid", "test")}
            asked["valid"] |= {} if split.valid else {"valid_share": split.valid_share}
    settings = {name: {n: v for n, v in values.items() if v not in (None, 0, [])} for name, values in asked.items()}
    return {name: ", ".join(f"{n}: {v}" for n, v in values.items()) for name, values in settings.items() if values}
