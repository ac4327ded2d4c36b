"""What stands for an id seen seldom or never: every kind, every architecture; and each kind's own property."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from mtl_ray.config import Experiment, override, parse
from mtl_ray.config.cold_start import CLCRecConfig, ContentGateConfig, MetaEmbeddingConfig, MWUFConfig
from mtl_ray.config.features import attributes_of
from mtl_ray.models import MultiTaskModel, build_model, checkpoint
from mtl_ray.models.cold_start import content as cold_start
from mtl_ray.models.cold_start import meta_learned
from mtl_ray.models.cold_start.base import ColdStartInputs, Content, LossesOfRows, ReadIdVector
from mtl_ray.models.complexity import complexity_of
from mtl_ray.models.sizes import num_parameters_by_part
from mtl_ray.schema import FIRST, UNKNOWN, Schema
from mtl_ray.training.trainer import Trainer
from tests.support import TREE, architectures, cold_starts, small_experiment
from tests.unit.conftest import SIZES, batch_of, schema_of
from tests.unit.models.architectures.test_architectures import labels_of

every_kind = pytest.mark.parametrize("kind", cold_starts())


def experiment_of(kind: str, **changes: Any) -> Experiment:
    both = {"features.user_id.cold_start": {"kind": kind}, "features.item_id.cold_start": {"kind": kind}}
    small = small_experiment(training__precision="float32", features__history__values="rating")
    return override(small, both | {key.replace("__", "."): value for key, value in changes.items()})


def model_of(experiment: Experiment) -> tuple[MultiTaskModel, Schema]:
    schema = schema_of(experiment)
    torch.manual_seed(0)
    model = build_model(experiment, schema).eval()
    model.update_statistics(batch_of(8))
    return model, schema


def training_batch(size: int) -> dict[str, torch.Tensor]:
    return batch_of(size) | labels_of(size) | {"row": torch.arange(size)}


@every_kind
@pytest.mark.parametrize("settings", architectures().values(), ids=architectures())
def test_every_parameter_gets_a_gradient_under_every_architecture(kind: str, settings: dict[str, Any]):
    smooth = {part: {**settings[part], "activation": "silu"} for part in ("encoder", "tower")}  # no dead units
    tasks = {"click": "binary", "rating": "regression"}  # one with masked_input never reads the id's own embedding
    experiment = experiment_of(kind, model=settings | smooth, tasks=tasks)
    trainer = Trainer(experiment, schema_of(experiment), torch.device("cpu"))
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    without = []

    def look(*_: Any) -> None:
        named = trainer.model.named_parameters()
        without.extend(n for n, p in named if p.grad is None or not p.grad.abs().sum() > 0)

    trainer.optimizers.dense.register_step_pre_hook(look)
    trainer.step(training_batch(128))
    assert without == []


@every_kind
def test_an_id_without_training_interactions_reads_the_attributes_alone(kind: str):
    model, _ = model_of(experiment_of(kind))
    batch = batch_of(8)
    batch["item_id"][:3] = UNKNOWN
    hide = torch.arange(8) >= 6
    batch["item_support"][:] = torch.tensor([0, 9, 9, 0, 40, 50, 60, 70])
    inputs = model.inputs["shared"]
    vectors = inputs(batch, {"item_id": hide}).vectors
    part = inputs.cold_starts["item_id"]
    expected = part.content(vectors)
    if isinstance(part, meta_learned.MWUF):
        expected = expected * part.mean + part.shift(part.audience[UNKNOWN])
    alone = torch.tensor([True, True, True, True, False, False, True, True])
    torch.testing.assert_close(vectors["item_id"][alone], expected[alone])
    assert not torch.isclose(vectors["item_id"], expected).all(1)[~alone].any()
    other = {**batch, "item_id": torch.where(alone, 5, batch["item_id"])}
    torch.testing.assert_close(inputs(other, {"item_id": alone}).vectors["item_id"][alone], expected[alone])


@every_kind
def test_the_content_path_does_not_show_a_masked_task_its_label(kind: str):
    tree = {"features.sex": {"kind": "categorical", "entity": "user", "column": "gender"}}
    experiment = override(experiment_of(kind), tree)
    schema = schema_of(experiment)
    schema = schema.model_copy(update={"features": schema.features | {"sex": schema.features["gender"]}})
    model = build_model(experiment, schema).eval()
    batch = batch_of(6) | {"sex": batch_of(6)["gender"]}
    answers = [torch.full_like(batch["gender"], row) for row in (3, SIZES["gender"] - 1)]
    one, other = (model.evaluation_logits({**batch, "gender": a, "sex": a}) for a in answers)
    assert torch.equal(one["gender"], other["gender"])
    assert not torch.equal(one["occupation"], other["occupation"])
    tags = [batch["tags"], batch["tags"].flip(0)]
    one, other = (model.evaluation_logits({**batch, "tags": column}) for column in tags)
    assert torch.equal(one["tags"], other["tags"])
    assert not torch.equal(one["gender"], other["gender"])


@every_kind
@pytest.mark.parametrize("encoder", ["pool", "attention"])
def test_a_row_does_not_depend_on_its_batch_and_single_rows_hold_for_all(kind: str, encoder: str):
    experiment = experiment_of(kind, features__history__encoder=encoder)
    model, _ = model_of(experiment)
    batch = batch_of(6)
    batch["item_support"][:2] = 0
    whole = model.evaluation_logits(batch)
    alone = model.evaluation_logits({n: c[1:2] for n, c in batch.items()})
    users = [n for n, f in experiment.features.items() if f.entity == "user"] + ["history.values", "user_support"]
    expanded = {n: c[:1].expand_as(c) if n in users else c for n, c in batch.items()}
    single = {n: c[:1] if n in users else c for n, c in batch.items()}
    expected, found = model.evaluation_logits(expanded), model.evaluation_logits(single)
    for name, output in whole.items():
        torch.testing.assert_close(alone[name], output[1:2], atol=1e-6, rtol=0)
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=0)
    assert all(len(o) == 0 for o in model({n: c[:0] for n, c in batch.items()}).logits.values())


@every_kind
def test_a_checkpoint_and_the_parts_hold_every_parameter(kind: str, tmp_path):
    experiment = experiment_of(kind)
    model, schema = model_of(experiment)
    checkpoint.save(tmp_path, experiment, schema, model, {})
    again = checkpoint.load(tmp_path).model
    for name, output in model.predict(batch_of(9)).items():
        assert torch.equal(again.predict(batch_of(9))[name], output)
    parts = num_parameters_by_part(model)
    assert sum(parts.values()) == sum(p.numel() for p in model.parameters())
    assert parts["cold start user_id"] > 0
    assert complexity_of(experiment, schema).parameters == parts


@every_kind
def test_an_unseen_item_asks_the_history_by_its_content(kind: str):
    model, _ = model_of(experiment_of(kind, features__history__encoder="attention"))
    batch = batch_of(4)
    batch["item_id"][:] = UNKNOWN
    history = model.inputs["shared"](batch, {}).vectors["history"]
    other = {**batch, "category": batch["category"].flip(0)}
    assert not torch.equal(model.inputs["shared"](other, {}).vectors["history"], history)


def content_of(size: int, width: int) -> Content:
    return Content({"age": size}, width, ContentGateConfig().content)


def test_the_gate_is_the_credibility_of_a_mean():
    gate = cold_start.ContentGate(content_of(3, 2), ContentGateConfig(interactions=4))
    support = torch.tensor([0, 1, 4, 12, 1_000_000])
    own, content = torch.ones(5, 2), torch.zeros(5, 2)
    shares = gate(ColdStartInputs(own, content, support, support))[:, 0]
    torch.testing.assert_close(shares, torch.tensor([0.0, 0.2, 0.5, 0.75, 1.0]), atol=1e-5, rtol=0)
    assert shares[0] == 0


def test_the_contrast_of_a_known_id_goes_over_each_entity_once():
    spec = CLCRecConfig(weight=0.5, temperature=0.3)
    part = cold_start.CLCRec(content_of(3, 4), spec)
    own, content = torch.randn(5, 4), torch.randn(5, 4)
    rows = torch.tensor([7, 8, 8, 9, 7])
    content[2], own[2], content[4], own[4] = content[1], own[1], content[0], own[0]
    found = part.penalty(ColdStartInputs(own, content, torch.tensor([5, 3, 3, 0, 5]), rows))
    scores = F.normalize(own, dim=1) @ F.normalize(content, dim=1).T / 0.3
    scores = scores[:, [0, 1, 3]]  # the distinct entities 7, 8 and 9
    expected = [F.cross_entropy(scores[i], torch.tensor(t)) for i, t in ((0, 0), (1, 1), (2, 1), (4, 0))]
    torch.testing.assert_close(found, 0.5 * torch.stack([*expected[:3], torch.zeros(()), expected[3]]))


def test_there_is_no_contrast_on_evaluated_rows():
    model, _ = model_of(experiment_of("clcrec"))
    assert (model(batch_of(5)).penalty > 0).any()
    with torch.no_grad():
        assert model(batch_of(5)).penalty is None


def squares(sides: ColdStartInputs, targets: torch.Tensor) -> LossesOfRows:
    """The loss (v - y)^2 / 2 of a row whose vector is the number v."""

    def losses(read: Mapping[str, ReadIdVector], chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total = torch.where(chosen, (read["shared"](sides)[:, 0] - targets).square() / 2, 0).sum()
        return total, total / chosen.sum()

    return losses


def test_the_meta_loss_goes_through_a_step_of_each_entity():
    """With the loss (v - y)^2 / 2 of a row, all of it is known."""
    targets = torch.tensor([1.0, 3.0, 5.0, -2.0, 0.5])
    rows, first = torch.tensor([7, 7, 7, 8, 8]), torch.tensor([True, True, False, False, False])
    phi = torch.tensor([0.5, 0.25], requires_grad=True)
    part = meta_learned.MetaEmbedding(content_of(3, 1), MetaEmbeddingConfig(alpha=0.3, step=0.2))
    sides = ColdStartInputs(torch.zeros(5, 1), phi[rows - 7][:, None], torch.zeros(5), rows)
    found = part.meta_loss({"shared": part}, squares(sides, targets), rows, first)
    a, b = 0.5, 0.25
    moved = a - 0.2 * (a - 2)  # entity 7 has rows in both halves, 8 in the second alone
    cold = ((a - 1) ** 2 + (a - 3) ** 2) / 4
    warm = ((moved - 5) ** 2 + (b + 2) ** 2 + (b - 0.5) ** 2) / 6
    torch.testing.assert_close(found, torch.tensor(0.3 * cold + 0.7 * warm))
    found.backward()
    expected = [0.3 * (a - 2) + 0.7 * (1 - 0.2) * (moved - 5) / 3, 0.7 * ((b + 2) + (b - 0.5)) / 3]
    torch.testing.assert_close(phi.grad, torch.tensor(expected))


def warmed_up(interactions: int = 3) -> meta_learned.MWUF:
    """Of ten ids, with vectors of two numbers and an audience of three."""
    part = meta_learned.MWUF(content_of(3, 2), MWUFConfig(interactions=interactions), 10, 3)
    with torch.no_grad():
        for tensor in (part.cold.weight, part.mean, part.audience):
            tensor.normal_()
        part.cold.weight[UNKNOWN] = 0
    return part


def test_a_vector_is_warmed_up_while_its_id_is_seen_seldom():
    part, rows = warmed_up(), torch.tensor([5, 6, 7])
    sides = ColdStartInputs(torch.randn(3, 2), torch.randn(3, 2), torch.tensor([0, 3, 4]), rows)
    found = part(sides)
    cold = sides.content[0] * part.mean + part.shift(part.audience[UNKNOWN])
    few = sides.content[1] * (part.mean + part.cold.weight[6]) + part.shift(part.audience[6])
    torch.testing.assert_close(found, torch.stack([cold, few, sides.own[2]]))
    assert not found.requires_grad


def test_cold_embeddings_and_the_networks_over_them_learn_from_losses_of_their_own():
    part, rows = warmed_up(), torch.tensor([5, 5, 6])
    content = torch.randn(3, 2, requires_grad=True)
    sides, targets = ColdStartInputs(torch.randn(3, 2), content, torch.zeros(3), rows), torch.tensor([1.0, 2.0, 3.0])
    part.meta_loss({"shared": part}, squares(sides, targets), rows, rows > 5).backward()
    cold = part.mean + part.cold.weight[rows]
    found = part.cold.weight.grad[5:7, 0]
    expected = torch.stack([(cold[:2, 0] - targets[:2]).sum(), cold[2, 0] - targets[2]]) / 3
    torch.testing.assert_close(found, expected)  # nothing of the warmed-up vector's loss
    warmed = content * cold + part.shift(part.audience[rows])
    torch.testing.assert_close(content.grad[:, 0], (warmed[:, 0] - targets) / 3 * cold[:, 0])


def test_an_audience_is_the_mean_of_those_who_interact():
    part, table, other = warmed_up(), torch.randn(10, 2), torch.randn(8, 3)
    part.audience.zero_()
    rows, others = torch.tensor([5, 5, 6, UNKNOWN, 7]), torch.tensor([3, 4, 7, 3, UNKNOWN])
    support = torch.tensor([3, 3, 1, 0, 2])
    part.update_statistics(rows, others, support, table, other)
    torch.testing.assert_close(part.audience[5], (other[3] + other[4]) / 2)
    torch.testing.assert_close(part.audience[6], other[7])
    assert not part.audience[7].any()
    torch.testing.assert_close(part.audience[UNKNOWN], other[FIRST:].mean(0))
    torch.testing.assert_close(part.mean, table[FIRST:].mean(0))
    part.update_statistics(rows[1:3], torch.tensor([6, 6]), support[1:3], table, other)
    torch.testing.assert_close(part.audience[5], (other[3] + other[4] + other[6]) / 3)
    part.update_statistics(rows[1:2], torch.tensor([3]), support[1:2], table, other)
    before = (other[3] + other[4] + other[6]) / 3
    torch.testing.assert_close(part.audience[5], before + (other[3] - before) / 3)  # an epoch has three of its rows


def test_a_warmed_up_vector_needs_the_embeddings_of_those_who_interact():
    with pytest.raises(Exception, match=r"features\.item_id\.cold_start: `mwuf` .* features\.user_id\.embed true"):
        override(
            small_experiment(),
            {"features.item_id.cold_start": "mwuf", "features.user_id.embed": False},
        )


def test_the_tasks_losses_leave_a_generator_of_embeddings_alone():
    model, _ = model_of(experiment_of("meta_embedding"))
    hide = torch.ones(16, dtype=torch.bool)
    logits = model(batch_of(16), {"user_id": hide, "item_id": hide}).logits
    sum(o.square().sum() for o in logits.values()).backward()
    generators = [p for part in model.inputs["shared"].cold_starts.values() for p in part.parameters()]
    assert all(p.grad is None for p in generators)
    assert all(p.grad is not None for p in model.network.parameters())


def test_a_meta_embedding_does_not_go_with_a_ranking_task():
    with pytest.raises(Exception, match=r"features\.user_id\.cold_start: `meta_embedding` .* tasks\.click \(ranking\)"):
        experiment_of("meta_embedding", tasks__click={"kind": "ranking"})


@pytest.mark.parametrize("left_out", ["age", "gender", "occupation"])
def test_a_content_path_needs_attributes(left_out: str):
    others = {f"features.{n}": None for n in ("age", "gender", "occupation")}
    tree = {**TREE, "tasks": {"click": "binary"}}
    kept = {n: f for n, f in TREE["features"].items() if f"features.{n}" not in others or n == left_out}
    user = {"kind": "id", "entity": "user", "cold_start": "content_gate"}
    assert attributes_of(parse({**tree, "features": {**kept, "user_id": user}}, "test").features, "user") == [left_out]
    del kept[left_out]
    with pytest.raises(Exception, match=r"cold_start: needs `embed` and user attributes; found none"):
        parse({**tree, "features": {**kept, "user_id": user}}, "test")


def test_a_content_path_is_taught_by_hidden_ids():
    off = {"training.masking.item.new": 0.0}
    assert override(experiment_of("meta_embedding"), off).training.masking.item.new == 0
    for kind in ("content_gate", "clcrec"):
        assert override(experiment_of(kind), off | {"training.masking.item.id": 0.1}).training.masking.item.id
        with pytest.raises(
            Exception, match=rf"features\.item_id\.cold_start: `{kind}` .* training\.masking\.item\.new"
        ):
            override(experiment_of(kind), off)
