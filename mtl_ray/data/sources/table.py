"""The user's own log and tables."""

import hashlib
from dataclasses import astuple

from mtl_ray.config.data import DataConfig
from mtl_ray.config.tables import EventsSourceConfig, TableSourceConfig
from mtl_ray.data.sources.base import Raw
from mtl_ray.data.sources.csv_dialect import DEFAULT, Dialect, dialect_of
from mtl_ray.data.sources.files import fingerprint, open_log, read_table
from mtl_ray.data.sources.locate import find_files


def open_source(source: TableSourceConfig, data: DataConfig) -> Raw:
    """Open the log and read the tables that the settings name, see `open_files`."""
    return open_files(source.interactions, source, data)


def open_files(path: str, source: TableSourceConfig | EventsSourceConfig, data: DataConfig) -> Raw:
    """Open the log at a path and read the tables that the settings name.

    Raises:
        InputError: a file is missing or unreadable, or the log is empty.
    """
    log_path = _path(path, data.raw)
    user_path, item_path = (path and _path(path, data.raw) for path in (source.users, source.items))
    dialect = dialect_of(source)
    log = open_log(log_path, dialect=dialect)
    side_files = [file for path in (user_path, item_path) if path for file in find_files(path)]
    return Raw(
        chunks=log.chunks,
        columns=log.columns,
        num_rows=log.num_rows,
        fingerprint=_with_dialect(fingerprint([*log.files, *side_files]), dialect),
        users=read_table(user_path, dialect=dialect) if user_path else None,
        items=read_table(item_path, dialect=dialect) if item_path else None,
    )


def _with_dialect(content: str, dialect: Dialect) -> str:
    """Return the digest of files that are read in a way of their own."""
    if dialect == DEFAULT:
        return content
    return hashlib.sha256(repr((content, *astuple(dialect))).encode()).hexdigest()


def _path(path: str, folder: str | None) -> str:
    is_absolute = "://" in path or path.startswith(("/", "~"))
    return path if is_absolute or folder is None else f"{folder.rstrip('/')}/{path}"
