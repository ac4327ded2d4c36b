"""What a finding, a result and a decision say, number by number."""

import math

import pytest

from mtl_ray.promotion.decision import Decision
from mtl_ray.promotion.findings import Finding, GateResult, Requirement

TARGET, GUARD = Requirement("click", "auc", "", None), Requirement("rating", "rmse", "warm", 0.02)


def finding(requirement: Requirement = TARGET, low: float = 0.1, needed: float = 0.0, **changes) -> Finding:
    settings = {"champion": 0.5, "candidate": 0.75, "decides": True} | changes
    return Finding(requirement, 1234, 56, improvement=0.25, low=low, high=0.375, needed=needed, **settings)


@pytest.mark.parametrize(
    ("requirement", "low", "needed", "passed", "outcome"),
    [
        (TARGET, 0.001, 0.0, True, "better"),
        (TARGET, 0.0, 0.0, False, "not shown to be better"),
        (TARGET, -0.001, 0.0, False, "not shown to be better"),
        (GUARD, -0.01, -0.02, True, "within the margin"),
        (GUARD, -0.02, -0.02, False, "not shown to be within the margin"),
        (GUARD, math.nan, -0.02, False, "not shown to be within the margin"),
    ],
)
def test_the_lower_bound_must_be_above_what_is_needed(requirement, low, needed, passed, outcome):
    found = finding(requirement, low, needed)
    assert (found.passed, found.outcome) == (passed, outcome)


def test_a_finding_that_decides_nothing_passes_and_says_so():
    found = finding(GUARD, low=-1, decides=False)
    assert found.passed
    assert found.outcome == "too few users to decide"


def test_a_candidate_that_is_no_number_is_said_to_be_so_first():
    found = finding(GUARD, low=math.nan, candidate=math.inf, decides=False)
    assert found.outcome == "not a finite number"
    assert found.refusal() == "rating/rmse/warm: 0.5000 -> inf, on 1,234 labelled rows"
    told = found.to_dict()
    assert (told["candidate"], told["low"], told["champion"]) == (None, None, 0.5)


def test_a_refusal_has_the_numbers_that_refuse():
    assert finding(low=-0.05).refusal() == (
        "click/auc: 0.5000 -> 0.7500, improvement +0.2500, lower bound -0.0500, which must be above +0.0000"
    )


def test_a_finding_for_json_has_its_key_and_whether_it_passed():
    told = finding(GUARD).to_dict()
    assert told["requirement"] == {"task": "rating", "metric": "rmse", "segment": "warm", "margin": 0.02}
    del told["requirement"]
    assert told == {
        **{"key": "rating/rmse/warm", "rows": 1234, "users": 56, "champion": 0.5, "candidate": 0.75},
        **{"improvement": 0.25, "low": 0.1, "high": 0.375, "needed": 0.0, "decides": True},
        **{"passed": True, "verdict": "within the margin"},
    }


def test_refusals_are_the_broken_tasks_the_lost_ones_and_the_findings_that_fail():
    result = GateResult([finding(), finding(GUARD, low=-1)], 2000, 56, [], ["like"], {"share": 1500})
    assert result.refusals == [
        "the candidate's prediction of `share` is not finite on 1,500 of 2,000 rows",
        "the candidate does not predict `like`, the champion does",
        finding(GUARD, low=-1).refusal(),
    ]
    assert GateResult([finding()], 2000, 56, [], []).refusals == []


@pytest.mark.parametrize(
    ("outcome", "against", "summary"),
    [
        ("promoted", "1", "Version 2 is champion, before it was version 1."),
        ("promoted", None, "Version 2 is the first champion: there was none to compare with."),
        ("refused", "1", "Version 2 is refused; version 1 stays champion."),
        ("refused", None, "Version 2 is refused; no champion stays champion."),
        ("rolled back", "1", "Version 2 is champion again, before it was version 1."),
        ("forced", "1", "Version 2 is champion, before it was version 1. Forced: urgent"),
        ("forced", None, "Version 2 is the first champion: there was none to compare with. Forced: urgent"),
    ],
)
def test_a_decision_in_one_line(outcome, against, summary):
    decision = Decision("shop", "2", outcome, against, reason="urgent")
    assert decision.summary() == summary
    assert decision.live == (outcome != "refused")


def test_a_dry_run_says_what_would_be():
    decision = Decision("shop", "2", "promoted", "1", dry_run=True)
    assert decision.summary() == "Version 2 would be champion, now it is version 1."
    assert decision.markdown().startswith("## Would be promoted on ")
    assert Decision("shop", "2", "refused", "1", dry_run=True).summary() == (
        "Version 2 would be refused; version 1 stays champion."
    )


def test_the_note_of_a_decision_has_refusals_table_what_was_not_compared_and_caveats():
    result = GateResult([finding(), finding(GUARD, low=-1)], 2000, 56, ["share/auc: not defined"], [])
    decision = Decision("shop", "2", "refused", "1", gate_result=result, rows_from="new.csv", caveats=["old rows"])
    title, empty, *lines = decision.markdown().splitlines()
    assert title.startswith("## Refused on ")
    assert title.endswith(" UTC")
    assert empty == ""
    assert lines[:4] == [decision.summary(), f"- {result.refusals[0]}", "", lines[3]]
    assert lines[3] == ("| metric | rows | users | champion | candidate | improvement | bound | needed | verdict |")
    assert lines[4] == "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    assert lines[5:7] == [
        "| **target** click/auc | 1,234 | 56 | 0.5000 | 0.7500 | +0.2500 | +0.1000 | +0.0000 | better |",
        "| rating/rmse/warm | 1,234 | 56 | 0.5000 | 0.7500 | +0.2500 | -1.0000 | +0.0000 "
        "| not shown to be within the margin |",
    ]
    assert lines[7] == ""
    assert lines[8].startswith("2,000 rows of 56 users from `new.csv`; paired bootstrap over users.")
    assert lines[9:] == ["- not compared: share/auc: not defined", "- old rows"]


def test_the_note_without_a_comparison_is_title_and_line():
    assert len(Decision("shop", "1", "promoted", None).markdown().splitlines()) == 3


def test_a_decision_for_json():
    result = GateResult([finding(GUARD, low=-1)], 2000, 56, ["share/auc: not defined"], [])
    told = Decision("shop", "2", "refused", "1", gate_result=result, caveats=["old rows"]).to_dict()
    assert told == {
        **{"model": "shop", "version": "2", "outcome": "refused", "against": "1", "reason": "", "rows": 2000},
        **{"findings": [result.findings[0].to_dict()], "refusals": result.refusals},
        **{"missing": ["share/auc: not defined"], "caveats": ["old rows"]},
    }
    alone = Decision("shop", "2", "promoted", None).to_dict()
    assert (alone["rows"], alone["findings"], alone["refusals"], alone["missing"]) == (0, [], [], [])
