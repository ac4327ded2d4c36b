"""Settings that are made in Python are those that a file makes."""

import typing
from types import NoneType

import pytest
from pydantic import BaseModel

from mtl_ray import config
from mtl_ray.config import (
    BinaryTaskConfig,
    DataConfig,
    Experiment,
    IdFeatureConfig,
    MMoEConfig,
    NumericFeatureConfig,
    RegressionTaskConfig,
    SyntheticSourceConfig,
    load,
    override,
    parse,
)
from mtl_ray.errors import InputError

FILE = """
name: shop
data: {source: synthetic, time: timestamp}
features:
  user_id: {kind: id, entity: user}
  item_id: {kind: id, entity: item}
  age: {kind: numeric, entity: user}
tasks:
  click: binary
  rating: {kind: regression, weight: 0.5}
model: {kind: mmoe, experts: 4}
"""


def made() -> Experiment:
    return Experiment(
        name="shop",
        data=DataConfig(source=SyntheticSourceConfig(), time="timestamp"),
        features={
            "user_id": IdFeatureConfig(entity="user"),
            "item_id": IdFeatureConfig(entity="item"),
            "age": NumericFeatureConfig(entity="user"),
        },
        tasks={"click": BinaryTaskConfig(), "rating": RegressionTaskConfig(weight=0.5)},
        model=MMoEConfig(experts=4),
    )


def test_an_experiment_of_section_classes_equals_that_of_a_file(tmp_path):
    file = tmp_path / "shop.yaml"
    file.write_text(FILE)
    # Settings that are left out are part of an experiment, since the recipe chooses them.
    assert made() == load(file)
    assert made().model_dump(exclude_unset=True) == load(file).model_dump(exclude_unset=True)
    assert override(made(), {"training.epochs": 3}) == load(file, ["training.epochs=3"])


def test_plain_values_do_where_classes_do():
    tree = made().model_dump(mode="json", exclude_unset=True)
    assert Experiment(**tree) == made()
    assert Experiment(**{**tree, "tasks": {"click": "binary", "rating": RegressionTaskConfig(weight=0.5)}}) == made()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": {"click": "binari"}}, "tasks.click.kind: expected one of"),
        ({"tasks": {}}, "tasks: dictionary should have at least 1 item"),
        ({"trainin": {}}, "trainin: unknown key; did you mean `training`?"),
        ({"features": {"user_id": {"kind": "id", "entity": "user"}}}, "`id` feature"),
        (
            {"data": {"source": "synthetic", "raw": "s3://me:secret@bucket/log"}},
            "data.raw: expected a URL without",
        ),
    ],
)
def test_a_mistake_is_the_same_line_as_in_a_file(change: dict, message: str):
    tree = made().model_dump(mode="json", exclude_unset=True) | change
    with pytest.raises(InputError) as of_file:
        parse(tree, "shop.yaml")
    with pytest.raises(InputError) as in_python:
        Experiment(**tree)
    assert message in str(in_python.value)
    assert str(in_python.value).removeprefix("Experiment: ") == str(of_file.value).removeprefix("shop.yaml: ")


def test_a_mistake_in_a_section_alone_names_its_class():
    with pytest.raises(InputError, match=r"^RegressionTaskConfig: weight: .*; found -1$"):
        RegressionTaskConfig(weight=-1)
    with pytest.raises(InputError, match="wieght: unknown key; did you mean `weight`"):
        RegressionTaskConfig(wieght=1)  # pyright: ignore[reportCallIssue]


def test_every_section_of_the_file_has_its_class_in_one_place():
    found: set[type[BaseModel]] = set()
    left: list[typing.Any] = [Experiment]
    while left:
        each = left.pop()
        if isinstance(each, type) and issubclass(each, BaseModel):
            left += [] if each in found else [field.annotation for field in each.model_fields.values()]
            found.add(each)
        else:
            left += [part for part in typing.get_args(each) if part is not NoneType]
    assert {each.__name__ for each in found} <= set(config.__all__)
    assert all(getattr(config, name) for name in config.__all__)
