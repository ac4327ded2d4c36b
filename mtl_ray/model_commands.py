"""Commands of a model in use: `drift`, `export`."""

from typing import Annotated

import typer

from mtl_ray.errors import InputError
from mtl_ray.terminal import Json, Model, TrackingUri, console, say, write_result

# Libraries are slow to load, and `mtl-ray --help` needs none.
# ruff: noqa: PLC0415


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


def export(
    model: Model,
    kind: Annotated[str, typer.Option("--format", help="onnx or torch")],
    output: Annotated[str, typer.Option("--output", help="Folder to write the model to.")],
    tracking_uri: TrackingUri = None,
    json_file: Json = None,
) -> None:
    """Write a model for runtimes without this package, with the encoding of its inputs, and check its predictions."""
    from mtl_ray.export import export as run
    from mtl_ray.registry import checkpoint_folder
    from mtl_ray.tracking import default_uri

    if kind not in ("onnx", "torch"):
        raise InputError(f"--format: expected onnx or torch; found {kind}")
    exported = run(checkpoint_folder(model, tracking_uri or default_uri()), kind, output)
    say(f"{exported.folder}/{exported.file}: encoded rows in (see encoding.json), predictions out")
    say(f"largest difference from the original: {exported.largest_difference:.2g} over {exported.rows:,} random rows")
    numbers = {"largest_difference": exported.largest_difference, "rows": exported.rows}
    write_result(json_file, {"output": str(exported.folder), "file": exported.file, **numbers})
