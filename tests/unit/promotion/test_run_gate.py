"""The gate on models and raw rows: which rows, users, segments and tasks it compares."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from mtl_ray.config.promotion import PromotionConfig
from mtl_ray.errors import InputError
from mtl_ray.promotion.findings import GateResult, Requirement
from mtl_ray.promotion.gate import check_requirement, run_gate
from mtl_ray.scoring.scorer import Scorer

FIXTURE = Path(__file__).parents[2] / "fixtures/registered_before_rooms"


def scorer(noise: float = 0.0, without: str = "", **promotion) -> Scorer:
    """The model, with noise on its weights, without a task, with settings of its gate."""
    found = Scorer(FIXTURE / "checkpoint")
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in found.model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    settings = PromotionConfig(**{"draws": 10, **promotion})
    if without:
        del found.model.tasks[without]
    tasks = {name: task for name, task in found.experiment.tasks.items() if name != without}
    found.experiment = found.experiment.model_copy(update={"promotion": settings, "tasks": tasks})
    return found


@pytest.fixture(scope="module")
def log() -> pa.Table:
    return pq.read_table(FIXTURE / "log.parquet").slice(0, 400)


def gate(candidate: Scorer, champion: Scorer, tables: Iterable[pa.Table]) -> GateResult:
    tables = list(tables)
    return run_gate(candidate, champion, tables, sum(map(len, tables)))


def by_key(result: GateResult) -> dict:
    return {str(finding.requirement): finding for finding in result.findings}


def test_metrics_are_those_of_each_model_on_the_labelled_rows(log: pa.Table):
    labels = log["rating"].to_numpy(zero_copy_only=False).copy()
    labels[::3] = np.nan
    gaps = log.set_column(log.column_names.index("rating"), "rating", pa.array(labels, from_pandas=True))
    candidate, champion = scorer(0.3), scorer()
    found = by_key(gate(candidate, champion, [gaps.slice(0, 150), gaps.slice(150)]))["rating/rmse"]
    there = ~np.isnan(labels)
    rmse = [
        np.sqrt(np.mean((each.score(gaps)["rating"][there] - labels[there]) ** 2)) for each in (candidate, champion)
    ]
    assert (found.candidate, found.champion) == pytest.approx(tuple(rmse))
    assert found.improvement == pytest.approx(rmse[1] - rmse[0])
    assert found.rows == there.sum()
    assert found.users == len(set(log["user"].filter(pa.array(there)).to_pylist()))


def test_all_rows_and_users_are_compared_where_there_are_no_more_than_allowed(log: pa.Table):
    found = gate(scorer(), scorer(), [log])
    assert (found.rows, found.users) == (400, pc.count_distinct(log["user"]).as_py())
    assert run_gate(scorer(max_rows=400), scorer(), [log], 400).rows == 400


def test_of_more_rows_all_of_randomly_drawn_users_are_compared(log: pa.Table):
    found = run_gate(scorer(max_rows=200), scorer(), [log.slice(0, 100), log.slice(100)], 400)
    sizes = sorted(entry["counts"] for entry in pc.value_counts(log["user"]).to_pylist())
    assert 0 < found.users < len(sizes)
    assert sum(sizes[: found.users]) <= found.rows <= sum(sizes[-found.users :])
    assert found.rows == pytest.approx(200, abs=100)
    assert run_gate(scorer(max_rows=200), scorer(), [log], 400).rows == found.rows
    with pytest.raises(InputError, match="no user was drawn of so few rows"):
        run_gate(scorer(max_rows=1), scorer(), [log], 10**9)


def test_a_segment_has_the_rows_of_its_users_and_items_alone(log: pa.Table):
    names = [name if row % 2 else f"stranger {row % 10}" for row, name in enumerate(log["user"].to_pylist())]
    mixed = log.set_column(log.column_names.index("user"), "user", pa.array(names))
    found = by_key(gate(scorer(segments=("new_user",)), scorer(0.2), [mixed]))
    new = found["rating/rmse/new_user"]
    labelled = np.asarray(mixed["rating"].is_valid())
    inside = labelled & (np.arange(400) % 2 == 0)  # all items have training rows
    assert (new.rows, new.users) == (inside.sum(), 5)
    label, prediction = mixed["rating"].to_numpy()[inside], scorer().score(mixed)["rating"][inside]
    assert new.candidate == pytest.approx(np.sqrt(np.mean((prediction - label) ** 2)))
    assert not new.decides
    assert found["rating/rmse"].rows == labelled.sum()


def test_a_task_that_the_champion_has_not_is_not_compared(log: pa.Table):
    found = gate(scorer(), scorer(without="click"), [log])
    assert "click/auc: the champion has no task `click`" in found.missing
    assert "click/auc" not in by_key(found)
    assert list(by_key(found))[:1] == ["rating/rmse"]
    assert "clicks/rmse" in by_key(found)
    assert found.lost == []


def test_a_task_that_the_candidate_has_no_more_refuses_it(log: pa.Table):
    found = gate(scorer(without="click"), scorer(), [log])
    assert found.lost == ["click"]
    assert found.refusals == [
        "the candidate does not predict `click`, the champion does",
        *(finding.refusal() for finding in found.findings if not finding.passed),
    ]


def test_a_requirement_without_labelled_rows_is_named_and_the_others_are_checked(log: pa.Table):
    nothing = log.set_column(log.column_names.index("click"), "click", pa.nulls(400, pa.int64()))
    found = gate(scorer(), scorer(), [nothing])
    assert "click/auc: not defined on 0 labelled rows" in found.missing
    assert {"rating/rmse", "clicks/rmse"} <= set(by_key(found))


def test_a_target_that_cannot_be_compared_is_bad_input(log: pa.Table):
    with pytest.raises(InputError, match=r"promotion\.metric: the target cannot be compared; click/auc: the champion"):
        gate(scorer(metric="click/auc"), scorer(without="click"), [log])


def test_a_missing_label_column_is_named(log: pa.Table):
    with pytest.raises(InputError, match=r"expected a column `rating` for tasks\.rating, found none"):
        gate(scorer(), scorer(), [log.drop_columns(["rating"])])


def test_a_label_that_cannot_be_read_is_named_in_one_line(log: pa.Table):
    text = log.set_column(log.column_names.index("rating"), "rating", pa.array(["good"] * 400))
    with pytest.raises(InputError, match="rows to compare on: ") as told:
        gate(scorer(), scorer(), [text])
    assert "\n" not in str(told.value)


USERS = torch.tensor([7, 7, 3, 9, 9, 9])
GUARD = Requirement("click", "rmse", "warm", 0.1)


def mean_of(values: list[float]):
    return lambda rows, users: float(torch.tensor(values, dtype=torch.float64)[rows].mean())


@pytest.mark.parametrize(("min_users", "decides"), [(3, True), (4, False)])
def test_a_guard_decides_in_a_segment_with_enough_users(min_users: int, decides: bool):
    gate, metric = PromotionConfig(draws=5, min_users=min_users), mean_of([1.0] * 6)
    found = check_requirement(gate, GUARD, metric, metric, USERS)
    assert found is not None
    assert (found.rows, found.users, found.decides) == (6, 3, decides)
    whole = check_requirement(gate, Requirement("click", "rmse", "", 0.1), metric, metric, USERS)
    target = check_requirement(gate, Requirement("click", "rmse", "warm", None), metric, metric, USERS)
    assert whole is not None
    assert target is not None
    assert whole.decides
    assert target.decides


@pytest.mark.parametrize(("champion", "needed"), [(2.0, -0.2), (-2.0, -0.2), (0.0, 0.0)])
def test_a_guard_needs_more_than_minus_its_margin_of_the_champions_value(champion: float, needed: float):
    found = check_requirement(PromotionConfig(draws=5), GUARD, mean_of([1.0] * 6), mean_of([champion] * 6), USERS)
    assert found is not None
    assert found.needed == pytest.approx(needed)
    assert found.improvement == found.low == found.high == champion - 1.0


def test_the_bounds_are_of_resampled_users_with_all_their_rows():
    ours, theirs = [3.0, 5.0, 1.0, 2.0, 2.0, 8.0], [0.0] * 6
    wanted, gate = Requirement("click", "auc", "", None), PromotionConfig(draws=30, level=0.1)
    found = check_requirement(gate, wanted, mean_of(ours), mean_of(theirs), USERS)
    assert found is not None
    generator, rows = np.random.default_rng(0), {0: [1.0], 1: [3.0, 5.0], 2: [2.0, 2.0, 8.0]}  # by ascending key
    draws = [generator.integers(3, size=3) for _ in range(30)]
    means = [np.mean([value for user in drawn for value in rows[user]]) for drawn in draws]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.1, 0.9])))


def test_a_user_drawn_twice_counts_as_two_users():
    seen = []

    def metric(rows: torch.Tensor, users: torch.Tensor) -> float:
        seen.append((rows.tolist(), users.tolist()))
        return 1.0

    check_requirement(PromotionConfig(draws=20), Requirement("click", "auc", "", None), metric, metric, USERS)
    (first_rows, first_users), *_ = seen
    assert (first_rows, first_users) == ([0, 1, 2, 3, 4, 5], [1, 1, 0, 2, 2, 2])
    whole = {0: [2], 1: [0, 1], 2: [3, 4, 5]}
    for rows, users in seen[2:]:
        copies = [[row for row, copy in zip(rows, users, strict=True) if copy == number] for number in range(3)]
        assert all(copy in whole.values() for copy in copies)
