"""The command line: `mtl-ray VERB EXPERIMENT.yaml [--set dotted.path=value ...] [--json FILE]`."""

import json
import os
import shlex
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mtl_ray.errors import InputError
from mtl_ray.experiment import Experiment, load
from mtl_ray.experiment.grid import grid
from mtl_ray.model_commands import drift, export
from mtl_ray.terminal import Json, Model, TrackingUri, console, say, write_result

app = typer.Typer(
    help="Distributed training of multi-task recommenders that solve the cold-start problem.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

File = Annotated[str, typer.Argument(help="Experiment file (YAML).", metavar="EXPERIMENT")]
Set = Annotated[list[str], typer.Option("--set", help="Override a setting: dotted.path=value.", metavar="PATH=VALUE")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exit 0 success, 1 the work failed, 2 bad input, 3 drift, 130 interrupted."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # Warnings of the libraries are for developers; ours about MLflow are shown as one line.
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    warnings.filterwarnings("ignore", message=".*type hints", category=UserWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        if code := app(args=arguments, standalone_mode=False):  # 130 after Ctrl-C
            raise SystemExit(code)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except typer._click.exceptions.ClickException as error:  # pyright: ignore[reportAttributeAccessIssue]
        print(f"error: {error.format_message()}", file=sys.stderr)
        raise SystemExit(2) from None
    except typer.Abort:
        raise SystemExit(130) from None
    except Exception as error:
        for cause in _causes(error):
            if isinstance(cause, InputError):
                print(f"error: {cause}", file=sys.stderr)
                raise SystemExit(2) from None
        raise


def _causes(error: BaseException | None) -> list[BaseException]:
    causes = []
    while error is not None and error not in causes:
        causes.append(error)
        error = getattr(error, "cause", None) or error.__cause__
    return causes


@app.command()
def check(
    experiment: Annotated[str | None, typer.Argument(help="Experiment file (YAML).", metavar="EXPERIMENT")] = None,
    changes: Set = [],  # noqa: B006 - typer reads the default, nobody changes it
    json_schema: Annotated[bool, typer.Option("--json-schema", help="Print the JSON Schema of the file.")] = False,
    json_file: Json = None,
) -> None:
    """Validate the experiment file and print the plan; nothing is prepared or trained."""
    if json_schema:
        print(json.dumps(Experiment.model_json_schema(), indent=2))
        return
    if experiment is None:
        raise InputError("check: expected an experiment file, or --json-schema")
    from mtl_ray.plan import plan  # noqa: PLC0415 - torch is slow to load and `--json-schema` needs none

    settings = load(experiment, changes)
    cells = grid(settings) if settings.compare else []
    result = plan(settings)
    for line in result.lines():
        console.print(line, highlight=False, markup=False)
    if cells:
        say(f"compare: {len(cells)} trainings, {', '.join(dict.fromkeys(cell.variant for cell in cells))}")
    write_result(json_file, result.numbers())


@app.command()
def prepare(experiment: File, changes: Set = [], json_file: Json = None) -> None:  # noqa: B006
    """Make the encoded data set: read, validate, split, fit on train, encode, write."""
    from mtl_ray.data.prepare import prepare as run  # noqa: PLC0415
    from mtl_ray.session import connect  # noqa: PLC0415

    settings = load(experiment, changes)
    connect()
    prepared = run(settings, say)
    quality = prepared.quality
    say(f"rows: {quality['rows']:,} read, {quality['bad']:,} bad, splits {quality['splits']}")
    for reason, count in quality["reasons"].items():
        say(f"  {count:,} x {reason}")
    for example in quality["examples"]:
        say(f"  e.g. {example}")
    for entity, counts in quality["leakage"].items():
        seen = ", ".join(f"{number:,} {where}" for where, number in counts.items() if where != "tested")
        say(f"{counts['tested']:,} tested {entity}s: {seen}")
    say(f"data set: {prepared.folder}")
    write_result(json_file, {"dataset": prepared.folder.location, "quality": quality, "reused": prepared.reused})


@app.command()
def train(
    experiment: File,
    changes: Set = [],  # noqa: B006
    resume: Annotated[str | None, typer.Option(help="Continue this interrupted run.", metavar="RUN")] = None,
    json_file: Json = None,
) -> None:
    """Prepare if needed, train, evaluate on the test rows, log to MLflow and register the model."""
    settings = load(experiment, changes)
    from mtl_ray.tables import table  # noqa: PLC0415
    from mtl_ray.train import train as run  # noqa: PLC0415

    trained = run(settings, resume, say)
    console.print(table(settings, trained.evaluation, trained.prepared.schema))
    say(f"MLflow run: {trained.run_id}")
    say(f"model: {trained.model_uri or trained.checkpoint}")
    say(f"report: {trained.folder}/report.html")
    write_result(
        json_file,
        {
            "metrics": trained.evaluation.metrics,
            "constant": trained.evaluation.constant,
            "baselines": trained.evaluation.baselines,
            "intervals": trained.evaluation.intervals,
            "run": trained.name,
            "run_id": trained.run_id,
            "model_uri": trained.model_uri,
            "checkpoint": str(trained.checkpoint),
            "dataset": trained.prepared.folder.location,
        },
    )


@app.command()
def compare(
    experiment: File,
    changes: Set = [],  # noqa: B006
    resume: Annotated[str | None, typer.Option(help="Continue this interrupted comparison.", metavar="RUN")] = None,
    affinity: Annotated[
        str | None, typer.Option(help="Instead: which tasks help this one, from one training.", metavar="TASK")
    ] = None,
    json_file: Json = None,
) -> None:
    """Train a grid of variants on the same folds and seeds; means, deviations and paired tests by task and segment."""
    settings = load(experiment, changes)
    if affinity is not None:
        from mtl_ray.selection import select_tasks  # noqa: PLC0415

        selection = select_tasks(settings, affinity, say)
        console.print(selection.table())
        say(f"tasks that help {affinity}: {', '.join(selection.helpful) or 'none'}")
        say(f"files: {selection.folder}/affinity.json, affinity.png, suggested.yaml")
        found = {"affinity": selection.affinity, "helpful": selection.helpful, "folder": selection.folder.location}
        write_result(json_file, found)
        return
    grid(settings)  # mistakes of a variant are told before anything heavy is loaded
    from mtl_ray.compare import compare as run  # noqa: PLC0415

    command = shlex.join(
        ["mtl-ray", "compare", experiment, *(word for change in changes for word in ("--set", change))]
    )
    compared = run(settings, resume, say, command)
    console.print(compared.comparison.table())
    say(f"MLflow run: {compared.run_id}")
    say(f"report: {compared.folder}/report.html, comparison.md, comparison.json")
    result = {"run": compared.name, "run_id": compared.run_id, "folder": compared.folder.location}
    write_result(json_file, {**result, **compared.comparison.numbers()})


@app.command()
def report(run: Annotated[str, typer.Argument(help="Folder of a run of `train` or `compare`.", metavar="RUN")]) -> None:
    """Make the report of a finished run anew: one HTML file and its pictures, in the run's folder and in MLflow."""
    from mtl_ray.report import report as make  # noqa: PLC0415

    say(f"report: {make(run)}/report.html")


@app.command()
def evaluate(
    model: Model,
    dataset: Annotated[str, typer.Argument(help="Prepared data set.", metavar="DATASET")],
    split: Annotated[str, typer.Option(help="train, valid or test")] = "test",
    tracking_uri: TrackingUri = None,
    json_file: Json = None,
) -> None:
    """Metrics of a model on a prepared data set, per task and per segment."""
    from mtl_ray import checkpoint  # noqa: PLC0415
    from mtl_ray.data.prepare import open_prepared  # noqa: PLC0415
    from mtl_ray.evaluate import evaluate_checkpoint  # noqa: PLC0415
    from mtl_ray.registry import checkpoint_folder  # noqa: PLC0415
    from mtl_ray.session import connect  # noqa: PLC0415
    from mtl_ray.tables import table  # noqa: PLC0415
    from mtl_ray.tracking import default_uri  # noqa: PLC0415

    if split not in ("train", "valid", "test"):
        raise InputError(f"--split: expected train, valid or test; found {split}")
    prepared = open_prepared(dataset)
    folder = checkpoint_folder(model, tracking_uri or default_uri())
    connect()
    evaluation = evaluate_checkpoint(folder, prepared, split)
    console.print(table(checkpoint.load(folder).experiment, evaluation, prepared.schema, split))
    numbers = {"metrics": evaluation.metrics, "constant": evaluation.constant, "baselines": evaluation.baselines}
    numbers["intervals"] = evaluation.intervals
    write_result(json_file, {**numbers, "dataset": dataset})


@app.command()
def predict(
    model: Model,
    rows: Annotated[str, typer.Option("--input", help="Raw rows: Parquet or CSV file, folder or glob.")],
    output: Annotated[str, typer.Option("--output", help="Folder to write predictions to.")],
    tracking_uri: TrackingUri = None,
    json_file: Json = None,
) -> None:
    """Score raw rows, unseen users and items included, through Ray Data."""
    from mtl_ray.predict import predict as run  # noqa: PLC0415
    from mtl_ray.registry import checkpoint_folder  # noqa: PLC0415
    from mtl_ray.tracking import default_uri  # noqa: PLC0415

    predicted = run(checkpoint_folder(model, tracking_uri or default_uri()), rows, output)
    say(f"{predicted.num_rows:,} rows scored: {predicted.folder}")
    write_result(json_file, {"output": predicted.folder.location, "rows": predicted.num_rows})


@app.command()
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
    tracking_uri: TrackingUri = None,
    json_file: Json = None,
) -> None:
    """The best items for a user, known or described by a profile alone; or for many users, through Ray Data."""
    if (profile is None) == (users is None):
        raise InputError("recommend: expected either --profile or --users")
    if (users is None) != (output is None):
        raise InputError("recommend: expected --output beside --users, and only there")
    described = None if profile is None else _json_object(profile, "--profile")
    import torch  # noqa: PLC0415

    from mtl_ray.recommend import Seen, read_whole  # noqa: PLC0415
    from mtl_ray.recommend import recommend as run  # noqa: PLC0415
    from mtl_ray.recommender import Recommender  # noqa: PLC0415
    from mtl_ray.registry import checkpoint_folder  # noqa: PLC0415
    from mtl_ray.tables import item_table  # noqa: PLC0415
    from mtl_ray.tracking import default_uri  # noqa: PLC0415

    folder = checkpoint_folder(model, tracking_uri or default_uri())
    # One user is milliseconds of work, which threads that wait for each other on a busy machine make many times longer.
    torch.set_num_threads(1)
    if users and output:
        done = run(folder, users, output, items, task, k, seen)
        say(f"{k} items each for {done.num_rows:,} users: {done.folder}")
        write_result(json_file, {"output": done.folder.location, "users": done.num_rows})
        return
    assert described is not None
    recommender = Recommender(folder, read_whole(items) if items else None, task)
    known = Seen(read_whole(seen), recommender).of_one(described.get(recommender.user_column)) if seen else []
    began = time.monotonic()
    found = recommender.recommend(described, k, known)
    milliseconds = 1000 * (time.monotonic() - began)
    console.print(item_table(found, recommender.task))
    say(f"chosen from {len(recommender.keys):,} items in {milliseconds:.0f} ms")
    write_result(json_file, {"items": found, "task": recommender.task, "milliseconds": milliseconds})


def _json_object(text: str, option: str) -> dict[str, Any]:
    """A JSON object, or that of the file that `text` names."""
    try:
        value = json.loads(text if text.lstrip().startswith(("{", "[")) else Path(text).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f'{option}: expected a JSON object such as {{"age": 25}}, or a file of it; {error}') from None
    if not isinstance(value, dict):
        raise InputError(f'{option}: expected a JSON object such as {{"age": 25}}; found {type(value).__name__}')
    return value


for command in (drift, export):
    app.command()(command)


if __name__ == "__main__":
    main()
