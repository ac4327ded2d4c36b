"""The grid that an experiment file declares, and the table made of its results."""

import io
from typing import Any

import pytest
import yaml
from rich.console import Console

from mtl_ray.comparison.figures import comparison_plot
from mtl_ray.comparison.grid import compared_metrics, grid
from mtl_ray.comparison.report import compare_report
from mtl_ray.comparison.results import NUMBERS, Comparison, Row, _outcome, comparison_of
from mtl_ray.config import Experiment, load, override, parse
from mtl_ray.errors import InputError
from mtl_ray.evaluation.baselines import BASELINES
from mtl_ray.evaluation.significance import Summary, paired_p
from tests.support import TREE, small_experiment

COMPARE: dict[str, Any] = {
    "variants": {
        "multi": {},
        "single": {"tasks.gender": None, "tasks.tags": None},
        "wide": {"model.embedding_dim": 16},
    },
    "baseline": "single",
    "seeds": [0, 1, 2],
    "metrics": ["rating/rmse", "click/auc", "gender/auc"],
    "segments": ["all", "warm"],
}


def experiment(**changes: Any) -> Experiment:
    return parse({**TREE, "compare": {**COMPARE, **changes}}, "test")


def row(rows: list[Row], variant: str, key: str, segment: str = "all") -> Row:
    (found,) = [r for r in rows if (r.variant, r.key, r.segment) == (variant, key, segment)]
    return found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "x"}, "compare: baseline: expected a variant (multi, single, wide); found `x`"),
        ({"variants": {"a/b": {}}}, "compare.variants: expected names of letters, digits"),
        ({"variants": {"a": {"seed": 3}}}, "compare.variants: a changes `seed`, which is not a variant's to change"),
        ({"seeds": [1, 1]}, "compare.seeds: expected different seeds"),
        ({"variantes": {}}, "compare.variantes: unknown key; did you mean `variants`?"),
        (
            {"variants": {"single": {"model.embeding_dim": 3}}},
            "compare.variants.single: model.embeding_dim: unknown key",
        ),
        ({"curve": {"many": {}}}, "compare.curve"),
        ({"curve": {3: {"data.splt": "time"}}}, "compare.curve.3.0: data.splt: unknown key"),
        ({"curve": {3: {"seed": 1}}}, "compare.curve: 3.0 changes `seed`"),
        ({"variants": {"single": {"tasks.x": None}}}, "compare.variants.single: tasks.x: nothing to remove"),
        ({"variants": {"single": {"seed.x": 1, "name.y": 1}}}, "compare.variants.single: seed.x: seed is a value"),
        ({"folds": {"u1": {"data.splt": "time"}}}, "compare.folds.u1: data.splt: unknown key; did you mean `split`?"),
        ({"metrics": ["rating/auc"]}, "compare.metrics: expected TASK/METRIC among click/auc"),
        ({"segments": ["cold"]}, "compare.segments: expected names among all, warm"),
    ],
)
def test_a_bad_grid_is_refused_with_its_path_before_anything_starts(changes: dict[str, Any], message: str):
    with pytest.raises(InputError) as caught:
        grid(experiment(**changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_a_grid_is_refused():
    with pytest.raises(InputError, match="expected a section `compare` with `variants` and `baseline`"):
        grid(small_experiment())


def test_the_grid_crosses_variants_folds_and_seeds():
    folds = {"a": {"data.source.seed": 5}, "b": {"data.source.seed": 6}}
    grid_runs = grid(experiment(folds=folds))
    assert len({grid_run.name for grid_run in grid_runs}) == len(grid_runs) == 3 * 2 * 3
    grid_run = next(c for c in grid_runs if c.name == "single/b-seed2")
    assert grid_run.experiment.seed == 2
    assert grid_run.experiment.data.source.seed == 6  # pyright: ignore[reportAttributeAccessIssue]
    assert set(grid_run.experiment.tasks) == {"click", "rating", "purchase", "occupation"}
    assert grid_run.experiment.compare is None
    assert grid_run.experiment.training.num_workers == 1


def test_a_variant_may_lack_a_task_that_the_gate_of_promotion_guards():
    settings = experiment(variants={"multi": {}, "single": {"tasks.click": None}})
    grid_runs = grid(override(settings, {"promotion.guards": {"click/auc": 0.1}}))
    assert {"click" in grid_run.experiment.tasks for grid_run in grid_runs if grid_run.variant == "single"} == {False}


CURVE = {0: {"data.split": {"kind": "cold", "shown_users": 0}}, 5: {"data.split": {"kind": "cold", "shown_users": 5}}}


def test_every_variant_is_trained_and_tested_at_every_point_of_a_curve():
    settings = experiment(curve=CURVE, variants={"single": {}, "multi": {}}, segments=["all"])
    grid_runs = grid(settings)
    assert len({grid_run.name for grid_run in grid_runs}) == len(grid_runs) == 2 * 2 * 3
    grid_run = next(c for c in grid_runs if c.name == "multi@5/seed2")
    assert grid_run.experiment.data.split.shown_users == 5  # pyright: ignore[reportAttributeAccessIssue]
    values = {"single": [1.0, 0.9, 1.1, 1.0, 1.2, 1.1], "multi": [1.0, 0.8, 1.0, 0.9, 1.3, 1.0]}
    comparison = compared(settings, values)
    rows = [r for r in comparison.rows if r.key == "rating/rmse" and r.variant == "multi"]
    assert [(r.point, r.summary.mean, r.difference) for r in rows] == [
        (0.0, pytest.approx(1.1), pytest.approx(0.0, abs=1e-9)),
        (5.0, pytest.approx(0.9), pytest.approx(-0.1)),
    ]
    assert comparison.to_dict()["metrics"]["multi@5/test/rating/rmse"] == pytest.approx(0.9)
    assert "| multi@5 |" in comparison.markdown("")
    (axis, *_) = comparison_plot(comparison).axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "5"]


def test_the_metrics_default_to_the_first_of_each_task_of_any_variant():
    settings = experiment(metrics=[])
    assert settings.compare is not None
    assert compared_metrics(settings.compare, grid(settings)) == [
        "click/auc",
        "rating/rmse",
        "purchase/auc",
        "gender/auc",
        "occupation/accuracy",
        "tags/micro_auc",
    ]


def test_null_removes_a_task_or_a_feature(tmp_path):
    assert "gender" not in override(small_experiment(), {"tasks.gender": None}).tasks
    without = override(small_experiment(), {"features.price": None, "data.time": "timestamp"})
    assert "price" not in without.features
    assert override(small_experiment(), {"training.clip_norm": None}).training.clip_norm is None
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(TREE))
    assert "gender" not in load(tmp_path / "e.yaml", ["tasks.gender=null"]).tasks
    with pytest.raises(InputError, match=r"--set tasks\.sex: nothing to remove; tasks has click, gender"):
        load(tmp_path / "e.yaml", ["tasks.sex=null"])


def results(settings: Experiment, values: dict[str, list[float]], count: dict[str, float] | None = None):
    """By run, metrics as `run_single_process` gives them: `values` of each variant in the order of its runs."""
    left = {variant: iter(v) for variant, v in values.items()}
    found = {}
    for grid_run in grid(settings):
        value = next(left[grid_run.variant])
        metrics = {"test/rating/rmse": value, "test/click/auc": value}
        metrics |= {f"test/{t}/count": (count or {}).get(grid_run.variant, 40.0) for t in ("rating", "click", "gender")}
        if grid_run.variant != "single":
            metrics["test/gender/auc"] = value
        baselines = {name: {"test/rating/rmse": 2.0} if name == "constant" else {} for name in BASELINES}
        found[grid_run.name] = {"metrics": metrics, "baselines": baselines}
    return found


def compared(settings: Experiment, values: dict[str, list[float]], **more: Any) -> Comparison:
    return comparison_of(settings, grid(settings), results(settings, values, **more))


VALUES = {"single": [0.90, 1.0, 1.1], "multi": [0.80, 0.901, 0.9995], "wide": [0.95, 0.9, 1.15]}


def test_lower_is_better_for_an_error_and_worse_for_an_auc():
    rows = compared(experiment(), VALUES).rows
    error, auc = row(rows, "multi", "rating/rmse"), row(rows, "multi", "click/auc")
    assert (error.outcome, auc.outcome) == ("better", "worse")
    assert error.difference == pytest.approx(-0.0998, abs=1e-4)
    assert row(rows, "single", "rating/rmse").outcome == "baseline"
    assert row(rows, "wide", "rating/rmse").outcome == "no evidence"


def test_holm_corrects_over_all_tests_of_the_table():
    rows = compared(experiment(), VALUES).rows
    tested = [r for r in rows if r.p is not None]
    assert len(tested) == 4  # two variants, two metrics that the baseline has
    smallest = min(tested, key=lambda r: r.p or 0)
    assert smallest.p_holm == pytest.approx(4 * (smallest.p or 0))


def test_where_there_is_no_test_the_verdict_says_why():
    rows = compared(experiment(), VALUES).rows
    assert row(rows, "multi", "gender/auc").outcome == "no test: the baseline has no value"
    one = compared(experiment(seeds=[0]), VALUES).rows
    assert row(one, "multi", "rating/rmse").outcome == "no test: a single pair"
    same = compared(experiment(), {**VALUES, "multi": VALUES["single"]}).rows
    assert row(same, "multi", "rating/rmse").outcome == "equal"
    shifted = compared(experiment(), {**VALUES, "multi": [v + 0.5 for v in VALUES["single"]]}).rows
    assert row(shifted, "multi", "rating/rmse").outcome == "no test: differences do not vary"
    other = compared(experiment(), VALUES, count={"multi": 39.0}).rows
    assert row(other, "multi", "rating/rmse").outcome == "no test: other rows than the baseline"


def test_seeds_are_averaged_within_several_folds():
    settings = experiment(folds={"a": {}, "b": {}}, seeds=[0, 1])
    values = {"single": [1.0, 2.0, 3.0, 4.0], "multi": [1, 2, 3, 4.5], "wide": [0] * 4}  # seed 0: a, b; seed 1: a, b
    found = row(compared(settings, values).rows, "single", "rating/rmse")
    assert (found.summary.n, found.summary.mean) == (2, 2.5)
    assert found.summary.sd == pytest.approx(2**-0.5)  # of the fold means 2 and 3


def test_predictions_without_a_model_are_in_the_table_without_a_test():
    found = row(compared(experiment(), VALUES).rows, "constant", "rating/rmse")
    assert (found.trained, found.p, found.outcome, found.summary.mean) == (False, None, "", 2.0)


def test_table_markdown_and_numbers_say_the_same():
    comparison = compared(experiment(), VALUES)
    text = comparison.markdown("mtl-ray compare x.yaml")
    assert "Made by `mtl-ray compare x.yaml`." in text
    assert "| rating | rmse | all | 40 | multi | 0.9002 | 0.0998 | 3 | -0.0998 |" in text
    assert "`tasks.gender` removed" in text
    assert "correction for the 4 tests" in text
    console = Console(width=200, file=io.StringIO())
    console.print(comparison.table())
    shown = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "0.9002" in shown
    assert "(constant)" in shown
    assert comparison.to_dict()["metrics"]["multi/test/rating/rmse"] == pytest.approx(0.90017, abs=1e-5)


def test_the_report_says_in_words_where_a_variant_is_better_or_worse():
    settings = experiment()
    comparison = compared(settings, VALUES)
    histories = {grid_run.name: {"history": [{"epoch": 1, "valid/rating/rmse": 1.0}]} for grid_run in grid(settings)}
    report = compare_report(comparison, grid(settings), histories)
    html = report.html()
    assert "multi: better on rating/rmse of all rows (-0.0998); worse on click/auc of all rows (-0.0998); " in html
    assert "wide: no difference shown on " in html
    assert "tasks.gender removed" in html
    assert {name: picture[:8] for name, picture in report.pictures.items()} == {
        "comparison.png": b"\x89PNG\r\n\x1a\n",
        "learning_curves.png": b"\x89PNG\r\n\x1a\n",
    }


def test_a_table_names_task_metric_segment_and_rows_once_a_group():
    table = compared(experiment(segments=["all"], metrics=["rating/rmse"]), VALUES).table()
    columns = {column.header: list(column.cells) for column in table.columns}
    assert columns["variant"] == ["single", "multi", "wide", "(constant)"]
    assert columns["task"] == ["rating", "", "", ""]
    assert columns["segment"] == ["all", "", "", ""]
    assert columns["rows"] == ["40", "", "", ""]
    assert columns["mean"] == ["1.0000", "0.9002", "1.0000", "2.0000"]
    assert columns["difference"][:2] == ["-", "-0.0998"]
    assert [column.header for column in table.columns if column.justify == "right"] == list(NUMBERS)


@pytest.mark.parametrize(("shift", "outcome"), [(0.1, "worse"), (-0.1, "better")])
def test_a_sure_difference_is_better_or_worse_by_its_sign(shift: float, outcome: str):
    moved = [value + shift + noise for value, noise in zip(VALUES["single"], (0.001, -0.001, 0.0), strict=True)]
    found = row(compared(experiment(), {**VALUES, "multi": moved}).rows, "multi", "rating/rmse")
    assert found.outcome == outcome
    assert found.difference == pytest.approx(shift)


@pytest.mark.parametrize(("p", "outcome"), [(0.0499, "worse"), (0.05, "no evidence")])
def test_a_difference_counts_below_the_level(p: float, outcome: str):
    summary = Summary(1.0, 0.1, 3)
    assert _outcome(Row("rating", "rmse", "all", "multi", True, 40, summary, difference=0.1), p, 0.05) == outcome


def test_two_pairs_are_tested_and_pairs_are_of_the_same_seed():
    settings = experiment(seeds=[0, 1])
    values = {"single": [1.0, 2.0], "multi": [1.5, 2.6], "wide": [1.0, 2.0]}
    found = row(compared(settings, values).rows, "multi", "rating/rmse")
    assert found.difference == pytest.approx(0.55)
    assert found.p == pytest.approx(paired_p([1.5, 2.6], [1.0, 2.0]))


def test_the_numbers_for_json_have_all_columns():
    comparison = compared(experiment(segments=["all"], metrics=["rating/rmse"]), VALUES)
    told = comparison.to_dict()
    assert told["metrics"].keys() == {f"{v}/test/rating/rmse" for v in ("single", "multi", "wide", "constant")}
    (multi,) = (each for each in told["rows"] if each["variant"] == "multi")
    assert (multi["verdict"], multi["num_rows"], multi["trained"]) == ("better", 40.0, True)
    assert "outcome" not in multi
