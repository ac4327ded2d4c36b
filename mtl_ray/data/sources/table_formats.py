"""Folders of Delta, Iceberg, Hudi and Lance: their Parquet files hold removed rows, too, so they are no plain log."""

from collections.abc import Sequence
from contextlib import suppress

import pyarrow.fs as pafs

from mtl_ray.errors import InputError

NAMES = {"delta": "Delta", "hudi": "Hudi", "iceberg": "Iceberg", "lance": "Lance"}
"""Name of a format by the `kind` of the source that reads it."""


def refuse_table_formats(
    path: str, filesystem: pafs.FileSystem, root: str, inside: Sequence[str], files: Sequence[str]
) -> None:
    """Raise InputError, which begins with `path`, if files belong to a table of one of these formats.

    Args:
        path: what the user named.
        filesystem: where the files are.
        root: the folder that was searched.
        inside: paths of all that is below the root.
        files: paths of the files to read; if there is none, a table anywhere below the root is named.
    """
    tables = {table: kind for entry in inside if (found := _mark(entry)) for table, kind in [found]}
    for folder in _around(root, is_listed=bool(inside)):
        tables |= dict(_marks_in(filesystem, folder))
    for table, kind in sorted(tables.items()):
        if not files or any(file.startswith(f"{table}/") for file in files):
            raise InputError(
                f"{path}: expected plain Parquet or CSV files, found the {NAMES[kind]} table {table}, whose files hold "
                f"removed rows, too; read it by the source `kind: {kind}`, if your version has it, or write its "
                "present rows to plain Parquet"
            )


def _mark(entry: str) -> tuple[str, str] | None:
    """Return the folder and the format of the table that a path is the mark of."""
    folder, _, name = entry.rpartition("/")
    above, _, parent = folder.rpartition("/")
    if "_delta_log" in (name, parent):
        return (folder if name == "_delta_log" else above), "delta"
    if name in (".hoodie", ".hoodie_partition_metadata"):
        return folder, "hudi"
    if parent == "metadata" and (name.endswith(".metadata.json") or name == "version-hint.text"):
        return above, "iceberg"
    if parent == "_versions" and name.endswith(".manifest"):
        return above, "lance"
    return None


def _marks_in(filesystem: pafs.FileSystem, folder: str) -> list[tuple[str, str]]:
    """Return what marks the folder itself as a table, as far as this user may look there."""
    entries = []
    with suppress(OSError):
        for name in ("_delta_log", ".hoodie", ".hoodie_partition_metadata"):
            info = filesystem.get_file_info(f"{folder}/{name}")
            entries += [] if info.type == pafs.FileType.NotFound else [info.path]
    for name in ("metadata", "_versions"):
        with suppress(OSError):  # also where a file has this name
            selector = pafs.FileSelector(f"{folder}/{name}", allow_not_found=True)
            entries += [info.path for info in filesystem.get_file_info(selector)]
    return [found for entry in entries if (found := _mark(entry))]


def _around(root: str, *, is_listed: bool) -> list[str]:
    """Return the folders above that a root may be a part of: partitions such as `dt=1`, and the data of a table."""
    folders = [] if is_listed else [root]
    above, _, name = root.rpartition("/")
    while above and ("=" in name or name == "data"):
        folders.append(above)
        above, _, name = above.rpartition("/")
    return folders
