"""A data set whose files were cut off is refused in one line that names the file."""

from pathlib import Path

import pyarrow as pa
import pytest

from mtl_ray.data.dataset import open_prepared
from mtl_ray.data.loader import read_directly
from mtl_ray.errors import InputError
from mtl_ray.storage import Folder


def cut(path: Path, kept: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])


@pytest.mark.parametrize("kept", [0, 0.5, 0.9])
@pytest.mark.parametrize("name", ["schema.json", "quality.json"])
def test_a_truncated_description_is_named(schema, tmp_path: Path, name: str, kept: float):
    (tmp_path / "schema.json").write_text(schema.model_dump_json())
    (tmp_path / "quality.json").write_text('{"rows": 1, "bad": 0}')
    open_prepared(str(tmp_path))
    cut(tmp_path / name, kept)
    with pytest.raises(InputError, match=f"{tmp_path / name}: expected .* found what cannot be read") as caught:
        open_prepared(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 0.01, 0.5, 0.99])
def test_truncated_rows_are_named(tmp_path: Path, kept: float):
    folder = Folder(str(tmp_path))
    folder.write_table("00000-000.parquet", pa.table({"row": range(1000)}))
    cut(tmp_path / "00000-000.parquet", kept)
    for read in (
        lambda: folder.read_table("00000-000.parquet"),
        lambda: list(read_directly(folder, folder.files(".parquet"))),
    ):
        with pytest.raises(
            InputError, match=r"00000-000\.parquet: expected a whole Parquet file, found what"
        ) as caught:
            read()
        assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_not_taken_for_a_damaged_one(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        Folder(str(tmp_path)).read_table("nothing.parquet")
