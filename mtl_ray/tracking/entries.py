"""Parameters and metrics as MLflow takes them: keys of its characters, sent in batches, one by one after a refusal."""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils import chunk_list
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH

from mtl_ray.errors import first_line

EntryT = TypeVar("EntryT", Metric, Param, RunTag)

REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
"""Codes of MLflow's errors that concern an entry, not the server."""


def metric_key(metric: str) -> str:
    """Return a metric's key with the characters that MLflow allows."""
    return _allowed(metric.replace("@", "_at_").replace("+", "_plus"))


def param_key(path: str) -> str:
    """Return the path of a setting with the characters that MLflow allows."""
    return _allowed(path.replace("*", "each"))


def _allowed(key: str) -> str:
    """Replace what MLflow refuses: `(` becomes `_x28_`, a long key ends in a digest."""
    found = re.sub(r"[^/\w.\- :]", lambda sign: f"_x{ord(sign[0]):x}_", key)
    # MLflow also refuses what would name another file, such as `a//b`.
    found = re.sub(r"/(?=/)|(?<=/)(?=\.{1,2}(/|$))|/$|^(?=[./])", lambda part: f"{part[0]}_", found)
    if len(found) <= MAX_ENTITY_KEY_LENGTH:
        return found
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return f"{found[: MAX_ENTITY_KEY_LENGTH - len(digest) - 1]}_{digest}"


def send(log: Callable[[list[EntryT]], object], entries: Sequence[EntryT], size: int) -> list[str]:
    """Send entries in batches; return what MLflow refused of them, with the reason.

    Raises:
        MlflowException: the server does not answer.
    """
    refused = []
    for part in chunk_list(list(entries), size):
        try:
            log(part)
        except MlflowException as error:
            if error.error_code not in REFUSALS:
                raise
            refused += [text for entry in part if (text := _refusal(log, entry))]
    return refused


def _refusal(log: Callable[[list[EntryT]], object], entry: EntryT) -> str | None:
    try:
        log([entry])
    except MlflowException as error:
        if error.error_code not in REFUSALS:
            raise
        return f"{entry.key}: {first_line(error)}"
    return None
