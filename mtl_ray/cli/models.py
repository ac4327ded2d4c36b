"""Commands of a trained model: `evaluate`, `predict`, `recommend`, `drift`, `export`, `promote`, `serve`."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from mtl_ray.cli.console import Json, Keys, Model, TrackingUri, Trust, console, echo, names_of, write_result
from mtl_ray.errors import InputError

# Libraries are slow to load, and `mtl-ray --help` needs none.
# ruff: noqa: PLC0415


def evaluate(
    model: Model,
    dataset: Annotated[str, typer.Argument(help="Prepared data set.", metavar="DATASET")],
    split: Annotated[str, typer.Option(help="train, valid or test")] = "test",
    trust: Trust = False,
    tracking_uri: TrackingUri = None,
    json_file: Json = None,
) -> None:
    """Evaluate a model on a prepared data set, per task and per segment."""
    from mtl_ray.data.dataset import open_prepared
    from mtl_ray.inference.evaluate import evaluate as run

    prepared = open_prepared(dataset)
    evaluation = run(model, prepared, split, tracking_uri=tracking_uri, trust=trust)  # pyright: ignore[reportArgumentType] - checked
    console.print(evaluation.table(noise_floor=prepared.schema.noise_floor))
    numbers = {"metrics": evaluation.metrics, "constant": evaluation.constant, "baselines": evaluation.baselines}
    numbers["intervals"] = evaluation.intervals
    spread = {key: check._asdict() for key, check in evaluation.spread.items()}
    write_result(json_file, {**numbers, "spread": spread, "dataset": dataset})


def predict(
    model: Model,
    rows: Annotated[str, typer.Option("--input", help="Raw rows: Parquet or CSV file, folder or glob.")],
    output: Annotated[str, typer.Option("--output", help="Folder to write predictions to.")],
    keys: Keys = None,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Of an ensemble: add TASK_std, each prediction's standard deviation.")
    ] = False,
    trust: Trust = False,
    tracking_uri: TrackingUri = None,
    json_file: Json = None,
) -> None:
    """Score raw rows, unseen users and items included. Repeated, it continues where it stopped."""
    from mtl_ray.inference.predict import predict as run

    kept = names_of(keys)
    done = run(model, rows, output, kept, echo, uncertainty=uncertainty, tracking_uri=tracking_uri, trust=trust)
    for line in done.lines():
        echo(line)
    result = {"output": done.folder.location, "rows": done.num_rows, "quarantined": done.quarantined}
    write_result(json_file, {**result, "rows_per_second": done.rows_per_second})


def recommend(
    model: Model,
    profile: Annotated[
        str | None, typer.Option(help="One user: a JSON object of raw columns, or a file of it.")
    ] = None,
    users: Annotated[str | None, typer.Option(help="Many users: Parquet or CSV file, folder or glob.")] = None,
    items: Annotated[str | None, typer.Option(help="Raw rows of the candidates; the model's own by default.")] = None,
    seen: Annotated[str | None, typer.Option(help="Interactions whose items are left out, user by user.")] = None,
    k: Annotated[int, typer.Option("--k", help="Items for a user.", min=1)] = 10,
    task: Annotated[str | None, typer.Option(help="What to rank by; the first task by default.")] = None,
    output: Annotated[str | None, typer.Option(help="Folder for the items of many users.")] = None,
    trust: Trust = False,
    tracking_uri: TrackingUri = None,
    json_file: Json = None,
) -> None:
    """Recommend the best items to a user, known or described by a profile alone, or to many users."""
    if (profile is None) == (users is None):
        raise InputError("recommend: expected either --profile or --users")
    if (users is None) != (output is None):
        raise InputError("recommend: expected --output beside --users, and only there")
    described = None if profile is None else _json_object(profile, "--profile")
    import torch

    from mtl_ray.cli.tables import item_table
    from mtl_ray.inference.recommend import load_recommender, read_seen
    from mtl_ray.inference.recommend import recommend as run
    from mtl_ray.tracking.registry import opened_checkpoint
    from mtl_ray.tracking.tracked_run import default_uri

    # One user takes milliseconds; on a busy machine, threads that wait for each other would take many times longer.
    torch.set_num_threads(1)
    with opened_checkpoint(model, tracking_uri or default_uri()) as folder:
        if users and output:
            done = run(folder, users, output, items, task, k, seen, trust)
            echo(f"{k} items each for {done.num_rows:,} users: {done.folder}")
            write_result(json_file, {"output": done.folder.location, "users": done.num_rows})
            return
        recommender = load_recommender(folder, items, task, trust)
    assert described is not None
    known = read_seen(seen, recommender).of_one(described.get(recommender.user_column)) if seen else []
    began = time.monotonic()
    found = recommender.recommend(described, k, known)
    milliseconds = 1000 * (time.monotonic() - began)
    console.print(item_table(found, recommender.task))
    echo(f"chosen from {len(recommender.keys):,} items in {milliseconds:.0f} ms")
    write_result(json_file, {"items": found, "task": recommender.task, "milliseconds": milliseconds})


def drift(
    model: Model,
    rows: Annotated[str, typer.Option("--input", help="New rows, raw: Parquet or CSV file, folder or glob.")],
    max_psi: Annotated[float, typer.Option(help="Largest population stability index.", min=0)] = 0.2,
    max_null_change: Annotated[float, typer.Option(help="Largest change of an input's share of nulls.", min=0)] = 0.05,
    max_unknown_rise: Annotated[
        float, typer.Option(help="Largest rise of an input's share of unseen values.", min=0)
    ] = 0.05,
    trust: Trust = False,
    tracking_uri: TrackingUri = None,
    json_file: Json = None,
) -> None:
    """Compare new rows with those of the training, input by input. The exit code is 3 if any limit is exceeded."""
    from mtl_ray.inference.drift import Limits
    from mtl_ray.inference.drift import drift as run
    from mtl_ray.tracking.registry import opened_checkpoint
    from mtl_ray.tracking.tracked_run import default_uri

    limits = Limits(max_psi, max_null_change, max_unknown_rise)
    with opened_checkpoint(model, tracking_uri or default_uri()) as folder:
        found = run(folder, rows, limits, trust)
    console.print(found.table())
    write_result(json_file, found.to_dict())
    if found.drifted:
        echo(f"drift: {', '.join(found.drifted)}")
        raise typer.Exit(3)


def export(
    model: Model,
    kind: Annotated[str, typer.Option("--format", help="onnx or torch")],
    output: Annotated[str, typer.Option("--output", help="Folder to write the model to.")],
    trust: Trust = False,
    tracking_uri: TrackingUri = None,
    json_file: Json = None,
) -> None:
    """Write a model for runtimes without this package, with the encoding of its inputs, and check its predictions."""
    from mtl_ray.inference.export import export as run
    from mtl_ray.tracking.registry import opened_checkpoint
    from mtl_ray.tracking.tracked_run import default_uri

    if kind not in ("onnx", "torch"):
        raise InputError(f"--format: expected onnx or torch; found {kind}")
    with opened_checkpoint(model, tracking_uri or default_uri()) as folder:
        exported = run(folder, kind, output, trust)
    echo(f"{exported.folder}/{exported.file}: encoded rows in (see encoding.json), predictions out")
    echo(f"largest difference from the original: {exported.largest_difference:.2g} over {exported.rows:,} random rows")
    numbers = {"largest_difference": exported.largest_difference, "rows": exported.rows}
    write_result(json_file, {"output": str(exported.folder), "file": exported.file, **numbers})


def promote(
    name: Annotated[str, typer.Argument(help="Registered model.", metavar="MODEL_NAME")],
    version: Annotated[str | None, typer.Option(help="By default the one with the alias `candidate`.")] = None,
    rows: Annotated[
        str | None, typer.Option("--input", help="Raw rows with labels to compare on; by default the test rows.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Or a prepared data set, whose test rows to compare on.")] = None,
    force: Annotated[str | None, typer.Option(help="Promote whatever the gate finds.", metavar="REASON")] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Back to the previous champion instead.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Decide, and change nothing.")] = False,
    trust: Trust = False,
    tracking_uri: TrackingUri = None,
    json_file: Json = None,
) -> None:
    """Make a version of a registered model the champion if it passes the gate of its experiment file."""
    if rollback and (version or rows or dataset or force):
        raise InputError("--rollback: expected no other option than --dry-run beside it")
    if rows and dataset:
        raise InputError("promote: expected either --input or --dataset")
    if force is not None and not force.strip():
        raise InputError("--force: expected a reason, which is kept with the version")
    from rich.markdown import Markdown

    from mtl_ray.promotion.promote import PromotionError, raw_test_rows
    from mtl_ray.promotion.promote import promote as run
    from mtl_ray.promotion.promote import rollback as run_back

    place = raw_test_rows(dataset) if dataset else rows
    try:
        if rollback:
            decision = run_back(name, dry_run=dry_run, tracking_uri=tracking_uri)
        else:
            decision = run(
                name,
                version,
                rows=place,
                force=force,
                dry_run=dry_run,
                tracking_uri=tracking_uri,
                trust=trust,
                echo=echo,
            )
    except PromotionError as error:
        echo(f"error: {error}")
        raise typer.Exit(1) from None
    console.print(Markdown(decision.markdown()))
    if dry_run:
        echo("dry run: nothing was changed")
    write_result(json_file, decision.to_dict())
    if not decision.live:
        raise typer.Exit(1)


def serve(
    model: Model,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    replicas: Annotated[int, typer.Option(help="Processes that hold the model.", min=1)] = 1,
    max_batch: Annotated[int, typer.Option(help="Requests that are scored together at most.", min=1)] = 64,
    batch_wait: Annotated[float, typer.Option(help="Milliseconds that a request waits for others.", min=0)] = 2.0,
    max_megabytes: Annotated[float, typer.Option(help="Largest request.", min=0.001)] = 8.0,
    max_rows: Annotated[int, typer.Option(help="Most rows of a request.", min=1)] = 100_000,
    body_timeout: Annotated[float, typer.Option(help="Seconds within which a request must arrive.", min=0.1)] = 10.0,
    poll: Annotated[float, typer.Option(help="Seconds between two looks at the alias.", min=0.1)] = 5.0,
    trust: Trust = False,
    tracking_uri: TrackingUri = None,
) -> None:
    """Answer requests over HTTP through Ray Serve, with the version that the alias names at the time."""
    try:
        from mtl_ray.inference.serve import Settings, serve_forever
    except ImportError as error:
        raise InputError(f"serve: expected the extra `serve`; install mtl_ray[serve] ({error})") from None
    from mtl_ray.tracking.tracked_run import default_uri

    uri, wait = tracking_uri or default_uri(), batch_wait / 1000
    settings = Settings(model, uri, max_batch, wait, max_megabytes, poll, max_rows, body_timeout, trust)
    serve_forever(settings, host, port, replicas, echo)


def _json_object(text: str, option: str) -> dict[str, Any]:
    """Return the JSON object in `text`, or in the file that it names."""
    try:
        value = json.loads(text if text.lstrip().startswith(("{", "[")) else Path(text).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f'{option}: expected a JSON object such as {{"age": 25}}, or a file of it; {error}') from None
    if not isinstance(value, dict):
        raise InputError(f'{option}: expected a JSON object such as {{"age": 25}}; found {type(value).__name__}')
    return value
