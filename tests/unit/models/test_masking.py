import copy
from dataclasses import replace

import pytest
import torch

from mtl_ray.config import Experiment, parse, visibility
from mtl_ray.counter_rng import uniform_rows
from mtl_ray.models import build_masking, build_model
from tests.support import TREE, small_experiment
from tests.unit.conftest import SIZES, batch_of, schema_of


def draw_hidden(experiment: Experiment, rows: torch.Tensor, seed: int, epoch: int) -> dict[str, torch.Tensor]:
    return replace(build_masking(experiment), seed=seed).hidden(rows, epoch)


def hidden_by(experiment: Experiment, task: str) -> set[str]:
    return visibility.hidden_by(experiment.features, task, experiment.tasks[task])


def test_masks_have_their_rates_and_depend_on_the_row_alone(experiment):
    rows = torch.arange(40_000)
    hidden = draw_hidden(experiment, rows, seed=1, epoch=0)
    rate = 1 - 0.9 * 0.8 * 0.8  # new users, and the two profile tasks that hide the user's id
    assert hidden["user_id"].double().mean() == pytest.approx(rate, abs=0.01)
    assert hidden["history"].double().mean() == pytest.approx(0.1, abs=0.01)
    shuffled = torch.randperm(len(rows))
    again = draw_hidden(experiment, rows[shuffled], seed=1, epoch=0)
    assert all(torch.equal(hidden[name][shuffled], again[name]) for name in hidden)
    other = draw_hidden(experiment, rows, seed=1, epoch=1)
    assert not torch.equal(hidden["user_id"], other["user_id"])


def test_a_masked_input_task_learns_only_where_its_inputs_are_hidden(experiment):
    rows = torch.arange(1000)
    hidden = draw_hidden(experiment, rows, seed=0, epoch=0)
    assert hidden_by(experiment, "gender") == {"gender", "user_id"}
    assert hidden_by(experiment, "tags") == {"tags", "item_id"}
    masking = build_masking(experiment)
    mask = masking.learnable("gender", hidden, 1000)
    assert torch.equal(mask, hidden["gender"] & hidden["user_id"])
    assert masking.learnable("click", hidden, 1000).all()


def test_draws_are_uniform_and_independent_between_streams_epochs_and_seeds():
    rows = torch.arange(100_000)
    draws = torch.stack([uniform_rows(rows, *key) for key in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))])
    assert draws.min() >= 0
    assert draws.max() < 1
    for draw in draws:
        assert torch.histc(draw, 10, 0, 1).sub(10_000).abs().max() < 500  # 5 deviations
    correlation = torch.corrcoef(draws) - torch.eye(4)
    assert correlation.abs().max() < 0.016  # 5 deviations
    neighbours = torch.corrcoef(torch.stack([draws[0, 1:], draws[0, :-1]]))[0, 1]
    assert abs(neighbours) < 0.016


def test_each_rate_hides_what_belongs_to_it():
    rates = {"training.masking.user.attributes": 0.3, "training.masking.item.id": 0.25}
    off = {"training.masking.user.new": 0.0, "training.masking.item.new": 0.0}
    experiment = small_experiment(**{k.replace(".", "__"): v for k, v in (rates | off).items()})
    hidden = draw_hidden(experiment, torch.arange(20_000), seed=0, epoch=0)
    assert hidden["age"].double().mean() == pytest.approx(0.3, abs=0.017)
    assert "history" not in hidden
    assert "category" not in hidden
    assert (hidden["age"] & ~hidden["gender"]).sum() == 0  # attributes go together
    assert hidden["item_id"].double().mean() == pytest.approx(1 - 0.75 * 0.8, abs=0.018)  # and the tags task


def test_a_masked_input_task_sees_its_label_column_through_no_input(schema):
    tree = copy.deepcopy(TREE)
    tree["features"]["sex"] = {"kind": "categorical", "entity": "user", "column": "gender"}
    experiment = parse(tree, "test")
    assert hidden_by(experiment, "gender") == {"gender", "sex", "user_id"}
    again = schema.features | {"sex": schema.features["gender"]}
    model = build_model(experiment, schema.model_copy(update={"features": again})).eval()
    batch = batch_of(6)
    sexes = [torch.full_like(batch["gender"], row) for row in (3, SIZES["gender"] - 1)]
    outputs = [model.evaluation_logits({**batch, "gender": sex, "sex": sex}) for sex in sexes]
    assert torch.equal(outputs[0]["gender"], outputs[1]["gender"])
    assert not torch.equal(outputs[0]["click"], outputs[1]["click"])


def test_nothing_drawn_leaves_a_masked_input_task_no_row(experiment):
    assert not build_masking(experiment).learnable("gender", {}, 3).any()


AUDIENCE = {"kind": "sequence", "entity": "item", "of": "user_id", "max_length": 40, "known": "all"}


def test_of_histories_and_audiences_independent_shares_are_seen():
    wide = small_experiment(
        features__history={**AUDIENCE, "entity": "user", "of": "item_id"},
        features__audience=AUDIENCE,
        data__split={"kind": "random"},
    )
    hidden = draw_hidden(wide, torch.arange(20_000), seed=0, epoch=0)
    shares = [hidden[f"{name}.entries"].double().mean(1) for name in ("history", "audience")]
    assert torch.corrcoef(torch.stack(shares))[0, 1].abs() < 0.03
    both = hidden["history.entries"] & hidden["audience.entries"]
    assert both.double().mean() == pytest.approx(1 / 9, abs=0.005)


def test_a_new_item_has_neither_id_nor_audience():
    with_audience = small_experiment(
        features__audience=AUDIENCE,
        training__masking__item__new=0.3,
        data__split={"kind": "random"},
        tasks={"click": "binary"},
    )
    hidden = draw_hidden(with_audience, torch.arange(20_000), seed=0, epoch=0)
    assert torch.equal(hidden["audience"], hidden["item_id"])
    assert hidden["audience"].double().mean() == pytest.approx(0.3, abs=0.02)
    assert "category" not in hidden


def test_a_task_about_items_sees_their_audience_as_one_about_users_sees_their_history():
    both = small_experiment(features__audience={**AUDIENCE, "known": "past"})
    assert hidden_by(both, "tags") == {"tags", "item_id"}
    assert hidden_by(both, "gender") == {"gender", "user_id"}


@pytest.mark.parametrize("name", ["history", "audience"])
def test_of_all_interactions_a_training_row_sees_a_share_of_its_own(name):
    length = 40
    entity, of = ("user", "item_id") if name == "history" else ("item", "user_id")
    wide = small_experiment(
        **{f"features__{name}": {**AUDIENCE, "entity": entity, "of": of}}, data__split={"kind": "random"}
    )
    rows = torch.arange(20_000)
    hidden = draw_hidden(wide, rows, seed=0, epoch=0)[f"{name}.entries"]
    shares = 1 - hidden.double().mean(1)
    assert hidden.shape == (20_000, length)
    assert shares.mean() == pytest.approx(2 / 3, abs=0.01)  # of sqrt(u)
    assert shares.std() > 0.2
    again = draw_hidden(wide, rows[5:9], seed=0, epoch=0)[f"{name}.entries"]
    assert torch.equal(again, hidden[5:9])
    assert not torch.equal(hidden, draw_hidden(wide, rows, seed=0, epoch=1)[f"{name}.entries"])


@pytest.mark.parametrize("encoder", ["pool", "rnn", "transformer"])
def test_a_hidden_entry_is_as_if_it_had_never_been(encoder):
    wide = small_experiment(
        features__history__known="all",
        features__history__values="rating",
        features__history__encoder=encoder,
        data__split={"kind": "random"},
    )
    torch.manual_seed(0)
    model = build_model(wide, schema_of(wide)).double().eval()
    batch = batch_of(6)
    batch = {n: c.double() if c.is_floating_point() else c for n, c in batch.items()}
    hide = torch.rand(batch["history"].shape, generator=torch.Generator().manual_seed(1)) < 0.5
    found = model(batch, {"history.entries": hide}).logits
    short = copy.deepcopy(batch)
    for row in range(6):
        kept = ~hide[row]
        for name in ("history", "history.values"):
            entries = batch[name][row][kept & (batch["history"][row] != 0)]
            short[name][row] = 0
            short[name][row, : len(entries)] = entries
    expected = model(short).logits
    for name, logits in expected.items():
        torch.testing.assert_close(found[name], logits)
    assert not torch.allclose(found["click"], model(batch).logits["click"])
