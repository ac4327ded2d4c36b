"""Tables in a folder."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtl_ray.storage import Folder
from mtl_ray.values.keys import flat, to_keys


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_texts_that_are_read_as_numbers_are_the_same_texts(tmp_path, kind, dictionary):
    folder, texts = Folder(str(tmp_path)), [["a", None, "b", "a"], ["c", "a", None, ""]]
    for number, values in enumerate(texts):
        table = pa.table({"text": pa.array(values, kind), "number": range(4)})
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=2, use_dictionary=dictionary)
    table = pa.concat_tables(folder.read_table(f"{number}.parquet", dictionaries=True) for number in range(2))
    column = flat(table.column("text"))
    assert pa.types.is_dictionary(column.type)
    assert column.to_pylist() == [*texts[0], *texts[1]]
    assert to_keys(column).to_pylist() == ["a", None, "b", "a", "c", "a", None, None]
    assert table.column("number").to_pylist() == [*range(4)] * 2
