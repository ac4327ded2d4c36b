"""Classes of the user's own, named in the experiment file: how they are found, checked and trusted."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from mtl_ray.config import Experiment, load, override, parse
from mtl_ray.config.base import implementation_of, settings_of
from mtl_ray.config.custom import classes_of, code_of, custom_parts, is_trusted
from mtl_ray.config.model import CustomArchitectureConfig
from mtl_ray.errors import InputError
from mtl_ray.models.architectures.base import ModelOutput, Network, NetworkInput
from tests.custom_parts import Wide
from tests.support import TREE, importable

CODE = """
from mtl_ray.config.base import Section
from mtl_ray.models.architectures.base import Network
from tests.custom_parts import Wide

class Deep(Wide):
    class Config(Wide.Config):
        depth: int = 2

class Half(Network):
    pass

class Odd(Wide):
    Config = dict

def make(spec, settings):
    pass
"""


@pytest.fixture
def shop(tmp_path: Path):
    """A package outside of the repository."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "shop/nets.py").write_text(CODE)
    (tmp_path / "shop/broken.py").write_text("1 / 0\n")
    (tmp_path / "shop/needy.py").write_text("import no_such_module\n")
    with importable(tmp_path, "shop"):
        yield tmp_path / "shop"


def tree_of(**model: Any) -> dict[str, Any]:
    return {**TREE, "model": {"kind": "custom", "embedding_dim": 8, **model}}


def test_a_class_and_its_settings_are_found(shop):
    experiment = parse(tree_of(**{"class": "shop.nets:Deep", "settings": {"depth": 3}}), "e.yaml")
    assert implementation_of(experiment.model).__name__ == "Deep"
    settings = settings_of(experiment.model)
    assert (settings.depth, settings.width) == (3, 16)
    assert experiment.model.embedding_dim == 8
    assert dict(custom_parts(experiment)) == {"model": experiment.model}
    assert code_of(experiment) == {"shop": shop}


def test_all_settings_are_kept_and_only_given_ones_are_passed_on(shop):
    experiment = parse(tree_of(**{"class": "shop.nets:Deep", "settings": {"depth": 3}}), "e.yaml")
    tree = experiment.model_dump(mode="json")
    assert tree["model"]["class"] == "shop.nets:Deep"
    assert tree["model"]["settings"] == {"width": 16, "depth": 3}
    assert experiment.model_dump(mode="json", exclude_unset=True)["model"]["settings"] == {"depth": 3}
    assert parse(tree, "again").model_dump() == experiment.model_dump()
    assert pickle.loads(pickle.dumps(experiment)) == experiment  # noqa: S301 - our own bytes
    changed = override(experiment, {"model.settings.depth": 4})
    assert settings_of(changed.model).depth == 4


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"class": "shop.nets"}, "model.class: expected `package.module:Name`, .*; found 'shop.nets'"),
        ({}, "model.class: required key is missing"),
        ({"klass": "shop.nets:Deep"}, "model.klass: unknown key; did you mean `class`?"),
        ({"class": "shopp.nets:Deep"}, "model.class: `shopp.nets:Deep` needs the module `shopp`, .* PYTHONPATH"),
        ({"class": "shop.net:Deep"}, "model.class: `shop.net:Deep` needs the module `shop.net`, .* cannot be found"),
        ({"class": "shop.needy:A"}, "model.class: `shop.needy:A` is in a module that needs `no_such_module`"),
        ({"class": "shop.broken:A"}, "`shop.broken:A` cannot be imported: ZeroDivisionError: division by zero"),
        ({"class": "shop.nets:Dep"}, "the module `shop.nets` has no `Dep`; did you mean `Deep`?"),
        ({"class": "shop.nets:make"}, r"expected `shop.nets:make` to inherit from `\S+\.Network`; found function"),
        ({"class": "shop.nets:Section"}, r"to inherit from `\S+\.Network`; found a class that does not"),
        ({"class": "shop.nets:Half"}, "`shop.nets:Half` lacks `forward`, see "),
        ({"class": "shop.nets:Odd"}, "expected `shop.nets:Odd.Config` to inherit from `mtl_ray.config.base.Section`"),
        (
            {"class": "shop.nets:Deep", "settings": {"dept": 3, "width": "x"}},
            r"model.settings.width: .*; found 'x' \(`shop.nets:Deep`\); "
            r"model.settings.dept: unknown key; did you mean `depth`\? \(`shop.nets:Deep`\)",
        ),
    ],
)
def test_a_wrong_class_is_one_line_that_says_what_to_do(model: dict[str, Any], message: str, shop):
    with pytest.raises(InputError, match=f"^e.yaml: .*{message}") as caught:
        parse(tree_of(**model), "e.yaml")
    assert "\n" not in str(caught.value)


def test_settings_of_elsewhere_import_nothing_and_keep_what_they_say(shop):
    tree = tree_of(**{"class": "shop.broken:A", "settings": {"anything": [1]}})
    experiment = parse(tree, "e.json", trust=False)
    assert not is_trusted(experiment)
    assert classes_of(experiment) == {"shop.broken:A"}
    assert "shop.broken" not in sys.modules
    assert experiment.model_dump(mode="json")["model"]["settings"] == {"anything": [1]}
    assert not is_trusted(override(experiment, {"seed": 9}))
    with pytest.raises(InputError, match=r"needs shop\.broken:A, and files from elsewhere run no code; if you trust"):
        implementation_of(experiment.model)


def test_the_classes_that_one_names_oneself_are_trusted(shop):
    tree = tree_of(**{"class": "shop.nets:Deep"})
    assert is_trusted(parse(tree, "e.json", trust={"shop.nets:Deep"}))
    assert not is_trusted(parse(tree, "e.json", trust={"shop.nets:Wide"}))


def test_python_code_gives_the_class_itself():
    experiment = Experiment.model_validate({**TREE, "model": CustomArchitectureConfig(class_=Wide)})  # pyright: ignore
    assert implementation_of(experiment.model) is Wide
    assert experiment.model_dump(mode="json")["model"]["class"] == "tests.custom_parts:Wide"

    class Local(Network):
        def forward(self, inputs: NetworkInput) -> ModelOutput:
            return ModelOutput({}, None)

    with pytest.raises(ValueError, match="a class at the top of a module; found 'tests"):
        CustomArchitectureConfig(class_=Local)  # pyright: ignore


def test_facts_of_the_class_take_part_in_checks(shop):
    (shop / "weights.py").write_text(
        "from tests.custom_parts import Cautious\nclass Slow(Cautious):\n    gradient_space = 'parameters'\n"
    )
    balancing = {"kind": "custom", "class": "shop.weights:Slow"}
    assert parse({**TREE, "balancing": balancing}, "e.yaml").balancing.gradient_space == "parameters"
    with pytest.raises(InputError, match=r"training.compile: balancing.kind `custom` compares gradients"):
        parse({**TREE, "balancing": balancing, "training": {"compile": True}}, "e.yaml")


def test_set_reaches_the_settings_of_a_class(shop, tmp_path: Path):
    file = tmp_path / "e.yaml"
    file.write_text(json.dumps(tree_of(**{"class": "shop.nets:Deep"})))
    assert settings_of(load(file, ["model.settings.depth=5"]).model).depth == 5
