"""Promotion in a real registry: the gate, the aliases, the note, two at once."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from mtl_ray.cli.main import main
from mtl_ray.config import override
from mtl_ray.errors import InputError
from mtl_ray.models import checkpoint
from mtl_ray.promotion.decision import Decision
from mtl_ray.promotion.promote import PromotionError, promote, rollback
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.tracking.registry import example_of, register, signature_of
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.values.vocabulary import VOCABULARY

GATE = {
    "promotion.metric": "rating/rmse",
    "promotion.guards": {"click/auc": 0.2},
    "promotion.draws": 40,
}
WORSE, GOOD, WORSE_AGAIN = "1", "2", "3"
"""Versions of the model `gated`: the trained weights, before and after it with noise on them."""


@pytest.fixture(scope="module")
def client(settings) -> MlflowClient:
    return MlflowClient(tracking_uri=settings.tracking.uri)


@pytest.fixture(scope="module")
def uri(trained, settings, tmp_path_factory) -> str:
    """The store, with three versions of `gated`."""
    experiment = override(settings, {**GATE, "tracking.register_as": "gated"})
    run = Run(settings.tracking.uri, trained.run_id, trained.folder)
    loaded = checkpoint.load(trained.checkpoint)
    clean = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    for number, noise in enumerate((0.5, 0.0, 0.4)):
        torch.manual_seed(number)
        loaded.model.load_state_dict({name: v + noise * torch.randn_like(v) for name, v in clean.items()})
        folder: Path = tmp_path_factory.mktemp("checkpoint")
        checkpoint.save(folder, experiment, loaded.schema, loaded.model, {})
        shutil.copy(trained.checkpoint / VOCABULARY, folder)
        scorer = Scorer(folder)
        signature, example = signature_of(scorer), example_of(scorer, trained.prepared)
        register(experiment, run, folder, trained.prepared, signature, example, trained.evaluation.metrics)
    return settings.tracking.uri


@pytest.fixture
def first(uri, client) -> Decision:
    """Version 1 as the only champion there has been."""
    for alias in client.get_registered_model("gated").aliases:
        client.delete_registered_model_alias("gated", alias)
    return promote("gated", WORSE, tracking_uri=uri, echo=lambda _: None)


def aliases(client: MlflowClient) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model("gated").aliases.items()}


def test_a_version_tells_its_data_code_settings_and_metrics_and_is_the_candidate(trained, settings, client):
    found = client.get_model_version_by_alias("small", "candidate")
    assert found.version == 1
    assert found.tags["dataset"] == trained.prepared.schema.fingerprint
    assert len(found.tags["experiment"]) == 64
    metrics = trained.evaluation.metrics
    assert float(found.tags["test/rating/rmse"]) == pytest.approx(metrics["test/rating/rmse"], rel=1e-5)
    assert float(found.tags["test/click/auc/new_user"]) == pytest.approx(metrics["test/click/auc/new_user"], rel=1e-5)


def test_the_first_champion_is_promoted_without_a_comparison_and_called_so(first, client):
    assert first.outcome == "promoted"
    assert "there was none to compare with" in client.get_model_version("gated", WORSE).description
    assert aliases(client) == {"champion": WORSE}


def test_a_better_candidate_becomes_champion_and_rollback_restores(first, uri, client):
    client.set_registered_model_alias("gated", "candidate", GOOD)
    decision = promote("gated", tracking_uri=uri, echo=lambda _: None)
    assert decision.outcome == "promoted", decision.markdown()
    assert aliases(client) == {"champion": GOOD, "previous": WORSE}
    note = client.get_model_version("gated", GOOD).description
    assert note is not None
    assert "| **target** rating/rmse |" in note
    assert decision.gate_result is not None
    assert f"{decision.gate_result.findings[0].low:+.4f}" in note
    assert rollback("gated", tracking_uri=uri).outcome == "rolled back"
    assert aliases(client) == {"champion": WORSE, "previous": GOOD}
    assert "## Rolled back" in (client.get_model_version("gated", WORSE).description or "")


def test_a_worse_candidate_is_refused_with_the_number_and_force_needs_a_reason(first, uri, client, capsys, tmp_path):
    promote("gated", GOOD, tracking_uri=uri, echo=lambda _: None)
    arguments = ["promote", "gated", "--version", WORSE_AGAIN, "--tracking-uri", uri]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--json", str(tmp_path / "decision.json")])
    assert stopped.value.code == 1
    result = json.loads((tmp_path / "decision.json").read_text())
    assert result["outcome"] == "refused"
    target = result["findings"][0]
    assert target["low"] < target["needed"] == 0
    assert any(f"{target['low']:+.4f}" in line for line in result["refusals"])
    assert f"{target['low']:+.4f}" in (client.get_model_version("gated", WORSE_AGAIN).description or "")
    assert aliases(client) == {"champion": GOOD, "previous": WORSE}
    main([*arguments, "--force", "a test of the alarm"])
    assert aliases(client) == {"champion": WORSE_AGAIN, "previous": GOOD}
    assert "Forced: a test of the alarm" in (client.get_model_version("gated", WORSE_AGAIN).description or "")
    assert client.get_model_version("gated", WORSE_AGAIN).tags["promotion"] == "forced"


def test_a_dry_run_changes_nothing(first, uri, client, capsys):
    before = client.get_model_version("gated", GOOD).description
    main(["promote", "gated", "--version", GOOD, "--dry-run", "--tracking-uri", uri])
    shown = capsys.readouterr().out
    assert "Would be promoted on" in shown
    assert "nothing was changed" in shown
    assert aliases(client) == {"champion": WORSE}
    assert client.get_model_version("gated", GOOD).description == before


def test_of_two_promotions_at_once_one_wins_and_the_other_gets_an_error(first, uri, client):
    def attempt(version: str) -> str:
        try:
            return promote("gated", version, tracking_uri=uri, force="whoever is first", echo=lambda _: None).version
        except PromotionError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(attempt, (GOOD, WORSE_AGAIN)))
    won = [result for result in results if result in (GOOD, WORSE_AGAIN)]
    assert len(won) == 1, results
    assert any("A promotion of gated is under way: process" in result for result in results)
    assert aliases(client) == {"champion": won[0], "previous": WORSE}
    assert not [model.name for model in client.search_registered_models() if model.name == "gated-promotion"]


def test_who_was_killed_within_a_promotion_finishes_it_and_nothing_twice(first, uri, client, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_model_version_tag", killed)
        patch.setattr(MlflowClient, "delete_registered_model", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            promote("gated", GOOD, tracking_uri=uri, echo=lambda _: None, holder="today")
    assert aliases(client) == {"champion": GOOD, "previous": WORSE}
    with pytest.raises(PromotionError, match="is under way"):
        promote("gated", WORSE_AGAIN, tracking_uri=uri, echo=lambda _: None, holder="tomorrow")
    notes = (client.get_model_version("gated", GOOD).description or "").count("| **target** rating/rmse |")
    decision = promote("gated", GOOD, tracking_uri=uri, echo=lambda _: None, holder="today")
    assert (decision.outcome, decision.against) == ("promoted", WORSE)
    assert aliases(client) == {"champion": GOOD, "previous": WORSE}
    assert (client.get_model_version("gated", GOOD).description or "").count("| **target** rating/rmse |") == notes
    assert not [model.name for model in client.search_registered_models() if model.name == "gated-promotion"]


def test_what_cannot_be_promoted_is_told_in_one_line(first, uri):
    with pytest.raises(InputError, match="version 1 is the champion already"):
        promote("gated", WORSE, tracking_uri=uri)
    with pytest.raises(InputError, match="--version 9: "):
        promote("gated", "9", tracking_uri=uri)
    with pytest.raises(InputError, match="nothing: expected the name of a registered model"):
        promote("nothing", tracking_uri=uri)
    with pytest.raises(InputError, match="has no previous champion"):
        rollback("gated", tracking_uri=uri)
    with pytest.raises(InputError, match="no version has the alias `candidate`"):
        promote("gated", tracking_uri=uri)
