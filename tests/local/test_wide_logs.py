"""A log of very many columns is opened in a time that grows with their number, not with its square."""

import time
from pathlib import Path

import pytest

from mtl_ray.data.sources.files import open_log
from mtl_ray.errors import InputError


def test_a_hundred_thousand_columns_are_opened_within_seconds(tmp_path: Path):
    names = ["user", *(f"c{i}" for i in range(100_000))]
    (tmp_path / "log.csv").write_text("\n".join([",".join(names), *[",".join(["1"] * len(names))] * 3]))
    began = time.process_time()
    assert len(open_log(str(tmp_path / "log.csv")).columns) == 100_001
    assert time.process_time() - began < 20
    (tmp_path / "log2.csv").write_text("user,item\n1,2\n")
    with pytest.raises(InputError, match="and 99,971 more") as caught:
        open_log(str(tmp_path))
    assert len(str(caught.value)) < 3000
