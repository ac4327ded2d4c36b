import json
import pickle
from pathlib import Path

import jsonschema
import pytest
import yaml

from mtl_ray.config import Experiment, load, override, parse
from mtl_ray.errors import InputError
from tests.support import TREE, small_experiment

JOBS = sorted(path for path in (Path(__file__).parents[3] / "jobs").glob("*.yaml") if path.stem != "cluster-local")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "e.yaml"
    path.write_text(yaml.safe_dump(TREE))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.kind=mmoee", "did you mean 'mmoe'?"),
        ("model={kind: mmoe, expert: 3}", "model.expert: unknown key; did you mean `experts`?"),
        ("model={interaction: fmm}", "did you mean 'fm'?"),
        (
            "tasks.purchase.after=clack",
            "tasks.purchase.after: expected a binary task that comes before it",
        ),
        (
            "tasks.purchase.after=click",
            "tasks.purchase.after: expected a binary task whose label is defined",
        ),
        ("features.history.encoder=cn", "did you mean 'cnn'?"),
        ("features.history.encoder={kind: cnn, kernel: 2}", "features.history.encoder.kernel: expected an odd number"),
        (
            "features.history.encoder={kind: transformer, heads: 3}",
            "features.history.encoder.heads: expected",
        ),
        ("features.history.encoder={kind: cnn, shared_layers: 1}", "features.history.encoder.shared_layers: expected"),
        ("training.epoch=3", "training.epoch: unknown key; did you mean `epochs`?"),
        ("features.category.min_cout=3", "features.category.min_cout: unknown key; did you mean `min_count`?"),
        ("model.encoder.hiden=[3]", "model.encoder.hiden: unknown key; did you mean `hidden`?"),
        ("tasks.click.kind=binari", "tasks.click.kind: expected one of 'regression', 'ordinal', 'count'"),
        ("tasks.click.weight=abc", "tasks.click.weight: input should be a valid number"),
        ("data.source.nu_users=4", "data.source.nu_users: unknown key; did you mean `num_users`?"),
        ("features.rate={kind: statistic, of: click}", "expected an entity, `user` or `item`, or a column"),
        ("features.rate={kind: statistic, entity: item, of: gender}", "`gender` is what tasks.gender has to tell"),
        ("features.history.of=x", "features.history.of: expected the item's id feature `item_id`; found `x`"),
        (
            "features.audience={kind: sequence, entity: item, of: item_id}",
            "features.audience.of: expected the user's id feature `user_id`; found `item_id`",
        ),
        (
            "features.audience={kind: sequence, entity: item, of: user_id, known: all}",
            "features.audience.known: `all` does not go with the time split",
        ),
        ("tasks.gender.masked_input=0", "tasks.gender: its label column `gender` is also the input features.gender"),
        ("tasks.click.masked_input=0.1", "tasks.click.masked_input: no input reads its label column"),
        ("tasks.click.metrics=[aucc]", "tasks.click.metrics: expected metrics among auc, log_loss, gauc"),
        ("training.masking.user.nw=0.1", "training.masking.user.nw: unknown key; did you mean `new`?"),
        ("features.item_id.entity=user", "features: expected exactly one `id` feature of entity `user`"),
        ("data.time=null", "features.history: a history needs `data.time`"),
        ("features.age.dim=3", "features.age: model.interaction `dot` needs the width 8; found 3"),
        ("training.early_stopping.metric=valid/x/auc", "expected `valid/loss` or `valid/TASK/METRIC[/SEGMENT]`"),
        ("training.early_stopping.metric=valid/rating/ndcg", "one of loss, rmse"),
        ("training.early_stopping.metric=valid/rating/rmse/newcomers", "a segment among warm, new_user"),
        ("training.early_stopping.metric=valid/rating/loss/warm", "(the loss has none)"),
        ("training.early_stopping.metric=test/rating/rmse", "expected `valid/loss`"),
        ("data.split={kind: time, valid_from: 3}", "data.split: expected `test_from` beside `valid_from`"),
        ("balancing.kind=pcgard", "balancing.kind: expected one of 'static'"),
        ("balancing.kind=pcgard", "did you mean 'pcgrad'?"),
        ("balancing={kind: pcgrad, spce: parameters}", "balancing.spce: unknown key; did you mean `space`?"),
        (
            "balancing={kind: gradient_to_target, target: buy}",
            "balancing.target: expected tasks of this file (click, gender, occupation, purchase, rating, tags)",
        ),
        ("balancing={kind: bandit, targets: [buy]}", "balancing.targets: expected tasks of this file"),
        ("balancing={kind: scheduled, weights: {buy: {0: 1}}}", "balancing.weights: expected tasks of this file"),
        ("balancing={kind: gradient_to_target}", "balancing.target: required key is missing"),
        ("seed", "--set seed: expected dotted.path=value"),
        ("seed.x=1", "--set seed.x: seed is a value, not a section"),
    ],
)
def test_bad_settings_are_refused_with_their_path(file: Path, change: str, message: str):
    with pytest.raises(InputError) as caught:
        load(file, [change])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_file_that_is_no_yaml_are_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"nothing\.yaml: no such experiment file"):
        load(tmp_path / "nothing.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(InputError, match=r"bad\.yaml: not valid YAML"):
        load(tmp_path / "bad.yaml")


def test_overrides_reach_into_shorthands_and_replace_whole_union_members(file: Path):
    experiment = load(file, ["tasks.click.weight=0.5", "data.source.num_users=7", "data.split.kind=cold"])
    assert experiment.tasks["click"].weight == 0.5
    assert experiment.data.source.model_dump()["num_users"] == 7
    assert experiment.data.split.kind == "cold"
    assert override(experiment, {"training.optimizer.lr": 0.5}).training.optimizer.lr == 0.5


def test_a_new_kind_keeps_what_all_kinds_know(file: Path):
    experiment = load(file, ["model.embedding_dim=4", "model.shared_layers=1", "model.kind=mmoe"])
    assert (experiment.model.kind, experiment.model.embedding_dim) == ("mmoe", 4)
    assert experiment.model.interaction.kind == "dot"
    assert load(file, ["tasks.gender.kind=multiclass"]).tasks["gender"].masked_input == 0.2


def test_an_experiment_survives_json_and_pickle():
    experiment = small_experiment()
    tree = json.loads(json.dumps(experiment.model_dump(mode="json")))
    assert parse(tree, "again") == experiment
    assert pickle.loads(pickle.dumps(experiment)) == experiment  # noqa: S301 - our own bytes


def test_weights_are_relative_to_each_other():
    weights = small_experiment().weights()
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["rating"] / weights["click"] == pytest.approx(0.7)
    equal = small_experiment(tasks__rating__weight=None).weights()
    assert list(equal.values()) == pytest.approx([1 / 6] * 6)


def test_the_main_task_is_the_first_one_unless_another_is_named():
    experiment = small_experiment(training__early_stopping={})
    assert experiment.main_task == "click"
    assert experiment.stopping_metric == "valid/click/loss"
    assert override(experiment, {"main": "rating"}).stopping_metric == "valid/rating/loss"
    assert small_experiment(training__early_stopping=None).stopping_metric is None
    with pytest.raises(InputError, match=r"main: expected a task of this file \(click, .*\); found `clicks`"):
        small_experiment(main="clicks")


@pytest.fixture(scope="module")
def editor() -> jsonschema.protocols.Validator:
    """What an editor checks a file by."""
    schema = Experiment.model_json_schema()
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


@pytest.mark.parametrize("path", JOBS, ids=lambda p: p.stem)
def test_every_shipped_experiment_is_valid_also_for_editors(path: Path, editor: jsonschema.protocols.Validator):
    load(path)
    editor.validate(yaml.safe_load(path.read_text()))


def test_elastic_workers_are_bounds_that_lanes_can_feed():
    elastic = small_experiment(training__num_workers={"min": 1, "max": 4}).training
    assert (elastic.fewest_workers, elastic.most_workers) == (1, 4)
    fixed = small_experiment(training__num_workers=3).training
    assert (fixed.fewest_workers, fixed.most_workers) == (3, 3)
    with pytest.raises(InputError, match="expected min of at most max, 2; found 3"):
        small_experiment(training__num_workers={"min": 3, "max": 2})
    with pytest.raises(InputError, match=r"training.num_workers: expected at most data.lanes, 16; found 17"):
        small_experiment(training__num_workers={"min": 1, "max": 17})
    with pytest.raises(InputError, match=r"training\.num_workers"):
        small_experiment(training__num_workers=0)


def test_a_section_without_a_kind_is_of_the_default_one():
    experiment = small_experiment(model={"embedding_dim": 4}, balancing={"comparable_losses": False})
    assert (experiment.model.kind, experiment.balancing.kind) == ("shared_bottom", "static")
