"""Move the aliases `candidate`, `champion` and `previous`, which say what version of a registered model is live.

MLflow cannot write an alias conditionally. But only one client can create a registered model of a given name, so an
empty one, `NAME-promotion`, serves as a lock. It works on every store with that constraint (SQLite, a server with a
database) and between machines, for all who promote with this module. A killed process leaves it behind; the next one
fails with an error that says how to remove it, unless both have the same `holder`.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.tracking import MlflowClient

from mtl_ray.config.custom import Trust
from mtl_ray.data.dataset import open_prepared
from mtl_ray.data.preparation.write import RAW_TEST
from mtl_ray.data.sources.csv_dialect import dialect_of
from mtl_ray.data.sources.files import open_log
from mtl_ray.errors import InputError, first_line
from mtl_ray.inference.batch import tables_of
from mtl_ray.promotion.decision import Decision
from mtl_ray.promotion.gate import run_gate
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.storage import Folder
from mtl_ray.tracking.database import client_of
from mtl_ray.tracking.registry import CANDIDATE, DATASET_FOLDER, opened_checkpoint
from mtl_ray.tracking.tracked_run import default_uri

CHAMPION, PREVIOUS = "champion", "previous"
"""Aliases of the live version and of the one before it."""

HOLDER = "holder"
"""Tag of a lock with the name of its holder."""

MAX_DESCRIPTION = 5000
"""Longest description that MLflow's database holds, in characters."""


class PromotionError(RuntimeError):
    """Another promotion got in the way. The message is one line."""


def promote(
    name: str,
    version: str | None = None,
    *,
    rows: str | None = None,
    force: str | None = None,
    dry_run: bool = False,
    tracking_uri: str | None = None,
    holder: str | None = None,
    trust: Trust = False,
    echo: Callable[[str], None] = print,
) -> Decision:
    """Make a version the champion if it passes the gate of its experiment file (`promotion`).

    Args:
        name: name of the registered model.
        version: version to promote, by default the one with the alias `candidate`.
        rows: raw rows with labels to compare on; by default the test rows of the candidate's data set.
        force: a reason to promote whatever the gate finds.
        dry_run: decide without changing anything.
        tracking_uri: MLflow server; by default that of the environment.
        holder: name of the work that this is part of. If an earlier attempt was killed, the rest is done, and nothing
            twice.
        trust: the `custom` classes that the models may import: all (True), none (False) or those of these names.
        echo: receives lines of text for the user.

    Raises:
        InputError: there is no such model or version, it is the champion already, or the rows cannot be read.
        PromotionError: another promotion of this model is under way.

    Example:
        >>> promote("shop").outcome  # doctest: +SKIP
        'promoted'
    """
    uri = tracking_uri or default_uri()
    client = client_of(uri)
    if dry_run:
        return replace(_decide(client, name, uri, version, rows, force, echo, holder, trust), dry_run=True)
    with _lock(client, name, holder):
        decision = _decide(client, name, uri, version, rows, force, echo, holder, trust)
        if decision.live:
            _move(client, decision)
        _note(client, decision, holder)
    return decision


def rollback(name: str, *, dry_run: bool = False, tracking_uri: str | None = None) -> Decision:
    """Swap the champion and the previous champion.

    Args:
        name: name of the registered model.
        dry_run: decide without changing anything.
        tracking_uri: MLflow server; by default that of the environment.

    Raises:
        InputError: there is no such model, or no previous champion.
        PromotionError: another promotion of this model is under way.

    Example:
        >>> rollback("shop").summary()  # doctest: +SKIP
        'Version 2 is champion again, before it was version 3.'
    """
    client = client_of(tracking_uri or default_uri())
    aliases = _aliases(client, name)
    if PREVIOUS not in aliases or CHAMPION not in aliases:
        raise InputError(f"--rollback: {name} has no previous champion; its aliases are {aliases or 'none'}")
    decision = Decision(name, aliases[PREVIOUS], "rolled back", aliases[CHAMPION], dry_run=dry_run)
    if not dry_run:
        with _lock(client, name):
            _move(client, decision)
            _note(client, decision)
    return decision


def _decide(
    client: MlflowClient,
    name: str,
    uri: str,
    version: str | None,
    rows: str | None,
    force: str | None,
    echo: Callable[[str], None],
    holder: str | None,
    trust: Trust,
) -> Decision:
    aliases = _aliases(client, name)
    version = version or aliases.get(CANDIDATE)
    if version is None:
        raise InputError(f"{name}: no version has the alias `{CANDIDATE}`; name one with --version")
    found, champion = _version(client, name, version), aliases.get(CHAMPION)
    if champion == version and holder is None:
        raise InputError(f"{name}: version {version} is the champion already")
    if champion == version:  # the earlier attempt got that far
        champion = aliases.get(PREVIOUS)
    candidate = _scorer(name, version, uri, trust)
    if champion is None:
        return Decision(name, version, "forced" if force else "promoted", None, force or "")
    try:
        live = _scorer(name, champion, uri, trust)
    except InputError as error:
        if not force:
            raise InputError(f"the champion, version {champion}, is broken: {error}; replace it with --force") from None
        return Decision(name, version, "forced", champion, force, caveats=[f"nothing was compared: {error}"])
    place = rows or _own_rows(found, candidate)
    echo(f"comparing version {version} with the champion, version {champion}, on {place}")
    log = open_log(place, dialect=dialect_of(candidate.experiment.data.source))
    result = run_gate(candidate, live, tables_of(log), log.num_rows)
    caveats = []
    if candidate.schema.fingerprint != live.schema.fingerprint:
        caveats.append(
            f"the champion was trained on another data set ({live.schema.fingerprint[:12]}): which of these rows it "
            "has seen in training is not known"
        )
    outcome = "promoted" if not result.refusals else "forced" if force else "refused"
    return Decision(name, version, outcome, champion, force or "", result, place, caveats)


def _scorer(name: str, version: str, uri: str, trust: Trust) -> Scorer:
    """Load a version. Raises InputError if it cannot score a row."""
    with opened_checkpoint(f"models:/{name}/{version}", uri) as folder:
        scorer = Scorer(folder, trust)
    scorer.check(f"models:/{name}/{version}")
    return scorer


def raw_test_rows(dataset: str) -> str:
    """Return the location of a prepared data set's raw test rows. Raises InputError if it is no data set."""
    return f"{open_prepared(dataset).folder}/{RAW_TEST}"


def _own_rows(found: ModelVersion, candidate: Scorer) -> str:
    place = found.tags.get(DATASET_FOLDER, "")
    if not place or not Folder(place).exists("schema.json"):
        raise InputError(
            f"version {found.version}: the data set that it was trained on is not at `{place}`; give rows with labels "
            "to compare on with --input, or a prepared data set with --dataset"
        )
    if open_prepared(place).schema.fingerprint != candidate.schema.fingerprint:
        raise InputError(f"version {found.version}: {place} is another data set than it was trained on; use --input")
    return raw_test_rows(place)


def _aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Return versions by alias. Raises InputError if there is no such model."""
    try:
        return {alias: str(version) for alias, version in client.get_registered_model(name).aliases.items()}
    except MlflowException as error:
        raise InputError(f"{name}: expected the name of a registered model; {first_line(error)}") from None


def _version(client: MlflowClient, name: str, version: str) -> ModelVersion:
    try:
        return client.get_model_version(name, version)
    except MlflowException as error:
        raise InputError(f"--version {version}: {first_line(error)}") from None


def _move(client: MlflowClient, decision: Decision) -> None:
    """Move the aliases. `champion` moves last and in one write, so a reader sees either the old or the new one."""
    name = decision.name
    now = _aliases(client, name)
    if now.get(CHAMPION) not in (decision.against, decision.version):
        raise PromotionError(
            f"{name}: the champion was version {decision.against} and is version {now.get(CHAMPION)} now; "
            "somebody moved the alias meanwhile, promote again"
        )
    if decision.against is not None:
        client.set_registered_model_alias(name, PREVIOUS, decision.against)
    client.set_registered_model_alias(name, CHAMPION, decision.version)
    if now.get(CANDIDATE) == decision.version:
        client.delete_registered_model_alias(name, CANDIDATE)


def _note(client: MlflowClient, decision: Decision, holder: str | None = None) -> None:
    """Put the note before the version's earlier ones, and drop the oldest if there is no room."""
    name, version = decision.name, decision.version
    note, known = decision.markdown(), client.get_model_version(name, version).description or ""
    body = note.partition("\n")[2]  # without the line that has the time
    if holder is None or body[: MAX_DESCRIPTION // 2] not in known:
        client.update_model_version(name, version, f"{note}\n{known}"[:MAX_DESCRIPTION])
    client.set_model_version_tag(name, version, "promotion", decision.outcome)


@contextmanager
def _lock(client: MlflowClient, name: str, holder: str | None = None) -> Iterator[None]:
    """Hold the lock of a model, or take over one of the same holder. Raises PromotionError if another has it."""
    lock = f"{name}-promotion"
    process = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    tags = {HOLDER: holder} if holder else {}
    try:
        client.create_registered_model(lock, tags, f"A promotion of {name} is under way: {process}.")
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
        held = _held(client, lock)
        if holder is None or held is None or held.tags.get(HOLDER) != holder:
            raise PromotionError(
                f"{held.description if held else 'another promotion has just ended; try again'} (if that process is "
                f"gone, delete the registered model `{lock}`)"
            ) from None
    try:
        yield
    finally:
        client.delete_registered_model(lock)


def _held(client: MlflowClient, lock: str) -> RegisteredModel | None:
    try:
        return client.get_registered_model(lock)
    except MlflowException:
        return None
