"""Commands of a model in use: `predict`, `drift`, `promote`, `serve`."""

from typing import Annotated

import typer

from mtl_ray.errors import InputError
from mtl_ray.terminal import Json, Model, TrackingUri, console, say, write_result

# Libraries are slow to load, and `mtl-ray --help` needs none.
# ruff: noqa: PLC0415


def predict(
    model: Model,
    rows: Annotated[str, typer.Option("--input", help="Raw rows: Parquet or CSV file, folder or glob.")],
    output: Annotated[str, typer.Option("--output", help="Folder to write predictions to.")],
    keys: Annotated[
        str | None, typer.Option(help="Input columns to keep, with commas between; all by default.", metavar="A,B")
    ] = None,
    tracking_uri: TrackingUri = None,
    json_file: Json = None,
) -> None:
    """Score raw rows, unseen users and items included, through Ray Data; repeated, it goes on where it stopped."""
    from mtl_ray.predict import predict as run
    from mtl_ray.registry import checkpoint_folder
    from mtl_ray.tracking import default_uri

    kept = None if keys is None else [name.strip() for name in keys.split(",") if name.strip()]
    done = run(checkpoint_folder(model, tracking_uri or default_uri()), rows, output, kept, say)
    bad = sum(done.quarantined.values())
    say(f"{done.num_rows:,} rows read, {bad:,} bad, {done.rows_per_second:,.0f} rows/s: {done.folder}")
    for reason, count in done.quarantined.items():
        say(f"  {count:,} x {reason} (in {done.folder}/_quarantine)")
    result = {"output": done.folder.location, "rows": done.num_rows, "quarantined": done.quarantined}
    write_result(json_file, {**result, "rows_per_second": done.rows_per_second})


def drift(
    model: Model,
    rows: Annotated[str, typer.Option("--input", help="New rows, raw: Parquet or CSV file, folder or glob.")],
    max_psi: Annotated[float, typer.Option(help="Largest population stability index.", min=0)] = 0.2,
    max_null_change: Annotated[float, typer.Option(help="Largest change of an input's share of nulls.", min=0)] = 0.05,
    max_unknown_rise: Annotated[
        float, typer.Option(help="Largest rise of an input's share of unseen values.", min=0)
    ] = 0.05,
    tracking_uri: TrackingUri = None,
    json_file: Json = None,
) -> None:
    """Compare new rows with those of the training, input by input; exit 3 if anything is over a limit."""
    from mtl_ray.drift import Limits
    from mtl_ray.drift import drift as run
    from mtl_ray.registry import checkpoint_folder
    from mtl_ray.tracking import default_uri

    limits = Limits(max_psi, max_null_change, max_unknown_rise)
    found = run(checkpoint_folder(model, tracking_uri or default_uri()), rows, limits)
    console.print(found.table())
    write_result(json_file, found.numbers())
    if found.drifted:
        say(f"drift: {', '.join(found.drifted)}")
        raise typer.Exit(3)


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

    from mtl_ray.promote import PromotionError, raw_test_rows
    from mtl_ray.promote import promote as run
    from mtl_ray.promote import rollback as run_back
    from mtl_ray.tracking import default_uri

    uri = tracking_uri or default_uri()
    place = raw_test_rows(dataset) if dataset else rows
    try:
        decision = run_back(name, uri, dry_run) if rollback else run(name, uri, version, place, force, dry_run, say)
    except PromotionError as error:
        say(f"error: {error}")
        raise typer.Exit(1) from None
    console.print(Markdown(decision.markdown()))
    if dry_run:
        say("dry run: nothing was changed")
    write_result(json_file, decision.numbers())
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
    poll: Annotated[float, typer.Option(help="Seconds between two looks at the alias.", min=0.1)] = 5.0,
    tracking_uri: TrackingUri = None,
) -> None:
    """Answer requests over HTTP through Ray Serve, with the version that the alias names at the time."""
    try:
        from mtl_ray.serve import Settings, serve_forever
    except ImportError as error:
        raise InputError(f"serve: expected the extra `serve`; install mtl_ray[serve] ({error})") from None
    from mtl_ray.tracking import default_uri

    settings = Settings(model, tracking_uri or default_uri(), max_batch, batch_wait / 1000, max_megabytes, poll)
    serve_forever(settings, host, port, replicas, say)
