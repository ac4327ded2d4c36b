"""Results as a person reads them: a tidy frame, a table, a page."""

import pandas as pd
import pytest
from rich.table import Table

from mtl_ray.inference.evaluate import Evaluation
from mtl_ray.promotion.decision import Decision
from mtl_ray.promotion.findings import Finding, GateResult, Requirement
from mtl_ray.reporting.results import COLUMNS, Shown, metrics_frame, metrics_table

METRICS = {
    "test/click/count": 80.0,
    "test/click/count/new_user": 3.0,
    "test/click/loss": 0.5,
    "test/click/auc": 0.75,
    "test/click/auc/new_user": 0.6,
    "test/click/auc/user_support_1-4": 0.7,
    "model/parameters": 9.0,
}


def test_a_frame_has_a_row_per_value_and_the_labelled_rows_beside_it():
    frame = metrics_frame(METRICS)
    assert tuple(frame.columns) == COLUMNS
    assert frame.metric.tolist() == ["loss", "auc", "auc", "auc"]
    assert frame.segment.tolist() == ["all", "all", "new_user", "user_support_1-4"]
    assert frame.value.tolist() == [0.5, 0.75, 0.6, 0.7]
    assert frame["rows"].tolist()[:3] == [80, 80, 3]
    assert frame["rows"].isna().tolist() == [False, False, False, True]
    assert set(frame.split) == {"test"}
    assert set(frame.task) == {"click"}


def test_without_a_metric_the_frame_has_its_columns():
    empty = metrics_frame({})
    assert tuple(empty.columns) == COLUMNS
    assert empty.empty
    # so that frames of several results can be put together
    assert list(pd.concat([empty, metrics_frame(METRICS)]).dtypes) == list(empty.dtypes)


def cells(table: Table) -> list[list[str]]:
    return [list(map(str, column.cells)) for column in table.columns]


def test_a_table_has_a_row_per_metric_and_a_column_per_segment():
    table = metrics_table(METRICS, "shop", {"constant": {"test/click/auc": 0.5}})
    titles = [str(column.header) for column in table.columns]
    assert titles == ["task", "metric", "all", "warm", "new_user", "new_item", "new_both", "constant"]
    named = dict(zip(titles, cells(table), strict=True))
    assert named["metric"] == ["rows", "auc"]
    assert named["all"] == ["80", "0.7500"]
    assert named["new_user"] == ["3", "0.6000"]
    assert named["warm"] == ["-", "-"]
    assert named["constant"] == ["-", "0.5000"]


class Told(Shown):
    def table(self) -> Table:
        table = Table("<name>", title="a < b")
        table.add_row("x & y")
        return table

    def lines(self) -> list[str]:
        return ["run: <1>"]


def test_a_result_shows_its_table_and_its_lines():
    text = repr(Told())
    assert "x & y" in text
    assert text.endswith("\nrun: <1>")
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_a_page_escapes_what_data_say():
    page = Told()._repr_html_()
    assert "<caption>a &lt; b</caption>" in page
    assert "<th>&lt;name&gt;</th>" in page
    assert "<td>x &amp; y</td>" in page
    assert page.endswith("<p>run: &lt;1&gt;</p>")


def test_an_evaluation_is_shown_beside_the_constant_prediction_and_the_noise_floor():
    found = Evaluation(METRICS, {"constant": {"test/click/auc": 0.5}})
    assert "test rows, by segment" in repr(found)
    assert found.to_frame().equals(metrics_frame(METRICS))
    assert cells(found.table("shop", {"click/auc": 0.8}))[-1] == ["-", "0.8000"]
    assert found.table("shop").title == "shop: test rows, by segment"


@pytest.mark.parametrize("segment", ["", "new_user"])
def test_a_decision_is_a_frame_of_what_the_gate_found(segment: str):
    required = Requirement("click", "auc", segment, None)
    finding = Finding(required, 50, 9, 0.7, 0.75, 0.05, 0.01, 0.09, 0.0, True)
    decision = Decision("shop", "2", "promoted", "1", gate_result=GateResult([finding], 60, 9, [], []))
    (row,) = decision.to_frame().to_dict("records")
    assert row == {
        "split": "test",
        "task": "click",
        "metric": "auc",
        "segment": segment or "all",
        "value": 0.75,
        "rows": 50,
        "champion": 0.7,
        "improvement": 0.05,
        "bound": 0.01,
        "verdict": "better",
    }
    assert "target click/auc" in repr(decision)
    assert Decision("shop", "2", "forced", None).to_frame().empty
