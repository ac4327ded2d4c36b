"""The user's own log and tables."""

from mtl_ray.config.data import DataConfig, TableSourceConfig
from mtl_ray.data.sources.base import Raw
from mtl_ray.data.sources.files import find_files, fingerprint, open_log, read_table


def open_source(source: TableSourceConfig, data: DataConfig) -> Raw:
    """Open the log and read the tables that the settings name.

    Raises:
        InputError: a file is missing or unreadable, or the log is empty.
    """
    log_path = _path(source.interactions, data.raw)
    user_path, item_path = (path and _path(path, data.raw) for path in (source.users, source.items))
    log = open_log(log_path)
    return Raw(
        chunks=log.chunks,
        columns=log.columns,
        num_rows=log.num_rows,
        fingerprint=fingerprint(
            [file for path in (log_path, user_path, item_path) if path for file in find_files(path)]
        ),
        users=read_table(user_path) if user_path else None,
        items=read_table(item_path) if item_path else None,
    )


def _path(path: str, folder: str | None) -> str:
    is_absolute = "://" in path or path.startswith(("/", "~"))
    return path if is_absolute or folder is None else f"{folder.rstrip('/')}/{path}"
