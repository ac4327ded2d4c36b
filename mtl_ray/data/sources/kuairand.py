"""KuaiRand-Pure (Gao et al., CIKM 2022): exposures of short videos with twelve kinds of feedback.

The log is `val.parquet` and `test.parquet` (with `train.parquet`, if it is there), or the published
`log_standard_*.csv`. Columns that were not published are left out: they repeat others, or tell the label. The published
table of video statistics is not read: it counts interactions of the whole month, those to be predicted included.
"""

from pathlib import Path

from mtl_ray.config.data import DataConfig
from mtl_ray.data.sources.base import Raw
from mtl_ray.data.sources.download import local_folder
from mtl_ray.data.sources.files import fingerprint, open_log, read_table
from mtl_ray.data.sources.locate import File
from mtl_ray.errors import InputError

COLUMNS = (
    *("user_id", "video_id", "date", "hourmin", "time_ms", "is_click", "is_like", "is_follow", "is_comment"),
    *("is_forward", "is_hate", "long_view", "play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time"),
    *("is_profile_enter", "is_rand", "tab"),
)
"""Columns of the log as published."""

LAYOUT = "log_standard_*.csv or val.parquet and test.parquet, user_features_*.csv and video_features_basic_*.csv"


def open_source(data: DataConfig) -> Raw:
    """Open the data in the folder or zip `data.raw`, or in its subfolder `data`.

    Raises:
        InputError: `data.raw` is not given, or a file is missing.
    """
    if data.raw is None:
        raise InputError(f"data.raw: expected the folder or zip of KuaiRand-Pure ({LAYOUT}), found none; give it")
    folder = local_folder(data.raw, data.cache)
    if not list(folder.glob("user_features_*.csv")) and (folder / "data").is_dir():
        folder /= "data"
    log_files = sorted(folder.glob("log_standard_*.csv"))
    if not log_files:
        log_files = [*folder.glob("train.parquet"), _only(folder, "val.parquet"), _only(folder, "test.parquet")]
    user_file, item_file = _only(folder, "user_features_*.csv"), _only(folder, "video_features_basic_*.csv")
    log = open_log(*map(str, log_files), columns=COLUMNS)
    return Raw(
        chunks=log.chunks,
        columns=log.columns,
        num_rows=log.num_rows,
        fingerprint=fingerprint([File(str(path)) for path in (*log_files, user_file, item_file)]),
        users=read_table(str(user_file)),
        items=read_table(str(item_file)),
    )


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise InputError(
            f"{folder}: expected one file {pattern}, found {len(found)}; the layout of KuaiRand-Pure is {LAYOUT}"
        )
    return found[0]
