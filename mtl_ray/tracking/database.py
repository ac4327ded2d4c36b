"""Connections to MLflow. Several processes that make the tables of a SQLite file at once break it for good.

No other module makes a client or sets a tracking URI.
"""

import os
import uuid
from functools import cache
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from mtl_ray.file_lock import lock_file

SQLITE = "sqlite:///"


def client_of(uri: str) -> MlflowClient:
    """Return a client of a server. A SQLite file is made first, if need be, by one process at a time."""
    _make_database(uri)
    return MlflowClient(tracking_uri=uri)


def use_server(uri: str) -> None:
    """Set the server of MLflow's own functions, such as `mlflow.register_model`. See `client_of`."""
    _make_database(uri)
    mlflow.set_tracking_uri(uri)


@cache
def _make_database(uri: str) -> None:
    name = uri.removeprefix(SQLITE).partition("?")[0]
    if not uri.startswith(SQLITE) or not name or name == ":memory:" or _has_tables(Path(name)):
        return
    path = Path(name)
    release = lock_file(path.with_name(f"{path.name}.lock"), wait=True)
    aside = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        if not _has_tables(path):
            # Made aside and renamed: no process ever sees a part of the tables, even if this one is killed.
            MlflowClient(tracking_uri=f"{SQLITE}{aside}").search_experiments(max_results=1)
            os.replace(aside, path)  # noqa: PTH105 - atomic
    finally:
        aside.unlink(missing_ok=True)
        if release:
            release()


def _has_tables(path: Path) -> bool:
    """Return whether the file is there; MLflow itself leaves an empty one if it is killed at the first moment."""
    return path.exists() and path.stat().st_size > 0
