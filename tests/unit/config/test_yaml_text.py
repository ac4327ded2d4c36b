"""YAML of rough hands: each fault is one line that names the place, at once."""

import time
from pathlib import Path

import pytest
import yaml

from mtl_ray.config import load
from mtl_ray.config.yaml_text import read_yaml
from mtl_ray.errors import InputError

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
MERGES = "a0: &a0 {k: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}], k{i}: 1}}\n" for i in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: expected each key once, found `a` again, first in line 1"),
        ("x:\n  a: 1\n  'a': 2\n", "line 3: expected each key once, found `a` again, first in line 2"),
        ("x: [{yes: 1, true: 2}]", "line 1: expected each key once, found `true` again"),
        ("1: a\n0x1: b\n", "line 2: expected each key once, found `0x1` again"),
        (BOMB, "line 5: expected at most 100,000 values, found more"),
        (MERGES, "expected at most 100,000 values, found more"),
        ("a: &a\n  b: [*a]\n", r"line 2: `\*a` stands within `&a`; write its value out"),
        ("a: &a [1]\nb: &a [*a]\n", r"line 2: `\*a` stands within `&a`"),
        ("a: " + "[" * 5000 + "]" * 5000, "line 1: expected at most 50 sections within each other"),
        ("".join("  " * i + "a:\n" for i in range(60)), "expected at most 50 sections within each other"),
        ("a: 1\nseed: " + "9" * 5000, "line 2: expected a number of at most 100 characters"),
        ("seed: 0x" + "f" * 5000, "line 1: expected a number of at most 100 characters"),
        ("lr: 0." + "9" * 5000, "line 1: expected a number of at most 100 characters"),
        ("a: !!int word", "line 1: expected a value of the type int, found what is none"),
        ("a: !!bool word", "line 1: expected a value of the type bool, found what is none"),
        ("a: !!timestamp 2024-13-45", "line 1: expected a value of the type timestamp, found what is none"),
        (b"name: \xff\xfe\xfa", "can't decode|unacceptable character|invalid start byte"),
    ],
    ids=lambda value: str(value)[:20].replace("\n", " "),
)
def test_a_fault_is_one_line_at_once(text: str | bytes, message: str, tmp_path: Path):
    file = tmp_path / "e.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    began = time.process_time()
    with pytest.raises(InputError, match=r"e\.yaml: not valid YAML: .*") as caught:
        load(file)
    assert caught.match(message)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert time.process_time() - began < 2


def test_set_is_read_as_the_file_is(tmp_path: Path):
    (tmp_path / "e.yaml").write_text("name: a\n")
    for value, message in (("{a: 1, a: 2}", "expected each key once"), ("9" * 5000, "at most 100 characters")):
        with pytest.raises(InputError, match=message) as caught:
            load(tmp_path / "e.yaml", [f"training.epochs={value}"])
        assert len(str(caught.value)) < 500


def test_a_long_wrong_value_is_shown_in_part(tmp_path: Path):
    (tmp_path / "e.yaml").write_text(f"- {'x' * 5000}\n")
    with pytest.raises(InputError, match=r"expected a mapping .* found \['xxx.*\.\.\.$") as caught:
        load(tmp_path / "e.yaml")
    assert len(str(caught.value)) < 500


def test_what_is_written_is_what_is_read():
    assert read_yaml("a: &x {k: [1, 2.5, true, text]}\nb: {<<: *x, k: 2}\nc: *x\n") == {
        **{"a": {"k": [1, 2.5, True, "text"]}, "b": {"k": 2}},
        "c": {"k": [1, 2.5, True, "text"]},
    }
    assert read_yaml("base: &b {<<: &a {k: 1}, k: 2}\nsub: {<<: *b}\n")["sub"] == {"k": 2}


def test_a_date_without_quotes_stays_its_text():
    assert read_yaml("test_from: 2024-05-01") == {"test_from": "2024-05-01"}
    assert read_yaml("2024-05-01 10:00:00+02:00") == "2024-05-01 10:00:00+02:00"


def test_text_of_another_encoding_with_its_mark_is_read():
    assert read_yaml("name: é".encode("utf-16")) == {"name": "é"}


def test_an_unknown_alias_is_an_error_of_yaml():
    with pytest.raises(yaml.YAMLError, match="undefined alias"):
        read_yaml("a: *nothing")
